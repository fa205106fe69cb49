//! All tests, with the servers that they need.

use std::path::PathBuf;

use chat_test_postgres::{Cluster, Options, PGBOUNCER_VARIABLE, URL_VARIABLE, install_if_missing};

use crate::page;
use crate::steps::{self, Failed, Step, output};

/// Programs that some tests need and few machines have. Each has an option, which is part of those
/// tests' names, and the variable that passes its path.
const PROGRAMS: [(&str, &str); 3] = [
    ("pgbouncer", PGBOUNCER_VARIABLE),
    ("nginx", "CHAT_TEST_NGINX"),
    ("haproxy", "CHAT_TEST_HAPROXY"),
];

/// Runs all tests including those of the page, or those that match a filter.
pub fn all(words: &[&str]) -> Result<(), Failed> {
    rust(words)?;
    if program_paths(words)?.1.is_empty() {
        page::test(&[])
    } else {
        Ok(())
    }
}

/// Runs all tests of the workspace's crates, or those that match a filter.
pub fn rust(words: &[&str]) -> Result<(), Failed> {
    let (programs, filter) = program_paths(words)?;
    // The programs contain the page, and some tests open it.
    if filter.is_empty() {
        page::build()?;
    }
    // Tests with real processes start the programs in the target folder.
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
            eprintln!("skipped: tests with {name}; `cargo xtask test --{name} PATH` runs them");
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
            "cargo-nextest is not installed; using `cargo test`, which is slower. To install it: \
             cargo install --locked cargo-nextest"
        );
        run("tests", with(&["test"], &behind_dashes))?;
    }
    Ok(())
}

/// The PostgreSQL server that tests share.
pub struct Postgres {
    /// The superuser's URL of one of its databases.
    pub url: String,
    /// A temporary cluster, which is dropped with this value.
    _cluster: Option<Cluster>,
}

impl Postgres {
    /// Uses the server that the environment names, or starts one.
    pub fn start() -> Result<Self, Failed> {
        let failed = |error: chat_test_postgres::Error| Failed(error.to_string());
        // Tests that stop their database start their own cluster, even if the others share a
        // server.
        install_if_missing().map_err(failed)?;
        if let Some(url) = std::env::var(URL_VARIABLE)
            .ok()
            .filter(|url| !url.is_empty())
        {
            eprintln!("PostgreSQL: server from {URL_VARIABLE}");
            return Ok(Self {
                url,
                _cluster: None,
            });
        }
        // Many tests run concurrently, each with one or several connection pools.
        let options = Options {
            settings: vec![("max_connections", "500".to_owned())],
            ..Options::default()
        };
        let cluster = Cluster::start(options).map_err(failed)?;
        eprintln!(
            "PostgreSQL: temporary cluster in {}",
            cluster.folder().display()
        );
        Ok(Self {
            url: cluster.url("postgres"),
            _cluster: Some(cluster),
        })
    }
}

/// One of [`PROGRAMS`] whose path is given.
struct ProgramPath {
    name: &'static str,
    variable: &'static str,
    /// Absolute, because tests start it in other folders.
    path: PathBuf,
}

/// Parses the leading options. Returns them and the remaining words.
fn program_paths<'a>(
    mut words: &'a [&'a str],
) -> Result<(Vec<ProgramPath>, &'a [&'a str]), Failed> {
    let mut programs = Vec::new();
    while let [option, rest @ ..] = words
        && let Some((name, variable)) = PROGRAMS
            .into_iter()
            .find(|(name, _)| option.strip_prefix("--") == Some(name))
    {
        let [path, rest @ ..] = rest else {
            return Err(Failed(format!("{option}: path of the program missing")));
        };
        let path = std::fs::canonicalize(path)
            .map_err(|error| Failed(format!("{option} {path}: {error}")))?;
        programs.push(ProgramPath {
            name,
            variable,
            path,
        });
        words = rest;
    }
    Ok((programs, words))
}
