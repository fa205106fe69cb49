//! The commands that change a conversation's log, and their outcomes.
//!
//! If the `items` of a [`HeldTurn`] in an outcome are empty, the store reads them from the log, up
//! to the last position after the command:
//! [`Ledger::last_position_of`](super::Ledger::last_position_of).

use crate::{
    ConversationId, HeldTurn, Item, MessageId, NewItem, OriginalMessage, Timestamp, Title, Turn,
    TurnId, TurnLease, TurnOutcome, Usage, UserId, WorkerId,
};

/// A command that the rules do not allow. It changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The conversation, turn or message does not exist, or belongs to another owner.
    #[error("not found")]
    NotFound,
    /// The turn to retry is superseded by another retry.
    #[error("the turn is superseded")]
    Superseded,
    /// A turn of the conversation runs, and [`BusyPolicy::Reject`] was given.
    #[error("turn {0} is running")]
    TurnRunning(TurnId),
    /// Too many turns are queued in the conversation.
    #[error("the queue of the conversation is full")]
    QueueFull,
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    IdempotencyMismatch,
    /// The lease is not the current one, or the turn has ended.
    #[error("the lease is lost")]
    LeaseLost,
}

/// Why a [`Ledger`](super::Ledger) did not apply a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The rules do not allow it. The ledger is unchanged.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The rows contradict each other or the command, or a row that is needed was not loaded.
    /// The ledger must be dropped without saving its changes.
    #[error("{0}")]
    Inconsistent(String),
}

/// A user's message and the turn it begins. All ids are new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeginTurn {
    /// The user who sends the message.
    pub owner: UserId,
    /// The conversation the message is for.
    pub target: Target,
    /// The id of the new turn.
    pub turn: TurnId,
    /// The id of the new message.
    pub message: MessageId,
    /// The message's text.
    pub text: String,
    /// When the message arrived.
    pub at: Timestamp,
    /// The worker that will run the turn.
    pub worker: WorkerId,
    /// The policy if a turn of the conversation runs already.
    pub busy: BusyPolicy,
    /// How many turns may be queued in the conversation.
    pub queue_limit: u32,
    /// Recognises a repetition of the request.
    pub idempotency: Option<IdempotencyKey>,
    /// The turn that this one retries.
    pub retry_of: Option<RetryOf>,
}

/// A turn to retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryOf {
    /// The turn.
    pub turn: TurnId,
    /// The message it answers, before all retries.
    pub original: OriginalMessage,
}

/// The conversation a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A new one, with this id and title.
    New(ConversationId, Title),
    /// An existing one.
    Existing(ConversationId),
}

impl Target {
    /// The conversation's id.
    pub fn id(&self) -> ConversationId {
        match self {
            Self::New(id, _) | Self::Existing(id) => *id,
        }
    }
}

/// The policy for a message that arrives while a turn of its conversation runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BusyPolicy {
    /// Queue the turn, in order of arrival.
    #[default]
    Enqueue,
    /// Reject the message: [`Refusal::TurnRunning`].
    Reject,
    /// Cancel the running and the queued turns, keep their items, then run.
    Interrupt,
}

/// Recognises a repetition of a request. Keys of different owners are independent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The client's key, at most 255 bytes.
    pub key: String,
    /// A digest of the request, so that the same key with another request is detected.
    pub fingerprint: [u8; 32],
}

/// The outcome of [`BeginTurn`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BeginOutcome {
    /// The turn runs: the caller must run it.
    Started(HeldTurn),
    /// The turn is stored, and the caller must not run it: it is queued, another worker runs it, or
    /// it has ended.
    Stored(Turn),
    /// The idempotency key was used before, for this turn.
    Duplicate(Turn),
}

impl BeginOutcome {
    /// The turn that the worker of the command gets.
    pub fn held_turn(&mut self) -> Option<&mut HeldTurn> {
        match self {
            Self::Started(held) => Some(held),
            Self::Stored(_) | Self::Duplicate(_) => None,
        }
    }
}

/// Items for a running turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendItems {
    /// The right to write the turn.
    pub lease: TurnLease,
    /// The items, all new or all stored by an earlier call.
    pub items: Vec<NewItem>,
}

/// The end of a running turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndTurn {
    /// The right to write the turn.
    pub lease: TurnLease,
    /// The last items.
    pub last: Vec<NewItem>,
    /// How the turn ended.
    pub outcome: TurnOutcome,
    /// The tokens used by the attempt.
    pub usage: Usage,
    /// When the turn ended.
    pub at: Timestamp,
}

/// The outcome of [`EndTurn`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedTurn {
    /// The turn, ended.
    pub turn: Turn,
    /// The last items, with their positions.
    pub items: Vec<Item>,
    /// The next turn of the conversation, running now: the caller must run it.
    pub next: Option<HeldTurn>,
}
