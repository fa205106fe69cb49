//! Rows of the tables as values of the domain.
//!
//! Turns, messages and tool calls are selected with columns of the same number and types, so that
//! one statement can fetch all three.

use std::time::Duration;

use chat_domain::{
    AgentData, Conversation, ConversationId, Draft, FailureKind, FinishReason, Item, ItemBody,
    Message, MessageId, Ordinal, OriginalMessage, Position, RawJson, Timestamp, Title, ToolCall,
    ToolCallId, ToolError, ToolErrorKind, ToolOutcome, ToolOutput, ToolResult, Turn, TurnFailure,
    TurnId, TurnOutcome, TurnStatus, UnknownCause, Usage, UserId,
};
use uuid::Uuid;

use crate::codes;
use crate::error::StoreFault;
use crate::sql::Row;

/// The columns of `conversations` that [`conversation`] reads.
pub(crate) const CONVERSATION: &str = "id, owner, title, created_at, updated_at";

/// The columns of `turns t` that [`turn`] reads; [`draft`] reads the next ones.
pub(crate) const TURN: &str = "t.id, t.conversation_id, t.ordinal, t.status, t.cancel_requested, t.retry_of, t.superseded, t.created_at, \
    t.input_tokens, t.output_tokens, t.failure_kind, t.failure_message, t.ended_at, \
    t.finish_reason, t.turns_left_out, t.original_at, t.original_message_id";

/// The columns after [`TURN`] where messages and calls are fetched with it.
pub(crate) const DRAFT: &str = "t.draft_message_id, t.draft_text, CAST(NULL AS TEXT)";

/// The columns of `messages m` that [`message`] reads.
pub(crate) const MESSAGE: &str = "m.id, m.turn_id, m.position, m.role, NULL, NULL, NULL, m.created_at, NULL, NULL, NULL, m.text, NULL, \
    m.finish_reason, m.turns_left_out, NULL, NULL, NULL, m.agent_data, NULL";

/// The columns of `tool_calls k` that [`call`] and [`result`] read.
pub(crate) const CALL: &str = "k.id, k.turn_id, k.position, k.ran_by, NULL, k.message_id, NULL, k.created_at, \
    k.result_position, k.result_at, k.outcome, k.tool, k.started_at, k.agent_data, NULL, k.took_us, NULL, NULL, CAST(k.arguments AS TEXT), \
    COALESCE(CAST(k.output AS TEXT), k.error_message, k.unknown_cause)";

/// How many columns [`TURN`] has.
pub(crate) const TURN_COLUMNS: usize = 17;

/// How many columns [`CALL`] has.
pub(crate) const CALL_COLUMNS: usize = 20;

/// The owner of a row.
pub(crate) fn owner(row: Row<'_>, place: usize) -> Result<UserId, StoreFault> {
    UserId::new(row.get::<String>(place, "owner")?)
        .ok_or_else(|| row.corrupt("owner", "not a user's id"))
}

/// A row of [`CONVERSATION`].
pub(crate) fn conversation(row: Row<'_>) -> Result<Conversation, StoreFault> {
    let title = row.get::<String>(2, "title")?;
    Ok(Conversation {
        id: ConversationId(row.get(0, "id")?),
        owner: owner(row, 1)?,
        title: Title::new(&title).map_err(|error| row.corrupt("title", &error.to_string()))?,
        created_at: Timestamp(row.get(3, "created_at")?),
        updated_at: Timestamp(row.get(4, "updated_at")?),
    })
}

/// A row of [`TURN`] from place `at` on.
pub(crate) fn turn(row: Row<'_>, at: usize) -> Result<Turn, StoreFault> {
    Ok(Turn {
        id: TurnId(row.get(at, "id")?),
        conversation: ConversationId(row.get(at + 1, "conversation_id")?),
        ordinal: Ordinal(row.count(at + 2, "ordinal")?),
        status: status(row, at)?,
        cancel_requested: row.get(at + 4, "cancel_requested")?,
        retry_of: row.get::<Option<Uuid>>(at + 5, "retry_of")?.map(TurnId),
        superseded: row.get(at + 6, "superseded")?,
        created_at: Timestamp(row.get(at + 7, "created_at")?),
        usage: Usage {
            input_tokens: row.count(at + 8, "input_tokens")?,
            output_tokens: row.count(at + 9, "output_tokens")?,
        },
        finish: finish(row, at)?,
        turns_left_out: row.count(at + 14, "turns_left_out")?,
        original: original(row, at)?,
    })
}

fn original(row: Row<'_>, at: usize) -> Result<Option<OriginalMessage>, StoreFault> {
    let id = row.get::<Option<Uuid>>(at + 16, "original_message_id")?;
    let created_at = row.get::<Option<i64>>(at + 15, "original_at")?;
    Ok(id.zip(created_at).map(|(id, at)| OriginalMessage {
        id: MessageId(id),
        at: Timestamp(at),
    }))
}

/// The finish reason of a row of [`TURN`] or [`MESSAGE`] from place `at` on.
fn finish(row: Row<'_>, at: usize) -> Result<Option<FinishReason>, StoreFault> {
    let Some(code) = row.get::<Option<String>>(at + 13, "finish_reason")? else {
        return Ok(None);
    };
    FinishReason::from_code(&code)
        .map(Some)
        .ok_or_else(|| row.corrupt("finish_reason", &format!("{code:?} means nothing")))
}

/// Data that an agent attached to a message or a call. Data beyond its bounds is left out: a
/// turn can do without.
fn agent_data(row: Row<'_>, place: usize) -> Result<Option<AgentData>, StoreFault> {
    let data = row.get::<Option<String>>(place, "agent_data")?;
    Ok(data.and_then(|data| AgentData::new(data).ok()))
}

fn status(row: Row<'_>, at: usize) -> Result<TurnStatus, StoreFault> {
    let code = row.get::<String>(at + 3, "status")?;
    let outcome = match code.as_str() {
        codes::QUEUED => return Ok(TurnStatus::Queued),
        codes::RUNNING => return Ok(TurnStatus::Running),
        codes::COMPLETED => TurnOutcome::Completed,
        codes::CANCELLED => TurnOutcome::Cancelled,
        codes::FAILED => {
            let kind = row.code(at + 10, "failure_kind", FailureKind::from_code)?;
            TurnOutcome::Failed(TurnFailure {
                kind,
                message: row.get(at + 11, "failure_message")?,
            })
        }
        _ => return Err(row.corrupt("status", &format!("{code:?} means nothing"))),
    };
    Ok(TurnStatus::Ended {
        at: Timestamp(row.get(at + 12, "ended_at")?),
        outcome,
    })
}

/// The draft of a row of [`TURN`] and [`DRAFT`] from place `at` on.
pub(crate) fn draft(row: Row<'_>, at: usize) -> Result<Option<Draft>, StoreFault> {
    let Some(message) = row.get::<Option<Uuid>>(at + TURN_COLUMNS, "draft_message_id")? else {
        return Ok(None);
    };
    Ok(Some(Draft {
        message: MessageId(message),
        text: row.get(at + TURN_COLUMNS + 1, "draft_text")?,
    }))
}

/// A row of [`MESSAGE`] from place `at` on.
pub(crate) fn message(row: Row<'_>, at: usize) -> Result<Item, StoreFault> {
    let body = ItemBody::Message(Message {
        id: MessageId(row.get(at, "id")?),
        role: row.code(at + 3, "role", codes::role)?,
        text: row.get(at + 11, "text")?,
        finish: finish(row, at)?,
        turns_left_out: row.count(at + 14, "turns_left_out")?,
        agent_data: agent_data(row, at + 18)?,
    });
    let position = row
        .get::<Option<i64>>(at + 2, "position")?
        .unwrap_or_default();
    let position =
        u64::try_from(position).map_err(|_| row.corrupt("position", "it is negative"))?;
    Ok(Item {
        position: Position(position),
        turn: TurnId(row.get(at + 1, "turn_id")?),
        at: Timestamp(row.get(at + 7, "created_at")?),
        body,
    })
}

/// The call of a row of [`CALL`] from place `at` on.
pub(crate) fn call(row: Row<'_>, at: usize) -> Result<Item, StoreFault> {
    let body = ItemBody::ToolCall(ToolCall {
        id: ToolCallId(row.get(at, "id")?),
        message: MessageId(row.get(at + 5, "message_id")?),
        tool: row.get(at + 11, "tool")?,
        arguments: RawJson::from_valid(row.get::<String>(at + 18, "arguments")?),
        executor: row.code(at + 3, "ran_by", codes::executor)?,
        agent_data: agent_data(row, at + 13)?,
    });
    Ok(Item {
        position: Position(row.count(at + 2, "position")?),
        turn: TurnId(row.get(at + 1, "turn_id")?),
        at: Timestamp(row.get(at + 7, "created_at")?),
        body,
    })
}

/// The result in a row of [`CALL`] from place `at` on, if there is one yet.
pub(crate) fn result(row: Row<'_>, at: usize) -> Result<Option<Item>, StoreFault> {
    let Some(code) = row.get::<Option<String>>(at + 10, "outcome")? else {
        return Ok(None);
    };
    let outcome = match code.as_str() {
        codes::SUCCEEDED => ToolOutcome::Succeeded(ToolOutput(RawJson::from_valid(
            row.get::<String>(at + 19, "output")?,
        ))),
        codes::UNKNOWN => {
            // Earlier versions kept no cause, and later ones may have more.
            let cause = row
                .get::<Option<String>>(at + 19, "unknown_cause")?
                .and_then(|code| UnknownCause::from_code(&code));
            ToolOutcome::Unknown(cause.unwrap_or(UnknownCause::Interrupted))
        }
        _ => {
            let kind = row.code(at + 10, "outcome", ToolErrorKind::from_code)?;
            ToolOutcome::Failed(ToolError::new(
                kind,
                row.get::<String>(at + 19, "error_message")?,
            ))
        }
    };
    let body = ItemBody::ToolResult(ToolResult {
        call: ToolCallId(row.get(at, "id")?),
        outcome,
        started_at: Timestamp(row.get(at + 12, "started_at")?),
        took: Duration::from_micros(row.count(at + 15, "took_us")?),
    });
    Ok(Some(Item {
        position: Position(row.count(at + 8, "result_position")?),
        turn: TurnId(row.get(at + 1, "turn_id")?),
        at: Timestamp(row.get(at + 9, "result_at")?),
        body,
    }))
}
