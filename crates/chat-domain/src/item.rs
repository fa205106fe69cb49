//! Items: the entries of a conversation's log. An item never changes.

use std::time::Duration;

use crate::values::codes;
use crate::{AgentData, MessageId, Position, RawJson, Timestamp, ToolCallId, TurnId};

/// An entry of a conversation's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its place in the conversation.
    pub position: Position,
    /// The turn it belongs to.
    pub turn: TurnId,
    /// When it was made.
    pub at: Timestamp,
    /// The content.
    pub body: ItemBody,
}

impl Item {
    /// Whether the item still waits for its place, because its turn is queued.
    pub fn is_unplaced(&self) -> bool {
        self.position == Position::START
    }
}

/// An item before the store has given it a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewItem {
    /// When it was made.
    pub at: Timestamp,
    /// The content.
    pub body: ItemBody,
}

/// The content of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemBody {
    /// A message of the user or the agent.
    Message(Message),
    /// The agent asked for a tool. Recorded before the tool runs.
    ToolCall(ToolCall),
    /// The result of a tool call.
    ToolResult(ToolResult),
}

/// The author.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The owner of the conversation.
    User,
    /// The agent.
    Assistant,
}

/// A message. Each step of the agent has exactly one, with empty text if it only called tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// The author.
    pub role: Role,
    /// The text.
    pub text: String,
    /// Why the agent stopped. `None`: a user's message, an answer that was interrupted, or a
    /// message recorded before finish reasons were.
    pub finish: Option<FinishReason>,
    /// How many of the conversation's turns the agent did not read when it wrote this: the oldest
    /// ones, because the conversation was longer than it can read.
    pub turns_left_out: u64,
    /// Data that the agent needs back with this message in later requests.
    pub agent_data: Option<AgentData>,
}

impl Message {
    /// A user's message.
    pub fn user(id: MessageId, text: impl Into<String>) -> Self {
        Self {
            id,
            role: Role::User,
            text: text.into(),
            finish: None,
            turns_left_out: 0,
            agent_data: None,
        }
    }

    /// A complete message of the agent.
    pub fn assistant(id: MessageId, text: impl Into<String>) -> Self {
        let finish = Some(FinishReason::Complete);
        Self {
            id,
            role: Role::Assistant,
            text: text.into(),
            finish,
            turns_left_out: 0,
            agent_data: None,
        }
    }
}

codes! {
    /// Why an agent stopped writing. Errors are [`AgentError`](crate::AgentError)s.
    FinishReason {
        /// The answer is complete, or the agent waits for the results of its tool calls.
        Complete = "complete",
        /// It reached the limit of tokens for an answer. The answer is cut off.
        Length = "length",
        /// A content filter withheld the rest of the answer.
        ContentFilter = "content_filter",
    }
}

/// A request of the agent to run a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// Its id, stable over crashes: tools may use it to recognise a repetition.
    pub id: ToolCallId,
    /// The assistant message whose step made the call.
    pub message: MessageId,
    /// The tool's name.
    pub tool: String,
    /// The arguments, as the agent wrote them. A JSON object, or, if the agent wrote anything else,
    /// that text as a JSON string, which every toolset rejects.
    pub arguments: RawJson,
    /// The party that runs the call.
    pub executor: ToolExecutor,
    /// Data that the agent needs back with this call in later requests.
    pub agent_data: Option<AgentData>,
}

/// The party that runs a tool call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ToolExecutor {
    /// The server, through the [`Toolset`](crate::Toolset).
    Server,
    /// The agent, on its own side.
    Agent,
}

/// The result of a tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolResult {
    /// The call.
    pub call: ToolCallId,
    /// The outcome.
    pub outcome: ToolOutcome,
    /// When the tool was started (for [`ToolOutcome::Unknown`]: when the call was given up).
    pub started_at: Timestamp,
    /// How long it took.
    pub took: Duration,
}

/// The result of a tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolOutcome {
    /// The tool answered.
    Succeeded(ToolOutput),
    /// The tool did not do it, or said that it failed.
    Failed(ToolError),
    /// The tool may or may not have run, and does not say that repeating it is harmless.
    Unknown(UnknownCause),
}

codes! {
    /// The reason why it is unknown whether a tool did its work.
    UnknownCause {
        /// The server that ran the turn stopped, or was stopped, before it had recorded the result.
        Interrupted = "interrupted",
        /// The user stopped the turn.
        Stopped = "stopped",
        /// The turn reached its time limit.
        TurnTimeLimit = "turn_time_limit",
        /// The tool gave no answer within its time limit.
        TimedOut = "timed_out",
        /// The connection to the tool broke, or its answer was not usable.
        AnswerLost = "answer_lost",
    }
}

impl UnknownCause {
    /// The cause, as a part of a sentence.
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::Interrupted => "the call was interrupted before its result was stored",
            Self::Stopped => "the user stopped the turn while the tool ran",
            Self::TurnTimeLimit => "the turn reached its time limit while the tool ran",
            Self::TimedOut => "the tool gave no answer within its time limit",
            Self::AnswerLost => "the tool returned no usable answer",
        }
    }

    /// The cause and its meaning, for people.
    pub fn message(self) -> String {
        let (first, rest) = self.phrase().split_at(1);
        format!(
            "{}{rest}. The tool may or may not have done its work.",
            first.to_uppercase()
        )
    }
}

/// A tool's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolOutput(pub RawJson);

/// Why a tool call failed. An answer for the agent, not the end of the turn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ToolError {
    /// The cause.
    pub kind: ToolErrorKind,
    /// A description for the agent and the user: no secrets, no internals.
    pub message: String,
}

impl ToolError {
    /// An error of this kind.
    pub fn new(kind: ToolErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, message }
    }
}

codes! {
    /// The cause of a tool's failure.
    ToolErrorKind {
        /// There is no such tool.
        UnknownTool = "unknown_tool",
        /// The arguments are not what the tool takes.
        InvalidArguments = "invalid_arguments",
        /// The tool ran and said that it failed.
        Failed = "failed",
        /// No answer within the limit. The tool may have done its work.
        TimedOut = "timed_out",
        /// The tool's server cannot be reached. The call was not sent.
        Unavailable = "unavailable",
        /// The answer is larger than allowed. The tool did its work.
        TooLarge = "too_large",
        /// Not run: the turn was cancelled before.
        NotRun = "not_run",
    }
}
