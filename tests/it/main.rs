//! The program as its users see it: started as a process, used over HTTP, killed and restarted.
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
