//! Sending messages: replies, idempotency, busy policies, disconnected clients.

use chat_domain::AgentErrorKind;
use chat_domain::testing::{FakeTools, Gate, RefusedCall, Script, ScriptedAgent};
use chat_protocol::Code;
use chat_server::testing::HttpLimits;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::harness::{Server, Setup, answer, check_common_headers, refusal};

fn contents(reply: &Value) -> Vec<(&str, &str)> {
    let messages = reply["messages"].as_array().unwrap();
    messages
        .iter()
        .map(|message| {
            (
                message["role"].as_str().unwrap(),
                message["content"].as_str().unwrap(),
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_answered_with_the_conversation_and_the_tool_calls() {
    let agent = ScriptedAgent::new([
        vec![
            Script::text("I will add it."),
            Script::call("add_task", r#"{ "title":"Buy groceries" }"#),
        ],
        vec![Script::text("Added.")],
        vec![Script::text("Groceries.")],
    ]);
    let tools =
        FakeTools::new().answering("add_task", false, r#"{"task_id": 1,"status":"created"}"#);
    let server = Server::start(Setup {
        agent: Arc::new(agent),
        tools,
        ..Setup::default()
    })
    .await;

    let response = server
        .chat("Add task: Buy groceries", None)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    check_common_headers(response.headers());
    let text = response.text().await.unwrap();
    assert!(
        text.contains(r#""parameters":{ "title":"Buy groceries" }"#),
        "byte for byte: {text}"
    );
    assert!(
        text.contains(r#""result":{"task_id": 1,"status":"created"}"#),
        "byte for byte: {text}"
    );
    let reply: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(reply["status"], "success");
    assert_eq!(reply["response"], "I will add it.\n\nAdded.");
    assert_eq!(
        contents(&reply),
        [
            ("user", "Add task: Buy groceries"),
            ("assistant", "I will add it.\n\nAdded.")
        ]
    );
    let call = &reply["tool_calls"][0];
    assert_eq!(
        (&call["tool_name"], &call["status"]),
        (&json!("add_task"), &json!("succeeded"))
    );
    assert_eq!(reply["messages"][1]["tool_calls"][0], *call);
    assert_eq!(reply["messages"][0]["tool_calls"], json!([]));

    let conversation = &reply["conversation_id"];
    let second = server.say("What is on my list?", Some(conversation)).await;
    assert_eq!(second["conversation_id"], *conversation);
    assert_eq!(second["messages"].as_array().unwrap().len(), 4);
    assert_eq!(second["tool_calls"], json!([]));
    let short = answer(
        server
            .ada(Method::POST, "/chat?messages=turn")
            .json(&json!({"message": "Hi", "conversation_id": conversation})),
        200,
    )
    .await;
    assert_eq!(
        contents(&short),
        [("user", "Hi"), ("assistant", "Nothing is scripted.")]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_gets_the_same_answer_and_another_is_rejected() {
    let (server, agent) = Server::with_agent(ScriptedAgent::new([])).await;
    let send = |key: &str, message: &str| server.chat(message, None).header("Idempotency-Key", key);
    let first = answer(send("k1", "Hello"), 200).await;
    server.say("More", Some(&first["conversation_id"])).await;
    let mut copies = Vec::new();
    for _ in 0..20 {
        copies.push(answer(send("\"k1\"", "Hello"), 200));
    }
    for copy in futures_util::future::join_all(copies).await {
        assert_eq!(copy, first);
    }
    assert_eq!(agent.requests().len(), 2);
    refusal(send("k1", "Hello!"), Code::IdempotencyMismatch).await;
    let retry = server.ada(
        Method::POST,
        &format!("/turns/{}/retry", first["turn_id"].as_str().unwrap()),
    );
    refusal(
        retry.header("Idempotency-Key", "k1"),
        Code::IdempotencyMismatch,
    )
    .await;
    assert_eq!(server.conversations().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_conversation_queues_rejects_or_interrupts() {
    let gate = Gate::new();
    let (server, _) = Server::with_agent(ScriptedAgent::new([
        vec![Script::text("Hello.")],
        vec![
            Script::text("Long "),
            Script::Wait(gate.clone()),
            Script::text("story."),
        ],
    ]))
    .await;
    let first = server.say("Hi", None).await;
    let conversation = first["conversation_id"].clone();
    let running = tokio::spawn(answer(
        server.chat("Tell me a story", Some(&conversation)),
        200,
    ));
    gate.reached_by(1).await;

    let path = |busy: &str| format!("/chat?busy={busy}");
    let send = |busy: &str, text: &str| {
        server
            .ada(Method::POST, &path(busy))
            .json(&json!({"message": text, "conversation_id": conversation}))
    };
    let busy = refusal(send("reject", "Now"), Code::ConversationBusy).await;
    let messages = server
        .get(&format!(
            "/conversations/{}/messages",
            conversation.as_str().unwrap()
        ))
        .await;
    assert_eq!(messages["messages"][2]["turn_id"], busy["turn_id"]);
    assert_eq!(messages["messages"][2]["turn_status"], "running");

    let interrupting = answer(send("interrupt", "Stop"), 200).await;
    assert_eq!(interrupting["response"], "Nothing is scripted.");
    let interrupted = running.await.unwrap();
    assert_eq!(
        (&interrupted["status"], &interrupted["response"]),
        (&json!("cancelled"), &json!("Long "))
    );
    assert_eq!(contents(&interrupting).len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_rejects_and_queued_messages_are_listed() {
    let gate = Gate::new();
    let limits = chat_domain::TurnLimits {
        queue: 1,
        ..Setup::default().limits
    };
    let agent = Arc::new(ScriptedAgent::new([
        vec![Script::text("Hello.")],
        vec![Script::Wait(gate.clone()), Script::text("One.")],
    ]));
    let server = Server::start(Setup {
        agent,
        limits,
        ..Setup::default()
    })
    .await;
    let conversation = server.say("Hi", None).await["conversation_id"].clone();
    let running = tokio::spawn(answer(server.chat("First", Some(&conversation)), 200));
    gate.reached_by(1).await;

    let events = server
        .chat("Second", Some(&conversation))
        .header("Accept", "text/event-stream")
        .send()
        .await
        .unwrap();
    assert_eq!(events.status(), 200);
    refusal(
        server.chat("Third", Some(&conversation)),
        Code::TooManyQueued,
    )
    .await;
    let messages = server
        .get(&format!(
            "/conversations/{}/messages",
            conversation.as_str().unwrap()
        ))
        .await;
    let last = messages["messages"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&last["content"], &last["turn_status"]),
        (&json!("Second"), &json!("queued"))
    );
    gate.open();
    assert_eq!(running.await.unwrap()["response"], "One.");
    let events = events.text().await.unwrap();
    assert!(
        events.contains("\"status\":\"queued\"") && events.contains("event: done\n"),
        "{events}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_turn_is_a_problem_and_the_conversation_continues() {
    for (kind, code) in [
        (AgentErrorKind::TimedOut, Code::AgentTimeout),
        (AgentErrorKind::Unavailable, Code::AgentUnavailable),
        (AgentErrorKind::Misconfigured, Code::AgentMisconfigured),
        (
            AgentErrorKind::Overloaded { retry_after: None },
            Code::AgentOverloaded,
        ),
        (AgentErrorKind::Protocol, Code::AgentProtocolError),
        (
            AgentErrorKind::ContextTooLong { limit: None },
            Code::ContextTooLong,
        ),
        (AgentErrorKind::Refused, Code::AgentRefused),
        (AgentErrorKind::EmptyAnswer, Code::AgentEmptyAnswer),
    ] {
        let (server, _) = Server::with_agent(ScriptedAgent::new([vec![Script::Fail(kind)]])).await;
        let problem = refusal(server.chat("Hi", None), code).await;
        let turn = server
            .get(&format!("/turns/{}", problem["turn_id"].as_str().unwrap()))
            .await;
        assert_eq!(
            (&turn["status"], &turn["error"]["code"]),
            (&json!("failed"), &json!(code.row().code))
        );
        assert_eq!(turn["messages"][0]["content"], "Hi");
        assert_eq!(turn["messages"][0]["error"], turn["error"]);
        let next = server.say("Again", Some(&problem["conversation_id"])).await;
        assert_eq!(next["response"], "Nothing is scripted.");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_the_store_rejects_is_internal_and_the_conversation_continues() {
    let server = Server::start(Setup::default()).await;
    server.store.refuse([RefusedCall::EndsWithItems]);
    let problem = refusal(server.chat("Hi", None), Code::Internal).await;
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("could not read or store") && detail.contains("Retry the turn"),
        "{detail}"
    );
    let turn = server
        .get(&format!("/turns/{}", problem["turn_id"].as_str().unwrap()))
        .await;
    assert_eq!(
        (&turn["status"], &turn["error"]["code"]),
        (&json!("failed"), &json!("internal"))
    );
    let events = server.ada(
        Method::GET,
        &format!("/turns/{}/events", problem["turn_id"].as_str().unwrap()),
    );
    let events = events.send().await.unwrap().text().await.unwrap();
    assert!(
        events.contains("event: error\n") && events.contains("\"code\":\"internal\""),
        "{events}"
    );
    server.store.refuse([]);
    let next = server.say("Again", Some(&problem["conversation_id"])).await;
    assert_eq!(next["response"], "Nothing is scripted.");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_steps_end_the_turn() {
    let agent = Arc::new(ScriptedAgent::answering(|_| {
        vec![Script::call("again", "{}")]
    }));
    let tools = FakeTools::new().answering("again", true, "{}");
    let limits = chat_domain::TurnLimits {
        steps: 2,
        ..Setup::default().limits
    };
    let server = Server::start(Setup {
        agent,
        tools,
        limits,
        ..Setup::default()
    })
    .await;
    refusal(server.chat("Hi", None), Code::StepLimit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnected_client_does_not_stop_the_turn() {
    let gate = Gate::new();
    let held = gate.clone();
    let (server, _) = Server::with_agent(ScriptedAgent::answering(move |_| {
        vec![Script::Wait(held.clone()), Script::text("Done.")]
    }))
    .await;
    for (turns, accept) in [(1, "application/json"), (2, "text/event-stream")] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let body = r#"{"message": "Hi"}"#;
        let head = format!(
            "POST /api/ada/chat HTTP/1.1\r\nhost: x\r\nauthorization: Bearer token-of-ada\r\naccept: {accept}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        gate.reached_by(turns).await;
        // With no time to linger, closing resets the connection: actix-web drops the handler.
        stream.set_zero_linger().unwrap();
        drop(stream);
    }
    gate.open();
    assert_eq!(server.conversations().await, 2);
    for conversation in server.get("/conversations").await["conversations"]
        .as_array()
        .unwrap()
    {
        let path = format!(
            "/conversations/{}/messages",
            conversation["id"].as_str().unwrap()
        );
        let turn = server.get(&path).await["messages"][0]["turn_id"]
            .as_str()
            .unwrap()
            .to_owned();
        let events = server
            .ada(Method::GET, &format!("/turns/{turn}/events"))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        assert!(events.contains("event: done\n"), "{events}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_cancelled_and_retried() {
    let gate = Gate::new();
    let (server, _) = Server::with_agent(ScriptedAgent::new([
        vec![Script::text("One.")],
        vec![Script::text("Half"), Script::Wait(gate.clone())],
        vec![Script::text("Two.")],
    ]))
    .await;
    let first = server.say("Count", None).await;
    let conversation = first["conversation_id"].clone();
    let running = tokio::spawn(answer(server.chat("On", Some(&conversation)), 200));
    gate.reached_by(1).await;
    let path = format!("/conversations/{}/messages", conversation.as_str().unwrap());
    let turn = server.get(&path).await["messages"][2]["turn_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let observed = answer(
        server.ada(Method::POST, &format!("/turns/{turn}/cancel")),
        200,
    )
    .await;
    assert_eq!(
        (&observed["status"], &observed["cancel_requested"]),
        (&json!("running"), &json!(true))
    );
    assert_eq!(running.await.unwrap()["status"], "cancelled");
    let observed = answer(
        server.ada(Method::POST, &format!("/turns/{turn}/cancel")),
        200,
    )
    .await;
    assert_eq!(observed["status"], "cancelled");

    let retried = answer(
        server.ada(Method::POST, &format!("/turns/{turn}/retry")),
        200,
    )
    .await;
    assert_eq!(
        contents(&retried),
        [
            ("user", "Count"),
            ("assistant", "One."),
            ("user", "On"),
            ("assistant", "Two.")
        ]
    );
    let new = server
        .get(&format!("/turns/{}", retried["turn_id"].as_str().unwrap()))
        .await;
    assert_eq!(new["retry_of"], turn);
    assert_eq!(
        server.get(&path).await["messages"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
    let all = server.get(&format!("{path}?superseded=include")).await;
    let superseded: Vec<_> = all["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["superseded"] == true)
        .collect();
    assert_eq!(superseded, [false, false, true, true, false, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_rejects_new_messages() {
    let gate = Gate::new();
    let (server, _) = Server::with_agent(ScriptedAgent::new([vec![
        Script::text("Half"),
        Script::Wait(gate.clone()),
    ]]))
    .await;
    let waiting = server.chat("Hi", None).send();
    let waiting = tokio::spawn(waiting);
    gate.reached_by(1).await;
    server.state.drain();
    refusal(
        server.bare(Method::GET, "/health/ready"),
        Code::ShuttingDown,
    )
    .await;
    server.state.runner.service.close();
    let refused = server.chat("Hi", None).send().await.unwrap();
    assert_eq!(refused.headers()["connection"], "close");
    super::harness::check_refusal(refused, Code::ShuttingDown).await;
    server.state.runner.service.hand_over().await.unwrap();
    server.state.end_streams();
    let problem =
        super::harness::check_refusal(waiting.await.unwrap().unwrap(), Code::ShuttingDown).await;
    assert!(problem["turn_id"].is_string() && problem["conversation_id"].is_string());
    assert_eq!(
        server
            .bare(Method::GET, "/health/live")
            .send()
            .await
            .unwrap()
            .status(),
        StatusCode::OK
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_still_replies_with_an_ended_turn() {
    let (server, _) = Server::with_agent(ScriptedAgent::new([])).await;
    let send = || server.chat("Hi", None).header("Idempotency-Key", "k");
    let first = answer(send(), 200).await;
    server.state.end_streams();
    for _ in 0..10 {
        assert_eq!(answer(send(), 200).await, first);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_times_out_and_the_turn_continues() {
    let gate = Gate::new();
    let held = gate.clone();
    let agent = Arc::new(ScriptedAgent::answering(move |_| {
        vec![Script::Wait(held.clone()), Script::text("Done.")]
    }));
    let http = HttpLimits {
        reply_time: Duration::from_millis(100),
        ..HttpLimits::default()
    };
    let server = Server::start(Setup {
        agent,
        http,
        ..Setup::default()
    })
    .await;
    let problem = refusal(server.chat("Hi", None), Code::ReplyTimeout).await;
    let path = format!("/turns/{}", problem["turn_id"].as_str().unwrap());
    let turn = server.get(&path).await;
    assert_eq!(
        (&turn["status"], &turn["conversation_id"]),
        (&json!("running"), &problem["conversation_id"])
    );
    gate.open();
    // A stream has no such limit: it ends with the turn.
    let events = server
        .ada(Method::GET, &format!("{path}/events"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(events.contains("event: done\n"), "{events}");
    let turn = server.get(&path).await;
    assert_eq!(
        (&turn["status"], &turn["messages"][1]["content"]),
        (&json!("completed"), &json!("Done."))
    );
}
