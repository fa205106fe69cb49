//! Lists, conversations, deletion and health.

use std::sync::Arc;

use chat_domain::testing::{FakeTools, Gate, Script, ScriptedAgent};
use chat_protocol::Code;
use reqwest::Method;
use serde_json::{Value, json};

use super::harness::{Server, Setup, answer, refusal};

fn ids(list: &Value) -> Vec<String> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_are_listed_by_last_activity() {
    let server = Server::start(Setup::default()).await;
    let mut created = Vec::new();
    for n in 0..5 {
        created
            .push(server.say(&format!("Conversation {n}"), None).await["conversation_id"].clone());
    }
    server.say("Again", Some(&created[1])).await;
    let expected: Vec<_> = [1, 4, 3, 2, 0]
        .iter()
        .map(|n| created[*n as usize].as_str().unwrap().to_owned())
        .collect();
    let mut listed = Vec::new();
    let mut path = "/conversations?limit=2".to_owned();
    loop {
        let page = server.get(&path).await;
        listed.extend(ids(&page["conversations"]));
        let Some(next) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("/conversations?limit=2&cursor={next}");
    }
    assert_eq!(listed, expected);
    let one = server.get(&format!("/conversations/{}", expected[4])).await;
    assert_eq!(one["title"], "Conversation 0");
    assert_eq!(
        one["created_at"].as_str().unwrap().len(),
        "2026-02-02T22:00:00.000000Z".len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_paged_in_both_directions() {
    let server = Server::start(Setup::default()).await;
    let mut conversation = None;
    for n in 0..5 {
        conversation = Some(
            server
                .say(&format!("Message {n}"), conversation.as_ref())
                .await["conversation_id"]
                .clone(),
        );
    }
    let path = format!(
        "/conversations/{}/messages",
        conversation.unwrap().as_str().unwrap()
    );
    let all = server.get(&path).await;
    assert_eq!(all["messages"].as_array().unwrap().len(), 10);
    assert!(all["previous_cursor"].is_null() && all["next_cursor"].is_null());
    let all = ids(&all["messages"]);

    let newest = server.get(&format!("{path}?limit=3")).await;
    assert_eq!(ids(&newest["messages"]), all[7..]);
    assert!(newest["next_cursor"].is_null());
    let before = server
        .get(&format!(
            "{path}?limit=3&before={}",
            newest["previous_cursor"].as_str().unwrap()
        ))
        .await;
    assert_eq!(ids(&before["messages"]), all[4..7]);
    let first = server
        .get(&format!(
            "{path}?limit=4&before={}",
            before["previous_cursor"].as_str().unwrap()
        ))
        .await;
    assert_eq!(ids(&first["messages"]), all[..4]);
    assert!(first["previous_cursor"].is_null());
    let after = server
        .get(&format!(
            "{path}?limit=5&after={}",
            first["next_cursor"].as_str().unwrap()
        ))
        .await;
    assert_eq!(ids(&after["messages"]), all[4..9]);
    let last = server
        .get(&format!(
            "{path}?limit=5&after={}",
            after["next_cursor"].as_str().unwrap()
        ))
        .await;
    assert_eq!(ids(&last["messages"]), all[9..]);
    assert!(last["next_cursor"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn tool_calls_are_listed_with_results_and_errors() {
    let agent = ScriptedAgent::new([vec![
        Script::call("add", r#"{"n":1}"#),
        Script::call("missing", "{}"),
        Script::call("add", r#"{"n":2}"#),
    ]]);
    let tools = FakeTools::new().answering("add", true, "[1,  2]");
    let server = Server::start(Setup {
        agent: Arc::new(agent),
        tools,
        ..Setup::default()
    })
    .await;
    let reply = server.say("Hi", None).await;
    let path = format!(
        "/conversations/{}/tool-calls",
        reply["conversation_id"].as_str().unwrap()
    );
    let all = server.get(&path).await;
    assert_eq!(ids(&all["tool_calls"]), ids(&reply["tool_calls"]));
    let statuses: Vec<_> = all["tool_calls"]
        .as_array()
        .unwrap()
        .iter()
        .map(|call| call["status"].as_str().unwrap())
        .collect();
    assert_eq!(statuses, ["succeeded", "failed", "succeeded"]);
    assert_eq!(all["tool_calls"][1]["error"]["code"], "unknown_tool");
    assert_eq!(all["tool_calls"][0]["turn_id"], reply["turn_id"]);
    let page = server.get(&format!("{path}?limit=2")).await;
    let rest = server
        .get(&format!(
            "{path}?limit=2&cursor={}",
            page["next_cursor"].as_str().unwrap()
        ))
        .await;
    assert_eq!(
        [ids(&page["tool_calls"]), ids(&rest["tool_calls"])].concat(),
        ids(&all["tool_calls"])
    );
    assert!(rest["next_cursor"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_conversation_does_not_exist() {
    let server = Server::start(Setup::default()).await;
    let reply = server.say("Hi", None).await;
    let path = format!(
        "/conversations/{}",
        reply["conversation_id"].as_str().unwrap()
    );
    let deleted = server.ada(Method::DELETE, &path).send().await.unwrap();
    assert_eq!(
        (
            deleted.status().as_u16(),
            deleted.text().await.unwrap().as_str()
        ),
        (204, "")
    );
    refusal(server.ada(Method::GET, &path), Code::ConversationNotFound).await;
    refusal(
        server.ada(Method::DELETE, &path),
        Code::ConversationNotFound,
    )
    .await;
    refusal(
        server.ada(
            Method::GET,
            &format!("/turns/{}", reply["turn_id"].as_str().unwrap()),
        ),
        Code::TurnNotFound,
    )
    .await;
    assert_eq!(server.conversations().await, 0);
}

/// Deletes the conversation while its turn runs.
async fn delete_during(server: &Server, gate: &Gate) {
    gate.reached_by(1).await;
    let listed = server.get("/conversations").await;
    let path = format!(
        "/conversations/{}",
        listed["conversations"][0]["id"].as_str().unwrap()
    );
    assert_eq!(
        server
            .ada(Method::DELETE, &path)
            .send()
            .await
            .unwrap()
            .status(),
        204
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_conversation_fails_its_waiting_message() {
    let gate = Gate::new();
    let (server, _) =
        Server::with_agent(ScriptedAgent::new([vec![Script::Wait(gate.clone())]])).await;
    let waiting = server.chat("Hi", None);
    let (problem, ()) = tokio::join!(
        refusal(waiting, Code::ConversationNotFound),
        delete_during(&server, &gate)
    );
    assert!(problem.get("turn_id").is_none(), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_conversation_ends_its_streams() {
    let gate = Gate::new();
    let (server, _) =
        Server::with_agent(ScriptedAgent::new([vec![Script::Wait(gate.clone())]])).await;
    let response = server
        .chat("Hi", None)
        .header("accept", "text/event-stream")
        .send()
        .await
        .unwrap();
    let (text, ()) = tokio::join!(response.text(), delete_during(&server, &gate));
    let text = text.unwrap();
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    assert!(
        last.contains("event: error") && last.contains(r#""code":"conversation_not_found""#),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_conversation_fails_its_waiting_retry() {
    let gate = Gate::new();
    let (server, _) = Server::with_agent(ScriptedAgent::new([
        vec![Script::text("Hello.")],
        vec![Script::Wait(gate.clone())],
    ]))
    .await;
    let first = server.say("Hi", None).await;
    let retry = server.ada(
        Method::POST,
        &format!("/turns/{}/retry", first["turn_id"].as_str().unwrap()),
    );
    tokio::join!(
        refusal(retry, Code::ConversationNotFound),
        delete_during(&server, &gate)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn health_needs_no_token() {
    let server = Server::start(Setup::default()).await;
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(
            answer(server.bare(Method::GET, path), 200).await,
            json!({"status": "ok"})
        );
    }
}
