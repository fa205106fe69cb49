//! The protocol's tests from outside the crate.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod pages;
mod transcripts;
