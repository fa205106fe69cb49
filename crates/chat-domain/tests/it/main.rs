//! The use case over the fakes: whole turns, with crashes, cancels, races and outages. Time is
//! tokio's, paused.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod answers;
mod faults;
mod key_value_store;
mod policies;
mod reading;
mod recovery;
mod turns;
mod waiting;
mod world;
