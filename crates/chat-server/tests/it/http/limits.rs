//! Limits on connections and memory; clients that do not read.

use std::time::{Duration, Instant};

use chat_domain::testing::{Script, ScriptedAgent};
use chat_protocol::Code;
use chat_server::testing::HttpLimits;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::harness::{Server, Setup, answer, read_to_end, refusal};

/// How long a test waits for a state of the server.
const LIMIT: Duration = Duration::from_secs(30);

async fn server(http: HttpLimits) -> Server {
    Server::start(Setup {
        http,
        ..Setup::default()
    })
    .await
}

/// Sends a request on a connection that stays open, and waits for its answer.
async fn kept_open(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut read = Vec::new();
    while !read.ends_with(b"}") {
        assert!(stream.read_buf(&mut read).await.unwrap() > 0);
    }
    assert!(
        read.starts_with(b"HTTP/1.1 200 "),
        "{}",
        String::from_utf8_lossy(&read)
    );
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_replies_end_their_connection() {
    let http = HttpLimits {
        write_time: Duration::from_millis(100),
        ..HttpLimits::default()
    };
    let server = server(http).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // More than the system's buffers.
    let request = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n".repeat(16);
    stream.write_all(request.as_bytes()).await.unwrap();
    let begun = Instant::now();
    while stream.write_all(b"\r\n").await.is_ok() {
        assert!(
            begun.elapsed() < LIMIT,
            "the connection of a client that does not read is not closed"
        );
        tokio::task::yield_now().await;
    }
    // Other clients are served.
    assert_eq!(
        answer(server.bare(Method::GET, "/health/live"), 200).await["status"],
        "ok"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_limit_get_an_error() {
    let server = server(HttpLimits {
        connections: 2,
        ..HttpLimits::default()
    })
    .await;
    let (first, second) = (kept_open(&server).await, kept_open(&server).await);
    let head = "GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let rejected = server.raw(head.as_bytes()).await;
    let (head_of_rejection, body) = rejected.split_once("\r\n\r\n").unwrap();
    assert!(head_of_rejection.starts_with("HTTP/1.1 503 "), "{rejected}");
    for header in [
        "content-type: application/problem+json",
        "retry-after: 2",
        "connection: close",
    ] {
        assert!(head_of_rejection.contains(header), "{rejected}");
    }
    let problem: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        (&problem["code"], &problem["status"]),
        (&"too_many_connections".into(), &503.into())
    );
    drop(first);
    let begun = Instant::now();
    while !server
        .raw(head.as_bytes())
        .await
        .starts_with("HTTP/1.1 200 ")
    {
        assert!(
            begun.elapsed() < LIMIT,
            "a closed connection does not make room for another"
        );
    }
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_over_the_memory_limit_are_rejected() {
    let server = server(HttpLimits {
        memory_bytes: 64 << 10,
        ..HttpLimits::default()
    })
    .await;
    let post = |bytes: usize| {
        let body = format!(r#"{{"message": "Hi"{}}}"#, " ".repeat(bytes));
        server
            .ada(Method::POST, "/chat")
            .header(CONTENT_TYPE, "application/json")
            .body(body)
    };
    refusal(post(100 << 10), Code::ServerOverloaded).await;
    assert_eq!(post(10 << 10).send().await.unwrap().status(), 200);
    // An unfinished body keeps its reservation until its client is gone.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /api/ada/chat HTTP/1.1\r\nhost: x\r\nauthorization: Bearer token-of-ada\r\ncontent-type: application/json\r\n\
                content-length: 60000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&[b' '; 50_000]).await.unwrap();
    let begun = Instant::now();
    while server.state.memory.used() < 50_000 {
        assert!(
            begun.elapsed() < LIMIT,
            "the unfinished body is not counted"
        );
        tokio::task::yield_now().await;
    }
    refusal(post(20 << 10), Code::ServerOverloaded).await;
    drop(stream);
    while server.state.memory.used() > 0 {
        assert!(
            begun.elapsed() < LIMIT,
            "the body of a client that is gone is still counted"
        );
        tokio::task::yield_now().await;
    }
    assert_eq!(post(20 << 10).send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_large_replies_over_the_memory_limit_are_rejected() {
    let agent = ScriptedAgent::new([vec![Script::text(&"x".repeat(100 << 10))]]);
    let http = HttpLimits {
        memory_bytes: 64 << 10,
        ..HttpLimits::default()
    };
    let server = Server::start(Setup {
        agent: std::sync::Arc::new(agent),
        http,
        ..Setup::default()
    })
    .await;
    // The message is stored, and the problem names its turn.
    let problem = refusal(server.chat("Hi", None), Code::ServerOverloaded).await;
    let (turn, conversation) = (
        problem["turn_id"].as_str().unwrap(),
        problem["conversation_id"].as_str().unwrap(),
    );
    refusal(
        server.ada(Method::GET, &format!("/turns/{turn}")),
        Code::ServerOverloaded,
    )
    .await;
    refusal(
        server.ada(
            Method::GET,
            &format!("/conversations/{conversation}/messages"),
        ),
        Code::ServerOverloaded,
    )
    .await;
    assert_eq!(
        server.get(&format!("/conversations/{conversation}")).await["title"],
        "Hi"
    );
    // Shared files need no reservation.
    let bundle = server
        .bare(Method::GET, "/docs/swagger-ui-bundle.js")
        .send()
        .await
        .unwrap();
    assert!(bundle.status() == 200 && bundle.bytes().await.unwrap().len() > 1 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_headers_are_rejected_and_the_server_continues() {
    let server = server(HttpLimits::default()).await;
    let request = |headers: usize| {
        let headers: String = (0..headers).map(|n| format!("x-{n}: 1\r\n")).collect();
        format!("GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n")
    };
    // The limit in docs/errors.md is 96 header lines.
    let most = server.raw(request(94).as_bytes()).await;
    assert!(most.starts_with("HTTP/1.1 200 "), "{most}");
    for headers in [95, 200, 1_000] {
        let answer = server.raw(request(headers).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{headers}: {answer}");
    }
    assert_eq!(server.conversations().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_is_sent_compressed_and_plain() {
    let server = server(HttpLimits::default()).await;
    let path = "/docs/swagger-ui-bundle.js";
    let plain = server
        .raw(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
        .await;
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\naccept-encoding: gzip\r\n\r\n"
    );
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let gzip = read_to_end(stream).await;
    assert!(
        gzip.contains("content-encoding: gzip") && gzip.contains("content-length: "),
        "{}",
        &gzip[..300]
    );
    assert!(!plain.contains("content-encoding: gzip") && plain.len() > 2 * gzip.len());
    // The client may have a copy already.
    let tag = server
        .bare(Method::GET, path)
        .send()
        .await
        .unwrap()
        .headers()["etag"]
        .clone();
    assert_eq!(
        server
            .bare(Method::GET, path)
            .header("if-none-match", tag)
            .send()
            .await
            .unwrap()
            .status(),
        304
    );
}
