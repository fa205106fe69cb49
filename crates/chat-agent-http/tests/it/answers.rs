//! Well-formed answers in several deliveries.

use chat_domain::{Agent, StepEvent};
use chat_test_support::stub_agent::{Answer, Delivery, Gate, StubAgent, chunk};
use chat_test_support::wait;
use futures_util::StreamExt;
use serde_json::json;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::support::{agent, call, done, events, hello, text};

#[tokio::test]
async fn text_calls_and_usage_become_events() {
    let stub = StubAgent::with_answers([
        Answer::text(["Hél", "lo 🦀"]),
        Answer::calls([("add_task", r#"{"title":"Milk"}"#), ("list_tasks", "{}")]),
    ]);
    let agent = agent(&stub.base_url());
    assert_eq!(
        events(&agent, hello()).await,
        [text("Hél"), text("lo 🦀"), done(1, 2)]
    );
    assert_eq!(
        events(&agent, hello()).await,
        [
            call("add_task", r#"{"title":"Milk"}"#),
            call("list_tasks", "{}"),
            done(1, 2)
        ]
    );
}

#[tokio::test]
async fn an_answer_may_arrive_byte_by_byte() {
    let chunks = || {
        [
            chunk::text("日本 🦀"),
            chunk::call(0, "a", "f", "{\"é\""),
            chunk::call(1, "b", "g", ""),
            chunk::arguments(0, ":1}"),
        ]
        .into_iter()
        .chain([chunk::finish("stop"), chunk::usage(3, 4)])
    };
    let stub =
        StubAgent::with_answers([1, 2, 7].map(|bytes| Answer::chunks(chunks()).in_pieces(bytes)));
    let agent = agent(&stub.base_url());
    for _ in 0..3 {
        assert_eq!(
            events(&agent, hello()).await,
            [
                text("日本 🦀"),
                call("f", "{\"é\":1}"),
                call("g", "{}"),
                done(3, 4)
            ]
        );
    }
}

#[tokio::test]
async fn text_is_an_event_as_soon_as_it_arrives() {
    let gate = Gate::new();
    let first = format!("data: {}\n\n", chunk::text("Wait"));
    let body = format!(
        "{first}data: {}\n\ndata: [DONE]\n\n",
        chunk::text(" for it")
    );
    let stub = StubAgent::with_answers([Answer::sse(body).held_after(first.len(), &gate)]);
    let mut stream = agent(&stub.base_url())
        .step(hello())
        .await
        .expect("an answer");
    assert_eq!(
        stream.next().await.expect("an event").expect("text"),
        StepEvent::Text("Wait".into())
    );
    gate.open();
    assert_eq!(
        stream.next().await.expect("an event").expect("text"),
        StepEvent::Text(" for it".into())
    );
}

#[tokio::test]
async fn an_answer_may_lack_a_stream_or_a_content_type() {
    let whole = json!({
        "object": "chat.completion",
        "choices": [{
            "index": 0, "message": { "role": "assistant", "content": "Hello" },
            "finish_reason": "stop",
        }],
        "usage": { "prompt_tokens": 5, "completion_tokens": 2 },
    });
    let body = format!("data: {}\n\ndata: [DONE]\n\n", chunk::text("Hello"));
    let stub = StubAgent::with_answers([
        Answer::json(200, &whole),
        Answer::raw(200, "application/json; charset=utf-8", whole.to_string()).in_pieces(5),
        Answer::raw(200, "", body.clone()),
        Answer::raw(200, "Text/Event-Stream;charset=UTF-8", body),
    ]);
    let agent = agent(&stub.base_url());
    for usage in [done(5, 2), done(5, 2), done(0, 0), done(0, 0)] {
        assert_eq!(events(&agent, hello()).await, [text("Hello"), usage]);
    }
}

#[tokio::test]
async fn dropping_the_stream_closes_the_connection() {
    let first = format!("data: {}\n\n", chunk::text("Once upon a time"));
    let stub = StubAgent::with_answers([Answer::sse(first.clone()).drip_after(
        first.len(),
        ": ping\n\n",
        Duration::from_millis(5),
    )]);
    let mut stream = agent(&stub.base_url())
        .step(hello())
        .await
        .expect("an answer");
    stream.next().await.expect("an event").expect("text");
    drop(stream);
    assert_eq!(stub.requests()[0].delivered().await, Delivery::Abandoned);
}

#[tokio::test]
async fn connections_are_reused() {
    let stub = StubAgent::start(|_| Answer::text(["Hello"]));
    let agent = agent(&stub.base_url());
    for _ in 0..3 {
        assert_eq!(events(&agent, hello()).await, [text("Hello"), done(1, 1)]);
    }
    let peers: Vec<_> = stub
        .requests()
        .iter()
        .map(|request| request.peer.expect("an address"))
        .collect();
    assert_eq!(peers, [peers[0]; 3]);
}

#[tokio::test]
async fn concurrent_steps_do_not_mix() {
    let gate = Gate::new();
    let held = gate.clone();
    let stub = StubAgent::start(move |request| {
        let message = request.messages()[0]["content"]
            .as_str()
            .expect("text")
            .to_owned();
        Answer::text(["You said ", message.as_str()])
            .in_pieces(10)
            .held(&held)
    });
    let agent = agent(&stub.base_url());
    let steps = (0..128).map(|number| {
        let (agent, message) = (agent.clone(), number.to_string());
        tokio::spawn(async move {
            let events = events(
                &agent,
                crate::support::request([crate::support::says(&message)]),
            )
            .await;
            assert_eq!(events, [text("You said "), text(&message), done(1, 2)]);
        })
    });
    let steps: Vec<_> = steps.collect();
    gate.reached_by(128).await;
    gate.open();
    for step in steps {
        step.await.expect("its own answer");
    }
}

#[tokio::test]
async fn dropping_the_step_before_its_answer_closes_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base_url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    let agent = agent(&base_url);
    let mut step = agent.step(hello());
    let mut connection = tokio::select! {
        connection = wait::within(
            "a connection", listener.accept(),
        ) => connection.expect("a connection").0,
        _ = &mut step => panic!("the server has not answered"),
    };
    let first_byte = tokio::select! {
        first_byte = wait::within("a request", connection.read_u8()) => first_byte,
        _ = &mut step => panic!("the server has not answered"),
    };
    assert_eq!(first_byte.expect("a request"), b'P');
    drop(step);
    // The connection ends, with or without an error.
    let _ = wait::within(
        "the end of the connection",
        connection.read_to_end(&mut Vec::new()),
    )
    .await;
    assert!(matches!(connection.read(&mut [0]).await, Ok(0) | Err(_)));
}
