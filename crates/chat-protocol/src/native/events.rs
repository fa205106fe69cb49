//! A turn as server-sent events.
//!
//! | event | data | when |
//! |---|---|---|
//! | `turn` | [`StateEvent`] | once, when reading from the start; has no id |
//! | `message` | [`MessageEvent`] | a user message, or an assistant message of a step, is durable |
//! | `text` | [`TextEvent`] | the draft of an assistant message grew by a delta |
//! | `discarded` | [`DiscardedEvent`] | a server died, and another draft follows |
//! | `tool_call` | [`ToolCallEvent`] | the agent called a tool; durable, the tool runs next |
//! | `tool_result` | [`ToolResultEvent`] | the result of the call; durable |
//! | `done` | [`DoneEvent`] | the turn completed or was cancelled; the last event |
//! | `error` | a problem | with an id: the turn failed; without: reading failed |
//!
//! `done`, or `error` with an id, is the last event. After an `error` without an id a reader resumes
//! from the last id.
//!
//! The `id` of each event is a cursor. The events up to an id and the events after it are together
//! the events of an uninterrupted reader, except for the boundaries between deltas.

use chat_domain::{Cursor, Item, ItemBody, Turn, TurnEvent, TurnId, TurnOutcome, TurnStatus};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::cursor::write_turn;
use crate::native::messages::RoleName;
use crate::native::tool_calls::{OutcomeObject, raw};
use crate::native::turns::{ContextObject, FinishReasonName, TurnState, UsageObject, context};
use crate::problem::{Code, Problem};
use crate::sse::frame;
use crate::time::Time;

/// The turn at the start of the stream.
#[derive(Debug, Serialize, ToSchema)]
pub struct StateEvent {
    /// The turn.
    pub turn_id: Uuid,
    /// Its conversation.
    pub conversation_id: Uuid,
    /// Its status.
    pub status: TurnState,
}

/// A turn completed or was cancelled. The event has only data that never changes, so that every
/// reader gets the same.
#[derive(Debug, Serialize, ToSchema)]
pub struct DoneEvent {
    /// The turn.
    pub turn_id: Uuid,
    /// Its conversation.
    pub conversation_id: Uuid,
    /// `completed` or `cancelled`.
    pub status: TurnState,
    /// When it ended.
    #[schema(value_type = String, format = DateTime)]
    pub ended_at: Time,
    /// Tokens used, over all steps.
    pub usage: UsageObject,
    /// Why the agent stopped writing. Absent if it did not end the answer itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<FinishReasonName>,
    /// The part of the conversation that the agent did not read for its answer. Absent if it read
    /// all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<ContextObject>,
}

/// A message is durable: the user's, or the assistant's of one step.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessageEvent {
    /// Its id.
    pub id: Uuid,
    /// Its turn.
    pub turn_id: Uuid,
    /// The author.
    pub role: RoleName,
    /// The whole text; empty for a step that only called tools.
    pub content: String,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// Why the agent stopped writing this step. Absent on a user message, and if the agent did not
    /// end the step itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<FinishReasonName>,
}

/// The draft of an assistant message grew.
#[derive(Debug, Serialize, ToSchema)]
pub struct TextEvent {
    /// The message.
    pub message_id: Uuid,
    /// The added text.
    pub delta: String,
}

/// The draft of a message is discarded.
#[derive(Debug, Serialize, ToSchema)]
pub struct DiscardedEvent {
    /// The message that the draft would have become.
    pub message_id: Uuid,
}

/// The agent called a tool.
#[derive(Debug, Serialize, ToSchema)]
pub struct ToolCallEvent {
    /// The call's id.
    pub id: Uuid,
    /// The message of the step that made the call. A stream has a message for each step; JSON
    /// replies and lists combine the messages of all steps of a turn.
    pub message_id: Uuid,
    /// The tool.
    pub tool_name: String,
    /// The arguments from the agent.
    #[schema(value_type = serde_json::Value)]
    pub parameters: Box<RawValue>,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
}

/// The result of a tool call.
#[derive(Debug, Serialize, ToSchema)]
pub struct ToolResultEvent {
    /// The call.
    pub id: Uuid,
    /// The outcome.
    #[serde(flatten)]
    pub outcome: OutcomeObject,
}

/// The first frame of a stream from the start.
pub fn opening(turn: &Turn) -> String {
    let state = StateEvent {
        turn_id: turn.id.0,
        conversation_id: turn.conversation.0,
        status: (&turn.status).into(),
    };
    named(None, "turn", &state)
}

/// The frame of an event of `turn`. `cursor` is the reader's place after it.
pub fn event(turn: TurnId, cursor: Cursor, event: &TurnEvent) -> String {
    let id = write_turn(turn, cursor);
    let id = Some(id.as_str());
    match event {
        TurnEvent::Text { message, delta } => named(
            id,
            "text",
            &TextEvent {
                message_id: message.0,
                delta: delta.clone(),
            },
        ),
        TurnEvent::Discarded { message } => named(
            id,
            "discarded",
            &DiscardedEvent {
                message_id: message.0,
            },
        ),
        TurnEvent::Item(entry) => item(id, entry),
        TurnEvent::Ended(turn) => ended(id, turn),
    }
}

fn ended(id: Option<&str>, turn: &Turn) -> String {
    let (turn_id, conversation_id) = (turn.id.0, turn.conversation.0);
    let TurnStatus::Ended { at, outcome } = &turn.status else {
        return interrupted(&Problem::from(Code::Internal).in_turn(turn.conversation, turn.id));
    };
    if let TurnOutcome::Failed(failure) = outcome {
        return named(
            id,
            "error",
            &Problem::turn_failure(failure)
                .in_turn(turn.conversation, turn.id)
                .body(),
        );
    }
    let done = DoneEvent {
        turn_id,
        conversation_id,
        status: (&turn.status).into(),
        ended_at: Time(*at),
        usage: turn.usage.into(),
        finish_reason: turn.finish.map(Into::into),
        context: context(turn),
    };
    named(id, "done", &done)
}

/// The last frame of a stream that ends before its turn.
pub fn interrupted(problem: &Problem) -> String {
    named(None, "error", &problem.body())
}

fn item(id: Option<&str>, item: &Item) -> String {
    match &item.body {
        ItemBody::Message(message) => {
            let created_at = Time(item.at);
            let content = message.text.clone();
            let (role, finish_reason) = (message.role.into(), message.finish.map(Into::into));
            named(
                id,
                "message",
                &MessageEvent {
                    id: message.id.0,
                    turn_id: item.turn.0,
                    role,
                    content,
                    created_at,
                    finish_reason,
                },
            )
        }
        ItemBody::ToolCall(call) => {
            let parameters = raw(&call.arguments);
            let created_at = Time(item.at);
            let call = ToolCallEvent {
                id: call.id.0,
                message_id: call.message.0,
                tool_name: call.tool.clone(),
                parameters,
                created_at,
            };
            named(id, "tool_call", &call)
        }
        ItemBody::ToolResult(result) => named(
            id,
            "tool_result",
            &ToolResultEvent {
                id: result.call.0,
                outcome: result.into(),
            },
        ),
    }
}

fn named(id: Option<&str>, event: &str, data: &impl Serialize) -> String {
    // Serialising these types cannot fail: they have no maps with keys other than text.
    frame(id, event, &serde_json::to_string(data).unwrap_or_default())
}
