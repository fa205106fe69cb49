//! The statements of the store, by the table that they are about: reads, writes, and how a row of
//! the table becomes a value of the domain. The statements that load a batch are in
//! `batch/load.rs`.

pub(crate) mod claims;
pub(crate) mod conversations;
pub(crate) mod feedback;
pub(crate) mod force_end;
pub(crate) mod log;
pub(crate) mod messages;
pub(crate) mod tool_calls;
pub(crate) mod turns;
pub(crate) mod workers;
