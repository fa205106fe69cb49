//! A task list for each user, served over MCP.
//!
//! The tools are `add_task`, `list_tasks`, `complete_task`, `update_task` and `delete_task`. The
//! request's `_meta` names the user under [`USER_ID`]; a call without it is rejected. A user's
//! tasks are numbered from 1, and no number is used twice.
//!
//! `_meta` may carry the id of the call under [`CALL_ID`]. A repeated call with the id of a call
//! that changed something returns the first result and changes nothing. Therefore `complete_task`,
//! `update_task` and `delete_task` are declared idempotent. `add_task` is not: without ids, two
//! calls with the same arguments add two tasks.

mod list;
mod server;

pub use server::{CALL_ID, ServeError, USER_ID, serve_stdio};
