//! Everything that must hold before a change is taken.

use crate::steps::{Failed, Step, output};

/// All of it, the cheap things first.
pub fn all() -> Result<(), Failed> {
    Step::cargo("format", &["fmt", "--all", "--check"]).run()?;
    crate::tidy()?;
    crate::page::check()?;
    let lints = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
    Step::cargo("lints", &lints).run()?;
    // The server without its demo is what others build upon.
    Step::cargo("lints without features", &["clippy", "-p", "chat-server", "--no-default-features", "--", "-D", "warnings"]).run()?;
    Step::cargo("docs", &["doc", "--workspace", "--no-deps", "--all-features", "--document-private-items"])
        .env("RUSTDOCFLAGS", "-D warnings")
        .run()?;
    test(&[])
}

/// All tests of the workspace, or those that a filter names.
pub fn test(filter: &[&str]) -> Result<(), Failed> {
    // The programs hold the page, and some tests open it.
    if filter.is_empty() {
        crate::page::build()?;
    }
    // Tests with real processes start the programs from the target folder.
    Step::cargo("build the programs", &["build", "--workspace", "--bins", "--all-features"]).run()?;
    let workspace = ["--workspace", "--all-features"];
    let with = |first: &[&'static str], last: &[&str]| -> Vec<String> {
        first.iter().chain(&workspace).chain(last).map(ToString::to_string).collect()
    };
    let run = |name, words: Vec<String>| Step::cargo(name, &words.iter().map(String::as_str).collect::<Vec<_>>()).run();

    let mut behind_dashes = vec!["--"];
    behind_dashes.extend(filter);
    if output("cargo", &["nextest", "--version"]).is_ok() {
        run("doc tests", with(&["test", "--doc"], &behind_dashes))?;
        run("tests", with(&["nextest", "run", "--no-tests", "pass"], filter))?;
    } else {
        eprintln!(
            "cargo-nextest is not installed; `cargo test` runs the same tests, more slowly. To install it: cargo install --locked cargo-nextest"
        );
        run("tests", with(&["test"], &behind_dashes))?;
    }
    if filter.is_empty() { crate::page::test(&[]) } else { Ok(()) }
}
