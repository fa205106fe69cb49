//! Finish reasons, and the turns left out for the agent, in replies, lists and streams.

use chat_domain::testing::{Script, ScriptedAgent};
use chat_domain::{AgentErrorKind, FinishReason};
use chat_protocol::Code;
use serde_json::{Value, json};

use super::harness::{Server, refusal};

/// The data of the stream's last event, which is `done`.
fn done(stream: &str) -> Value {
    let (_, data) = stream
        .rsplit_once("event: done\ndata: ")
        .unwrap_or_else(|| panic!("not done: {stream}"));
    serde_json::from_str(data.trim_end()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finish_reason_is_in_replies_lists_and_streams() {
    for (finish, expected) in [
        (FinishReason::Complete, "complete"),
        (FinishReason::Length, "length"),
        (FinishReason::ContentFilter, "content_filter"),
    ] {
        let answer = || vec![Script::text("Half of"), Script::done(finish)];
        let (server, _) = Server::with_agent(ScriptedAgent::new([answer(), answer()])).await;
        let reply = server.say("Hi", None).await;
        assert_eq!(
            (&reply["status"], &reply["finish_reason"], &reply["context"]),
            (&json!("success"), &json!(expected), &Value::Null)
        );
        let conversation = reply["conversation_id"].as_str().unwrap();
        let messages = server
            .get(&format!("/conversations/{conversation}/messages"))
            .await["messages"]
            .clone();
        assert_eq!(
            (&messages[0]["finish_reason"], &messages[1]["finish_reason"]),
            (&Value::Null, &json!(expected))
        );
        let turn = server
            .get(&format!("/turns/{}", reply["turn_id"].as_str().unwrap()))
            .await;
        assert_eq!(
            (&turn["status"], &turn["finish_reason"]),
            (&json!("completed"), &json!(expected))
        );
        let stream = server
            .chat("Again", None)
            .header("Accept", "text/event-stream")
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        assert_eq!(
            (&done(&stream)["finish_reason"], &done(&stream)["status"]),
            (&json!(expected), &json!("completed"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_answer_is_a_failure_that_can_be_retried() {
    let empty = |finish| vec![Script::done(finish)];
    let script = [
        empty(FinishReason::Complete),
        empty(FinishReason::Length),
        vec![Script::text("Hello.")],
    ];
    let (server, _) = Server::with_agent(ScriptedAgent::new(script)).await;
    let problem = refusal(server.chat("Hi", None), Code::AgentEmptyAnswer).await;
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .starts_with("The agent ended its answer without text"),
        "{problem}"
    );
    let retry = |problem: &Value| {
        server.ada(
            reqwest::Method::POST,
            &format!("/turns/{}/retry", problem["turn_id"].as_str().unwrap()),
        )
    };
    let problem = refusal(retry(&problem), Code::AgentEmptyAnswer).await;
    assert!(
        problem["detail"].as_str().unwrap().contains("token limit"),
        "{problem}"
    );
    let reply = super::harness::answer(retry(&problem), 200).await;
    assert_eq!(
        (
            &reply["response"],
            &reply["messages"].as_array().unwrap().len()
        ),
        (&json!("Hello."), &2)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_left_out_are_counted_in_replies_lists_and_streams() {
    // The agent accepts at most two user messages.
    let agent = ScriptedAgent::answering(|request| match request.transcript.0.len() {
        4.. => vec![Script::Fail(AgentErrorKind::ContextTooLong { limit: None })],
        _ => vec![Script::text("Yes.")],
    });
    let (server, _) = Server::with_agent(agent).await;
    let mut reply = server.say("First", None).await;
    let conversation = reply["conversation_id"].clone();
    for (message, left_out) in [
        ("Second", Value::Null),
        ("Third", json!({ "turns_left_out": 1 })),
        ("Fourth", json!({ "turns_left_out": 2 })),
    ] {
        reply = server.say(message, Some(&conversation)).await;
        assert_eq!(
            (&reply["response"], &reply["context"]),
            (&json!("Yes."), &left_out),
            "{message}"
        );
    }
    let messages = server
        .get(&format!(
            "/conversations/{}/messages",
            conversation.as_str().unwrap()
        ))
        .await["messages"]
        .clone();
    let context: Vec<&Value> = messages
        .as_array()
        .unwrap()
        .iter()
        .map(|message| &message["context"]["turns_left_out"])
        .collect();
    let none = &Value::Null;
    assert_eq!(
        context,
        [none, none, none, none, none, &json!(1), none, &json!(2)]
    );
    let stream = server
        .chat("Fifth", Some(&conversation))
        .header("Accept", "text/event-stream")
        .send()
        .await
        .unwrap();
    assert_eq!(
        done(&stream.text().await.unwrap())["context"],
        json!({ "turns_left_out": 3 })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_long_alone_fails() {
    let agent = ScriptedAgent::answering(|_| {
        vec![Script::Fail(AgentErrorKind::ContextTooLong {
            limit: Some(10),
        })]
    });
    let (server, agent) = Server::with_agent(agent).await;
    let problem = refusal(server.chat("Long", None), Code::ContextTooLong).await;
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("even without the earlier turns"),
        "{problem}"
    );
    refusal(
        server.chat("Long", Some(&problem["conversation_id"])),
        Code::ContextTooLong,
    )
    .await;
    assert_eq!(agent.requests().len(), 3);
}
