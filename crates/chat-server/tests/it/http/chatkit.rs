//! The ChatKit protocol as its front end uses it.

use std::sync::Arc;
use std::time::Duration;

use chat_domain::testing::{FakeTools, Gate, Script, ScriptedAgent};
use chat_domain::{
    AgentErrorKind, BusyPolicy, CallError, StartTurn, ToolError, ToolErrorKind, TurnLimits, UserId,
};
use chat_protocol::Code;
use chat_protocol::chatkit::request::frame_key;
use chat_server::testing::HttpLimits;
use chat_test_support::wait;
use futures_util::StreamExt;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use super::harness::{Server, Setup, answer, refusal};

const FRAME: &str = "chatkit-frame-instance-id";

impl Server {
    /// A request of `ada`'s front end.
    pub(super) fn chatkit(&self, kind: &str, params: Value) -> RequestBuilder {
        let request = self
            .bare(Method::POST, "/chatkit")
            .bearer_auth("token-of-ada")
            .header(FRAME, "frame-1");
        request.json(&json!({ "type": kind, "params": params }))
    }

    pub(super) async fn ask(&self, kind: &str, params: Value) -> Value {
        answer(self.chatkit(kind, params), 200).await
    }

    /// The events of a stream, to its end.
    pub(super) async fn events(&self, kind: &str, params: Value) -> Vec<Value> {
        events(self.chatkit(kind, params)).await
    }

    pub(super) async fn create(&self, text: &str) -> Vec<Value> {
        self.events("threads.create", json!({ "input": input(text) }))
            .await
    }

    async fn add(&self, thread: &Value, text: &str) -> Vec<Value> {
        self.events(
            "threads.add_user_message",
            json!({ "thread_id": thread, "input": input(text) }),
        )
        .await
    }

    pub(super) async fn items(&self, thread: &Value) -> Vec<Value> {
        self.ask("threads.get_by_id", json!({ "thread_id": thread }))
            .await["items"]["data"]
            .as_array()
            .unwrap()
            .clone()
    }
}

pub(super) fn input(text: &str) -> Value {
    json!({ "content": [{ "type": "input_text", "text": text }], "attachments": [], "quoted_text": "", "inference_options": {} })
}

async fn events(request: RequestBuilder) -> Vec<Value> {
    let response = stream_of(request).await;
    let text = response.text().await.unwrap();
    assert!(text.is_empty() || text.ends_with("\n\n"), "{text}");
    read(&text)
}

async fn stream_of(request: RequestBuilder) -> Response {
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    response
}

/// Parses frames as the front end does.
fn read(text: &str) -> Vec<Value> {
    let frames = text
        .split("\n\n")
        .filter(|frame| !frame.is_empty() && !frame.starts_with(':'));
    frames
        .map(|frame| serde_json::from_str(frame.strip_prefix("data: ").unwrap()).unwrap())
        .collect()
}

/// Reads a stream until an event of this type.
async fn until(response: &mut Response, wanted: &str) -> Vec<Value> {
    let mut text = String::new();
    loop {
        text.push_str(
            std::str::from_utf8(&response.chunk().await.unwrap().expect("more")).unwrap(),
        );
        let whole = text.rfind("\n\n").map_or("", |end| &text[..end]);
        let events = read(whole);
        if events
            .iter()
            .any(|event| event["type"] == wanted || event["update"]["type"] == wanted)
        {
            return events;
        }
    }
}

/// The events for a transcript, with consecutive deltas joined, because their boundaries vary.
fn transcript(events: &[Value]) -> String {
    let mut lines: Vec<Value> = Vec::new();
    for event in events {
        let is_delta =
            |event: &Value| event["update"]["type"] == "assistant_message.content_part.text_delta";
        if let Some(before) = lines.last_mut().filter(|before| {
            is_delta(before) && is_delta(event) && before["item_id"] == event["item_id"]
        }) {
            let joined = before["update"]["delta"].as_str().unwrap().to_owned()
                + event["update"]["delta"].as_str().unwrap();
            before["update"]["delta"] = joined.into();
        } else {
            lines.push(event.clone());
        }
    }
    lines.iter().map(|event| format!("{event}\n")).collect()
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

pub(super) fn types(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| {
            event["update"]["type"]
                .as_str()
                .unwrap_or(event["type"].as_str().unwrap())
        })
        .collect()
}

pub(super) fn thread_of(events: &[Value]) -> Value {
    assert_eq!(events[0]["type"], "thread.created", "{events:?}");
    events[0]["thread"]["id"].clone()
}

fn tools() -> FakeTools {
    FakeTools::new()
        .answering("add_task", false, r#"{"task_id": 1,  "status": "created"}"#)
        .with("fail", false, |_| {
            Box::pin(async {
                Err(ToolError::new(ToolErrorKind::Failed, "The list is ``full``.").into())
            })
        })
        .with("vanish", false, |_| {
            Box::pin(async { Err(CallError::Unknown) })
        })
}

pub(super) async fn server(steps: impl IntoIterator<Item = Vec<Script>>) -> Server {
    let limits = TurnLimits {
        calls_at_once: 1,
        poll: Duration::from_millis(20),
        ..TurnLimits::default()
    };
    Server::start(Setup {
        agent: Arc::new(ScriptedAgent::new(steps)),
        tools: tools(),
        limits,
        ..Setup::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_has_a_transcript() {
    let server = server([
        vec![
            Script::text("I will "),
            Script::text("try."),
            Script::call("add_task", r#"{"title": "Milk"}"#),
            Script::call("fail", "{}"),
            Script::call("vanish", r#"{"n":1}"#),
        ],
        vec![Script::text("One of "), Script::text("three.")],
        vec![Script::text("It is é 🦀.")],
        vec![Script::text("Better.")],
        vec![Script::text("Half"), Script::Fail(AgentErrorKind::TimedOut)],
    ])
    .await;
    let created = server.create("Add task: Milk").await;
    insta::assert_snapshot!("chatkit_threads_create", transcript(&created));
    let thread = thread_of(&created);
    let tagged = json!({
        "content": [
            { "type": "input_text", "text": "What is in " },
            { "type": "input_tag", "id": "doc_1", "text": "Notes", "data": {}, "group": "Docs", "interactive": true },
        ],
        "attachments": [], "quoted_text": "One of\nthree.", "inference_options": { "model": "m", "tool_choice": null },
    });
    let added = server
        .events(
            "threads.add_user_message",
            json!({ "thread_id": thread, "input": tagged }),
        )
        .await;
    insta::assert_snapshot!("chatkit_threads_add_user_message", transcript(&added));
    let question = added[0]["item"]["id"].clone();
    let retry = || json!({ "thread_id": thread, "item_id": question });
    insta::assert_snapshot!(
        "chatkit_threads_retry_after_item",
        transcript(&server.events("threads.retry_after_item", retry()).await)
    );
    insta::assert_snapshot!(
        "chatkit_failed",
        transcript(&server.add(&thread, "More").await)
    );
    insta::assert_snapshot!(
        "chatkit_threads_get_by_id",
        pretty(
            &server
                .ask("threads.get_by_id", json!({ "thread_id": thread }))
                .await
        )
    );

    let output = server
        .events(
            "threads.add_client_tool_output",
            json!({ "thread_id": thread, "result": null }),
        )
        .await;
    insta::assert_snapshot!(
        "chatkit_threads_add_client_tool_output",
        transcript(&output)
    );
    let form = json!({ "thread_id": thread, "item_id": "msg_1", "input": { "status": "answered", "answers": {} } });
    insta::assert_snapshot!(
        "chatkit_threads_add_structured_input",
        transcript(&server.events("threads.add_structured_input", form).await)
    );
    let action = || json!({ "thread_id": thread, "item_id": null, "action": { "type": "buy", "payload": { "n": 1 } } });
    insta::assert_snapshot!(
        "chatkit_threads_custom_action",
        transcript(&server.events("threads.custom_action", action()).await)
    );

    let listed = server
        .ask("threads.list", json!({ "limit": 9999, "order": "desc" }))
        .await;
    insta::assert_snapshot!("chatkit_threads_list", pretty(&listed));
    let page = server
        .ask(
            "items.list",
            json!({ "thread_id": thread, "limit": "2", "order": "asc", "after": question }),
        )
        .await;
    insta::assert_snapshot!("chatkit_items_list", pretty(&page));
    let rated =
        json!({ "thread_id": thread, "item_ids": [page["data"][0]["id"]], "kind": "positive" });
    insta::assert_snapshot!(
        "chatkit_items_feedback",
        pretty(&server.ask("items.feedback", rated).await)
    );
    let renamed = server
        .ask(
            "threads.update",
            json!({ "thread_id": thread, "title": " Milk " }),
        )
        .await;
    insta::assert_snapshot!("chatkit_threads_update", pretty(&renamed));
    for (kind, params) in [
        ("threads.sync_custom_action", action()),
        (
            "attachments.create",
            json!({ "name": "a.txt", "size": 1, "mime_type": "text/plain" }),
        ),
        ("attachments.delete", json!({ "attachment_id": "atc_1" })),
        (
            "input.transcribe",
            json!({ "audio_base64": "AA==", "mime_type": "audio/mp4" }),
        ),
    ] {
        let mut problem = refusal(server.chatkit(kind, params), Code::Unsupported).await;
        assert_eq!(
            problem["message"], problem["detail"],
            "where the front end looks"
        );
        problem["instance"].take();
        insta::assert_snapshot!(
            format!("chatkit_{}", kind.replace('.', "_")),
            pretty(&problem)
        );
    }
    insta::assert_snapshot!(
        "chatkit_threads_delete",
        pretty(
            &server
                .ask("threads.delete", json!({ "thread_id": thread }))
                .await
        )
    );
    assert_eq!(
        server.ask("threads.list", json!({})).await,
        json!({ "data": [], "has_more": false })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_keeps_the_user_message_and_replaces_the_answer() {
    let server = server([]).await;
    let created = server.create("Hi").await;
    let (thread, question) = (thread_of(&created), created[1]["item"]["id"].clone());
    let before = server.items(&thread).await;
    assert_eq!(
        types(&created[..3]),
        ["thread.created", "thread.item.done", "stream_options"]
    );
    let retry = json!({ "thread_id": thread, "item_id": question });
    for _ in 0..2 {
        let events = server
            .events("threads.retry_after_item", retry.clone())
            .await;
        assert_eq!(
            types(&events[..2]),
            ["stream_options", "thread.item.added"],
            "the question is not echoed"
        );
    }
    let after = server.items(&thread).await;
    assert_eq!(
        (after.len(), &after[0]["id"], &after[0]),
        (2, &question, &before[0])
    );
    assert_ne!(
        after[1]["id"], before[1]["id"],
        "the earlier answer is still there"
    );
    // The answer is in the log, but not in the thread.
    let id = uuid::Uuid::try_parse(thread.as_str().unwrap().strip_prefix("thr_").unwrap()).unwrap();
    let log = server
        .get(&format!("/conversations/{id}/messages?superseded=include"))
        .await;
    assert_eq!(log["messages"].as_array().unwrap().len(), 6);

    // A retry also supersedes the messages after its own. They cannot be retried.
    let second = server.add(&thread, "More").await[0]["item"]["id"].clone();
    server
        .events("threads.retry_after_item", retry.clone())
        .await;
    let gone = server
        .events(
            "threads.retry_after_item",
            json!({ "thread_id": thread, "item_id": second }),
        )
        .await;
    assert_eq!(types(&gone), ["stream_options", "error"]);
    assert_eq!(server.items(&thread).await.len(), 2);
    refusal(
        server.chatkit(
            "threads.retry_after_item",
            json!({ "thread_id": thread, "item_id": after[1]["id"] }),
        ),
        Code::TurnNotFound,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_is_recognised_until_the_first_read() {
    let server = server([]).await;
    let body = json!({ "type": "threads.create", "params": { "input": input("Hi") } }).to_string();
    let post = |frame: &'static str| {
        let request = server
            .bare(Method::POST, "/chatkit")
            .bearer_auth("token-of-ada")
            .header("content-type", "application/json");
        request.header(FRAME, frame).body(body.clone())
    };
    // A server that died after it had stored the message and before it answered.
    let idempotency = Some(frame_key(b"frame-1", body.as_bytes()));
    let lost = StartTurn {
        owner: UserId::new("ada").unwrap(),
        conversation: None,
        text: "Hi".into(),
        busy: BusyPolicy::Enqueue,
        idempotency,
    };
    let lost = server.state.runner.service.start_turn(lost).await.unwrap();
    server.state.runner.tasks.spawn(lost.task.unwrap());
    let other = thread_of(&events(post("frame-2")).await);
    let repeated = events(post("frame-1")).await;
    assert_eq!(
        thread_of(&repeated),
        format!("thr_{}", lost.turn.conversation.0.simple())
    );
    assert_eq!(
        types(&repeated)[1..3],
        ["thread.item.done", "stream_options"]
    );
    assert_eq!(
        repeated.last().unwrap()["type"],
        "thread.item.done",
        "the whole answer"
    );
    assert_eq!(server.conversations().await, 2, "doubled");
    // After the first read, the same text is a new message.
    let again = thread_of(&events(post("frame-1")).await);
    assert!(again != thread_of(&repeated) && again != other);
    assert_eq!(server.conversations().await, 3);
    // A key of the client is kept.
    let chosen = || post("frame-1").header("idempotency-key", "mine");
    assert_eq!(
        thread_of(&events(chosen()).await),
        thread_of(&events(chosen()).await)
    );
    assert_eq!(server.conversations().await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_a_stream_cancels_its_turn_and_keeps_its_text() {
    let gate = Gate::new();
    let server = server([vec![Script::text("Half"), Script::Wait(gate.clone())]]).await;
    let mut response =
        stream_of(server.chatkit("threads.create", json!({ "input": input("Hi") }))).await;
    let seen = until(&mut response, "assistant_message.content_part.text_delta").await;
    assert_eq!(
        seen[2],
        json!({ "type": "stream_options", "stream_options": { "allow_cancel": true } })
    );
    let thread = thread_of(&seen);
    gate.reached_by(1).await;
    drop(response);
    // The gate stays closed: only the cancellation ends the turn.
    let stopped = async || Some(server.items(&thread).await).filter(|items| items.len() == 3);
    let items = wait::value("the stopped turn's items", stopped).await;
    assert_eq!(items[1]["content"][0]["text"], "Half");
    assert_eq!(
        (&items[2]["type"], &items[2]["task"]["title"]),
        (&json!("task"), &json!("Stopped"))
    );
    assert_eq!(
        server.add(&thread, "Go on").await.last().unwrap()["item"]["content"][0]["text"],
        "Nothing is scripted."
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_cancels_no_turn() {
    let gate = Gate::new();
    let server = server([vec![
        Script::text("Half"),
        Script::Wait(gate.clone()),
        Script::text(" and whole"),
    ]])
    .await;
    let mut response =
        stream_of(server.chatkit("threads.create", json!({ "input": input("Hi") }))).await;
    let thread =
        thread_of(&until(&mut response, "assistant_message.content_part.text_delta").await);
    server.state.end_streams();
    let last = read(&response.text().await.unwrap()).pop().unwrap();
    assert_eq!(
        (&last["type"], &last["allow_retry"]),
        (&json!("error"), &json!(false)),
        "{last}"
    );
    gate.open();
    wait::until("the answer", async || {
        server.items(&thread).await.len() >= 2
    })
    .await;
    assert_eq!(
        server.items(&thread).await[1]["content"][0]["text"],
        "Half and whole"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queued_message_is_echoed_at_once() {
    let gate = Gate::new();
    let server = server([vec![Script::Wait(gate.clone()), Script::text("First.")]]).await;
    let mut first =
        stream_of(server.chatkit("threads.create", json!({ "input": input("One") }))).await;
    let thread = thread_of(&until(&mut first, "stream_options").await);
    let params = json!({ "thread_id": thread, "input": input("Two") });
    let mut second = stream_of(server.chatkit("threads.add_user_message", params)).await;
    let echoed = until(&mut second, "stream_options").await;
    assert_eq!(
        (types(&echoed), &echoed[0]["item"]["content"][0]["text"]),
        (vec!["thread.item.done", "stream_options"], &json!("Two"))
    );
    // The message is also in the thread.
    assert_eq!(
        server.items(&thread).await[1]["id"],
        echoed[0]["item"]["id"]
    );
    gate.open();
    let rest = read(&second.text().await.unwrap());
    assert!(
        !rest
            .iter()
            .any(|event| event["item"]["type"] == "user_message"),
        "echoed twice: {rest:?}"
    );
    assert_eq!(server.items(&thread).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_title_is_sent_and_idle_streams_have_comments() {
    let gate = Gate::new();
    let http = HttpLimits {
        keep_alive: Duration::from_millis(5),
        ..HttpLimits::default()
    };
    let agent = Arc::new(ScriptedAgent::new([vec![
        Script::Wait(gate.clone()),
        Script::text("Done."),
    ]]));
    let server = Server::start(Setup {
        agent,
        http,
        ..Setup::default()
    })
    .await;
    let response =
        stream_of(server.chatkit("threads.create", json!({ "input": input("Hi") }))).await;
    let (mut body, mut text) = (response.bytes_stream(), String::new());
    while !text.contains(": keep-alive\n\n") {
        text.push_str(std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap());
    }
    let thread = thread_of(&read(&text));
    server
        .ask(
            "threads.update",
            json!({ "thread_id": thread, "title": "Renamed" }),
        )
        .await;
    gate.open();
    while let Some(chunk) = body.next().await {
        text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
    }
    let last = read(&text).pop().unwrap();
    assert_eq!(
        (&last["type"], &last["thread"]["title"]),
        (&json!("thread.updated"), &json!("Renamed"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_any_size_together_have_all_items() {
    let server = server([
        vec![Script::call("add_task", "{}")],
        vec![Script::text("One.")],
        vec![Script::Fail(AgentErrorKind::TimedOut)],
        vec![Script::text("Two.")],
        vec![Script::text("Two, but better.")],
        vec![Script::text("")],
        vec![Script::text("Half"), Script::Cut],
    ])
    .await;
    let thread = thread_of(&server.create("Tools").await);
    server.add(&thread, "Fails").await;
    let question = server.add(&thread, "Asked twice").await[0]["item"]["id"].clone();
    server
        .events(
            "threads.retry_after_item",
            json!({ "thread_id": thread, "item_id": question }),
        )
        .await;
    server.add(&thread, "No answer").await;
    server.add(&thread, "Half an answer").await;
    for order in ["asc", "desc"] {
        let whole = server
            .ask(
                "items.list",
                json!({ "thread_id": thread, "order": order, "limit": 9999 }),
            )
            .await["data"]
            .clone();
        let whole = whole.as_array().unwrap();
        assert_eq!(whole.len(), 12, "{whole:?}");
        for limit in 1..=whole.len() {
            let (mut joined, mut after): (Vec<Value>, _) = (Vec::new(), Value::Null);
            loop {
                let params =
                    json!({ "thread_id": thread, "order": order, "limit": limit, "after": after });
                let page = server.ask("items.list", params).await;
                joined.extend(page["data"].as_array().unwrap().clone());
                after = page["after"].clone();
                assert_eq!(
                    page["has_more"],
                    joined.len() < whole.len(),
                    "{order} {limit}"
                );
                if after.is_null() {
                    break;
                }
            }
            assert_eq!(&joined, whole, "{order} {limit}");
        }
    }
}
