//! A turn as server-sent events.
//!
//! | event | data | when |
//! |---|---|---|
//! | `turn` | [`StateEvent`] | once, when reading from the start; has no id |
//! | `message` | [`MessageEvent`] | a message of the user, or of one step of the assistant, is durable |
//! | `text` | [`TextEvent`] | a message of the assistant grew; its text is the concatenation of its deltas |
//! | `discarded` | [`DiscardedEvent`] | the text shown for this message will never be one: a server died; other text follows |
//! | `tool_call` | [`ToolCallEvent`] | the agent asked for a tool; durable, the tool is about to run |
//! | `tool_result` | [`ToolResultEvent`] | what came of it; durable |
//! | `done` | [`DoneEvent`] | the turn completed or was cancelled; the last event |
//! | `error` | a problem | with an id: the turn failed; the last event. Without: reading failed; go on from the last id |
//!
//! The `id` of each event is a cursor. What a reader got up to some id and what it gets after it
//! are together what an uninterrupted reader gets, but for where the deltas of one message are cut.

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
    /// The conversation it belongs to.
    pub conversation_id: Uuid,
    /// Its status.
    pub status: TurnState,
}

/// A turn completed or was cancelled. Tells only what never changes, so that it is the same
/// whenever it is read.
#[derive(Debug, Serialize, ToSchema)]
pub struct DoneEvent {
    /// The turn.
    pub turn_id: Uuid,
    /// The conversation it belongs to.
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

/// A message is durable: the user's, or that of one step of the assistant.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessageEvent {
    /// Its id.
    pub id: Uuid,
    /// The turn it belongs to.
    pub turn_id: Uuid,
    /// The author.
    pub role: RoleName,
    /// The whole text; empty for a step that only called tools.
    pub content: String,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// Why the agent stopped writing this step. Absent on the user's message, and if the agent did
    /// not end the step itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<FinishReasonName>,
}

/// A message of the assistant grew.
#[derive(Debug, Serialize, ToSchema)]
pub struct TextEvent {
    /// The message.
    pub message_id: Uuid,
    /// The added text.
    pub delta: String,
}

/// Text that was shown will never be a message.
#[derive(Debug, Serialize, ToSchema)]
pub struct DiscardedEvent {
    /// The message it would have become.
    pub message_id: Uuid,
}

/// The agent asked for a tool.
#[derive(Debug, Serialize, ToSchema)]
pub struct ToolCallEvent {
    /// The call's id.
    pub id: Uuid,
    /// The message of the step that made it. A stream has each step's message; JSON replies and
    /// lists make one of all the messages of a turn's steps.
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

/// The first frame for a reader that begins at the start.
pub fn opening(turn: &Turn) -> String {
    let state = StateEvent {
        turn_id: turn.id.0,
        conversation_id: turn.conversation.0,
        status: (&turn.status).into(),
    };
    named(None, "turn", &state)
}

/// The frame of an event of `turn`, after which a reader has come to `cursor`.
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

/// The last frame for a reader that cannot be served further now.
pub fn interrupted(problem: &Problem) -> String {
    named(None, "error", &problem.body())
}

fn item(id: Option<&str>, item: &Item) -> String {
    match &item.body {
        ItemBody::Message(said) => {
            let created_at = Time(item.at);
            let content = said.text.clone();
            let (role, finish_reason) = (said.role.into(), said.finish.map(Into::into));
            named(
                id,
                "message",
                &MessageEvent {
                    id: said.id.0,
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
