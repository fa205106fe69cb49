//! The README's example with default settings: embedded database, offline agent, real tool server.

use reqwest::Method;
use serde_json::{Value, json};

use chat_tests::client::{read, text};
use chat_tests::server::Home;

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_added_and_listed() {
    let home = Home::new();
    let server = home.start();
    let ann = server.client("ann");
    let reply = ann.chat(None, "Add task: Buy groceries").await;
    let conversation = reply["conversation_id"].as_str().unwrap();
    assert_eq!(
        (&reply["status"], &reply["response"]),
        (
            &json!("success"),
            &json!("Added 'Buy groceries' to your tasks.")
        )
    );
    let call = &reply["tool_calls"][0];
    assert_eq!(
        (&call["tool_name"], &call["parameters"]),
        (&json!("add_task"), &json!({"title": "Buy groceries"}))
    );
    assert_eq!(
        (&call["result"]["task_id"], &call["result"]["status"]),
        (&json!(1), &json!("created"))
    );
    assert!(call["executed_at"].as_str().unwrap().ends_with('Z') && call["duration_ms"].is_u64());
    assert_eq!(reply["messages"].as_array().unwrap().len(), 2);
    assert_eq!(reply["messages"][1]["tool_calls"], reply["tool_calls"]);

    let mut events = ann.stream(Some(conversation), "What is on my list?").await;
    let first = events.until("tool_result").await;
    assert_eq!(
        first
            .iter()
            .map(|event| event.name.as_str())
            .collect::<Vec<_>>(),
        ["turn", "message", "message", "tool_call", "tool_result"]
    );
    let rest = events.rest().await;
    assert!(text(&rest).contains("Buy groceries"), "{rest:?}");
    assert!(
        rest.iter().filter(|event| event.name == "text").count() > 3,
        "the answer is not streamed: {rest:?}"
    );
    assert_eq!(rest.last().unwrap().name, "done");

    // The agent lists the tasks to find the first one.
    let reply = ann.chat(Some(conversation), "Complete the first one").await;
    assert_eq!(
        (
            &reply["tool_calls"][0]["tool_name"],
            &reply["tool_calls"][1]["tool_name"]
        ),
        (&json!("list_tasks"), &json!("complete_task")),
        "{reply}"
    );
    assert_eq!(reply["messages"].as_array().unwrap().len(), 6);
    let listed = ann.get("/conversations").await;
    assert_eq!(
        listed["conversations"][0]["title"],
        "Add task: Buy groceries"
    );

    // Another user has a separate list.
    let reply = server.client("bob").chat(None, "What is on my list?").await;
    assert!(
        !reply["response"].as_str().unwrap().contains("groceries"),
        "{reply}"
    );

    // Data survives a shutdown and a kill.
    assert_eq!(server.terminate().0, Some(0));
    let server = home.start();
    let reply = server
        .client("ann")
        .chat(Some(conversation), "Show my tasks")
        .await;
    assert!(
        reply["response"]
            .as_str()
            .unwrap()
            .contains("Buy groceries"),
        "{reply}"
    );
    assert_eq!(reply["messages"].as_array().unwrap().len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_api_description_are_served() {
    let server = Home::new().start();
    let anyone = server.client("ann");
    let get =
        async |path: &str| read(anyone.anywhere(Method::GET, path).send().await.unwrap()).await;
    assert_eq!(get("/health/live").await.0, 200);
    assert_eq!(get("/health/ready").await.0, 200);
    let (status, document) = get("/openapi.json").await;
    assert_eq!(status, 200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let (status, page) = get("/docs/").await;
    assert_eq!(status, 200);
    let Value::String(page) = page else {
        panic!("not a page: {page}")
    };
    assert!(
        !page.contains("https://") && !page.contains("http://"),
        "the page needs the network"
    );
}
