//! What clients did and what they were told.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use chat_tests::client::Frame;
use serde_json::Value;
use uuid::Uuid;

/// Time since the campaign began.
pub type Moment = Duration;

/// All that clients did, each entry noted when it is over.
#[derive(Debug, Default)]
pub struct History {
    pub messages: Vec<Message>,
    pub watches: Vec<Watch>,
    pub cancels: Vec<Cancel>,
    pub reads: Vec<Read>,
    pub intrusions: Vec<Intrusion>,
    /// What was acknowledged and could not be read.
    pub lost: Vec<String>,
    /// Requests that were not answered within their limit.
    pub unanswered: Vec<String>,
    /// Answers that say that the server made a mistake.
    pub mistakes: Vec<String>,
}

/// A message that was sent, perhaps several times; or a wish to have one retried.
#[derive(Clone, Debug)]
pub struct Message {
    pub user: String,
    /// Unique, but that a retried turn has the text of the first.
    pub text: String,
    /// Where to; a new conversation if `None`.
    pub conversation: Option<Uuid>,
    pub key: Option<String>,
    pub retry_of: Option<Uuid>,
    /// Whether it is to be refused if a turn runs.
    pub rejects: bool,
    pub attempts: Vec<Attempt>,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub begun: Moment,
    /// When its outcome was known.
    pub known: Moment,
    pub outcome: Outcome,
}

/// What a client knows of a request.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The whole reply.
    Replied(Reply),
    /// The message is stored: a stream was opened, or the turn failed.
    Begun {
        conversation: Uuid,
        turn: Uuid,
        code: Option<String>,
    },
    /// It is not.
    Refused { status: u16, code: String },
    /// It may be.
    Unknown { why: String },
}

impl Outcome {
    /// The turn that it names as begun by the request.
    pub fn turn(&self) -> Option<(Uuid, Uuid)> {
        match self {
            Self::Replied(reply) => Some((reply.conversation, reply.turn)),
            Self::Begun {
                conversation, turn, ..
            } => Some((*conversation, *turn)),
            Self::Refused { .. } | Self::Unknown { .. } => None,
        }
    }
}

/// A reply that was not a stream.
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

/// A turn's stream, read from the start, over one connection after another.
#[derive(Clone, Debug)]
pub struct Watch {
    pub user: String,
    pub turn: Uuid,
    /// What came over each connection.
    pub connections: Vec<Vec<Frame>>,
    /// Whether the end was told.
    pub ended: bool,
    /// Refusals to go on, each as status and code.
    pub refusals: Vec<(u16, String)>,
}

/// A wish to cancel that was heard.
#[derive(Clone, Debug)]
pub struct Cancel {
    pub user: String,
    pub turn: Uuid,
    /// How the turn stood.
    pub observed: String,
}

/// A page of messages that was read while the campaign ran.
#[derive(Clone, Debug)]
pub struct Read {
    pub user: String,
    pub conversation: Uuid,
    pub messages: Vec<Value>,
}

/// An attempt to get at what is another's.
#[derive(Clone, Debug)]
pub struct Intrusion {
    pub user: String,
    pub request: String,
    pub status: u16,
    pub body: String,
}

/// The history while it is written.
pub struct Record {
    start: Instant,
    history: Mutex<History>,
}

impl Record {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            history: Mutex::default(),
        }
    }

    pub fn now(&self) -> Moment {
        self.start.elapsed()
    }

    pub fn note(&self, change: impl FnOnce(&mut History)) {
        change(&mut self.history.lock().unwrap());
    }

    /// What was noted; nothing is left.
    pub fn take(&self) -> History {
        std::mem::take(&mut self.history.lock().unwrap())
    }
}
