//! A client of the HTTP API.

use chat_test_support::wait;
use std::net::SocketAddr;

use futures_util::StreamExt;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

/// Secret that signs tokens.
pub const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Returns a token for this user.
pub fn token(user: &str) -> String {
    let exp = jsonwebtoken::get_current_timestamp() + 3600;
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(
        &jsonwebtoken::Header::default(),
        &json!({"sub": user, "exp": exp}),
        &key,
    )
    .unwrap()
}

/// One user at one server.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    origin: String,
    user: String,
    token: String,
}

impl Client {
    /// Creates a client with a valid token and its own connections.
    pub fn new(address: SocketAddr, user: &str) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .read_timeout(wait::LIMIT)
            .build()
            .unwrap();
        Self {
            http,
            origin: format!("http://{address}"),
            user: user.to_owned(),
            token: token(user),
        }
    }

    /// Returns the same user at another server.
    #[must_use]
    pub fn at(&self, address: SocketAddr) -> Self {
        Self {
            origin: format!("http://{address}"),
            ..self.clone()
        }
    }

    /// Returns another user with a valid token, on the same connections.
    #[must_use]
    pub fn of(&self, user: &str) -> Self {
        Self {
            user: user.to_owned(),
            token: token(user),
            ..self.clone()
        }
    }

    /// Builds a request to a path below the user's.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}/api/{}{path}", self.origin, self.user))
            .bearer_auth(&self.token)
    }

    /// Builds a request to any path, as this user.
    pub fn anywhere(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.origin))
            .bearer_auth(&self.token)
    }

    /// Returns the response of a path below the user's.
    pub async fn get(&self, path: &str) -> Value {
        let response = self.request(Method::GET, path).send().await.unwrap();
        let (status, body) = read(response).await;
        assert_eq!(status, 200, "GET {path}: {body}");
        body
    }

    /// Builds a request with a message.
    pub fn message(&self, query: &str, conversation: Option<&str>, text: &str) -> RequestBuilder {
        let mut body = json!({ "message": text });
        if let Some(conversation) = conversation {
            body["conversation_id"] = conversation.into();
        }
        self.request(Method::POST, &format!("/chat{query}"))
            .json(&body)
    }

    /// Sends a message. Returns the status and the reply.
    pub async fn try_chat(
        &self,
        query: &str,
        conversation: Option<&str>,
        text: &str,
    ) -> (StatusCode, Value) {
        read(
            self.message(query, conversation, text)
                .send()
                .await
                .unwrap(),
        )
        .await
    }

    /// Sends a message that is answered.
    pub async fn chat(&self, conversation: Option<&str>, text: &str) -> Value {
        let (status, reply) = self.try_chat("", conversation, text).await;
        assert_eq!(status, 200, "{reply}");
        reply
    }

    /// Sends a message. Returns the stream of its turn.
    pub async fn stream(&self, conversation: Option<&str>, text: &str) -> Events {
        let response = self
            .message("", conversation, text)
            .header("accept", "text/event-stream")
            .send()
            .await
            .unwrap();
        Events::of(response)
    }

    /// Requests the stream of a turn, from its start or after an event.
    pub async fn resume(&self, turn: &str, last_event_id: Option<&str>) -> Response {
        let mut request = self.request(Method::GET, &format!("/turns/{turn}/events"));
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        request.send().await.unwrap()
    }

    /// Waits for the end of a turn on any server. Returns its last event.
    pub async fn last_position_of(&self, turn: &str) -> Event {
        Events::of(self.resume(turn, None).await)
            .rest()
            .await
            .pop()
            .expect("an end")
    }

    /// Returns all messages of a conversation in order, as `role: content`.
    pub async fn transcript(&self, conversation: &str) -> Vec<String> {
        let mut transcript = Vec::new();
        let mut path = format!("/conversations/{conversation}/messages?limit=200");
        loop {
            let page = self.get(&path).await;
            let lines = page["messages"].as_array().unwrap().iter().map(line);
            transcript.splice(0..0, lines);
            match page["previous_cursor"].as_str() {
                Some(before) => {
                    path =
                        format!("/conversations/{conversation}/messages?limit=200&before={before}")
                }
                None => return transcript,
            }
        }
    }
}

/// Formats a message as `role: content`.
pub fn line(message: &Value) -> String {
    format!(
        "{}: {}",
        message["role"].as_str().unwrap(),
        message["content"].as_str().unwrap()
    )
}

/// Returns the status and the body, parsed if it is JSON.
pub async fn read(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    (status, body)
}

/// A server-sent event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Cursor after this event.
    pub id: Option<String>,
    /// Event type.
    pub name: String,
    /// Parsed data.
    pub data: Value,
}

/// A server-sent event with its raw data.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Cursor after this event.
    pub id: Option<String>,
    /// Event type.
    pub name: String,
    /// Data, byte for byte.
    pub data: String,
}

/// The events of a response.
pub struct Events {
    bytes: futures_util::stream::BoxStream<'static, reqwest::Result<Vec<u8>>>,
    unread: Vec<u8>,
}

impl Events {
    /// Returns the events of a response that must be a stream.
    pub fn of(response: Response) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            bytes: response
                .bytes_stream()
                .map(|chunk| chunk.map(Into::into))
                .boxed(),
            unread: Vec::new(),
        }
    }

    /// Returns the next event. `None` at the end, or if the connection was lost.
    pub async fn next(&mut self) -> Option<Event> {
        self.next_frame().await.map(Into::into)
    }

    /// Returns the next event with its raw data.
    pub async fn next_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|two| two == b"\n\n") {
                let frame: Vec<u8> = self.unread.drain(..end + 2).collect();
                match Frame::parse(std::str::from_utf8(&frame).unwrap()) {
                    Some(frame) => return Some(frame),
                    None => continue,
                }
            }
            self.unread.extend(
                wait::within("the next event of a stream", self.bytes.next())
                    .await?
                    .ok()?,
            );
        }
    }

    /// Returns the events up to and including the first of this type.
    pub async fn until(&mut self, name: &str) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let event = self
                .next()
                .await
                .unwrap_or_else(|| panic!("no {name} in {events:?}"));
            events.push(event);
            if events.last().is_some_and(|event| event.name == name) {
                return events;
            }
        }
    }

    /// Returns the remaining events.
    pub async fn rest(mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

impl Frame {
    /// Parses a frame. `None` for a comment.
    pub fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let data = field("data")?.to_owned();
        Some(Self {
            id: field("id").map(str::to_owned),
            name: field("event").unwrap().to_owned(),
            data,
        })
    }
}

impl From<Frame> for Event {
    fn from(Frame { id, name, data }: Frame) -> Self {
        Self {
            id,
            name,
            data: serde_json::from_str(&data).unwrap(),
        }
    }
}

/// Parses an event. `None` for a comment.
pub fn parse(frame: &str) -> Option<Event> {
    Frame::parse(frame).map(Into::into)
}

/// Returns all streamed text, in order of arrival.
pub fn text(events: &[Event]) -> String {
    events
        .iter()
        .filter(|event| event.name == "text")
        .map(|event| event.data["delta"].as_str().unwrap())
        .collect()
}
