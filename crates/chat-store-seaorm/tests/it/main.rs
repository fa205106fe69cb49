//! The store, seen from outside.
// A test that cannot continue has failed; clippy knows tests by their attribute alone, not their
// helpers.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod contract;
mod damage;
mod damaged_rows;
mod model;
mod opening;
mod postgres;
mod round_trips;
mod workers;
