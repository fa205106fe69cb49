//! How a turn is run: what comes next, what the agent reads, who holds it.

pub(crate) mod lease;
pub mod plan;
pub(crate) mod reader;
pub(crate) mod registry;
pub(crate) mod remote;
pub(crate) mod runner;
pub mod transcript;
