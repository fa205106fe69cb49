//! The adapter against a server that speaks the protocol, well and badly.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail"
)]

mod answers;
mod contract;
mod failures;
mod limits;
mod providers;
mod quirks;
mod requests;
mod retries;
mod support;
