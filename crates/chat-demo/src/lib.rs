//! A demo that needs no key and no network.
//!
//! [`DemoAgent`] keeps a task list by rules instead of a model: it understands simple English, remembers through the
//! conversation's transcript alone, and streams its words. [`tasks`] is the task list itself: an MCP server over stdio
//! with its own SQLite file, which any agent may use.

mod agent;
pub mod tasks;

pub use agent::DemoAgent;
