//! Everything that must hold before a change is taken.

use crate::steps::{Failed, Step};
use crate::{test, torture};

/// How long the fault campaign takes on each database, and where its chance begins.
const MINUTES: &str = "1";
const SEED: &str = "1";
const LONG_MINUTES: &str = "5";
/// How long it may take to notice that a guard is missing.
const SABOTAGE_MINUTES: &str = "2";

/// All of it, the cheap things first. The long variant has longer fault campaigns, and shows that they notice when a guard is missing.
pub fn all(long: bool) -> Result<(), Failed> {
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
    test::all(&[])?;
    for database in ["sqlite", "postgres"] {
        let campaign = ["--database", database, "--minutes"];
        // What everybody runs is the same each time; the long ones look elsewhere each time.
        let length: &[&str] = if long { &[LONG_MINUTES] } else { &[MINUTES, "--seed", SEED] };
        torture::run(&[&campaign[..], length].concat())?;
    }
    if long {
        for guard in torture::guards() {
            torture::run(&["--database", "postgres", "--minutes", SABOTAGE_MINUTES, "--sabotage", guard])?;
        }
    }
    Ok(())
}
