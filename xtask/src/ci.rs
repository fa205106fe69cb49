//! Everything that must hold before a change is taken.

use crate::steps::{Failed, Step};
use crate::{page, simulate, test, torture};

/// How long the fault campaign takes on each database, and its seed.
const MINUTES: &str = "1";
const SEED: &str = "1";
const LONG_MINUTES: &str = "5";
/// How long the campaign may take to notice that a guard is missing.
const SABOTAGE_MINUTES: &str = "2";

/// How long worlds are simulated.
const SIMULATED_MINUTES: &str = "1";

/// Runs all parts, the cheap ones first. With `--long`, the fault campaigns are longer, and show
/// that they notice a missing guard.
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
    crate::tidy()?;
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
    // The server without its demo is what others build upon.
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
    simulate::run(&["--minutes", SIMULATED_MINUTES])
}

fn campaign(long: bool) -> Result<(), Failed> {
    for database in ["sqlite", "postgres"] {
        let campaign = ["--database", database, "--minutes"];
        // The short campaign is the same each time; a long one has a new seed each time.
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
