//! Turns as streams of events, and resuming them.

use std::sync::Arc;
use std::time::Duration;

use chat_domain::testing::{FakeTools, Gate, Script, ScriptedAgent};
use chat_domain::{AgentErrorKind, TurnLimits, Unavailability};
use chat_protocol::Code;
use chat_server::testing::HttpLimits;
use futures_util::StreamExt;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::harness::{Server, Setup, answer, check_common_headers};

/// An event as a browser's `EventSource` dispatches it.
#[derive(Clone, Debug, PartialEq)]
struct Event {
    id: Option<String>,
    name: String,
    data: Value,
}

/// Parses frames by the rules of the standard. An incomplete frame is dropped.
fn events(text: &str) -> Vec<Event> {
    let whole = text.rfind("\n\n").map_or("", |end| &text[..end]);
    let mut events = Vec::new();
    for block in whole.split("\n\n") {
        let (mut id, mut name, mut data) = (None, "", Vec::new());
        for line in block.lines().filter(|line| !line.starts_with(':')) {
            match line.split_once(": ").unwrap() {
                ("id", value) => id = Some(value.to_owned()),
                ("event", value) => name = value,
                ("data", value) => data.push(value),
                other => panic!("{other:?}"),
            }
        }
        if !name.is_empty() {
            events.push(Event {
                id,
                name: name.to_owned(),
                data: serde_json::from_str(&data.join("\n")).unwrap(),
            });
        }
    }
    events
}

/// The events with consecutive deltas of a message joined, because their boundaries vary.
fn joined(events: &[Event]) -> Vec<(String, Value)> {
    let mut joined: Vec<(String, Value)> = Vec::new();
    for event in events.iter().filter(|event| event.name != "turn") {
        if let (Some((name, before)), "text") = (joined.last_mut(), event.name.as_str())
            && name == "text"
            && before["message_id"] == event.data["message_id"]
        {
            before["delta"] = json!(
                before["delta"].as_str().unwrap().to_owned()
                    + event.data["delta"].as_str().unwrap()
            );
            continue;
        }
        joined.push((event.name.clone(), event.data.clone()));
    }
    joined
}

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

async fn stream(server: &Server, message: &str) -> Response {
    server
        .chat(message, None)
        .header("Accept", "text/event-stream")
        .send()
        .await
        .unwrap()
}

fn with_tools() -> (ScriptedAgent, FakeTools) {
    let agent = ScriptedAgent::new([
        vec![
            Script::text("I "),
            Script::text("will — “ä😀” —"),
            Script::text(" add it."),
            Script::call("add_task", "{\n \"title\": \"Milk\"\n}"),
        ],
        vec![Script::text("Added. "), Script::text("Done.")],
    ]);
    (
        agent,
        FakeTools::new().answering("add_task", false, r#"{"task_id":1}"#),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_all_events_of_a_turn() {
    let (agent, tools) = with_tools();
    let server = Server::start(Setup {
        agent: Arc::new(agent),
        tools,
        ..Setup::default()
    })
    .await;
    let response = stream(&server, "Add task: Milk").await;
    let headers = response.headers().clone();
    check_common_headers(&headers);
    assert_eq!(headers["content-type"], "text/event-stream");
    assert_eq!(headers["x-accel-buffering"], "no");
    assert_eq!(headers["content-encoding"], "identity");
    let events = events(&response.text().await.unwrap());
    assert_eq!(names(&events)[..2], ["turn", "message"]);
    assert_eq!(
        (&events[0].id, &events[0].data["status"]),
        (&None, &json!("running"))
    );
    let joined = joined(&events);
    let names: Vec<_> = joined.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "message",
            "text",
            "message",
            "tool_call",
            "tool_result",
            "text",
            "message",
            "done"
        ]
    );
    assert_eq!(joined[0].1["role"], "user");
    assert_eq!(joined[1].1["delta"], "I will — “ä😀” — add it.");
    assert_eq!(joined[2].1["content"], joined[1].1["delta"]);
    assert_eq!(joined[2].1["id"], joined[1].1["message_id"]);
    assert_eq!(joined[3].1["parameters"], json!({"title": "Milk"}));
    assert_eq!(
        (&joined[4].1["id"], &joined[4].1["result"]),
        (&joined[3].1["id"], &json!({"task_id": 1}))
    );
    assert_eq!(
        (&joined[7].1["status"], &joined[7].1["usage"]),
        (
            &json!("completed"),
            &json!({"input_tokens": 20, "output_tokens": 10})
        )
    );
    assert_eq!(joined[7].1["turn_id"], events[0].data["turn_id"]);
    assert!(events[1..].iter().all(|event| event.id.is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_cut_at_any_byte_resumes_exactly() {
    let (agent, tools) = with_tools();
    let server = Server::start(Setup {
        agent: Arc::new(agent),
        tools,
        ..Setup::default()
    })
    .await;
    let text = stream(&server, "Add task: Milk")
        .await
        .text()
        .await
        .unwrap();
    let whole = events(&text);
    let turn = whole[0].data["turn_id"].as_str().unwrap().to_owned();
    // Later changes of the turn do not change its events.
    answer(
        server.ada(Method::POST, &format!("/turns/{turn}/retry")),
        200,
    )
    .await;
    let path = format!("/turns/{turn}/events");
    let last = whole.last().unwrap().id.clone().unwrap();
    let mut seen = None;
    for cut in 0..=text.len() {
        // A cut within a character leaves the same whole frames as a cut before it.
        let Some(received) = text.get(..cut) else {
            continue;
        };
        let before = events(received);
        let cursor = before.iter().rev().find_map(|event| event.id.clone());
        // All cuts within one frame are equivalent: one resume for each frame, and one in its
        // middle, are enough.
        if seen == Some((before.len(), cut % 7 == 0)) {
            continue;
        }
        seen = Some((before.len(), cut % 7 == 0));
        let resumed = match &cursor {
            Some(cursor) if cut % 2 == 0 => server
                .ada(Method::GET, &path)
                .header("Last-Event-ID", cursor),
            Some(cursor) => server.ada(Method::GET, &format!("{path}?after={cursor}")),
            None => server.ada(Method::GET, &path),
        };
        let resumed = resumed.send().await.unwrap();
        if cursor.as_deref() == Some(&last) {
            assert_eq!(resumed.status(), 204);
            assert!(resumed.text().await.unwrap().is_empty());
            continue;
        }
        let after = events(&resumed.text().await.unwrap());
        assert_eq!(
            after.iter().any(|event| event.name == "turn"),
            cursor.is_none()
        );
        let kept = if cursor.is_some() { before } else { Vec::new() };
        assert_eq!(
            joined(&[kept, after].concat()),
            joined(&whole),
            "cut at byte {cut}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_connection_resumes_a_running_turn() {
    let gate = Gate::new();
    let script = vec![
        Script::text("One "),
        Script::Wait(gate.clone()),
        Script::text("two."),
    ];
    let (server, _) = Server::with_agent(ScriptedAgent::new([script])).await;
    let mut chunks = stream(&server, "Count").await.bytes_stream();
    let mut text = String::new();
    while !text.contains("event: text\n") || !text.ends_with("\n\n") {
        text.push_str(std::str::from_utf8(&chunks.next().await.unwrap().unwrap()).unwrap());
    }
    drop(chunks);
    let before = events(&text);
    let cursor = before.last().unwrap().id.clone().unwrap();
    let path = format!(
        "/turns/{}/events",
        before[0].data["turn_id"].as_str().unwrap()
    );
    let resumed = server
        .ada(Method::GET, &path)
        .header("Last-Event-ID", cursor)
        .send()
        .await
        .unwrap();
    gate.open();
    let after = events(&resumed.text().await.unwrap());
    assert_eq!(names(&after), ["text", "message", "done"]);
    let whole = events(
        &server
            .ada(Method::GET, &path)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap(),
    );
    assert_eq!(joined(&[before, after].concat()), joined(&whole));
    assert_eq!(joined(&whole)[1].1["delta"], "One two.");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_stream_has_keep_alive_comments() {
    let gate = Gate::new();
    let agent = Arc::new(ScriptedAgent::new([vec![
        Script::Wait(gate.clone()),
        Script::text("Hi."),
    ]]));
    let http = HttpLimits {
        keep_alive: Duration::from_millis(10),
        ..HttpLimits::default()
    };
    let server = Server::start(Setup {
        agent,
        http,
        ..Setup::default()
    })
    .await;
    let mut chunks = stream(&server, "Hi").await.bytes_stream();
    let mut text = String::new();
    while text.matches(": keep-alive\n\n").count() < 2 {
        text.push_str(std::str::from_utf8(&chunks.next().await.unwrap().unwrap()).unwrap());
    }
    gate.open();
    while let Some(chunk) = chunks.next().await {
        text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
    }
    assert_eq!(
        names(&events(&text)),
        ["turn", "message", "text", "message", "done"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_turn_ends_with_an_error_that_can_be_read_again() {
    let (server, _) = Server::with_agent(ScriptedAgent::new([vec![
        Script::text("Half"),
        Script::Fail(AgentErrorKind::TimedOut),
    ]]))
    .await;
    let text = stream(&server, "Hi").await.text().await.unwrap();
    let first_events = events(&text);
    let error = first_events.last().unwrap();
    assert_eq!(
        (
            error.name.as_str(),
            &error.data["code"],
            &error.data["status"]
        ),
        ("error", &json!("agent_timeout"), &json!(504))
    );
    assert!(error.id.as_deref().unwrap().ends_with(".e"));
    let path = format!(
        "/turns/{}/events",
        first_events[0].data["turn_id"].as_str().unwrap()
    );
    let again = server
        .ada(Method::GET, &path)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert_eq!(joined(&events(&again)), joined(&first_events));
    let done = server
        .ada(Method::GET, &path)
        .header("Last-Event-ID", error.id.as_deref().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(done.status(), 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_reading_has_no_id() {
    let gate = Gate::new();
    let agent = ScriptedAgent::new([
        vec![Script::text("Hello.")],
        vec![Script::Wait(gate.clone()), Script::text("One.")],
        vec![Script::text("Two.")],
    ]);
    let (server, _) = Server::with_agent(agent).await;
    let conversation = server.say("Hi", None).await["conversation_id"].clone();
    let running = tokio::spawn(server.chat("First", Some(&conversation)).send());
    gate.reached_by(1).await;
    // A queued turn is read from the store. The faults may also hit the heartbeat, so there are
    // several.
    let queued = server
        .chat("Second", Some(&conversation))
        .header("Accept", "text/event-stream")
        .send()
        .await
        .unwrap();
    server
        .store
        .fail_next(std::iter::repeat_n(Unavailability::Unreachable, 3));
    let read = events(&queued.text().await.unwrap());
    assert_eq!(names(&read), ["turn", "error"]);
    assert_eq!(
        (&read[1].id, &read[1].data["code"]),
        (&None, &json!(Code::StoreUnavailable.row().code))
    );
    assert!(read[1].data["instance"].is_string());
    gate.open();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_ends_streams() {
    let gate = Gate::new();
    let (server, _) = Server::with_agent(ScriptedAgent::new([vec![
        Script::text("Half"),
        Script::Wait(gate.clone()),
    ]]))
    .await;
    let open = stream(&server, "Hi").await;
    gate.reached_by(1).await;
    server.state.runner.service.hand_over().await.unwrap();
    server.state.end_streams();
    let read = events(&open.text().await.unwrap());
    let (first, last) = (&read[0], &read[read.len() - 1]);
    assert_eq!((first.name.as_str(), last.name.as_str()), ("turn", "error"));
    assert_eq!(
        (&last.id, &last.data["code"]),
        (&None, &json!("shutting_down"))
    );
    for id in ["conversation_id", "turn_id"] {
        assert_eq!(last.data[id], first.data[id]);
    }
    assert!(!names(&read).contains(&"done"));
}

/// A new connection on which the response to a message has begun, and its first byte.
async fn raw_stream(server: &Server) -> (TcpStream, u8) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = socket.connect(server.address).await.unwrap();
    let request = "POST /api/ada/chat HTTP/1.1\r\nhost: x\r\nauthorization: Bearer token-of-ada\r\naccept: text/event-stream\r\n\
         content-type: application/json\r\nconnection: close\r\ncontent-length: 17\r\n\r\n{\"message\": \"Hi\"}";
    client.write_all(request.as_bytes()).await.unwrap();
    let first = client.read_u8().await.unwrap();
    (client, first)
}

/// The complete events in a chunked body, which may be cut off.
fn dechunked(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        text.push_str(rest.get(..size).unwrap_or(rest));
        body = rest
            .get(size..)
            .and_then(|rest| rest.strip_prefix("\r\n"))
            .unwrap_or_default();
    }
    // A reader of events ignores an incomplete one.
    text.truncate(text.rfind("\n\n").map_or(0, |end| end + 2));
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_disconnected_and_resumes() {
    const STEPS: usize = 16;
    // More than the buffers of the sockets: the client's is small, the server's grows to a few MiB.
    let long = "x".repeat(1 << 20);
    let step = move || vec![Script::text(&long), Script::call("again", "{}")];
    let agent = Arc::new(ScriptedAgent::new(
        std::iter::repeat_with(step).take(STEPS - 1),
    ));
    let server = Server::start(Setup {
        agent,
        tools: FakeTools::new().answering("again", true, "{}"),
        limits: TurnLimits {
            steps: STEPS,
            ..Setup::default().limits
        },
        http: HttpLimits {
            write_time: Duration::from_millis(200),
            ..HttpLimits::default()
        },
        ..Setup::default()
    })
    .await;
    let (mut client, first) = raw_stream(&server).await;
    let mut answer = vec![first];
    // The response has begun, and the client does not read: the stream ends after a while.
    server.state.readers.finished().await;

    client.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut read = events(&dechunked(body));
    assert_eq!(read[0].name, "turn");
    assert_ne!(read.last().unwrap().name, "done");
    let path = format!(
        "/turns/{}/events",
        read[0].data["turn_id"].as_str().unwrap()
    );
    while read.last().unwrap().name != "done" {
        let cursor = read
            .iter()
            .rev()
            .find_map(|event| event.id.clone())
            .unwrap_or_default();
        let mut more = server
            .ada(Method::GET, &path)
            .header("Last-Event-ID", cursor)
            .send()
            .await
            .unwrap();
        assert_eq!(more.status(), 200);
        // On a busy machine this client may also be too slow: it resumes after the last complete
        // event.
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = more.chunk().await {
            body.extend_from_slice(&chunk);
        }
        let body = String::from_utf8_lossy(&body);
        let whole = body.rfind("\n\n").map_or("", |end| &body[..end + 2]);
        read.extend(events(whole));
    }
    let joined = joined(&read);
    let steps = ["text", "message", "tool_call", "tool_result"].repeat(STEPS - 1);
    let names: Vec<_> = joined.iter().map(|(name, _)| name.as_str()).collect();
    assert!(
        names == [&["message"], &steps[..], &["text", "message", "done"]].concat(),
        "{names:?}"
    );
    for (text, message) in joined
        .iter()
        .zip(&joined[1..])
        .filter(|(text, _)| text.0 == "text")
    {
        assert!(text.1["message_id"] == message.1["id"] && text.1["delta"] == message.1["content"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_of_a_disconnected_client_ends() {
    let gate = Gate::new();
    let agent = Arc::new(ScriptedAgent::new([vec![
        Script::Wait(gate.clone()),
        Script::text("Yes."),
    ]]));
    let http = HttpLimits {
        keep_alive: Duration::from_secs(3600),
        ..HttpLimits::default()
    };
    let server = Server::start(Setup {
        agent,
        http,
        ..Setup::default()
    })
    .await;
    let (client, _) = raw_stream(&server).await;
    // With no time to linger, closing resets the connection, which actix-web notices at once.
    client.set_zero_linger().unwrap();
    drop(client);
    server.state.readers.finished().await;
    gate.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_still_sends_known_events() {
    let (server, _) = Server::with_agent(ScriptedAgent::new([])).await;
    let turn = server.say("Hi", None).await["turn_id"]
        .as_str()
        .unwrap()
        .to_owned();
    server.state.end_streams();
    for _ in 0..10 {
        let read = server
            .ada(Method::GET, &format!("/turns/{turn}/events"))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        assert_eq!(
            names(&events(&read)),
            ["turn", "message", "text", "message", "done"]
        );
    }
}
