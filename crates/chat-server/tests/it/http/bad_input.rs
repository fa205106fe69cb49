//! Every invalid input has its own error, and changes nothing.

use std::time::Duration;

use chat_domain::testing::FixedEnvironment;
use chat_domain::{ConversationPage, UserId};
use chat_protocol::Code;
use chat_server::testing::HttpLimits;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::harness::{Server, Setup, check_refusal, read_to_end, refusal};

async fn server() -> Server {
    Server::start(Setup::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_valid_token_are_rejected() {
    let server = server().await;
    let post = || {
        server
            .bare(Method::POST, "/api/ada/chat")
            .body("not even JSON")
    };
    for header in ["", "Basic YTpi", "Bearer", "Bearer ", "token-of-ada"] {
        refusal(post().header(AUTHORIZATION, header), Code::MissingToken).await;
    }
    refusal(post(), Code::MissingToken).await;
    refusal(
        post()
            .bearer_auth("token-of-ada")
            .bearer_auth("token-of-ada"),
        Code::MissingToken,
    )
    .await;
    refusal(post().bearer_auth("garbage"), Code::InvalidToken).await;
    refusal(post().bearer_auth("expired"), Code::TokenExpired).await;
    refusal(post().bearer_auth("early"), Code::TokenNotYetValid).await;
    refusal(post().bearer_auth("token-of-bob"), Code::WrongUser).await;
    // Unknown routes and methods below a user's path have the same error.
    refusal(
        server.bare(Method::GET, "/api/ada/nonsense"),
        Code::MissingToken,
    )
    .await;
    refusal(
        server.bare(Method::PUT, "/api/ada/chat"),
        Code::MissingToken,
    )
    .await;
    assert_eq!(server.conversations().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_may_have_any_printable_name() {
    let server = server().await;
    let list = server
        .bare(Method::GET, "/api/a%2Fb%25%20%C3%A9/conversations")
        .header(AUTHORIZATION, "Bearer token-of-a/b% é".as_bytes());
    // A header with characters other than ASCII is not text, so it has no token.
    refusal(list, Code::MissingToken).await;
    let list = server
        .bare(Method::GET, "/api/a%2Fb%25%20c/conversations")
        .bearer_auth("token-of-a/b% c");
    assert_eq!(list.send().await.unwrap().status(), 200);
    refusal(
        server
            .bare(Method::GET, "/api/a%252Fb/conversations")
            .bearer_auth("token-of-a/b"),
        Code::WrongUser,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_parsed_strictly() {
    let server = server().await;
    let post = |body: Vec<u8>| {
        server
            .ada(Method::POST, "/chat")
            .header(CONTENT_TYPE, "application/json; charset=utf-8")
            .body(body)
    };
    let deep = format!(
        r#"{{"message": "Hi", "x": {}{}}}"#,
        "[".repeat(64),
        "]".repeat(64)
    );
    for body in [
        "",
        "{",
        "[",
        "{} {}",
        "nonsense",
        r#"{"message": "a", "message": "b"}"#,
        &deep,
    ] {
        let problem = refusal(post(body.into()), Code::InvalidJson).await;
        assert_eq!(problem["line"].is_u64(), !body.is_empty(), "{problem}");
    }
    let problem = refusal(
        post(b"{\n\"message\": \"\xff\"}".to_vec()),
        Code::InvalidJson,
    )
    .await;
    assert_eq!(
        (&problem["line"], &problem["column"]),
        (&json!(2), &json!(13))
    );
    for (body, code, path) in [
        (r#"["Hi"]"#, Code::InvalidRequest, ""),
        (r#"{"text": "Hi"}"#, Code::InvalidRequest, "/message"),
        (r#"{"message": 7}"#, Code::InvalidRequest, "/message"),
        (
            r#"{"message": "Hi", "conversation_id": "42"}"#,
            Code::InvalidRequest,
            "/conversation_id",
        ),
        (r#"{"message": "a\u0000b"}"#, Code::InvalidText, "/message"),
        (r#"{"message": ""}"#, Code::MessageEmpty, "/message"),
        (
            "{\"message\": \" \u{2003}\\n\"}",
            Code::MessageEmpty,
            "/message",
        ),
    ] {
        let problem = refusal(post(body.into()), code).await;
        assert_eq!(problem["path"], path, "{problem}");
    }
    refusal(
        post(br#"{"message": "\ud800"}"#.to_vec()),
        Code::InvalidText,
    )
    .await;
    let long = json!({"message": "é".repeat(5_001)}).to_string();
    let problem = refusal(post(long.into()), Code::MessageTooLong).await;
    assert_eq!(
        (&problem["limit"], &problem["length"]),
        (&json!(5_000), &json!(5_001))
    );
    assert_eq!(server.conversations().await, 0);
    let fits = json!({"message": "é".repeat(5_000), "extra": {"ignored": [1e30]}}).to_string();
    assert_eq!(post(fits.into()).send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn media_types_are_checked() {
    let server = server().await;
    let post = || {
        server
            .ada(Method::POST, "/chat")
            .body(r#"{"message": "Hi"}"#)
    };
    refusal(post(), Code::UnsupportedMediaType).await;
    for wrong in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "nonsense",
        "application/json; charset=utf-16",
    ] {
        refusal(
            post().header(CONTENT_TYPE, wrong),
            Code::UnsupportedMediaType,
        )
        .await;
    }
    let json = || post().header(CONTENT_TYPE, "application/json");
    refusal(
        json().header("content-encoding", "gzip"),
        Code::UnsupportedMediaType,
    )
    .await;
    refusal(
        json()
            .header("content-encoding", "identity")
            .header("content-encoding", "gzip"),
        Code::UnsupportedMediaType,
    )
    .await;
    refusal(
        json().header(CONTENT_TYPE, "application/json"),
        Code::UnsupportedMediaType,
    )
    .await;
    for path in ["/health/live", "/nonsense", "/api/ada/conversations"] {
        for none in ["identity;q=0", "*;q=0"] {
            refusal(
                server
                    .bare(Method::GET, path)
                    .header("accept-encoding", none),
                Code::NotAcceptable,
            )
            .await;
        }
    }
    for accept in ["text/html", "application/xml", "application/json;q=0"] {
        refusal(json().header("accept", accept), Code::NotAcceptable).await;
    }
    assert_eq!(server.conversations().await, 0);
    let good = post()
        .header(CONTENT_TYPE, "application/json; charset=\"UTF-8\"")
        .header("content-encoding", "Identity");
    assert_eq!(good.send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_are_bounded() {
    let server = server().await;
    let head = "POST /api/ada/chat HTTP/1.1\r\nhost: x\r\nauthorization: Bearer token-of-ada\r\ncontent-type: application/json\r\n";
    let announced = format!("{head}content-length: {}\r\n\r\n", (1 << 20) + 1);
    let answer = server.raw(announced.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 413 ") && answer.contains("\"limit\":1048576"),
        "{answer}"
    );
    let mut chunked = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..17 {
        chunked.extend_from_slice(b"10000\r\n");
        chunked.extend(std::iter::repeat_n(b' ', 1 << 16));
        chunked.extend_from_slice(b"\r\n");
    }
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // The server may answer and close before the client has written everything.
    let _ = stream.write_all(&chunked).await;
    let answer = read_to_end(stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 413 ") && answer.contains("body_too_large"),
        "{answer}"
    );

    let fits = format!(r#"{{"message": "Hi"{}}}"#, " ".repeat((1 << 20) - 17));
    assert_eq!(fits.len(), 1 << 20);
    let fits = server
        .ada(Method::POST, "/chat")
        .header(CONTENT_TYPE, "application/json")
        .body(fits);
    assert_eq!(fits.send().await.unwrap().status(), 200);

    let problem = refusal(
        server
            .ada(Method::GET, "/conversations")
            .header("x-long", "x".repeat(16 << 10)),
        Code::HeadersTooLarge,
    )
    .await;
    assert_eq!(problem["limit"], 16 << 10);
    let endless = format!(
        "GET / HTTP/1.1\r\nx-long: {}\r\n\r\n",
        "x".repeat(256 << 10)
    );
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let _ = stream.write_all(endless.as_bytes()).await;
    let answer = read_to_end(stream).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_disconnected() {
    let http = HttpLimits {
        body_time: Duration::from_millis(200),
        ..HttpLimits::default()
    };
    let server = Server::start(Setup {
        http,
        ..Setup::default()
    })
    .await;
    let head = "POST /api/ada/chat HTTP/1.1\r\nhost: x\r\nauthorization: Bearer token-of-ada\r\n\
                content-type: application/json\r\ncontent-length: 100\r\n\r\n{\"mess";
    let answer = server.raw(head.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 408 ") && answer.contains("body_timeout"),
        "{answer}"
    );
    assert!(
        answer.to_ascii_lowercase().contains("connection: close"),
        "{answer}"
    );
    // An endless chunked body does not keep the connection of a rejected request open.
    let head =
        "POST /api/ada/chat HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"mes";
    let answer = server.raw(head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    let answer = server.raw(b"POST /api/ada/chat HTTP/1.1\r\nhost:").await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 408 "),
        "{answer}"
    );
    // Read without HTTP, because on a busy machine a request might also be too slow.
    let page = ConversationPage::last_active(None, 1);
    assert_eq!(
        server
            .state
            .runner
            .service
            .conversations(&UserId::new("ada").unwrap(), page)
            .await
            .unwrap(),
        []
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_body_changes_nothing() {
    let server = server().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /api/ada/chat HTTP/1.1\r\nhost: x\r\nauthorization: Bearer token-of-ada\r\n\
                content-type: application/json\r\ncontent-length: 100\r\n\r\n{\"message\": \"Hi\"}";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = read_to_end(stream).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
        "{answer}"
    );
    assert_eq!(server.conversations().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_checked() {
    let server = server().await;
    let first = server.say("Hi", None).await;
    let (conversation, turn) = (
        first["conversation_id"].as_str().unwrap(),
        first["turn_id"].as_str().unwrap(),
    );
    let get = |path: &str| server.ada(Method::GET, path);
    let messages = format!("/conversations/{conversation}/messages");
    let calls = format!("/conversations/{conversation}/tool-calls");
    for (path, most) in [
        ("/conversations", 100),
        (messages.as_str(), 200),
        (calls.as_str(), 200),
    ] {
        for limit in [
            "0".to_owned(),
            "-1".to_owned(),
            "ten".to_owned(),
            String::new(),
            (most + 1).to_string(),
        ] {
            let problem =
                refusal(get(&format!("{path}?limit={limit}")), Code::InvalidRequest).await;
            assert_eq!(problem["parameter"], "limit");
        }
        assert_eq!(
            get(&format!("{path}?limit={most}"))
                .send()
                .await
                .unwrap()
                .status(),
            200
        );
    }
    let tail = &conversation[28..];
    for (path, foreign) in [
        ("/conversations?cursor=", format!("m.{tail}.1")),
        (&format!("{calls}?cursor="), format!("m.{tail}.1")),
        (&format!("{messages}?before="), format!("t.{tail}.1")),
        (&format!("{messages}?after="), "m.00000000.1".to_owned()),
    ] {
        for cursor in ["", "garbage", &foreign, "m.1", "18446744073709551616"] {
            refusal(get(&format!("{path}{cursor}")), Code::InvalidCursor).await;
        }
    }
    refusal(
        get(&format!("{messages}?before=m.{tail}.4&after=m.{tail}.2")),
        Code::InvalidRequest,
    )
    .await;
    refusal(
        get(&format!("{messages}?superseded=yes")),
        Code::InvalidRequest,
    )
    .await;
    for path in [
        "/chat?busy=wait",
        "/chat?messages=some",
        "/chat?busy=reject&busy=reject",
    ] {
        refusal(
            server
                .ada(Method::POST, path)
                .json(&json!({"message": "Hi"})),
            Code::InvalidRequest,
        )
        .await;
    }
    for path in [
        "/conversations/42",
        "/conversations/42/messages",
        "/turns/42",
        "/turns/42/events",
    ] {
        refusal(get(path), Code::InvalidRequest).await;
    }
    let other = server.say("Hi", None).await;
    let other_tail = &other["turn_id"].as_str().unwrap()[28..];
    let tail = &turn[28..];
    for cursor in [
        "garbage",
        "",
        &format!("{other_tail}.1"),
        &format!("{tail}.99"),
        &format!("{tail}.01"),
        "\u{1f600}",
    ] {
        let events = || get(&format!("/turns/{turn}/events"));
        if !cursor.is_empty() {
            refusal(
                events().header("Last-Event-ID", cursor.as_bytes()),
                Code::InvalidCursor,
            )
            .await;
        }
        let after = cursor.replace('\u{1f600}', "%F0%9F%98%80");
        refusal(
            get(&format!("/turns/{turn}/events?after={after}")),
            Code::InvalidCursor,
        )
        .await;
    }
    let long = "k".repeat(256);
    for key in ["", " ", "\"", "k\u{e9}", &long] {
        let request = server
            .chat("Hi", None)
            .header("Idempotency-Key", key.as_bytes());
        refusal(request, Code::InvalidIdempotencyKey).await;
    }
    refusal(
        server
            .chat("Hi", None)
            .header("Idempotency-Key", "a")
            .header("Idempotency-Key", "a"),
        Code::InvalidIdempotencyKey,
    )
    .await;
    assert_eq!(server.conversations().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_clients_are_disconnected() {
    let http = HttpLimits {
        body_time: Duration::from_millis(50),
        ..HttpLimits::default()
    };
    let server = Server::start(Setup {
        http,
        ..Setup::default()
    })
    .await;
    for begun in [
        "",
        "P",
        "PRI * HTTP/2.0\r\n",
        "GET /health/live HTTP/1.1\r\nhost: x\r\n",
    ] {
        let answer = server.raw(begun.as_bytes()).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn titles_are_checked() {
    let server = server().await;
    let conversation = server.say("Hi", None).await["conversation_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let rename = |body: &Value| {
        server
            .ada(Method::PATCH, &format!("/conversations/{conversation}"))
            .json(body)
    };
    for title in [
        String::new(),
        " \u{2003}".to_owned(),
        "é".repeat(201),
        "a\nb".to_owned(),
    ] {
        refusal(rename(&json!({"title": title})), Code::InvalidTitle).await;
    }
    refusal(rename(&json!({"title": null})), Code::InvalidRequest).await;
    refusal(rename(&json!({"name": "x"})), Code::InvalidRequest).await;
    assert_eq!(
        server.get(&format!("/conversations/{conversation}")).await["title"],
        "Hi"
    );
    let renamed = super::harness::answer(rename(&json!({"title": " Groceries "})), 200).await;
    assert_eq!(renamed["title"], "Groceries");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_ids_and_ids_of_others_look_the_same() {
    let server = server().await;
    let own = server.say("Hi", None).await;
    let (conversation, turn) = (
        own["conversation_id"].as_str().unwrap(),
        own["turn_id"].as_str().unwrap(),
    );
    let unknown = FixedEnvironment::id(1 << 40).to_string();
    for (method, path, code) in [
        (
            Method::GET,
            "/conversations/{c}",
            Code::ConversationNotFound,
        ),
        (
            Method::PATCH,
            "/conversations/{c}",
            Code::ConversationNotFound,
        ),
        (
            Method::DELETE,
            "/conversations/{c}",
            Code::ConversationNotFound,
        ),
        (
            Method::GET,
            "/conversations/{c}/messages",
            Code::ConversationNotFound,
        ),
        (
            Method::GET,
            "/conversations/{c}/tool-calls",
            Code::ConversationNotFound,
        ),
        (Method::POST, "/chat", Code::ConversationNotFound),
        (Method::GET, "/turns/{t}", Code::TurnNotFound),
        (Method::GET, "/turns/{t}/events", Code::TurnNotFound),
        (Method::POST, "/turns/{t}/cancel", Code::TurnNotFound),
        (Method::POST, "/turns/{t}/retry", Code::TurnNotFound),
    ] {
        let mut problems = Vec::new();
        for (c, t) in [(conversation, turn), (unknown.as_str(), unknown.as_str())] {
            let path = path.replace("{c}", c).replace("{t}", t);
            let mut request = server
                .bare(method.clone(), &format!("/api/bob{path}"))
                .bearer_auth("token-of-bob");
            if matches!(method, Method::PATCH) || path == "/chat" {
                request =
                    request.json(&json!({"message": "Hi", "title": "Mine", "conversation_id": c}));
            }
            let mut problem = refusal(request, code).await;
            problem.as_object_mut().unwrap().remove("instance");
            problems.push(problem);
        }
        assert_eq!(problems[0], problems[1]);
    }
    assert_eq!(
        server
            .get(&format!("/conversations/{conversation}/messages"))
            .await["messages"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_routes_and_methods_have_different_errors() {
    let server = server().await;
    refusal(server.bare(Method::GET, "/nonsense"), Code::NotFound).await;
    refusal(
        server.bare(Method::GET, "/docs/nonsense.js"),
        Code::NotFound,
    )
    .await;
    refusal(
        server.bare(Method::GET, "/problems/nonsense"),
        Code::NotFound,
    )
    .await;
    refusal(server.ada(Method::GET, "/nonsense"), Code::NotFound).await;
    refusal(server.ada(Method::GET, "/conversations/"), Code::NotFound).await;
    for (method, path, allowed) in [
        (Method::GET, "/api/ada/chat", "POST"),
        (
            Method::PUT,
            "/api/ada/conversations/42",
            "GET, HEAD, PATCH, DELETE",
        ),
        (Method::DELETE, "/health/live", "GET, HEAD"),
        (Method::PUT, "/api/ada/turns/42/events", "GET"),
    ] {
        let response = server
            .bare(method, path)
            .bearer_auth("token-of-ada")
            .send()
            .await
            .unwrap();
        assert_eq!(response.headers()["allow"], allowed);
        check_refusal(response, Code::MethodNotAllowed).await;
    }
}
