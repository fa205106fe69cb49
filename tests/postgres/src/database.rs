//! Databases on the server that tests share.

use std::path::Path;
use std::process::Command;

use crate::command::run;
use crate::{Error, binaries, folder};

/// Environment variable with the superuser's URL of the shared server.
pub const URL_VARIABLE: &str = "CHAT_TEST_POSTGRES_URL";

/// An empty database of one test. Dropping it removes the database and closes remaining
/// connections.
#[derive(Debug)]
pub struct Database {
    server: String,
    name: String,
    url: String,
}

/// Creates an empty database on the shared server.
///
/// # Panics
/// Panics if `CHAT_TEST_POSTGRES_URL` does not name a server. `cargo xtask test` starts one and
/// sets the variable.
pub fn database() -> Database {
    match server(std::env::var(URL_VARIABLE).ok()).and_then(|server| Database::on(&server)) {
        Ok(database) => database,
        Err(error) => fail(&error),
    }
}

fn server(variable: Option<String>) -> Result<String, Error> {
    variable.filter(|url| !url.is_empty()).ok_or_else(|| {
        Error::new(
            "this test needs PostgreSQL: run it by `cargo xtask test`, which starts one, or name \
            a server in CHAT_TEST_POSTGRES_URL",
        )
    })
}

impl Database {
    fn on(server: &str) -> Result<Self, Error> {
        let name = folder::random_name()?;
        query(server, &format!("CREATE DATABASE {}", quoted(&name))).map_err(|error| {
            Error::new(format!(
                "no database can be created on the server of CHAT_TEST_POSTGRES_URL: {error}"
            ))
        })?;
        let url = with_database(server, &name)?;
        Ok(Self {
            server: server.to_owned(),
            name,
            url,
        })
    }

    /// Returns the URL, such as `postgres://postgres:secret@127.0.0.1:15432/name`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Copies this database to a new one by `pg_dump` and `pg_restore`.
    ///
    /// # Errors
    /// PostgreSQL returned an error, or its programs are missing.
    pub fn copy(&self) -> Result<Self, Error> {
        let copy = Self::on(&self.server)?;
        let dump = std::env::temp_dir().join(folder::random_name()?);
        let done = program("pg_dump", &self.url).and_then(|mut take| {
            run(take
                .args(["--no-password", "--format=custom", "--file"])
                .arg(&dump))?;
            run(program("pg_restore", &copy.url)?
                .args(["--no-password", "--exit-on-error"])
                .arg(&dump))
        });
        // The error of `pg_dump` matters more than a missing file.
        let _ = std::fs::remove_file(&dump);
        done.map(|_| copy)
    }

    /// Runs a statement. Returns one line per row, with columns separated by `|`.
    ///
    /// # Errors
    /// PostgreSQL returned an error.
    pub fn query(&self, sql: &str) -> Result<String, Error> {
        query(&self.url, sql)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // An error means that the server has stopped.
        let _ = query(
            &self.server,
            &format!(
                "DROP DATABASE IF EXISTS {} WITH (FORCE)",
                quoted(&self.name)
            ),
        );
    }
}

/// Runs a statement in the database with this URL. Returns one line per row, with columns separated
/// by `|`.
///
/// # Errors
/// The database cannot be reached or returned an error.
pub fn query(url: &str, sql: &str) -> Result<String, Error> {
    let mut command = program("psql", url)?;
    command.args([
        "--no-psqlrc",
        "--quiet",
        "--tuples-only",
        "--no-align",
        "--no-password",
        "--set=ON_ERROR_STOP=1",
        "--command",
        sql,
    ]);
    let output = run(&mut command)?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}

/// Returns a command for one of PostgreSQL's clients, connected to this database.
fn program(name: &str, url: &str) -> Result<Command, Error> {
    let path = binaries::find().map_or_else(|_| name.into(), |programs| programs.join(name));
    let (url, password) = without_password(url)?;
    let mut command = Command::new(path);
    // Other users of the machine can see command lines, so the password is passed in the
    // environment.
    command
        .arg(format!("--dbname={url}"))
        .env("PGPASSWORD", password)
        .current_dir(Path::new("/"));
    Ok(command)
}

/// Quotes an identifier for SQL.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Replaces the database in a URL.
fn with_database(url: &str, name: &str) -> Result<String, Error> {
    let (scheme, rest) = split_scheme(url)?;
    let (place, parameters) = rest
        .split_once('?')
        .map_or((rest, None), |(place, parameters)| {
            (place, Some(parameters))
        });
    let server = place.split_once('/').map_or(place, |(server, _)| server);
    Ok(match parameters {
        Some(parameters) => format!("{scheme}://{server}/{name}?{parameters}"),
        None => format!("{scheme}://{server}/{name}"),
    })
}

/// Splits a URL into itself without its password, and the password.
fn without_password(url: &str) -> Result<(String, String), Error> {
    let (scheme, rest) = split_scheme(url)?;
    let authority = rest
        .find(['/', '?'])
        .map_or(rest, |end| rest.split_at(end).0);
    let Some((user, host)) = authority.rsplit_once('@') else {
        return Ok((url.to_owned(), String::new()));
    };
    let Some((name, password)) = user.split_once(':') else {
        return Ok((url.to_owned(), String::new()));
    };
    let rest = rest.strip_prefix(authority).unwrap_or_default();
    Ok((
        format!("{scheme}://{name}@{host}{rest}"),
        percent_decode(password)?,
    ))
}

fn split_scheme(url: &str) -> Result<(&str, &str), Error> {
    // The URL contains a password, so the error does not show it.
    url.split_once("://").ok_or_else(|| {
        Error::new("the address of the server is not a URL that begins with postgres://")
    })
}

/// Decodes percent-encoding.
fn percent_decode(text: &str) -> Result<String, Error> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        bytes.push(match (*first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                rest = tail;
                let digits = [*high, *low];
                let value = std::str::from_utf8(&digits)
                    .ok()
                    .and_then(|digits| u8::from_str_radix(digits, 16).ok());
                value.ok_or_else(|| {
                    Error::new("the password in the address of the server is not percent-encoded")
                })?
            }
            (byte, _) => byte,
        });
    }
    String::from_utf8(bytes)
        .map_err(|_| Error::new("the password in the address of the server is not UTF-8"))
}

#[expect(clippy::panic, reason = "a test without its database fails")]
#[track_caller]
fn fail(error: &Error) -> ! {
    panic!("{error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_server_the_error_says_what_to_do() {
        for unset in [None, Some(String::new())] {
            assert!(
                server(unset)
                    .unwrap_err()
                    .to_string()
                    .contains("`cargo xtask test`")
            );
        }
    }

    #[test]
    fn the_database_of_a_url_is_replaced() {
        let cases = [
            ("postgres://u:p@h:1/postgres", "postgres://u:p@h:1/x"),
            ("postgresql://h", "postgresql://h/x"),
            (
                "postgres://u@h/a?sslmode=require&b=/",
                "postgres://u@h/x?sslmode=require&b=/",
            ),
            ("postgres://h?a=b", "postgres://h/x?a=b"),
        ];
        for (given, expected) in cases {
            assert_eq!(with_database(given, "x").unwrap(), expected);
        }
        assert!(with_database("h:1", "x").is_err());
    }

    #[test]
    fn passwords_are_split_off() {
        let cases = [
            (
                "postgres://u:p%40%2f@h:1/a?b",
                "postgres://u@h:1/a?b",
                "p@/",
            ),
            ("postgres://u@h/a", "postgres://u@h/a", ""),
            ("postgres://h/a?x=y:z@w", "postgres://h/a?x=y:z@w", ""),
            (
                "postgres://u:p:q@/a?host=/b",
                "postgres://u@/a?host=/b",
                "p:q",
            ),
        ];
        for (given, address, password) in cases {
            assert_eq!(
                without_password(given).unwrap(),
                (address.to_owned(), password.to_owned())
            );
        }
        let error = without_password("postgres://u:hunter2%zz@h/a").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
