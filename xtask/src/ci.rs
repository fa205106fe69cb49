//! The checks of CI.

use crate::steps::{Failed, Step};
use crate::{page, simulate, test, tidy, torture};

/// Duration of the fault campaign on each database, and its seed.
const MINUTES: &str = "1";
const SEED: &str = "1";
const LONG_MINUTES: &str = "5";
/// Time in which the campaign must detect a missing guard.
const SABOTAGE_MINUTES: &str = "2";

/// Duration of the simulation, in minutes.
const SIMULATED_MINUTES: &str = "1";

/// How many worlds are simulated over each real store.
const REAL_SEEDS: &str = "300";

/// Runs all parts, the cheap ones first. With `--long`, the fault campaigns run longer, and each
/// guard is removed once to show that the campaign detects it.
pub fn run(words: &[&str]) -> Result<(), Failed> {
    match words {
        [] => all(false),
        ["--long"] => all(true),
        ["lint"] => lint(),
        ["docs"] => docs(),
        ["test"] => test::rust(&[]),
        ["simulation"] => simulation(),
        ["campaign"] => campaign(false),
        ["campaign", "--long"] => campaign(true),
        _ => Err(Failed(format!(
            "ci: `{}` is not a part; see `cargo xtask help`",
            words.join(" ")
        ))),
    }
}

fn all(long: bool) -> Result<(), Failed> {
    lint()?;
    docs()?;
    test::all(&[])?;
    page::engines_if_installed()?;
    simulation()?;
    campaign(long)
}

fn lint() -> Result<(), Failed> {
    Step::cargo("format", &["fmt", "--all", "--check"]).run()?;
    tidy::run()?;
    page::check()?;
    let lints = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "-D",
        "warnings",
    ];
    Step::cargo("lints", &lints).run()?;
    // Other programs build on the server without the demo.
    Step::cargo(
        "lints without features",
        &[
            "clippy",
            "-p",
            "chat-server",
            "--no-default-features",
            "--",
            "-D",
            "warnings",
        ],
    )
    .run()
}

fn docs() -> Result<(), Failed> {
    Step::cargo(
        "docs",
        &[
            "doc",
            "--workspace",
            "--no-deps",
            "--all-features",
            "--document-private-items",
        ],
    )
    .env("RUSTDOCFLAGS", "-D warnings")
    .run()
}

fn simulation() -> Result<(), Failed> {
    simulate::run(&["--minutes", SIMULATED_MINUTES])?;
    for store in ["sqlite", "postgres"] {
        simulate::run(&["--store", store, "--seeds", REAL_SEEDS])?;
    }
    Ok(())
}

fn campaign(long: bool) -> Result<(), Failed> {
    for database in ["sqlite", "postgres"] {
        let campaign = ["--database", database, "--minutes"];
        // The short campaign uses a fixed seed, a long one a random seed.
        let length: &[&str] = if long {
            &[LONG_MINUTES]
        } else {
            &[MINUTES, "--seed", SEED]
        };
        torture::run(&[&campaign[..], length].concat())?;
    }
    if long {
        for guard in torture::guards() {
            torture::run(&[
                "--database",
                "postgres",
                "--minutes",
                SABOTAGE_MINUTES,
                "--sabotage",
                guard,
            ])?;
        }
    }
    Ok(())
}
