//! What the stub was asked.

use std::net::SocketAddr;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use super::rules::Rejection;
use crate::wait;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Its place among all requests, from 0.
    pub number: usize,
    /// The client's end of the connection: requests over one connection have the same.
    pub peer: Option<SocketAddr>,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, byte for byte.
    pub body: Bytes,
    /// Why it was refused, if it was.
    pub rejection: Option<Rejection>,
    pub(super) delivery: watch::Receiver<Option<Delivery>>,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// All that the script says was handed to the connection.
    Complete,
    /// The client went away, or the stub was stopped, before that. A client that leaves is noticed
    /// only by writing to it: see [`Answer::drip_after`](super::Answer::drip_after).
    Abandoned,
}

impl Recorded {
    /// The first header of this name, which is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON; `null` if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The transcript: the messages of the body.
    pub fn messages(&self) -> Vec<Value> {
        self.json()
            .get("messages")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    }

    /// Waits until its answer has ended.
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
