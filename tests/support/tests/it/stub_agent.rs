//! Tests of the stub agent.

use std::time::Duration;

use chat_test_support::stub_agent::{Answer, Delivery, Gate, StubAgent, chunk};
use reqwest::{Client, Response};
use serde_json::json;

const HELLO: &str = r#"{"model":"m","messages":[{"role":"user","content":"Hello"}]}"#;

async fn ask(client: &Client, stub: &StubAgent, body: &str) -> reqwest::Result<Response> {
    client
        .post(format!("{}/chat/completions", stub.base_url()))
        .header("x-test", "1")
        .body(body.to_owned())
        .send()
        .await
}

async fn hello(stub: &StubAgent) -> Response {
    ask(&Client::new(), stub, HELLO).await.expect("an answer")
}

fn sse(chunks: impl IntoIterator<Item = serde_json::Value>) -> String {
    chunks
        .into_iter()
        .map(|chunk| format!("data: {chunk}\n\n"))
        .collect::<String>()
        + "data: [DONE]\n\n"
}

#[tokio::test]
async fn the_script_is_followed_and_then_ends() {
    let stub = StubAgent::with_answers([
        Answer::text(["Hel", "lo"]),
        Answer::error(429, "", "later").header("retry-after", "1"),
    ]);
    let first = hello(&stub).await;
    assert_eq!(first.headers()["content-type"], "text/event-stream");
    let expected = sse([
        chunk::text("Hel"),
        chunk::text("lo"),
        chunk::finish("stop"),
        chunk::usage(1, 2),
    ]);
    assert_eq!(first.text().await.expect("a body"), expected);
    let second = hello(&stub).await;
    assert_eq!(
        (second.status().as_u16(), &second.headers()["retry-after"]),
        (429, &"1".parse().expect("a header"))
    );
    let error: serde_json::Value =
        serde_json::from_str(&second.text().await.expect("a body")).expect("JSON");
    assert_eq!(error["error"]["message"], "later");
    assert_eq!(hello(&stub).await.status(), 418);
}

#[tokio::test]
async fn requests_are_recorded() {
    let stub = StubAgent::start(|request| Answer::json(200, &json!(request.number)));
    assert_eq!(hello(&stub).await.text().await.expect("a body"), "0");
    assert_eq!(hello(&stub).await.text().await.expect("a body"), "1");
    let requests = stub.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].number, 1);
    assert_eq!(requests[1].body, HELLO);
    assert_eq!(requests[1].header("x-test"), Some("1"));
    assert_eq!(
        requests[1].messages(),
        [json!({ "role": "user", "content": "Hello" })]
    );
    assert_eq!(requests[1].delivered().await, Delivery::Complete);
}

#[tokio::test]
async fn invalid_requests_are_rejected_without_consuming_the_script() {
    let stub = StubAgent::with_answers([Answer::text(["Hello"])]);
    let refused = ask(&Client::new(), &stub, r#"{"model":"m","messages":[]}"#)
        .await
        .expect("an answer");
    assert_eq!(refused.status(), 400);
    assert!(
        refused
            .text()
            .await
            .expect("a body")
            .contains("Invalid 'messages': empty")
    );
    assert_eq!(
        stub.requests()[0].rejection.as_ref().expect("a reason").at,
        "messages"
    );
    assert_eq!(hello(&stub).await.status(), 200);
}

#[tokio::test]
async fn a_gate_holds_an_answer_before_or_within_its_body() {
    let (before, within) = (Gate::new(), Gate::new());
    let stub = StubAgent::with_answers([Answer::raw(200, "text/plain", "abcdef")
        .held(&before)
        .held_after(3, &within)]);
    let client = Client::new();
    let mut pending = Box::pin(ask(&client, &stub, HELLO));
    tokio::select! {
        () = before.reached_by(1) => {}
        answer = &mut pending => panic!("{answer:?} came through a closed gate"),
    }
    before.open();
    let mut answer = pending.await.expect("an answer");
    within.reached_by(1).await;
    assert_eq!(
        answer.chunk().await.expect("a piece").expect("a piece"),
        "abc"
    );
    within.open();
    assert_eq!(
        answer.chunk().await.expect("a piece").expect("a piece"),
        "def"
    );
    assert_eq!(answer.chunk().await.expect("the end"), None);
}

#[tokio::test]
async fn an_answer_may_be_cut_hang_or_drip() {
    let answer = || Answer::raw(200, "text/plain", "abcdef");
    let drip = Duration::from_millis(1);
    let stub = StubAgent::with_answers([
        answer().cut_after(3),
        answer().hang_after(3),
        answer().drip_after(3, "x", drip),
        Answer::hanging(),
    ]);
    let mut cut = hello(&stub).await;
    assert_eq!(cut.chunk().await.expect("a piece").expect("a piece"), "abc");
    cut.chunk().await.expect_err("the connection is closed");

    let short = Duration::from_millis(200);
    let mut hanging = hello(&stub).await;
    assert_eq!(
        hanging.chunk().await.expect("a piece").expect("a piece"),
        "abc"
    );
    tokio::time::timeout(short, hanging.chunk())
        .await
        .expect_err("nothing more comes");

    let mut dripping = hello(&stub).await;
    let mut received = Vec::new();
    while received.len() < 10 {
        received.extend_from_slice(&dripping.chunk().await.expect("a piece").expect("a piece"));
    }
    assert!(received.starts_with(b"abcxxx"));
    drop(dripping);
    assert_eq!(stub.requests()[2].delivered().await, Delivery::Abandoned);

    let client = Client::new();
    tokio::time::timeout(short, ask(&client, &stub, HELLO))
        .await
        .expect_err("nothing comes at all");
}

#[tokio::test]
async fn pieces_do_not_change_the_body() {
    let answer = || Answer::raw(200, "text/plain", "añb日c🦀");
    let stub = StubAgent::with_answers([
        answer().in_pieces(1),
        answer().in_pieces(2),
        answer().in_pieces(4).slowly(Duration::from_millis(1)),
    ]);
    for _ in 0..3 {
        assert_eq!(hello(&stub).await.text().await.expect("a body"), "añb日c🦀");
    }
}

#[tokio::test]
async fn concurrent_requests_are_answered() {
    let gate = Gate::new();
    let held = gate.clone();
    let stub = std::sync::Arc::new(StubAgent::start(move |request| {
        Answer::json(200, &json!(request.number)).held(&held)
    }));
    let client = Client::new();
    let pending: Vec<_> = (0..128)
        .map(|_| {
            let (client, stub) = (client.clone(), stub.clone());
            tokio::spawn(async move {
                ask(&client, &stub, HELLO)
                    .await
                    .expect("an answer")
                    .text()
                    .await
                    .expect("a body")
            })
        })
        .collect();
    gate.reached_by(128).await;
    gate.open();
    let mut numbers = std::collections::BTreeSet::new();
    for answer in pending {
        numbers.insert(
            answer
                .await
                .expect("an answer")
                .parse::<usize>()
                .expect("a number"),
        );
    }
    assert_eq!(numbers, (0..128).collect());
}

#[tokio::test]
async fn dropping_the_stub_closes_its_connections_and_port() {
    let gate = Gate::new();
    let stub =
        StubAgent::with_answers([Answer::raw(200, "text/plain", "abcdef").held_after(3, &gate)]);
    let mut answer = hello(&stub).await;
    assert_eq!(
        answer.chunk().await.expect("a piece").expect("a piece"),
        "abc"
    );
    let (request, base_url) = (stub.requests().remove(0), stub.base_url());
    drop(stub);
    assert_eq!(request.delivered().await, Delivery::Abandoned);
    answer.chunk().await.expect_err("the connection is closed");
    assert!(
        Client::new()
            .post(base_url)
            .send()
            .await
            .expect_err("the port is closed")
            .is_connect()
    );
}

#[tokio::test]
async fn other_routes_are_not_found() {
    let stub = StubAgent::with_answers([]);
    let other = Client::new()
        .post(format!("{}/completions", stub.base_url()))
        .send()
        .await
        .expect("an answer");
    assert_eq!(other.status(), 404);
    assert_eq!(stub.requests().len(), 0);
}
