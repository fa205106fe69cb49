#![doc = include_str!("../README.md")]

mod backend;
mod batch;
#[cfg(feature = "testing")]
mod clock;
mod codes;
mod columns;
mod connection;
mod error;
mod guards;
mod options;
mod postgres;
mod queries;
mod reader;
mod row;
mod savepoint;
mod sql;
mod sqlite;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(test)]
mod tests;

pub use options::{OpenError, OpenOptions};
pub use store::SeaOrmStore;
