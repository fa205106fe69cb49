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

use std::path::Path;

/// The `_meta` key of the user id.
pub const USER_ID: &str = "chat/user_id";
/// The `_meta` key of the call id, which is the same when a call is repeated.
pub const CALL_ID: &str = "chat/call_id";

/// Serves the task list in the SQLite file `database` over stdin and stdout until stdin closes.
///
/// Creates the file if it does not exist. Nothing else in the process may use stdin or stdout.
/// Requires a tokio runtime with I/O and time.
///
/// # Errors
/// The file cannot be opened, or the client does not speak MCP.
pub async fn serve_stdio(database: &Path) -> Result<(), ServeError> {
    server::serve(list::TaskList::open(database).await?).await
}

/// The reason why the task list cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The file cannot be opened.
    #[error("the task list's file cannot be opened")]
    Database(#[from] sqlx::Error),
    /// The client does not speak MCP.
    #[error("the client does not speak MCP")]
    Handshake(#[source] Box<rmcp::service::ServerInitializeError>),
    /// The server's task panicked or was cancelled.
    #[error("the task server failed")]
    Broken(#[from] tokio::task::JoinError),
}
