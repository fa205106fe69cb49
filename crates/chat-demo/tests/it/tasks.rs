//! The task server in a separate process.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use chat_demo::tasks;
use chat_domain::{CallError, ToolErrorKind, Toolset};
use chat_test_support::wait::Watchdog;
use chat_tools_mcp::McpToolset;
use serde_json::{Value, json};
use sqlx::{Connection, Executor};

use crate::support::{Tasks, call, invocation, program, user};

#[tokio::test]
async fn tools_are_offered_with_their_repeatability() {
    let tasks = Tasks::new();
    let mut offered: Vec<(String, bool)> = tasks
        .start()
        .specs(&user("ann"))
        .await
        .into_iter()
        .map(|spec| (spec.name, spec.repeatable))
        .collect();
    offered.sort();
    let expected = [
        ("add_task", false),
        ("complete_task", true),
        ("delete_task", true),
        ("list_tasks", true),
    ];
    assert_eq!(
        offered,
        expected.map(|(name, repeatable)| (name.to_owned(), repeatable))
    );
}

#[tokio::test]
async fn results_are_json_and_errors_are_sentences() {
    let tasks = Tasks::new();
    let tools = tasks.start();
    let added: Value = serde_json::from_str(
        &call(
            &tools,
            "ann",
            "add_task",
            r#"{"title":"Buy milk","user_id":"bob"}"#,
        )
        .await,
    )
    .unwrap();
    assert_eq!(
        added,
        json!({ "task_id": 1, "status": "created", "title": "Buy milk" })
    );
    let listed: Value =
        serde_json::from_str(&call(&tools, "ann", "list_tasks", "{}").await).unwrap();
    assert_eq!(
        listed,
        json!({ "tasks": [{ "task_id": 1, "title": "Buy milk", "completed": false }] })
    );
    assert_eq!(
        failure(&tools, "ann", "complete_task", r#"{"task_id":9}"#).await,
        "There is no task 9 on the list."
    );
    for (tool, arguments) in [
        ("add_task", "{}"),
        ("add_task", r#"{"title":7}"#),
        ("list_tasks", r#"{"status":"some"}"#),
        ("complete_task", r#"{"task_id":"first"}"#),
        ("delete_task", r#"{"task_id":1.5}"#),
    ] {
        let Err(CallError::Failed(error)) = tools.call(invocation("ann", tool, arguments)).await
        else {
            panic!("{tool} {arguments} was accepted")
        };
        assert_eq!(
            error.kind,
            ToolErrorKind::InvalidArguments,
            "{tool} {arguments}"
        );
    }
}

/// Returns the message of a failed call.
async fn failure(tools: &McpToolset, user: &str, tool: &str, arguments: &str) -> String {
    match tools.call(invocation(user, tool, arguments)).await {
        Err(CallError::Failed(error)) if error.kind == ToolErrorKind::Failed => error.message,
        other => panic!("{tool} {arguments}: {other:?}"),
    }
}

#[tokio::test]
async fn a_repeated_call_is_a_no_op_after_a_restart() {
    let tasks = Tasks::new();
    let tools = tasks.start();
    let add = invocation("ann", "add_task", r#"{"title":"once"}"#);
    let first = tools.call(add.clone()).await.unwrap();
    tools.shutdown().await;
    let tools = tasks.start();
    assert_eq!(tools.call(add.clone()).await.unwrap(), first);
    let delete = invocation("ann", "delete_task", r#"{"task_id":1}"#);
    let deleted = tools.call(delete.clone()).await.unwrap();
    assert_eq!(tools.call(delete).await.unwrap(), deleted);
    assert_eq!(tools.call(add).await.unwrap(), first);
    let list = call(&tools, "ann", "list_tasks", "{}").await;
    assert_eq!(list, r#"{"tasks":[]}"#);
}

#[tokio::test]
async fn tasks_are_added_completed_listed_and_deleted() {
    let tasks = Tasks::new();
    let tools = tasks.start();
    for (user, tool, arguments, expected) in [
        (
            "ann",
            "add_task",
            r#"{"title":" milk "}"#,
            json!({ "task_id": 1, "title": "milk", "status": "created" }),
        ),
        (
            "ann",
            "add_task",
            r#"{"title":"tea"}"#,
            json!({ "task_id": 2, "title": "tea", "status": "created" }),
        ),
        (
            "ann",
            "complete_task",
            r#"{"task_id":1}"#,
            json!({ "task_id": 1, "title": "milk", "status": "completed" }),
        ),
        (
            "ann",
            "list_tasks",
            r#"{"status":"pending"}"#,
            json!({ "tasks": [{ "task_id": 2, "title": "tea", "completed": false }] }),
        ),
        (
            "ann",
            "list_tasks",
            r#"{"status":"completed"}"#,
            json!({ "tasks": [{ "task_id": 1, "title": "milk", "completed": true }] }),
        ),
        (
            "ann",
            "delete_task",
            r#"{"task_id":2}"#,
            json!({ "task_id": 2, "title": "tea", "status": "deleted" }),
        ),
        (
            "ann",
            "list_tasks",
            r#"{"status":null}"#,
            json!({ "tasks": [{ "task_id": 1, "title": "milk", "completed": true }] }),
        ),
        // Numbers are not reused, and each user has separate numbers.
        (
            "ann",
            "add_task",
            r#"{"title":"tea"}"#,
            json!({ "task_id": 3, "title": "tea", "status": "created" }),
        ),
        ("bob", "list_tasks", "{}", json!({ "tasks": [] })),
        (
            "bob",
            "add_task",
            r#"{"title":"his"}"#,
            json!({ "task_id": 1, "title": "his", "status": "created" }),
        ),
    ] {
        let answer: Value =
            serde_json::from_str(&call(&tools, user, tool, arguments).await).unwrap();
        assert_eq!(answer, expected, "{tool} {arguments}");
    }
    assert_eq!(
        failure(&tools, "bob", "delete_task", r#"{"task_id":2}"#).await,
        "There is no task 2 on the list."
    );
    assert_eq!(
        failure(&tools, "ann", "complete_task", r#"{"task_id":2}"#).await,
        "There is no task 2 on the list."
    );
}

#[tokio::test]
async fn titles_and_lists_are_limited() {
    let tasks = Tasks::new();
    let tools = tasks.start();
    for (title, reason) in [
        (
            "é".repeat(201).as_str(),
            "The title has 201 characters. At most 200 are allowed.",
        ),
        (" \n ", "A task needs a title."),
        ("two\nlines", "A title is one line of plain text."),
    ] {
        let arguments = json!({ "title": title }).to_string();
        assert_eq!(failure(&tools, "ann", "add_task", &arguments).await, reason);
    }
    let longest = json!({ "title": "é".repeat(200) }).to_string();
    for _ in 0..250 {
        call(&tools, "ann", "add_task", &longest).await;
    }
    let full = "The list is full: it holds 250 tasks. Delete some first.";
    assert_eq!(failure(&tools, "ann", "add_task", &longest).await, full);
    call(&tools, "ann", "delete_task", r#"{"task_id":1}"#).await;
    call(&tools, "ann", "add_task", &longest).await;
}

#[tokio::test]
async fn the_list_recovers_after_a_database_error() {
    let tasks = Tasks::new();
    let tools = tasks.start();
    call(&tools, "ann", "add_task", r#"{"title":"kept"}"#).await;
    let file = format!("sqlite://{}", tasks.file().display());
    let mut connection = sqlx::SqliteConnection::connect(&file).await.unwrap();
    connection
        .execute("ALTER TABLE tasks RENAME TO hidden")
        .await
        .unwrap();
    let reason = failure(&tools, "ann", "add_task", r#"{"title":"lost"}"#).await;
    assert_eq!(reason, "The task list could not be read or written.");
    connection
        .execute("ALTER TABLE hidden RENAME TO tasks")
        .await
        .unwrap();
    let added = call(&tools, "ann", "add_task", r#"{"title":"next"}"#).await;
    assert!(added.contains(r#""task_id":2"#), "{added}");
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;

    let tasks = Tasks::new();
    let tools = tasks.start();
    call(&tools, "ann", "add_task", r#"{"title":"secret"}"#).await;
    for suffix in ["", "-wal", "-shm"] {
        let file = format!("{}{suffix}", tasks.file().display());
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn concurrently_added_tasks_get_unique_numbers() {
    let tasks = Tasks::new();
    let tools = tasks.start();
    let adds = (0..40).map(|n| {
        let tools = &tools;
        async move {
            let added: Value = serde_json::from_str(
                &call(
                    tools,
                    "ann",
                    "add_task",
                    &json!({ "title": n.to_string() }).to_string(),
                )
                .await,
            )
            .unwrap();
            added["task_id"].as_u64().unwrap()
        }
    });
    let mut ids = futures_util::future::join_all(adds).await;
    ids.sort_unstable();
    assert_eq!(ids, (1..=40).collect::<Vec<u64>>());
}

/// Writes MCP messages without a client library.
#[test]
fn a_call_without_a_user_is_rejected_and_closing_stdin_ends_the_server() {
    let tasks = Tasks::new();
    let mut server = Command::new(program())
        .arg(tasks.file())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let _watchdog = Watchdog::of(&server);
    let mut stdin = server.stdin.take().unwrap();
    let mut stdout = BufReader::new(server.stdout.take().unwrap()).lines();
    let mut ask = |id: u32, method: &str, params: Value| -> Value {
        writeln!(
            stdin,
            "{}",
            json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
        )
        .unwrap();
        serde_json::from_str(&stdout.next().unwrap().unwrap()).unwrap()
    };
    let hello = json!({
        "protocolVersion": "2025-06-18", "capabilities": {},
        "clientInfo": { "name": "test", "version": "1" },
    });
    assert_eq!(
        ask(1, "initialize", hello)["result"]["serverInfo"]["name"],
        "task-list"
    );
    for meta in [
        json!({}),
        json!({ tasks::CALL_ID: "c" }),
        json!({ tasks::USER_ID: "" }),
        json!({ tasks::USER_ID: 7 }),
    ] {
        let arguments = json!({ "title": "x", "chat/user_id": "ann" });
        let unnamed = ask(
            2,
            "tools/call",
            json!({ "name": "add_task", "arguments": arguments, "_meta": meta }),
        );
        assert!(
            unnamed["error"]["message"]
                .as_str()
                .unwrap()
                .contains(tasks::USER_ID),
            "{unnamed}"
        );
    }
    let unknown = json!({ "name": "no_such_tool", "_meta": { tasks::USER_ID: "ann" } });
    assert_eq!(ask(2, "tools/call", unknown)["error"]["code"], -32602);
    let named = json!({
        "name": "add_task", "arguments": { "title": "x" },
        "_meta": { tasks::USER_ID: "ann", tasks::CALL_ID: "c1" },
    });
    assert_eq!(
        ask(3, "tools/call", named)["result"]["structuredContent"]["task_id"],
        1
    );
    drop(stdin);
    assert!(server.wait().unwrap().success());
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error() {
    let output = Command::new(program())
        .arg("/no/such/directory/tasks.db")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("Database"),
        "{output:?}"
    );
}
