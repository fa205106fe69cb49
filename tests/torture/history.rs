//! The requests of clients, and their answers.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use chat_tests::client::Frame;
use serde_json::Value;
use uuid::Uuid;

/// Time since the start of the campaign.
pub type Moment = Duration;

/// All requests. Each is recorded when it has ended.
#[derive(Debug, Default)]
pub struct History {
    pub messages: Vec<Message>,
    pub watches: Vec<Watch>,
    pub cancels: Vec<Cancel>,
    pub reads: Vec<Read>,
    pub intrusions: Vec<Intrusion>,
    /// Acknowledged data that could not be read.
    pub lost: Vec<String>,
    /// Requests that were not answered in time.
    pub unanswered: Vec<String>,
    /// Answers with an internal server error.
    pub mistakes: Vec<String>,
}

/// A message that was sent once or several times, or a request to retry a turn.
#[derive(Clone, Debug)]
pub struct Message {
    pub user: String,
    /// Unique, except that a retried turn has the text of the first.
    pub text: String,
    /// The conversation. `None` creates one.
    pub conversation: Option<Uuid>,
    pub key: Option<String>,
    pub retry_of: Option<Uuid>,
    /// Whether the message is to be rejected if a turn runs.
    pub rejects: bool,
    pub attempts: Vec<Attempt>,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub started: Moment,
    /// When its outcome was known.
    pub known: Moment,
    pub outcome: Outcome,
}

/// The outcome of a request as its client knows it.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The whole reply.
    Replied(Reply),
    /// The message is stored: a stream started, or the turn failed.
    Started {
        conversation: Uuid,
        turn: Uuid,
        code: Option<String>,
    },
    /// The message is not stored.
    Refused { status: u16, code: String },
    /// The message may be stored.
    Unknown { why: String },
}

impl Outcome {
    /// Returns the conversation and turn that the request started.
    pub fn turn(&self) -> Option<(Uuid, Uuid)> {
        match self {
            Self::Replied(reply) => Some((reply.conversation, reply.turn)),
            Self::Started {
                conversation, turn, ..
            } => Some((*conversation, *turn)),
            Self::Refused { .. } | Self::Unknown { .. } => None,
        }
    }
}

/// A reply that is not a stream.
#[derive(Clone, Debug)]
pub struct Reply {
    pub conversation: Uuid,
    pub turn: Uuid,
    /// `success` or `cancelled`.
    pub status: String,
    pub response: String,
    pub tool_calls: Vec<Value>,
    pub messages: Vec<Value>,
}

/// A turn's stream from its start, over several connections.
#[derive(Clone, Debug)]
pub struct Watch {
    pub user: String,
    pub turn: Uuid,
    /// The events of each connection.
    pub connections: Vec<Vec<Frame>>,
    /// Whether the end was received.
    pub ended: bool,
    /// Rejected attempts to resume, as status and code.
    pub refusals: Vec<(u16, String)>,
}

/// An acknowledged cancellation.
#[derive(Clone, Debug)]
pub struct Cancel {
    pub user: String,
    pub turn: Uuid,
    /// The status of the turn at that time.
    pub observed: String,
}

/// A page of messages that was read during the campaign.
#[derive(Clone, Debug)]
pub struct Read {
    pub user: String,
    pub conversation: Uuid,
    pub messages: Vec<Value>,
}

/// An attempt to access data of another user.
#[derive(Clone, Debug)]
pub struct Intrusion {
    pub user: String,
    pub request: String,
    pub status: u16,
    pub body: String,
}

/// Records the history.
pub struct Recorder {
    start: Instant,
    history: Mutex<History>,
}

impl Recorder {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            history: Mutex::default(),
        }
    }

    pub fn now(&self) -> Moment {
        self.start.elapsed()
    }

    pub fn update(&self, change: impl FnOnce(&mut History)) {
        change(&mut self.history.lock().unwrap());
    }

    /// Takes the history and leaves an empty one.
    pub fn take(&self) -> History {
        std::mem::take(&mut self.history.lock().unwrap())
    }
}
