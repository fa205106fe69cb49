//! The task list as an MCP server.

use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorCode, Implementation, JsonObject, ListToolsResult,
    PaginatedRequestParams, RequestMetaObject, ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::{QuitReason, RequestContext, RoleServer, ServiceExt};
use rmcp::transport::IntoTransport;
use rmcp::{ErrorData, ServerHandler};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::list::{Caller, Request, Status, TaskError, TaskList};
use super::{CALL_ID, ServeError, USER_ID};

/// Serves until the other side closes the connection.
pub(crate) async fn serve<T, E, A>(tasks: TaskList, transport: T) -> Result<(), ServeError>
where
    T: IntoTransport<RoleServer, E, A>,
    E: std::error::Error + Send + Sync + 'static,
{
    use rmcp::service::ServerInitializeError;
    let running = match (TaskServer { tasks }).serve(transport).await {
        Ok(running) => running,
        Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(ServeError::Handshake(Box::new(error))),
    };
    match running.waiting().await? {
        QuitReason::JoinError(error) => Err(error.into()),
        _ => Ok(()),
    }
}

struct TaskServer {
    tasks: TaskList,
}

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

    async fn call_tool(&self, params: CallToolRequestParams, context: RequestContext<RoleServer>) -> Result<CallToolResponse, ErrorData> {
        let caller = caller(&context.meta)?;
        let request = request(&params.name, params.arguments.unwrap_or_default())?;
        let result = match self.tasks.carry_out(&caller, &request).await {
            Ok(answer) => CallToolResult::structured(answer),
            Err(error) => {
                if let TaskError::Database(cause) = &error {
                    // Whoever started this process reads its stderr.
                    eprintln!("task list: {} failed: {cause}", request.tool());
                }
                CallToolResult::error(vec![ContentBlock::text(error.to_string())])
            }
        };
        Ok(result.into())
    }
}

fn caller(meta: &RequestMetaObject) -> Result<Caller, ErrorData> {
    let text = |key| meta.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let user = text(USER_ID);
    let user = user.ok_or_else(|| ErrorData::invalid_request(format!("The request's _meta does not name a user ({USER_ID})."), None))?;
    Ok(Caller { user, call: text(CALL_ID) })
}

fn request(tool: &str, arguments: JsonObject) -> Result<Request, ErrorData> {
    #[derive(Deserialize)]
    struct Title {
        title: String,
    }
    #[derive(Deserialize)]
    struct Which {
        task_id: i64,
    }
    #[derive(Deserialize)]
    struct WhichAndTitle {
        task_id: i64,
        title: String,
    }
    #[derive(Deserialize)]
    struct Filter {
        #[serde(default)]
        status: Option<Status>,
    }

    Ok(match tool {
        "add_task" => {
            let Title { title } = parse(arguments)?;
            Request::Add { title }
        }
        "list_tasks" => {
            let Filter { status } = parse(arguments)?;
            Request::List { status: status.unwrap_or_default() }
        }
        "complete_task" => {
            let Which { task_id } = parse(arguments)?;
            Request::Complete { task_id }
        }
        "update_task" => {
            let WhichAndTitle { task_id, title } = parse(arguments)?;
            Request::Update { task_id, title }
        }
        "delete_task" => {
            let Which { task_id } = parse(arguments)?;
            Request::Delete { task_id }
        }
        // The protocol has no code of its own for this one.
        _ => return Err(ErrorData::new(ErrorCode::INVALID_PARAMS, format!("There is no tool {tool:?}."), None)),
    })
}

fn parse<T: DeserializeOwned>(arguments: JsonObject) -> Result<T, ErrorData> {
    serde_json::from_value(Value::Object(arguments))
        .map_err(|error| ErrorData::invalid_params(format!("The arguments are not what the tool takes: {error}."), None))
}

fn tools() -> Vec<Tool> {
    let title = json!({ "type": "string", "minLength": 1, "maxLength": 200, "description": "What is to be done, in one line" });
    let task_id = json!({ "type": "integer", "minimum": 1, "description": "The task's number, as list_tasks tells it" });
    let status = json!({ "type": "string", "enum": ["all", "pending", "completed"], "default": "all" });
    let read_only = ToolAnnotations::new().read_only(true).open_world(false);
    let changes = ToolAnnotations::new().read_only(false).open_world(false);
    vec![
        tool(
            "add_task",
            "Adds a task to the user's list.",
            json!({ "title": title }),
            &["title"],
            changes.clone().destructive(false).idempotent(false),
        ),
        tool("list_tasks", "Lists the user's tasks.", json!({ "status": status }), &[], read_only),
        tool(
            "complete_task",
            "Marks a task as done.",
            json!({ "task_id": task_id }),
            &["task_id"],
            changes.clone().destructive(false).idempotent(true),
        ),
        tool(
            "update_task",
            "Gives a task another title.",
            json!({ "task_id": task_id, "title": title }),
            &["task_id", "title"],
            changes.clone().destructive(true).idempotent(true),
        ),
        tool("delete_task", "Deletes a task.", json!({ "task_id": task_id }), &["task_id"], changes.destructive(true).idempotent(true)),
    ]
}

fn tool(name: &'static str, description: &'static str, properties: Value, required: &[&str], annotations: ToolAnnotations) -> Tool {
    let schema = JsonObject::from_iter([
        ("type".to_owned(), json!("object")),
        ("properties".to_owned(), properties),
        ("required".to_owned(), json!(required)),
    ]);
    Tool::new(name, description, Arc::new(schema)).with_annotations(annotations)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(tool: &str, arguments: Value) -> Result<Request, ErrorCode> {
        request(tool, arguments.as_object().unwrap().clone()).map_err(|error| error.code)
    }

    #[test]
    fn arguments_become_requests() {
        assert_eq!(parsed("add_task", json!({ "title": "x", "user_id": "eve" })), Ok(Request::Add { title: "x".into() }));
        assert_eq!(parsed("list_tasks", json!({})), Ok(Request::List { status: Status::All }));
        assert_eq!(parsed("list_tasks", json!({ "status": null })), Ok(Request::List { status: Status::All }));
        assert_eq!(parsed("list_tasks", json!({ "status": "pending" })), Ok(Request::List { status: Status::Pending }));
        assert_eq!(parsed("complete_task", json!({ "task_id": 3 })), Ok(Request::Complete { task_id: 3 }));
        assert_eq!(parsed("update_task", json!({ "task_id": 3, "title": "y" })), Ok(Request::Update { task_id: 3, title: "y".into() }));
        assert_eq!(parsed("delete_task", json!({ "task_id": 3 })), Ok(Request::Delete { task_id: 3 }));
    }

    #[test]
    fn other_arguments_are_refused() {
        for (tool, arguments) in [
            ("add_task", json!({})),
            ("add_task", json!({ "title": 7 })),
            ("list_tasks", json!({ "status": "some" })),
            ("complete_task", json!({ "task_id": "first" })),
            ("delete_task", json!({ "task_id": 1.5 })),
            ("no_such_tool", json!({})),
        ] {
            assert_eq!(parsed(tool, arguments.clone()), Err(ErrorCode::INVALID_PARAMS), "{tool} {arguments}");
        }
    }

    #[test]
    fn a_call_without_a_user_is_refused() {
        let meta = |value: Value| serde_json::from_value::<RequestMetaObject>(value).unwrap();
        assert!(caller(&meta(json!({ CALL_ID: "c" }))).is_err());
        assert!(caller(&meta(json!({ USER_ID: "" }))).is_err());
        assert!(caller(&meta(json!({ USER_ID: 7 }))).is_err());
        let known = caller(&meta(json!({ USER_ID: "ann", CALL_ID: "c" }))).unwrap();
        assert_eq!((known.user.as_str(), known.call.as_deref()), ("ann", Some("c")));
    }
}
