//! All tests, with the servers that they need.

use std::path::PathBuf;

use chat_test_postgres::{Cluster, Options, PGBOUNCER_VARIABLE, URL_VARIABLE, install_if_missing};

use crate::page;
use crate::steps::{self, Failed, Step, output};

/// Programs that are not on every machine: some tests run only with one that is named. An option,
/// which is also what those tests have in their names, and the variable that they find it in.
const PROGRAMS: [(&str, &str); 3] = [
    ("pgbouncer", PGBOUNCER_VARIABLE),
    ("nginx", "CHAT_TEST_NGINX"),
    ("haproxy", "CHAT_TEST_HAPROXY"),
];

/// Runs all tests, those of the page included, or those that a filter names.
pub fn all(words: &[&str]) -> Result<(), Failed> {
    rust(words)?;
    if named(words)?.1.is_empty() {
        page::test(&[])
    } else {
        Ok(())
    }
}

/// Runs all tests of the workspace's crates, or those that a filter names.
pub fn rust(words: &[&str]) -> Result<(), Failed> {
    let (programs, filter) = named(words)?;
    // The programs hold the page, and some tests open it.
    if filter.is_empty() {
        page::build()?;
    }
    // Tests with real processes start the programs from the target folder.
    steps::programs()?;
    let postgres = Postgres::start()?;
    let workspace = ["--workspace", "--all-features"];
    let with = |first: &[&'static str], last: &[&str]| -> Vec<String> {
        first
            .iter()
            .chain(&workspace)
            .chain(last)
            .map(ToString::to_string)
            .collect()
    };
    let run = |name, words: Vec<String>| {
        let mut step = Step::cargo(name, &words.iter().map(String::as_str).collect::<Vec<_>>())
            .env(URL_VARIABLE, &postgres.url);
        for program in &programs {
            step = step.env(program.variable, &program.path.to_string_lossy());
        }
        step.run()
    };

    let mut skipped = Vec::new();
    for (name, _) in PROGRAMS {
        if programs.iter().all(|program| program.name != name) {
            eprintln!(
                "not run: the tests with {name}; `cargo xtask test --{name} PATH` runs them with that program"
            );
            skipped.extend(["--skip", name]);
        }
    }
    let behind_dashes = [&["--"], filter, &skipped].concat();
    if output("cargo", &["nextest", "--version"]).is_ok() {
        run("doc tests", with(&["test", "--doc"], &behind_dashes))?;
        run(
            "tests",
            with(
                &["nextest", "run", "--no-tests", "pass"],
                &[filter, &["--"], &skipped].concat(),
            ),
        )?;
    } else {
        eprintln!(
            "cargo-nextest is not installed; `cargo test` runs the same tests, more slowly. To install it: cargo install --locked cargo-nextest"
        );
        run("tests", with(&["test"], &behind_dashes))?;
    }
    Ok(())
}

/// The PostgreSQL that the tests share.
struct Postgres {
    url: String,
    /// Where it is our own, it goes with this value.
    _cluster: Option<Cluster>,
}

impl Postgres {
    /// The one that the environment names, else a new one.
    fn start() -> Result<Self, Failed> {
        let failed = |error: chat_test_postgres::Error| Failed(error.to_string());
        // Tests that stop their database start one of their own, whatever the others share.
        install_if_missing().map_err(failed)?;
        if let Some(url) = std::env::var(URL_VARIABLE)
            .ok()
            .filter(|url| !url.is_empty())
        {
            eprintln!("PostgreSQL: the server of {URL_VARIABLE}");
            return Ok(Self {
                url,
                _cluster: None,
            });
        }
        // Many tests run at once, each with a pool of connections or several.
        let options = Options {
            settings: vec![("max_connections", "500".to_owned())],
            ..Options::default()
        };
        let cluster = Cluster::start(options).map_err(failed)?;
        eprintln!(
            "PostgreSQL: a throw-away cluster in {}",
            cluster.folder().display()
        );
        Ok(Self {
            url: cluster.url("postgres"),
            _cluster: Some(cluster),
        })
    }
}

/// One of [`PROGRAMS`] that is named.
struct Named {
    name: &'static str,
    variable: &'static str,
    /// The whole path: tests start it from other folders.
    path: PathBuf,
}

/// The programs that are named at the beginning, and what comes behind them.
fn named<'a>(mut words: &'a [&'a str]) -> Result<(Vec<Named>, &'a [&'a str]), Failed> {
    let mut programs = Vec::new();
    while let [option, rest @ ..] = words
        && let Some((name, variable)) = PROGRAMS
            .into_iter()
            .find(|(name, _)| option.strip_prefix("--") == Some(name))
    {
        let [path, rest @ ..] = rest else {
            return Err(Failed(format!(
                "{option}: the path of the program is missing"
            )));
        };
        let path = std::fs::canonicalize(path)
            .map_err(|error| Failed(format!("{option} {path}: {error}")))?;
        programs.push(Named {
            name,
            variable,
            path,
        });
        words = rest;
    }
    Ok((programs, words))
}
