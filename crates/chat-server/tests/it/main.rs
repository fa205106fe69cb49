//! The server's tests from outside the crate.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may panic"
)]

mod auth;
mod config;
mod http;
mod log_output;
mod process;
mod signals;
