//! Replies with a long conversation are written as the client reads, with the same content as short
//! ones.

use std::sync::Arc;
use std::time::Duration;

use chat_domain::testing::{Script, ScriptedAgent};
use chat_server::testing::{HttpLimits, LARGE_TEXTS};
use chat_test_support::wait;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::harness::{Server, Setup, answer};

/// The longest text of an answer.
const LARGE: usize = 1 << 20;

/// A server whose agent answers with texts of these sizes, and then with short texts.
async fn server(sizes: &[usize]) -> Server {
    let texts = sizes
        .iter()
        .enumerate()
        .map(|(number, size)| vec![Script::text(&format!("{number} {}", "x".repeat(*size)))]);
    let agent = Arc::new(ScriptedAgent::new(texts));
    let http = HttpLimits {
        stall_time: Duration::from_millis(1),
        ..HttpLimits::default()
    };
    Server::start(Setup {
        agent,
        http,
        ..Setup::default()
    })
    .await
}

/// Sends a number of messages to a new conversation, and returns the conversation.
async fn conversation(server: &Server, messages: usize) -> Value {
    let mut conversation = Value::Null;
    for number in 0..messages {
        let body = json!({"message": format!("message {number}"), "conversation_id": conversation});
        let reply = answer(
            server.ada(Method::POST, "/chat?messages=turn").json(&body),
            200,
        )
        .await;
        conversation = reply["conversation_id"].clone();
    }
    conversation
}

/// Reads the head of the reply to a message.
async fn begin_to_read(server: &Server, conversation: &Value) -> (TcpStream, Vec<u8>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    let body = json!({"message": "last", "conversation_id": conversation}).to_string();
    let request = format!(
        "POST /api/ada/chat HTTP/1.1\r\nhost: x\r\nauthorization: Bearer token-of-ada\r\ncontent-type: application/json\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    while !read.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        assert!(stream.read_buf(&mut read).await.unwrap() > 0);
    }
    (stream, read)
}

/// Reads the rest of a chunked response; `Err` with the received bytes if it is incomplete.
async fn rest(mut stream: TcpStream, mut read: Vec<u8>) -> Result<Value, usize> {
    // The connection may be reset or closed.
    let _ = stream.read_to_end(&mut read).await;
    let head = read
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .unwrap()
        + 4;
    let (head, mut chunks) = read.split_at(head);
    assert!(
        String::from_utf8_lossy(head).contains("transfer-encoding: chunked"),
        "{}",
        String::from_utf8_lossy(head)
    );
    let mut body = Vec::new();
    loop {
        let line = chunks
            .windows(2)
            .position(|bytes| bytes == b"\r\n")
            .ok_or(body.len())?;
        let size =
            usize::from_str_radix(std::str::from_utf8(&chunks[..line]).unwrap(), 16).unwrap();
        if size == 0 {
            return Ok(serde_json::from_slice(&body).unwrap());
        }
        body.extend_from_slice(chunks.get(line + 2..line + 2 + size).ok_or(body.len())?);
        chunks = chunks.get(line + 4 + size..).ok_or(body.len())?;
    }
}

/// All messages of a conversation, page by page.
async fn pages(server: &Server, conversation: &Value, superseded: &str) -> Vec<Value> {
    let path = format!(
        "/conversations/{}/messages?limit=200&superseded={superseded}",
        conversation.as_str().unwrap()
    );
    let (mut messages, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let before = cursor
            .map(|cursor| format!("&before={cursor}"))
            .unwrap_or_default();
        let page = server.get(&format!("{path}{before}")).await;
        messages.splice(0..0, page["messages"].as_array().unwrap().iter().cloned());
        cursor = page["previous_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            return messages;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_reply_has_the_whole_conversation() {
    // Small and large turns, so that there are pages of all kinds.
    let sizes: Vec<_> = (0..60)
        .map(|number| {
            if number % 9 == 8 {
                90 << 10
            } else {
                number * 40
            }
        })
        .collect();
    let server = server(&sizes).await;
    let conversation = conversation(&server, 60).await;
    let response = server
        .chat("last", Some(&conversation))
        .send()
        .await
        .unwrap();
    assert_eq!(
        (response.status().as_u16(), response.content_length()),
        (200, None)
    );
    assert_eq!(response.headers()["content-type"], "application/json");
    let reply: Value = response.json().await.unwrap();
    assert_eq!(
        reply["messages"],
        Value::Array(pages(&server, &conversation, "exclude").await)
    );
    assert_eq!(reply["messages"].as_array().unwrap().len(), 122);
    assert_eq!(reply["status"], "success");
    let names: Vec<_> = reply.as_object().unwrap().keys().collect();
    assert!(
        names.contains(&&"tool_calls".to_owned()) && names.contains(&&"response".to_owned()),
        "{names:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_gets_the_same_reply_with_little_memory() {
    let server = server(&[LARGE - 10; 12]).await;
    let conversation = conversation(&server, 12).await;
    let (stream, read) = begin_to_read(&server, &conversation).await;
    // A large text is dropped once the client has not read for a while.
    wait::until("no large text is kept", async || {
        server.state.large_texts.available_permits() == LARGE_TEXTS
    })
    .await;
    assert!(server.state.memory.used() <= 256 << 10);
    let reply = rest(stream, read).await.unwrap();
    assert_eq!(
        reply["messages"],
        Value::Array(pages(&server, &conversation, "exclude").await)
    );
    assert_eq!(reply["messages"].as_array().unwrap().len(), 26);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_needs_no_permit_for_a_large_text() {
    let server = server(&[LARGE - 10; 2]).await;
    let conversation = conversation(&server, 2).await;
    let permits = u32::try_from(LARGE_TEXTS).unwrap();
    let all = server
        .state
        .large_texts
        .acquire_many(permits)
        .await
        .unwrap();
    let (stream, read) = begin_to_read(&server, &conversation).await;
    let reply = rest(stream, read).await.unwrap();
    drop(all);
    assert_eq!(
        reply["messages"],
        Value::Array(pages(&server, &conversation, "exclude").await)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_reply_is_not_compressed() {
    let server = server(&[LARGE - 10]).await;
    let encoding = async |conversation: &Value| {
        let request = server.chat("last", Some(conversation));
        let response = request.header("accept-encoding", "gzip").send().await;
        let headers = response.unwrap().headers().clone();
        headers.get("content-encoding").cloned()
    };
    let long = conversation(&server, 1).await;
    assert_eq!(encoding(&long).await.unwrap(), "identity");
    let short = conversation(&server, 1).await;
    assert_eq!(encoding(&short).await.unwrap(), "gzip");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_has_the_conversation_at_the_end_of_its_turn() {
    let server = server(&[LARGE - 10; 14]).await;
    let conversation = conversation(&server, 13).await;
    let second = pages(&server, &conversation, "exclude").await[2]["turn_id"]
        .as_str()
        .unwrap()
        .to_owned();
    // A retry before the reply: its turns are left out.
    let seventh = pages(&server, &conversation, "exclude").await[20]["turn_id"]
        .as_str()
        .unwrap()
        .to_owned();
    answer(
        server.ada(
            Method::POST,
            &format!("/turns/{seventh}/retry?messages=turn"),
        ),
        200,
    )
    .await;
    let before = pages(&server, &conversation, "exclude").await;
    let (stream, read) = begin_to_read(&server, &conversation).await;
    // A retry while the reply is read does not change the reply.
    answer(
        server.ada(
            Method::POST,
            &format!("/turns/{second}/retry?messages=turn"),
        ),
        200,
    )
    .await;
    assert_eq!(pages(&server, &conversation, "exclude").await.len(), 4);
    let reply = rest(stream, read).await.unwrap();
    let messages = reply["messages"].as_array().unwrap();
    assert_eq!(messages[..before.len()], before);
    assert_eq!(messages.len(), before.len() + 2);
    assert_eq!(messages.last().unwrap()["turn_id"], reply["turn_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_whose_rest_cannot_be_read_is_incomplete() {
    let server = server(&[LARGE - 10; 16]).await;
    let conversation = conversation(&server, 16).await;
    let (stream, read) = begin_to_read(&server, &conversation).await;
    server.store.set_unreachable(true);
    let sent = rest(stream, read).await.unwrap_err();
    assert!(sent > 0 && sent < 16 * LARGE, "{sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnected_client_holds_no_memory() {
    let server = server(&[LARGE - 10; 12]).await;
    let conversation = conversation(&server, 12).await;
    let (stream, _) = begin_to_read(&server, &conversation).await;
    drop(stream);
    let begun = std::time::Instant::now();
    while server.state.memory.used() > 0 {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "the reply of a client that is gone is still held"
        );
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_lists_are_bounded_and_complete() {
    let server = server(&[90 << 10; 6]).await;
    let conversation = conversation(&server, 6).await;
    let path = format!("/conversations/{}/messages", conversation.as_str().unwrap());
    let newest = server.get(&path).await;
    assert!(newest.to_string().len() <= 256 << 10 && newest["previous_cursor"].is_string());
    let all = pages(&server, &conversation, "exclude").await;
    assert_eq!(all.len(), 12);
    // The same from the first page forwards.
    let mut page = newest;
    while let Some(cursor) = page["previous_cursor"].as_str() {
        page = server.get(&format!("{path}?before={cursor}")).await;
    }
    let mut forwards = page["messages"].as_array().unwrap().clone();
    while let Some(cursor) = page["next_cursor"].as_str() {
        page = server.get(&format!("{path}?after={cursor}")).await;
        assert!(page.to_string().len() <= 256 << 10);
        forwards.extend(page["messages"].as_array().unwrap().iter().cloned());
    }
    assert_eq!(forwards, all);
}
