//! The HTTP routes over the in-memory store, through real connections.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

mod answers;
mod bad_input;
mod chatkit;
mod chatkit_refusals;
mod faults;
mod harness;
mod lenient;
mod limits;
mod long_replies;
mod names;
mod openapi;
mod page;
mod reading;
mod sending;
mod streams;
