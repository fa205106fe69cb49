//! A front end's requests.

use chat_test_support::wait;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use chat_tests::client::{Client, read};
use chat_tests::server::Server;

/// The requests and responses.
pub type Record = Arc<Mutex<Vec<Value>>>;

#[derive(Clone)]
pub struct ChatKit {
    client: Client,
    frame: String,
    pub record: Record,
}

impl ChatKit {
    pub fn new(server: &Server, user: &str) -> Self {
        Self {
            client: server.client(user),
            frame: uuid::Uuid::now_v7().to_string(),
            record: Record::default(),
        }
    }

    fn request(&self, kind: &str, params: &Value) -> RequestBuilder {
        let request = self
            .client
            .anywhere(Method::POST, "/chatkit")
            .header("chatkit-frame-instance-id", &self.frame);
        let body = json!({ "type": kind, "params": params });
        self.record.lock().unwrap().push(json!({ "request": body }));
        request.json(&body)
    }

    /// Sends a request that returns one object.
    pub async fn ask(&self, kind: &str, params: Value) -> Value {
        let (status, body) = read(self.request(kind, &params).send().await.unwrap()).await;
        assert_eq!(status, 200, "{kind}: {body}");
        self.record
            .lock()
            .unwrap()
            .push(json!({ "response": kind, "body": body }));
        body
    }

    /// Sends a request that fails.
    pub async fn refused(&self, kind: &str, params: Value) -> (u16, Value) {
        let (status, body) = read(self.request(kind, &params).send().await.unwrap()).await;
        (status.as_u16(), body)
    }

    /// Starts a stream.
    pub async fn open(&self, kind: &str, params: Value) -> Stream {
        let response = self
            .request(kind, &params)
            .header("accept", "text/event-stream")
            .send()
            .await
            .unwrap();
        Stream::of(response, self.record.clone())
    }

    /// Returns all events of a stream.
    pub async fn events(&self, kind: &str, params: Value) -> Vec<Value> {
        self.open(kind, params).await.rest().await
    }

    pub async fn create(&self, text: &str) -> Vec<Value> {
        self.events("threads.create", json!({ "input": input(text) }))
            .await
    }

    pub async fn add(&self, thread: &str, text: &str) -> Vec<Value> {
        self.events(
            "threads.add_user_message",
            json!({ "thread_id": thread, "input": input(text) }),
        )
        .await
    }

    /// Returns a whole list, page by page, with the last object's id as cursor.
    pub async fn all(&self, kind: &str, mut params: Value) -> Vec<Value> {
        params["limit"] = 9999.into();
        let mut all: Vec<Value> = Vec::new();
        loop {
            let page = self.ask(kind, params.clone()).await;
            let data = page["data"].as_array().unwrap().clone();
            assert!(
                !data.is_empty() || page["has_more"] == false,
                "the pages never end"
            );
            all.extend(data);
            if page["has_more"] == false {
                return all;
            }
            params["after"] = all.last().unwrap()["id"].clone();
        }
    }
}

pub fn input(text: &str) -> Value {
    json!({
        "content": [{ "type": "input_text", "text": text }], "attachments": [], "quoted_text": "",
        "inference_options": {},
    })
}

pub fn thread_of(events: &[Value]) -> String {
    events[0]["thread"]["id"]
        .as_str()
        .expect("a thread")
        .to_owned()
}

/// Returns the text of a message of either role.
pub fn text(item: &Value) -> String {
    item["content"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part["text"].as_str().unwrap())
        .collect()
}

/// The events of a response.
pub struct Stream {
    bytes: BoxStream<'static, reqwest::Result<Vec<u8>>>,
    unread: Vec<u8>,
    record: Record,
}

impl Stream {
    fn of(response: Response, record: Record) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            bytes: response
                .bytes_stream()
                .map(|chunk| chunk.map(Into::into))
                .boxed(),
            unread: Vec::new(),
            record,
        }
    }

    /// Returns the next event. `None` at the end, or if the connection was lost.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|two| two == b"\n\n") {
                let frame: Vec<u8> = self.unread.drain(..end + 2).collect();
                let frame = std::str::from_utf8(&frame).unwrap().trim_end();
                let Some(data) = frame.strip_prefix("data: ") else {
                    assert!(frame.starts_with(':'), "{frame}");
                    continue;
                };
                let event: Value = serde_json::from_str(data).unwrap();
                self.record.lock().unwrap().push(json!({ "event": event }));
                return Some(event);
            }
            self.unread.extend(
                wait::within("the next event of a stream", self.bytes.next())
                    .await?
                    .ok()?,
            );
        }
    }

    /// Reads up to the first event of this type.
    pub async fn until(&mut self, wanted: &str) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let event = self
                .next()
                .await
                .unwrap_or_else(|| panic!("no {wanted} in {events:?}"));
            let found = event["type"] == wanted || event["update"]["type"] == wanted;
            events.push(event);
            if found {
                return events;
            }
        }
    }

    pub async fn rest(mut self) -> Vec<Value> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}
