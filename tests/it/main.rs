//! The program as its users meet it: started as a process, spoken to over HTTP, killed, and started
//! again.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs
)]

mod backup;
mod chatkit;
mod concurrency;
mod crashes;
mod damage;
mod exchange;
mod faults;
mod history;
mod idempotency;
mod isolation;
mod postgres;
mod shutdown;
mod streams;
