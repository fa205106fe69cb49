//! Conversations and turns as JSON.

use chat_domain::{Conversation, FinishReason, Turn, TurnFailure, TurnOutcome, TurnStatus, Usage};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::problem::Code;
use crate::time::Time;

/// A conversation.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Conversation)]
pub struct ConversationObject {
    /// Its id.
    pub id: Uuid,
    /// Its title.
    pub title: String,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Time,
}

impl From<&Conversation> for ConversationObject {
    fn from(conversation: &Conversation) -> Self {
        Self {
            id: conversation.id.0,
            title: conversation.title.as_str().to_owned(),
            created_at: Time(conversation.created_at),
            updated_at: Time(conversation.updated_at),
        }
    }
}

/// The status of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = TurnStatus)]
pub enum TurnState {
    /// Its message is stored; an earlier turn of the conversation is running.
    Queued,
    /// The turn is running.
    Running,
    /// The agent has answered.
    Completed,
    /// The turn was cancelled; its text so far is kept.
    Cancelled,
    /// The turn failed; its text so far is kept.
    Failed,
}

impl From<&TurnStatus> for TurnState {
    fn from(status: &TurnStatus) -> Self {
        match status {
            TurnStatus::Queued => Self::Queued,
            TurnStatus::Running => Self::Running,
            TurnStatus::Ended {
                outcome: TurnOutcome::Completed,
                ..
            } => Self::Completed,
            TurnStatus::Ended {
                outcome: TurnOutcome::Cancelled,
                ..
            } => Self::Cancelled,
            TurnStatus::Ended {
                outcome: TurnOutcome::Failed(_),
                ..
            } => Self::Failed,
        }
    }
}

/// Why a turn failed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TurnError)]
pub struct TurnErrorObject {
    /// The cause, one of the codes of problems.
    pub code: &'static str,
    /// The details.
    pub message: String,
}

impl From<&TurnFailure> for TurnErrorObject {
    fn from(failure: &TurnFailure) -> Self {
        Self {
            code: Code::from(failure.kind).row().code,
            message: failure.message.clone(),
        }
    }
}

pub(super) fn ended_at(turn: &Turn) -> Option<Time> {
    match &turn.status {
        TurnStatus::Ended { at, .. } => Some(Time(*at)),
        _ => None,
    }
}

pub(super) fn failure(turn: &Turn) -> Option<TurnErrorObject> {
    match &turn.status {
        TurnStatus::Ended {
            outcome: TurnOutcome::Failed(failure),
            ..
        } => Some(failure.into()),
        _ => None,
    }
}

/// Tokens used, as reported by the agent.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Usage)]
pub struct UsageObject {
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
}

impl From<Usage> for UsageObject {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
        }
    }
}

/// Why the agent stopped writing an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = FinishReason)]
pub enum FinishReasonName {
    /// The answer is complete.
    Complete,
    /// The answer was cut off at the agent's limit of tokens for an answer.
    Length,
    /// A content filter withheld the rest of the answer.
    ContentFilter,
}

impl From<FinishReason> for FinishReasonName {
    fn from(reason: FinishReason) -> Self {
        match reason {
            FinishReason::Complete => Self::Complete,
            FinishReason::Length => Self::Length,
            FinishReason::ContentFilter => Self::ContentFilter,
        }
    }
}

/// The part of a conversation that the agent did not read, because it is longer than the agent can
/// read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Context)]
pub struct ContextObject {
    /// How many of the conversation's turns were left out: the oldest ones.
    pub turns_left_out: u64,
}

/// The part of the conversation that the agent did not read for a turn; `None` if it read
/// everything.
pub(super) fn context(turn: &Turn) -> Option<ContextObject> {
    (turn.turns_left_out > 0).then_some(ContextObject {
        turns_left_out: turn.turns_left_out,
    })
}

/// Everything done in answer to one user message.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Turn)]
pub struct TurnObject {
    /// Its id.
    pub id: Uuid,
    /// The conversation it belongs to.
    pub conversation_id: Uuid,
    /// Its status.
    pub status: TurnState,
    /// Whether its cancellation was requested.
    pub cancel_requested: bool,
    /// The turn that this one retries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<Uuid>,
    /// Whether a retry has superseded this turn.
    pub superseded: bool,
    /// When its message arrived.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Time>,
    /// Tokens used, over all steps.
    pub usage: UsageObject,
    /// Why the agent stopped writing its answer. Absent if it did not end the answer itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<FinishReasonName>,
    /// The part of the conversation that the agent did not read for its answer. Absent if it read
    /// all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<ContextObject>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<TurnErrorObject>,
}

impl From<&Turn> for TurnObject {
    fn from(turn: &Turn) -> Self {
        Self {
            id: turn.id.0,
            conversation_id: turn.conversation.0,
            status: (&turn.status).into(),
            cancel_requested: turn.cancel_requested,
            retry_of: turn.retry_of.map(|id| id.0),
            superseded: turn.superseded,
            created_at: Time(turn.created_at),
            ended_at: ended_at(turn),
            usage: turn.usage.into(),
            finish_reason: turn.finish.map(Into::into),
            context: context(turn),
            error: failure(turn),
        }
    }
}
