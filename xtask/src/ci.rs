//! Everything that must hold before a change is taken.

use crate::steps::{Failed, Step};
use crate::test;

/// All of it, the cheap things first.
pub fn all() -> Result<(), Failed> {
    Step::cargo("format", &["fmt", "--all", "--check"]).run()?;
    crate::tidy()?;
    let lints = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
    Step::cargo("lints", &lints).run()?;
    // The server without its demo is what others build upon.
    Step::cargo("lints without features", &["clippy", "-p", "chat-server", "--no-default-features", "--", "-D", "warnings"]).run()?;
    Step::cargo("docs", &["doc", "--workspace", "--no-deps", "--all-features", "--document-private-items"])
        .env("RUSTDOCFLAGS", "-D warnings")
        .run()?;
    test::all(&[])
}
