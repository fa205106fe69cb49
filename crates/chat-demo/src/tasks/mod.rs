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

use std::path::Path;

/// The `_meta` key of the user whose tasks a call works on.
pub const USER_ID: &str = "chat/user_id";
/// The `_meta` key of the id of a call, which stays the same when the call is repeated.
pub const CALL_ID: &str = "chat/call_id";

/// Serves the task list in the SQLite file `database` over stdin and stdout until stdin closes.
///
/// Creates the file if it does not exist. Nothing else in the process may use stdin or stdout.
/// Needs a tokio runtime with I/O and time.
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
