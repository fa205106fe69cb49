//! The table `tool_calls`: calls, and their results.

use std::time::Duration;

use chat_domain::log::{CallRow, ResultRow};
use chat_domain::{
    Item, ItemBody, MessageId, Position, RawJson, Timestamp, ToolCall, ToolCallId, ToolError,
    ToolErrorKind, ToolOutcome, ToolOutput, ToolResult, TurnId, UnknownCause,
};

use super::messages::{agent_data, agent_data_value};
use crate::codes;
use crate::columns::{TOOL_CALL, column};
use crate::error::StoreFault;
use crate::row::Row;
use crate::sql::{Sql, Value, big, micros};

const INSERT: &str = "
    INSERT INTO tool_calls (id, conversation_id, turn_id, message_id, position, tool, arguments,
        ran_by, created_at, agent_data, result_position, result_at, outcome, output,
        error_message, unknown_cause, started_at, took_us)
    :rows";

const SET_RESULT: &str = "
    WITH v(id, result_position, result_at, outcome, output, error_message, unknown_cause,
        started_at, took_us) AS (:rows)
    UPDATE tool_calls SET result_position = v.result_position, result_at = v.result_at,
        outcome = v.outcome, output = v.output, error_message = v.error_message,
        unknown_cause = v.unknown_cause, started_at = v.started_at, took_us = v.took_us
    FROM v WHERE tool_calls.id = v.id";

/// The call in a row that begins with [`TOOL_CALL`].
pub(crate) fn call(row: Row<'_>) -> Result<Item, StoreFault> {
    let body = ItemBody::ToolCall(ToolCall {
        id: ToolCallId(row.get(column!(TOOL_CALL, "id"))?),
        message: MessageId(row.get(column!(TOOL_CALL, "message_id"))?),
        tool: row.get(column!(TOOL_CALL, "tool"))?,
        arguments: RawJson::from_valid(row.get::<String>(column!(TOOL_CALL, "arguments"))?),
        executor: row.code(column!(TOOL_CALL, "ran_by"), codes::executor)?,
        agent_data: agent_data(row, column!(TOOL_CALL, "agent_data"))?,
    });
    Ok(Item {
        position: Position(row.count(column!(TOOL_CALL, "position"))?),
        turn: TurnId(row.get(column!(TOOL_CALL, "turn_id"))?),
        at: Timestamp(row.get(column!(TOOL_CALL, "created_at"))?),
        body,
    })
}

/// The result in a row that begins with [`TOOL_CALL`], if the call has one.
pub(crate) fn result(row: Row<'_>) -> Result<Option<Item>, StoreFault> {
    let Some(code) = row.get::<Option<String>>(column!(TOOL_CALL, "outcome"))? else {
        return Ok(None);
    };
    let text = column!(TOOL_CALL, "result");
    let outcome = match code.as_str() {
        codes::SUCCEEDED => {
            ToolOutcome::Succeeded(ToolOutput(RawJson::from_valid(row.get::<String>(text)?)))
        }
        codes::UNKNOWN => {
            // Earlier versions stored no cause, and later ones may have more.
            let cause = row.get::<Option<String>>(text)?;
            let cause = cause.and_then(|code| UnknownCause::from_code(&code));
            ToolOutcome::Unknown(cause.unwrap_or(UnknownCause::Interrupted))
        }
        _ => {
            let kind = row.code(column!(TOOL_CALL, "outcome"), ToolErrorKind::from_code)?;
            ToolOutcome::Failed(ToolError::new(kind, row.get::<String>(text)?))
        }
    };
    let body = ItemBody::ToolResult(ToolResult {
        call: ToolCallId(row.get(column!(TOOL_CALL, "id"))?),
        outcome,
        started_at: Timestamp(row.get(column!(TOOL_CALL, "started_at"))?),
        took: Duration::from_micros(row.count(column!(TOOL_CALL, "took_us"))?),
    });
    Ok(Some(Item {
        position: Position(row.count(column!(TOOL_CALL, "result_position"))?),
        turn: TurnId(row.get(column!(TOOL_CALL, "turn_id"))?),
        at: Timestamp(row.get(column!(TOOL_CALL, "result_at"))?),
        body,
    }))
}

/// Inserts calls, with their results if they have them.
pub(crate) fn insert(new: &[CallRow]) -> Sql {
    Sql::new(INSERT).rows("rows", new.iter().map(values))
}

/// Stores the results of calls.
pub(crate) fn set_results(results: &[ResultRow]) -> Sql {
    let values = |row: &ResultRow| -> [Value; 9] {
        let [position, at, outcome, output, error, cause, started, took] = result_values(Some(row));
        let id = row.result.call.0.into();
        [
            id, position, at, outcome, output, error, cause, started, took,
        ]
    };
    Sql::new(SET_RESULT).rows("rows", results.iter().map(values))
}

fn values(row: &CallRow) -> [Value; 18] {
    let call = &row.call;
    let [position, at, outcome, output, error, cause, started, took] =
        result_values(row.result.as_ref());
    [
        call.id.0.into(),
        row.conversation.0.into(),
        row.turn.0.into(),
        call.message.0.into(),
        big(row.position.0),
        call.tool.as_str().into(),
        Value::Json(Some(call.arguments.as_str().to_owned())),
        codes::executor_code(call.executor).into(),
        row.at.0.into(),
        agent_data_value(call.agent_data.as_ref()),
        position,
        at,
        outcome,
        output,
        error,
        cause,
        started,
        took,
    ]
}

/// The values of a result: `result_position`, `result_at`, `outcome`, `output`, `error_message`,
/// `unknown_cause`, `started_at`, `took_us`.
fn result_values(row: Option<&ResultRow>) -> [Value; 8] {
    let text = |text: Option<&str>| Value::from(text.map(str::to_owned));
    let (mut code, mut output, mut error, mut cause) = (None, None, None, None);
    match row.map(|row| &row.result.outcome) {
        None => {}
        Some(ToolOutcome::Succeeded(succeeded)) => {
            code = Some(codes::SUCCEEDED);
            output = Some(succeeded.0.as_str().to_owned());
        }
        Some(ToolOutcome::Failed(failed)) => {
            code = Some(failed.kind.code());
            error = Some(failed.message.as_str());
        }
        Some(ToolOutcome::Unknown(unknown)) => {
            code = Some(codes::UNKNOWN);
            cause = Some(unknown.code());
        }
    }
    let number = |value: fn(&ResultRow) -> Value| row.map_or(Value::Number(None), value);
    [
        number(|row| big(row.position.0)),
        number(|row| row.at.0.into()),
        text(code),
        Value::Json(output),
        text(error),
        text(cause),
        number(|row| row.result.started_at.0.into()),
        number(|row| micros(row.result.took)),
    ]
}
