//! The protocol of our own.

pub mod events;
pub mod messages;
mod names;
pub mod pages;
pub mod query;
pub mod reply;
pub mod request;
pub mod tool_calls;
pub mod turn_detail;
pub mod turns;
