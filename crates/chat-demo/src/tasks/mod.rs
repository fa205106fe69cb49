//! A task list for each user, served over MCP.
//!
//! The tools are `add_task`, `list_tasks`, `complete_task` and `delete_task`. The request's `_meta`
//! has the user's id under [`USER_ID`]; a call without it is rejected. A user's tasks are numbered
//! from 1, and numbers are not reused.
//!
//! `_meta` may carry the id of the call under [`CALL_ID`]. A repeated call with the id of a call
//! that changed something returns the first result and is a no-op. Therefore `complete_task` and
//! `delete_task` are declared idempotent. `add_task` is not: without ids, two calls with the same
//! arguments add two tasks.

mod list;
mod server;

pub use server::{CALL_ID, ServeError, USER_ID, serve_stdio};
