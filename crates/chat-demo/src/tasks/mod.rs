//! A task list for each user, served over MCP.
//!
//! The tools are `add_task`, `list_tasks`, `complete_task`, `update_task` and `delete_task`. Whose list they work on is said in
//! the request's `_meta` under [`USER_ID`], never in the arguments; without it a call is refused. A user's tasks are numbered
//! from 1, and a number is never given twice.
//!
//! Completing what is completed changes nothing; the answer says `"already": true`.
//!
//! A call may carry an id in `_meta` under [`CALL_ID`]. If a call of that user with that id changed something before, its answer is
//! given again and nothing is done. So `complete_task`, `update_task` and `delete_task` are declared idempotent: a repetition does
//! no harm, however late it comes. `add_task` is not: the hint speaks of calls with the same arguments, and two of them
//! without ids are two tasks.
//!
//! Every call that arrives is written down in the table `calls`, in the order of arrival, also when it is a repetition:
//! `calls(sequence, call_id, user_id, tool, at)`, with `at` in microseconds since the Unix epoch.

mod list;
mod server;

use std::path::Path;

use rmcp::transport::stdio_pipes;

use list::TaskList;

/// The `_meta` key for the user whose tasks a call works on.
pub const USER_ID: &str = "chat/user_id";
/// The `_meta` key for the id of a call, the same when it is repeated.
pub const CALL_ID: &str = "chat/call_id";

/// Serves the task list in the SQLite file `database`, which is made if it is not there, over this process's stdin and stdout,
/// until stdin closes. Nothing else in the process may read stdin or write to stdout. Needs a tokio runtime with I/O and time.
///
/// # Errors
/// The file cannot be opened, or whoever is on the other side does not speak MCP. That stdin closes is none.
pub async fn serve_stdio(database: &Path) -> Result<(), ServeError> {
    let tasks = TaskList::open(database).await?;
    server::serve(tasks, stdio_pipes()).await
}

/// Why the task list is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The file cannot be opened.
    #[error("the task list's file cannot be opened")]
    Database(#[from] sqlx::Error),
    /// No MCP client is on the other side.
    #[error("the client does not speak MCP")]
    Handshake(#[source] Box<rmcp::service::ServerInitializeError>),
    /// A fault of the server's own.
    #[error("the task server broke off")]
    Broken(#[from] tokio::task::JoinError),
}
