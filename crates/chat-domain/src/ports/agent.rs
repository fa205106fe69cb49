//! The agent port: produces the next message or tool calls of a turn.

use std::error::Error;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use crate::transcript::Transcript;
use crate::{
    AgentData, ConversationId, FailureKind, FinishReason, RawJson, ToolOutcome, ToolSpec, TurnId,
    Usage, UserId,
};

/// Produces the next message or tool calls of a turn: a model behind an API, or rules.
///
/// # Contract
/// - It keeps nothing between steps. All it may know is in the request.
/// - The stream ends with exactly one [`StepEvent::Done`]. A stream that ends without it was cut
///   off, which is an error of the stream.
/// - After an error the stream ends.
/// - Dropping the stream (or the future of `step`) stops the work.
/// - It repeats a request only before the first event.
/// - A connection that was lost before the agent gave a finish reason is an error of the stream,
///   not a complete answer.
/// - [`AgentData`] that it hands out comes back in the transcript of every later request, unchanged
///   and with the same message or call. It may come back to another agent, model or endpoint than
///   the one that wrote it: the data must name its writer (a short tag of the adapter's own is
///   enough), and an adapter ignores data that it did not write or cannot read.
///
/// The suite [`agent_contract!`](crate::agent_contract) checks an implementation.
#[async_trait]
pub trait Agent: Send + Sync {
    /// One request to the agent, and its answer as it comes.
    async fn step(&self, request: StepRequest) -> Result<StepStream, AgentError>;
}

/// An agent's answer as it comes.
pub type StepStream = BoxStream<'static, Result<StepEvent, AgentError>>;

/// One request to the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRequest {
    /// The owner of the conversation.
    pub owner: UserId,
    /// The conversation.
    pub conversation: ConversationId,
    /// The turn.
    pub turn: TurnId,
    /// The conversation so far. The last entry is the user's message or a tool result.
    pub transcript: Transcript,
    /// The tools it may call.
    pub tools: Vec<ToolSpec>,
}

/// A part of an agent's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepEvent {
    /// Text, to be shown at once. Never empty.
    Text(String),
    /// A whole tool call, which the server runs when the step is done.
    ToolCall {
        /// The tool's name.
        tool: String,
        /// The arguments: a JSON object; or, if the agent wrote something else, that text as a JSON
        /// string.
        arguments: RawJson,
        /// Data that the agent needs back with this call in later requests.
        agent_data: Option<AgentData>,
    },
    /// A tool call that the agent ran on its own side.
    ExecutedTool {
        /// The tool's name.
        tool: String,
        /// The arguments.
        arguments: RawJson,
        /// The outcome.
        outcome: ToolOutcome,
        /// How long it took.
        took: Duration,
    },
    /// The step is complete.
    Done(StepEnd),
}

/// The end of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepEnd {
    /// The tokens the step used; zero where the agent does not say.
    pub usage: Usage,
    /// Why the agent stopped writing.
    pub finish: FinishReason,
    /// Data that the agent needs back with the message of this step in later requests.
    pub agent_data: Option<AgentData>,
}

impl StepEnd {
    /// The end of a complete answer, without data of the agent.
    pub fn complete(usage: Usage) -> Self {
        Self {
            usage,
            finish: FinishReason::Complete,
            agent_data: None,
        }
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct AgentError {
    /// The cause.
    pub kind: AgentErrorKind,
    /// A description for the user: no secrets, no internals.
    pub message: String,
    /// The underlying error, for the log.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl AgentError {
    /// An error of this kind.
    pub fn new(kind: AgentErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            kind,
            message,
            source: None,
        }
    }

    /// The same error with its underlying error.
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// The cause of a failed step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AgentErrorKind {
    /// It refuses the server's key, address or model.
    Misconfigured,
    /// It is overloaded.
    Overloaded {
        /// The delay before a retry, if the agent names one.
        retry_after: Option<Duration>,
    },
    /// The transcript is longer than it can read.
    ContextTooLong {
        /// The most tokens it can read, if its error names a number.
        limit: Option<u64>,
    },
    /// It refused the content.
    Refused,
    /// It was slower than its limit.
    TimedOut,
    /// It cannot be reached, or its connection broke.
    Unavailable,
    /// Its answer was not understood.
    Protocol,
    /// Its answer has neither text nor tool calls. An agent returns this error itself only where it
    /// can say more about the cause than the domain, which rejects every such answer.
    EmptyAnswer,
}

impl From<AgentErrorKind> for FailureKind {
    fn from(kind: AgentErrorKind) -> Self {
        match kind {
            AgentErrorKind::Misconfigured => Self::AgentMisconfigured,
            AgentErrorKind::Overloaded { .. } => Self::AgentOverloaded,
            AgentErrorKind::ContextTooLong { .. } => Self::ContextTooLong,
            AgentErrorKind::Refused => Self::AgentRefused,
            AgentErrorKind::TimedOut => Self::AgentTimeout,
            AgentErrorKind::Unavailable => Self::AgentUnavailable,
            AgentErrorKind::Protocol => Self::AgentProtocolError,
            AgentErrorKind::EmptyAnswer => Self::AgentEmptyAnswer,
        }
    }
}
