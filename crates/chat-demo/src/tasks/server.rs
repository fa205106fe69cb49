//! The task list as an MCP server.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
    JsonObject, ListToolsResult, PaginatedRequestParams, RequestMetaObject, ServerCapabilities,
    ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::{QuitReason, RequestContext, RoleServer, ServerInitializeError, ServiceExt};
use rmcp::transport::stdio_pipes;
use rmcp::{ErrorData, ServerHandler};
use serde_json::{Value, json};

use super::list::{Request, TaskError, TaskList};

/// The `_meta` key of the user whose tasks a call works on.
pub const USER_ID: &str = "chat/user_id";
/// The `_meta` key of the id of a call, which stays the same when the call is repeated.
pub const CALL_ID: &str = "chat/call_id";

/// The reason why the task list cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The file cannot be opened.
    #[error("the task list's file cannot be opened")]
    Database(#[from] sqlx::Error),
    /// The client does not speak MCP.
    #[error("the client does not speak MCP")]
    Handshake(#[source] Box<ServerInitializeError>),
    /// The server's task panicked or was cancelled.
    #[error("the task server failed")]
    Broken(#[from] tokio::task::JoinError),
}

/// Serves the task list in the SQLite file `database` over stdin and stdout until stdin closes.
///
/// Creates the file if it does not exist. Nothing else in the process may use stdin or stdout.
/// Needs a tokio runtime with I/O and time.
///
/// # Errors
/// The file cannot be opened, or the client does not speak MCP.
pub async fn serve_stdio(database: &Path) -> Result<(), ServeError> {
    serve(TaskList::open(database).await?).await
}

/// Serves over stdin and stdout until stdin closes.
async fn serve(tasks: TaskList) -> Result<(), ServeError> {
    let running = match TaskServer(tasks).serve(stdio_pipes()).await {
        Ok(running) => running,
        Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(ServeError::Handshake(Box::new(error))),
    };
    match running.waiting().await? {
        QuitReason::JoinError(error) => Err(error.into()),
        _ => Ok(()),
    }
}

struct TaskServer(TaskList);

impl ServerHandler for TaskServer {
    fn get_info(&self) -> ServerConfig {
        let mut config = ServerConfig::new(ServerCapabilities::builder().enable_tools().build());
        config.server_info = Implementation::new("task-list", env!("CARGO_PKG_VERSION"));
        config
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools()))
    }

    async fn call_tool(
        &self,
        params: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let (user, call_id) = caller(&context.meta)?;
        let request = request(&params.name, params.arguments.unwrap_or_default())?;
        let result = match self.0.call(user, call_id, &request).await {
            Ok(answer) => CallToolResult::structured(answer),
            Err(error) => {
                if let TaskError::Database(cause) = &error {
                    // `eprintln!` would panic if the parent process closed the pipe.
                    let _ = writeln!(
                        std::io::stderr(),
                        "task list: {} failed: {cause}",
                        params.name
                    );
                }
                CallToolResult::error(vec![ContentBlock::text(error.to_string())])
            }
        };
        Ok(result.into())
    }
}

/// Returns the user of a call, and the call's id if there is one.
fn caller(meta: &RequestMetaObject) -> Result<(&str, Option<&str>), ErrorData> {
    let text = |key| {
        meta.get(key)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let missing = || format!("The request's _meta does not name a user ({USER_ID}).");
    let user = text(USER_ID).ok_or_else(|| ErrorData::invalid_request(missing(), None))?;
    Ok((user, text(CALL_ID)))
}

fn request(tool: &str, arguments: JsonObject) -> Result<Request, ErrorData> {
    serde_json::from_value(json!({ "tool": tool, "arguments": arguments })).map_err(|error| {
        ErrorData::invalid_params(format!("Unknown tool or arguments: {error}."), None)
    })
}

fn tools() -> Vec<Tool> {
    let title = json!({
        "type": "string", "minLength": 1, "maxLength": 200,
        "description": "What to do, in one line",
    });
    let task_id = json!({
        "type": "integer", "minimum": 1, "description": "The task's number, from list_tasks",
    });
    let status = json!({
        "type": "string", "enum": ["all", "pending", "completed"], "default": "all",
    });
    let reads = ToolAnnotations::new().read_only(true).open_world(false);
    let writes = ToolAnnotations::new().read_only(false).open_world(false);
    let adds = writes.clone().destructive(false).idempotent(false);
    let completes = writes.clone().destructive(false).idempotent(true);
    let deletes = writes.destructive(true).idempotent(true);
    [
        (
            "add_task",
            "Adds a task to the user's list.",
            json!({ "title": title }),
            vec!["title"],
            adds,
        ),
        (
            "list_tasks",
            "Lists the user's tasks.",
            json!({ "status": status }),
            vec![],
            reads,
        ),
        (
            "complete_task",
            "Marks a task as done.",
            json!({ "task_id": task_id }),
            vec!["task_id"],
            completes,
        ),
        (
            "delete_task",
            "Deletes a task.",
            json!({ "task_id": task_id }),
            vec!["task_id"],
            deletes,
        ),
    ]
    .map(|(name, description, properties, required, annotations)| {
        let schema = JsonObject::from_iter([
            ("type".to_owned(), json!("object")),
            ("properties".to_owned(), properties),
            ("required".to_owned(), json!(required)),
        ]);
        Tool::new(name, description, Arc::new(schema)).with_annotations(annotations)
    })
    .into()
}
