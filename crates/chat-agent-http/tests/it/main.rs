//! The adapter against correct and faulty servers.
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
