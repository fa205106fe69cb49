//! The task server as a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use chat_demo::tasks;
use chat_domain::{CallError, ToolErrorKind, Toolset};
use serde_json::{Value, json};
use sqlx::Connection;

use crate::support::{Tasks, call, invocation, program, user};

#[tokio::test]
async fn it_offers_its_tools_and_says_what_may_be_repeated() {
    let tasks = Tasks::new();
    let mut offered: Vec<(String, bool)> =
        tasks.start().specs(&user("ann")).await.into_iter().map(|spec| (spec.name, spec.repeatable)).collect();
    offered.sort();
    let expected = [("add_task", false), ("complete_task", true), ("delete_task", true), ("list_tasks", true), ("update_task", true)];
    assert_eq!(offered, expected.map(|(name, repeatable)| (name.to_owned(), repeatable)));
}

#[tokio::test]
async fn answers_are_json_and_refusals_are_sentences() {
    let tasks = Tasks::new();
    let tools = tasks.start();
    let added: Value = serde_json::from_str(&call(&tools, "ann", "add_task", r#"{"title":"Buy milk","user_id":"bob"}"#).await).unwrap();
    assert_eq!(added, json!({ "task_id": 1, "status": "created", "title": "Buy milk" }));
    let listed: Value = serde_json::from_str(&call(&tools, "ann", "list_tasks", "{}").await).unwrap();
    assert_eq!(listed, json!({ "tasks": [{ "task_id": 1, "title": "Buy milk", "completed": false }] }));
    for (tool, arguments, kind, message) in [
        ("complete_task", r#"{"task_id":9}"#, ToolErrorKind::Failed, "There is no task 9 on the list."),
        ("add_task", r#"{"title":"  "}"#, ToolErrorKind::Failed, "A task needs a title."),
    ] {
        let Err(CallError::Failed(error)) = tools.call(invocation("ann", tool, arguments)).await else { panic!("{tool} was to fail") };
        assert_eq!((error.kind, error.message.as_str()), (kind, message));
    }
    let Err(CallError::Failed(error)) = tools.call(invocation("ann", "add_task", "{}")).await else { panic!("a title is needed") };
    assert_eq!(error.kind, ToolErrorKind::InvalidArguments);
}

#[tokio::test]
async fn a_call_repeated_after_a_restart_does_nothing_and_is_on_record() {
    let tasks = Tasks::new();
    let tools = tasks.start();
    let add = invocation("ann", "add_task", r#"{"title":"once"}"#);
    let first = tools.call(add.clone()).await.unwrap();
    tools.shutdown().await;
    let tools = tasks.start();
    assert_eq!(tools.call(add.clone()).await.unwrap(), first);
    let listed: Value = serde_json::from_str(&call(&tools, "ann", "list_tasks", "{}").await).unwrap();
    assert_eq!(listed["tasks"].as_array().map(Vec::len), Some(1));

    let mut connection = sqlx::SqliteConnection::connect(&format!("sqlite://{}", tasks.file().display())).await.unwrap();
    let calls: Vec<(String, String)> =
        sqlx::query_as("SELECT call_id, tool FROM calls WHERE user_id = 'ann' ORDER BY sequence").fetch_all(&mut connection).await.unwrap();
    let id = add.call.to_string();
    assert_eq!(calls.iter().filter(|(call, _)| *call == id).count(), 2);
    assert_eq!(calls.iter().map(|(_, tool)| tool.as_str()).collect::<Vec<_>>(), ["add_task", "add_task", "list_tasks"]);
}

#[tokio::test]
async fn tasks_added_at_once_get_numbers_of_their_own() {
    let tasks = Tasks::new();
    let tools = tasks.start();
    let adds = (0..40).map(|n| {
        let tools = &tools;
        async move {
            let added: Value =
                serde_json::from_str(&call(tools, "ann", "add_task", &json!({ "title": n.to_string() }).to_string()).await).unwrap();
            added["task_id"].as_u64().unwrap()
        }
    });
    let mut ids = futures_util::future::join_all(adds).await;
    ids.sort_unstable();
    assert_eq!(ids, (1..=40).collect::<Vec<u64>>());
}

/// Speaks the protocol's text, so that nothing of ours stands between.
#[test]
fn who_names_no_user_is_refused_and_the_server_ends_with_its_stdin() {
    let tasks = Tasks::new();
    let mut server = Command::new(program()).arg(tasks.file()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = server.stdin.take().unwrap();
    let mut stdout = BufReader::new(server.stdout.take().unwrap()).lines();
    let mut ask = |id: u32, method: &str, params: Value| -> Value {
        writeln!(stdin, "{}", json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })).unwrap();
        serde_json::from_str(&stdout.next().unwrap().unwrap()).unwrap()
    };
    let hello = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } });
    assert_eq!(ask(1, "initialize", hello)["result"]["serverInfo"]["name"], "task-list");
    let unnamed = ask(2, "tools/call", json!({ "name": "add_task", "arguments": { "title": "x", "chat/user_id": "ann" } }));
    assert!(unnamed["error"]["message"].as_str().unwrap().contains(tasks::USER_ID), "{unnamed}");
    let named = json!({ "name": "add_task", "arguments": { "title": "x" }, "_meta": { tasks::USER_ID: "ann", tasks::CALL_ID: "c1" } });
    assert_eq!(ask(3, "tools/call", named)["result"]["structuredContent"]["task_id"], 1);
    drop(stdin);
    assert!(server.wait().unwrap().success());
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error() {
    let output = Command::new(program()).arg("/no/such/directory/tasks.db").stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("Database"), "{output:?}");
}
