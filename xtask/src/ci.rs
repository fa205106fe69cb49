//! Everything that must hold before a change is taken.

use std::path::PathBuf;

use crate::steps::{Failed, Step, output};
use crate::torture;

/// How long the fault campaign takes, for each database.
const MINUTES: &str = "1";
const LONG_MINUTES: &str = "5";

/// All of it, the cheap things first. The long variant has longer fault campaigns, and shows that they notice when a guard is missing.
pub fn all(long: bool) -> Result<(), Failed> {
    Step::cargo("format", &["fmt", "--all", "--check"]).run()?;
    crate::tidy()?;
    let lints = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
    Step::cargo("lints", &lints).run()?;
    // The server without its demo is what others build upon.
    Step::cargo("lints without features", &["clippy", "-p", "chat-server", "--no-default-features", "--", "-D", "warnings"]).run()?;
    Step::cargo("docs", &["doc", "--workspace", "--no-deps", "--all-features", "--document-private-items"])
        .env("RUSTDOCFLAGS", "-D warnings")
        .run()?;
    test(&[])?;
    torture::run(&["--database", "sqlite", "--minutes", if long { LONG_MINUTES } else { MINUTES }])?;
    if long {
        torture::run(&["--database", "sqlite", "--minutes", MINUTES, "--sabotage", "idempotency"])?;
        torture::run(&["--database", "sqlite", "--minutes", MINUTES, "--sabotage", "write-before-run"])?;
    }
    Ok(())
}

/// Builds all programs; says where they are.
pub fn programs() -> Result<Vec<PathBuf>, Failed> {
    let arguments = ["build", "--workspace", "--bins", "--all-features", "--message-format", "json-render-diagnostics"];
    Ok(torture::executables(&Step::cargo("build the programs", &arguments).output()?))
}

/// All tests of the workspace, or those that a filter names.
pub fn test(filter: &[&str]) -> Result<(), Failed> {
    // Tests with real processes start the programs from the target folder.
    programs()?;
    let workspace = ["--workspace", "--all-features"];
    let with = |first: &[&'static str], last: &[&str]| -> Vec<String> {
        first.iter().chain(&workspace).chain(last).map(ToString::to_string).collect()
    };
    let run = |name, words: Vec<String>| Step::cargo(name, &words.iter().map(String::as_str).collect::<Vec<_>>()).run();

    let mut behind_dashes = vec!["--"];
    behind_dashes.extend(filter);
    if output("cargo", &["nextest", "--version"]).is_ok() {
        run("doc tests", with(&["test", "--doc"], &behind_dashes))?;
        run("tests", with(&["nextest", "run", "--no-tests", "pass"], filter))
    } else {
        eprintln!(
            "cargo-nextest is not installed; `cargo test` runs the same tests, more slowly. To install it: cargo install --locked cargo-nextest"
        );
        run("tests", with(&["test"], &behind_dashes))
    }
}
