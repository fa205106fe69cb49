#![doc = include_str!("../README.md")]

mod codes;
mod conversations;
mod fault;
mod history;
mod job;
mod open;
mod reader;
mod rows;
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
