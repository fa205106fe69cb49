//! Clients that deviate from the standards and are still served.

use reqwest::Method;
use serde_json::Value;

use super::harness::{Server, Setup, answer};

#[tokio::test(flavor = "multi_thread")]
async fn a_route_with_one_format_ignores_accept() {
    let server = Server::start(Setup::default()).await;
    let reply = server.say("Hi", None).await;
    let (conversation, turn) = (
        reply["conversation_id"].as_str().unwrap(),
        reply["turn_id"].as_str().unwrap(),
    );
    for accept in [
        "text/html",
        "application/problem+json",
        "application/json",
        "text/event-stream",
        "image/*",
        "*/*;q=0",
        "nonsense",
    ] {
        for path in [
            "/conversations".to_owned(),
            format!("/conversations/{conversation}"),
            format!("/conversations/{conversation}/messages"),
            format!("/conversations/{conversation}/tool-calls"),
            format!("/turns/{turn}"),
        ] {
            answer(server.ada(Method::GET, &path).header("accept", accept), 200).await;
        }
        answer(
            server
                .ada(Method::POST, &format!("/turns/{turn}/cancel"))
                .header("accept", accept),
            200,
        )
        .await;
        answer(
            server
                .bare(Method::GET, "/page-settings")
                .header("accept", accept),
            200,
        )
        .await;
        let events = server
            .ada(Method::GET, &format!("/turns/{turn}/events"))
            .header("accept", accept)
            .send()
            .await
            .unwrap();
        assert_eq!(
            (events.status().as_u16(), &events.headers()["content-type"]),
            (200, &"text/event-stream".parse().unwrap()),
            "{accept}"
        );
        assert!(events.text().await.unwrap().contains("event: done"));
        let listed = server
            .bare(Method::POST, "/chatkit")
            .bearer_auth("token-of-ada")
            .header("accept", accept);
        answer(
            listed.json(&serde_json::json!({"type": "threads.list", "params": {}})),
            200,
        )
        .await;
    }
    // A client that accepts only problems has no preference between the formats.
    answer(
        server
            .chat("Hi", None)
            .header("accept", "application/problem+json"),
        200,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_last_event_id_reads_from_the_start() {
    let server = Server::start(Setup::default()).await;
    let turn = server.say("Hi", None).await["turn_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let events = server
        .ada(Method::GET, &format!("/turns/{turn}/events"))
        .header("Last-Event-ID", "")
        .send()
        .await
        .unwrap();
    assert_eq!(events.status(), 200);
    assert!(events.text().await.unwrap().starts_with("event: turn\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http_1_0_gets_no_chunks() {
    let server = Server::start(Setup::default()).await;
    let request = |version: &str, accept: &str| {
        let body = r#"{"message": "Hi"}"#;
        format!(
            "POST /api/ada/chat HTTP/{version}\r\nhost: x\r\nauthorization: Bearer token-of-ada\r\ncontent-type: application/json\r\n\
             accept: {accept}\r\nconnection: {}\r\ncontent-length: {}\r\n\r\n{body}",
            if version == "1.0" {
                "keep-alive"
            } else {
                "close"
            },
            body.len()
        )
    };
    let old = server
        .raw(request("1.0", "text/event-stream").as_bytes())
        .await;
    let (head, body) = old.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.0 200 ") || head.starts_with("HTTP/1.1 200 "),
        "{head}"
    );
    assert!(
        !head.to_ascii_lowercase().contains("transfer-encoding"),
        "{head}"
    );
    assert!(!head.to_ascii_lowercase().contains("keep-alive"), "{head}");
    assert!(
        body.starts_with("event: turn\n")
            && body.contains("event: done\n")
            && body.ends_with("\n\n"),
        "{body}"
    );
    let new = server
        .raw(request("1.1", "text/event-stream").as_bytes())
        .await;
    assert!(
        new.to_ascii_lowercase()
            .contains("transfer-encoding: chunked"),
        "{new}"
    );
    let json = server
        .raw(
            request("1.0", "application/json")
                .replace("keep-alive", "close")
                .as_bytes(),
        )
        .await;
    let (_, body) = json.split_once("\r\n\r\n").unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(body).unwrap()["status"],
        "success"
    );
    // The response is compressed while it is sent, so that its length is unknown.
    let page = "GET /openapi.json HTTP/1.0\r\nhost: x\r\naccept-encoding: gzip\r\n\r\n";
    assert!(
        !server
            .raw(page.as_bytes())
            .await
            .to_ascii_lowercase()
            .contains("transfer-encoding")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_has_its_length_even_if_an_upgrade_is_requested() {
    let server = Server::start(Setup::default()).await;
    for upgrade in ["websocket", "h2c", "WebSocket"] {
        let body = r#"{"message": "Hi"}"#;
        let request = format!(
            "POST /api/ada/chat HTTP/1.1\r\nhost: x\r\nauthorization: Bearer token-of-ada\r\ncontent-type: application/json\r\n\
             connection: upgrade\r\nupgrade: {upgrade}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = tokio::net::TcpStream::connect(server.address)
            .await
            .unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes())
            .await
            .unwrap();
        let mut read = Vec::new();
        while !String::from_utf8_lossy(&read).contains("\"status\":\"success\"") {
            let count = tokio::io::AsyncReadExt::read_buf(&mut stream, &mut read)
                .await
                .unwrap();
            assert!(count > 0, "{upgrade}: {}", String::from_utf8_lossy(&read));
        }
        assert!(read.starts_with(b"HTTP/1.1 200 "));
    }
}
