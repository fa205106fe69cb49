#![doc = include_str!("../README.md")]

mod batch;
mod codes;
mod conversations;
mod db;
mod fault;
mod feedback;
mod guards;
mod history;
mod job;

mod open;
mod postgres;
mod reader;
mod rows;
mod savepoint;
mod source;
mod sql;
mod sqlite;
mod store;
#[cfg(test)]
mod tests;
mod turns;
mod workers;
mod writer;

pub use open::{OpenError, OpenOptions};
pub use store::SeaOrmStore;
