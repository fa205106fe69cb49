//! What starts the program as its users do, speaks to it, and sees what its tools did.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "only for tests"
)]

pub mod client;
pub mod server;
pub mod witness;

use std::path::PathBuf;

/// Where a program of this package is: beside the one that runs.
///
/// # Panics
/// If there is none.
pub fn program(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let folder = this.parent().unwrap();
    // Tests are a folder deeper.
    let folder = if folder.ends_with("deps") {
        folder.parent().unwrap()
    } else {
        folder
    };
    let program = folder.join(name);
    assert!(
        program.exists(),
        "{} is not built: cargo build -p chat-tests --bins",
        program.display()
    );
    program
}
