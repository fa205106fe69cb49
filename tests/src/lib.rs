//! Starts the program as its users do, sends requests to it, and reads what its tools did.
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

/// Returns the path of a program of this package, next to the current one.
///
/// # Panics
/// Panics if the program was not built.
pub fn program(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let folder = this.parent().unwrap();
    // Tests are one folder deeper.
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
