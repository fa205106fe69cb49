#![doc = include_str!("../README.md")]

mod backend;
mod batch;
mod codes;
mod conversations;
mod db;
mod error;
mod feedback;
mod guards;
mod history;
mod job;

mod options;
mod postgres;
mod reader;
mod rows;
mod savepoint;
mod sql;
mod sqlite;
mod store;
#[cfg(test)]
mod tests;
mod turns;
mod workers;
mod writer;

pub use options::{OpenError, OpenOptions};
pub use store::SeaOrmStore;
