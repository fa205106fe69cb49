//! Recorded requests.

use std::net::SocketAddr;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use super::rules::Rejection;
use crate::wait;

/// A received request.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Index among all requests, from 0.
    pub number: usize,
    /// The client's address. Requests over one connection have the same.
    pub peer: Option<SocketAddr>,
    /// Headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, byte for byte.
    pub body: Bytes,
    /// The reason why the request was rejected.
    pub rejection: Option<Rejection>,
    pub(super) delivery: watch::Receiver<Option<Delivery>>,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The whole scripted answer was handed to the connection.
    Complete,
    /// The client disconnected or the stub stopped before the end. A disconnection is noticed only
    /// by writing: see [`Answer::drip_after`](super::Answer::drip_after).
    Abandoned,
}

impl Recorded {
    /// Returns the first header with this name, which must be in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns the body as JSON, or `null` if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Returns the messages of the body.
    pub fn messages(&self) -> Vec<Value> {
        self.json()
            .get("messages")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    }

    /// Waits until the answer has ended.
    pub async fn delivered(&self) -> Delivery {
        let mut delivery = self.delivery.clone();
        match wait::within(
            "the end of the stub's answer",
            delivery.wait_for(Option::is_some),
        )
        .await
        {
            Ok(ended) => (*ended).unwrap_or(Delivery::Abandoned),
            Err(_) => Delivery::Abandoned,
        }
    }
}
