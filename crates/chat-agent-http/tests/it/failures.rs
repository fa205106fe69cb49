//! Bad answers and the kinds of error that they cause.

use std::io::{Read, Write};
use std::net::TcpListener;

use chat_agent_http::ChatCompletionsAgent;
use chat_domain::Agent;
use chat_domain::AgentErrorKind::{
    self, ContextTooLong, Misconfigured, Overloaded, Protocol, Refused, Unavailable,
};
use chat_test_support::stub_agent::{Answer, StubAgent, chunk};
use chat_test_support::wait;

use crate::support::{agent, done, events, hello, settings, text};

/// Returns the events after one answer, with a single attempt.
async fn single(answer: Answer) -> crate::support::Events {
    let stub = StubAgent::with_answers([answer]);
    let mut settings = settings(&stub.base_url());
    settings.retries.max_attempts = 1;
    let events = events(
        &ChatCompletionsAgent::new(settings).expect("usable settings"),
        hello(),
    )
    .await;
    assert_eq!(stub.requests().len(), 1);
    events
}

#[tokio::test]
async fn each_status_has_its_kind() {
    let cases: [(Answer, AgentErrorKind); 15] = [
        (
            Answer::raw(307, "text/html", "moved").header("location", "/v1/chat/completions"),
            Misconfigured,
        ),
        (Answer::error(400, "", "something"), Misconfigured),
        (
            Answer::error(400, "context_length_exceeded", "…"),
            ContextTooLong { limit: None },
        ),
        (Answer::error(400, "content_filter", "…"), Refused),
        (
            Answer::error(
                401,
                "invalid_api_key",
                "Incorrect API key provided: sk-12345",
            ),
            Misconfigured,
        ),
        (Answer::error(403, "", "no"), Misconfigured),
        (Answer::error(404, "model_not_found", "no"), Misconfigured),
        (
            Answer::error(413, "", "too large"),
            ContextTooLong { limit: None },
        ),
        (
            Answer::error(
                422,
                "",
                "This model's maximum context length is 8192 tokens",
            ),
            ContextTooLong { limit: Some(8192) },
        ),
        (
            Answer::error(429, "rate_limit_exceeded", "slow down"),
            Overloaded { retry_after: None },
        ),
        (
            Answer::error(429, "insufficient_quota", "pay"),
            Misconfigured,
        ),
        (Answer::error(500, "", "boom"), Unavailable),
        (
            Answer::raw(502, "text/html", "<html>bad gateway</html>"),
            Unavailable,
        ),
        (Answer::raw(503, "", ""), Overloaded { retry_after: None }),
        (
            Answer::error(529, "", "overloaded"),
            Overloaded { retry_after: None },
        ),
    ];
    for (answer, kind) in cases {
        assert_eq!(single(answer.clone()).await, [Err(kind)], "{answer:?}");
    }
}

#[tokio::test]
async fn an_error_with_a_truncated_body_is_classified_by_its_status() {
    assert_eq!(
        single(Answer::error(401, "x", "y").cut_after(10)).await,
        [Err(Misconfigured)]
    );
    let long = Answer::raw(401, "text/html", vec![b'x'; 4 << 20]);
    assert_eq!(single(long).await, [Err(Misconfigured)]);
}

#[tokio::test]
async fn invalid_answers_are_protocol_errors() {
    assert_eq!(
        single(Answer::raw(200, "text/html", "<html>Log in</html>")).await,
        [Err(Protocol)]
    );
    assert_eq!(
        single(Answer::raw(200, "application/json", "{\"ok\":true}")).await,
        [Err(Protocol)]
    );
    assert_eq!(
        single(Answer::sse("data: nonsense\n\n")).await,
        [Err(Protocol)]
    );
    assert_eq!(single(Answer::chunks([])).await, [Err(Protocol)]);
    assert_eq!(single(Answer::sse("")).await, [Err(Unavailable)]);
}

#[tokio::test]
async fn a_truncated_answer_is_unavailable() {
    let event = format!("data: {}\n\n", chunk::text("Once upon"));
    let body = format!("{event}data: {}\n\n", chunk::text(" a time"));
    for cut in [event.len(), event.len() + 20] {
        assert_eq!(
            single(Answer::sse(body.clone()).cut_after(cut)).await,
            [text("Once upon"), Err(Unavailable)]
        );
    }
    // The same body, but the connection is closed properly.
    assert_eq!(
        single(Answer::sse(event.clone())).await,
        [text("Once upon"), Err(Unavailable)]
    );
    let finished = format!("{event}data: {}\n\n", chunk::finish("stop"));
    assert_eq!(
        single(Answer::sse(finished.clone())).await,
        [text("Once upon"), done(0, 0)]
    );
    let longer = Answer::sse(format!("{finished}more")).cut_after(finished.len());
    assert_eq!(single(longer).await, [text("Once upon"), done(0, 0)]);
}

#[tokio::test]
async fn errors_in_the_stream_end_the_step() {
    let error =
        serde_json::json!({ "error": { "message": "boom", "type": "server_error", "code": null } });
    assert_eq!(
        single(Answer::chunks([chunk::text("Well"), error])).await,
        [text("Well"), Err(Unavailable)]
    );
    assert_eq!(
        single(Answer::chunks([chunk::finish("content_filter")])).await,
        [Err(Refused)]
    );
}

#[tokio::test]
async fn a_refused_connection_is_unavailable() {
    let stub = StubAgent::with_answers([]);
    let base_url = stub.base_url();
    drop(stub);
    let error = agent(&base_url)
        .step(hello())
        .await
        .err()
        .expect("connection refused");
    assert_eq!(error.kind, Unavailable);
    let logged = format!("{:?}", error.source.expect("a reason for the log"));
    assert!(!logged.contains("/chat/completions"), "{logged}");
}

/// A TCP server that reads a little of each request, writes `reply`, and closes the connection.
fn closing_server(
    reply: &'static [u8],
    connections: usize,
) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let base_url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    let server = std::thread::spawn(move || {
        listener.set_nonblocking(true).expect("a listener");
        for _ in 0..connections {
            let (mut connection, _) =
                wait::value_blocking("a connection", || listener.accept().ok());
            connection.set_nonblocking(false).expect("a connection");
            connection
                .set_read_timeout(Some(wait::LIMIT))
                .expect("a connection");
            let _ = connection.read(&mut [0; 16]).expect("a request");
            let _ = connection.write_all(reply);
        }
    });
    (base_url, server)
}

#[tokio::test]
async fn a_connection_lost_before_the_answer_is_retried() {
    for reply in [&b""[..], b"HTTP/1.1 20", b"SSH-2.0-OpenSSH_9.2\r\n"] {
        let (base_url, server) = closing_server(reply, 3);
        assert_eq!(events(&agent(&base_url), hello()).await, [Err(Unavailable)]);
        // The port is closed after the expected number of connections, so a further attempt would
        // fail the join.
        server.join().expect("three connections");
    }
}

#[tokio::test]
async fn errors_do_not_contain_the_key() {
    let echo = |key: &str| Answer::error(401, key, &format!("Incorrect API key provided: {key}"));
    let stub =
        StubAgent::start(move |request| echo(request.header("authorization").unwrap_or_default()));
    let mut settings = settings(&stub.base_url());
    settings.api_key = Some("sk-s3cret".into());
    let agent = ChatCompletionsAgent::new(settings).expect("usable settings");
    let error = agent.step(hello()).await.err().expect("a refusal");
    assert_eq!(
        stub.requests()[0].header("authorization"),
        Some("Bearer sk-s3cret")
    );
    assert!(!format!("{error} {error:?} {agent:?}").contains("s3cret"));
    assert_eq!(
        error.source.expect("a source").to_string(),
        "error response with status 401, type invalid_request_error: Incorrect API key provided: \
        Bearer […]"
    );
}
