//! Turns: everything done in answer to one user message.

use std::time::Duration;

use crate::values::codes;
use crate::{
    ConversationId, FinishReason, Item, ItemBody, MessageId, Ordinal, Timestamp, TurnId, UserId,
    WorkerId,
};

/// Everything done in answer to one user message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Its id.
    pub id: TurnId,
    /// The conversation it belongs to.
    pub conversation: ConversationId,
    /// Its place among the conversation's turns.
    pub ordinal: Ordinal,
    /// Its status.
    pub status: TurnStatus,
    /// Whether its cancellation was requested.
    pub cancel_requested: bool,
    /// The turn that this one retries. When this one starts to run, that turn and all after it
    /// are superseded.
    pub retry_of: Option<TurnId>,
    /// Of a retry: the message it answers, before all retries.
    pub original: Option<OriginalMessage>,
    /// Whether a retry took this turn's place: it stays in the log and leaves the transcript and
    /// the default view.
    pub superseded: bool,
    /// When its message arrived.
    pub created_at: Timestamp,
    /// Tokens that the agent reports, over the steps of the attempt that ended the turn; zero where
    /// it reports none.
    pub usage: Usage,
    /// Why the agent stopped writing the message that ended the turn; `None` if no message did.
    pub finish: Option<FinishReason>,
    /// How many of the conversation's turns, the oldest ones, the agent did not read for the
    /// message that ended the turn.
    pub turns_left_out: u64,
}

/// The user's message of the turn where a series of retries began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginalMessage {
    /// The message.
    pub id: MessageId,
    /// When it was created.
    pub at: Timestamp,
}

impl Turn {
    /// Copies the finish reason and the number of turns left out from the last message. Stores call
    /// this when they end a turn, before they save it.
    pub fn note_last_items(&mut self, last: &[Item]) {
        let mut messages = last.iter().filter_map(|item| {
            if let ItemBody::Message(message) = &item.body {
                Some(message)
            } else {
                None
            }
        });
        if let Some(message) = messages.next_back() {
            self.finish = message.finish;
            self.turns_left_out = message.turns_left_out;
        }
    }
}

/// The status of a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TurnStatus {
    /// Its message is durable; an earlier turn runs.
    Queued,
    /// A worker holds it, or will take it over.
    Running,
    /// It has ended, for good.
    Ended {
        /// When it ended.
        at: Timestamp,
        /// How it ended.
        outcome: TurnOutcome,
    },
}

impl TurnStatus {
    /// Whether the turn is over.
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Ended { .. })
    }
}

/// How a turn ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TurnOutcome {
    /// The agent answered.
    Completed,
    /// Its owner, or a newer message that interrupts, stopped it. Its items are kept.
    Cancelled,
    /// It could not be finished. Its items are kept.
    Failed(TurnFailure),
}

/// Why a turn failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnFailure {
    /// The cause.
    pub kind: FailureKind,
    /// A description for the user: no secrets, no internals.
    pub message: String,
}

codes! {
    /// The cause of a turn's failure.
    FailureKind {
        /// The agent was slower than its limit.
        AgentTimeout = "agent_timeout",
        /// The agent could not be reached, or its connection broke.
        AgentUnavailable = "agent_unavailable",
        /// The agent refuses the server's key, address or model.
        AgentMisconfigured = "agent_misconfigured",
        /// The agent is overloaded.
        AgentOverloaded = "agent_overloaded",
        /// The agent's answer was not understood.
        AgentProtocolError = "agent_protocol_error",
        /// The conversation is longer than the agent can read.
        ContextTooLong = "context_too_long",
        /// The agent refused the content.
        AgentRefused = "agent_refused",
        /// The agent's answer had neither text nor tool calls.
        AgentEmptyAnswer = "agent_empty_answer",
        /// The turn needed more steps than allowed.
        StepLimit = "step_limit",
        /// The turn took longer than allowed.
        TimeLimit = "turn_timeout",
        /// The turn's workers died repeatedly.
        TooManyAttempts = "too_many_attempts",
        /// The store cannot read or write what the turn needs, and would fail again.
        Internal = "internal",
    }
}

/// Tokens used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens read.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        // An agent may report any number.
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
    }
}

/// A worker's right to write a turn. Every write names it, and the store refuses an old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TurnLease {
    /// The turn.
    pub turn: TurnId,
    /// The worker that holds it.
    pub worker: WorkerId,
    /// The fencing number: grows with each claim.
    pub epoch: u64,
}

/// A running turn as its worker gets it: everything that is needed to continue it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldTurn {
    /// The turn, running.
    pub turn: Turn,
    /// The owner of its conversation.
    pub owner: UserId,
    /// The right to write it.
    pub lease: TurnLease,
    /// Which attempt this is, from 1. Above 1, an attempt before was interrupted. A graceful
    /// hand-over does not count.
    pub attempt: u32,
    /// How long the turn ran before this attempt, by the store's clock. Time in the queue, time
    /// without a worker and time after the end of the worker's lease do not count.
    pub spent: Duration,
    /// Its items in the log; at least the user's message.
    pub items: Vec<Item>,
}

/// Assistant text that has been shown but is not an item yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The message it will become. Another attempt writes another message.
    pub message: MessageId,
    /// All the text so far.
    pub text: String,
}

/// A turn with its items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedTurn {
    /// The turn.
    pub turn: Turn,
    /// Its items, in order. For a queued turn: the user's message alone, at
    /// [`Position::START`](crate::Position::START), for it has no place yet.
    pub items: Vec<Item>,
}
