//! How a turn is run: what comes next, what the agent reads, who holds it.

pub(crate) mod elsewhere;
pub(crate) mod live;
pub mod plan;
pub(crate) mod reader;
pub(crate) mod run;
pub mod transcript;
pub(crate) mod worker;
