//! Turns as streams of events: what they hold, and reading on after a cut.

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

/// An event as a browser's `EventSource` hands it out.
#[derive(Clone, Debug, PartialEq)]
struct Event {
    id: Option<String>,
    name: String,
    data: Value,
}

/// Reads frames after the rules of the standard; what a cut left of a frame is dropped.
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

/// Deltas that follow each other in one message are one text, wherever they were cut.
fn told(events: &[Event]) -> Vec<(String, Value)> {
    let mut told: Vec<(String, Value)> = Vec::new();
    for event in events.iter().filter(|event| event.name != "turn") {
        if let (Some((name, before)), "text") = (told.last_mut(), event.name.as_str())
            && name == "text"
            && before["message_id"] == event.data["message_id"]
        {
            before["delta"] = json!(
                before["delta"].as_str().unwrap().to_owned()
                    + event.data["delta"].as_str().unwrap()
            );
            continue;
        }
        told.push((event.name.clone(), event.data.clone()));
    }
    told
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
async fn a_turn_is_told_from_its_message_to_its_end() {
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
    let told = told(&events);
    let names: Vec<_> = told.iter().map(|(name, _)| name.as_str()).collect();
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
    assert_eq!(told[0].1["role"], "user");
    assert_eq!(told[1].1["delta"], "I will — “ä😀” — add it.");
    assert_eq!(told[2].1["content"], told[1].1["delta"]);
    assert_eq!(told[2].1["id"], told[1].1["message_id"]);
    assert_eq!(told[3].1["parameters"], json!({"title": "Milk"}));
    assert_eq!(
        (&told[4].1["id"], &told[4].1["result"]),
        (&told[3].1["id"], &json!({"task_id": 1}))
    );
    assert_eq!(
        (&told[7].1["status"], &told[7].1["usage"]),
        (
            &json!("completed"),
            &json!({"input_tokens": 20, "output_tokens": 10})
        )
    );
    assert_eq!(told[7].1["turn_id"], events[0].data["turn_id"]);
    assert!(events[1..].iter().all(|event| event.id.is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_cut_at_any_byte_is_read_on_without_gap_or_double() {
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
    // Whatever becomes of the turn later, its events stay as they were.
    answer(
        server.ada(Method::POST, &format!("/turns/{turn}/retry")),
        200,
    )
    .await;
    let path = format!("/turns/{turn}/events");
    let last = whole.last().unwrap().id.clone().unwrap();
    let mut seen = None;
    for cut in 0..=text.len() {
        // A cut within a character leaves no more whole frames than one before it.
        let Some(received) = text.get(..cut) else {
            continue;
        };
        let before = events(received);
        let cursor = before.iter().rev().find_map(|event| event.id.clone());
        // All cuts within one frame leave the same: reading on once for each is enough, and once in
        // the middle of it.
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
            told(&[kept, after].concat()),
            told(&whole),
            "cut at byte {cut}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_turn_is_read_on_by_another_connection() {
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
    assert_eq!(told(&[before, after].concat()), told(&whole));
    assert_eq!(told(&whole)[1].1["delta"], "One two.");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_stream_shows_that_it_lives() {
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
    let told_first = events(&text);
    let error = told_first.last().unwrap();
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
        told_first[0].data["turn_id"].as_str().unwrap()
    );
    let again = server
        .ada(Method::GET, &path)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert_eq!(told(&events(&again)), told(&told_first));
    let done = server
        .ada(Method::GET, &path)
        .header("Last-Event-ID", error.id.as_deref().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(done.status(), 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_while_reading_is_an_error_without_id() {
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
    // A queued turn is read from the store; the fault meets its reader or the heartbeat, so there
    // are some.
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
async fn streams_end_when_the_server_leaves() {
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

/// A connection of its own on which the answer to a message has begun, and the first byte of it.
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

/// The whole events in the body of an answer in chunks, which may be cut off.
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
    // As a reader of events does, which ignores one that has not come to its end.
    text.truncate(text.rfind("\n\n").map_or(0, |end| end + 2));
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_let_go_and_reads_on() {
    const STEPS: usize = 16;
    // More than the sockets hold between them: the client's side is small, and ours grows to a few
    // MiB.
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
    // The answer has begun. Nobody reads, and after a while nobody serves.
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
        // On a busy machine this client may be too slow as well: it resumes after the last whole
        // event.
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = more.chunk().await {
            body.extend_from_slice(&chunk);
        }
        let body = String::from_utf8_lossy(&body);
        let whole = body.rfind("\n\n").map_or("", |end| &body[..end + 2]);
        read.extend(events(whole));
    }
    let told = told(&read);
    let steps = ["text", "message", "tool_call", "tool_result"].repeat(STEPS - 1);
    let names: Vec<_> = told.iter().map(|(name, _)| name.as_str()).collect();
    assert!(
        names == [&["message"], &steps[..], &["text", "message", "done"]].concat(),
        "{names:?}"
    );
    for (text, message) in told
        .iter()
        .zip(&told[1..])
        .filter(|(text, _)| text.0 == "text")
    {
        assert!(text.1["message_id"] == message.1["id"] && text.1["delta"] == message.1["content"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_is_no_longer_served() {
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
async fn a_server_that_leaves_still_tells_what_is_known() {
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
