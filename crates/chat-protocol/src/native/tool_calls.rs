//! Tool calls as JSON.

use chat_domain::{
    Item, ItemBody, RawJson, Timestamp, ToolCall, ToolCallRecord, ToolOutcome, ToolResult,
};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::time::Time;

/// The status of a tool call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ToolCallStatus)]
pub enum CallState {
    /// The call has no result yet.
    Running,
    /// The tool succeeded.
    Succeeded,
    /// The tool failed, or did not run.
    Failed,
    /// The tool may have run: it was stopped, gave no valid answer, or its server disconnected.
    /// Repeating the call may do harm.
    Unknown,
}

/// Why a tool call failed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ToolError)]
pub struct ToolErrorObject {
    /// The cause: `unknown_tool`, `invalid_arguments`, `failed`, `timed_out`, `unavailable`,
    /// `too_large`, `not_run` or `unknown_outcome`.
    pub code: &'static str,
    /// The details.
    pub message: String,
}

/// The result of a tool call.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ToolOutcome)]
pub struct OutcomeObject {
    /// Its status.
    pub status: CallState,
    /// The tool's output, byte for byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub result: Option<Box<RawValue>>,
    /// Why the call has no result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ToolErrorObject>,
    /// When the tool was started; while there is no result, when the call was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub executed_at: Time,
    /// How long it took, in milliseconds, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
}

impl From<&ToolResult> for OutcomeObject {
    fn from(result: &ToolResult) -> Self {
        let took = u64::try_from(result.took.as_millis()).unwrap_or(u64::MAX);
        let executed_at = Time(result.started_at);
        match &result.outcome {
            ToolOutcome::Succeeded(output) => Self {
                status: CallState::Succeeded,
                result: Some(raw(&output.0)),
                error: None,
                executed_at,
                duration_ms: Some(took),
            },
            ToolOutcome::Failed(error) => {
                let error = ToolErrorObject {
                    code: error.kind.code(),
                    message: error.message.clone(),
                };
                Self {
                    status: CallState::Failed,
                    result: None,
                    error: Some(error),
                    executed_at,
                    duration_ms: Some(took),
                }
            }
            ToolOutcome::Unknown(cause) => {
                let error = ToolErrorObject {
                    code: "unknown_outcome",
                    message: cause.message(),
                };
                Self {
                    status: CallState::Unknown,
                    result: None,
                    error: Some(error),
                    executed_at,
                    duration_ms: None,
                }
            }
        }
    }
}

/// A tool call.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ToolCall)]
pub struct ToolCallObject {
    /// Its id.
    pub id: Uuid,
    /// The tool.
    pub tool_name: String,
    /// The arguments from the agent, byte for byte.
    #[schema(value_type = serde_json::Value)]
    pub parameters: Box<RawValue>,
    /// The outcome.
    #[serde(flatten)]
    pub outcome: OutcomeObject,
}

impl ToolCallObject {
    fn new(call: &ToolCall, recorded: Timestamp, result: Option<&ToolResult>) -> Self {
        let running = || OutcomeObject {
            status: CallState::Running,
            result: None,
            error: None,
            executed_at: Time(recorded),
            duration_ms: None,
        };
        Self {
            id: call.id.0,
            tool_name: call.tool.clone(),
            parameters: raw(&call.arguments),
            outcome: result.map_or_else(running, OutcomeObject::from),
        }
    }
}

/// A tool call in the audit log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecordedToolCall)]
pub struct RecordedToolCall {
    /// The call.
    #[serde(flatten)]
    pub call: ToolCallObject,
    /// The turn of the call.
    pub turn_id: Uuid,
    /// Whether a retry has superseded the turn.
    pub superseded: bool,
    /// The assistant message of the step that made the call.
    pub message_id: Uuid,
    /// When it was recorded, before the tool was started.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
}

impl From<&ToolCallRecord> for RecordedToolCall {
    fn from(record: &ToolCallRecord) -> Self {
        Self {
            call: ToolCallObject::new(&record.call, record.at, record.result.as_ref()),
            turn_id: record.turn.0,
            superseded: record.superseded,
            message_id: record.call.message.0,
            created_at: Time(record.at),
        }
    }
}

/// JSON text as raw JSON. Invalid JSON, which the domain rules out, becomes a JSON string.
pub(super) fn raw(json: &RawJson) -> Box<RawValue> {
    RawValue::from_string(json.as_str().to_owned())
        .or_else(|_| serde_json::value::to_raw_value(json.as_str()))
        .unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// The tool calls among `items` with their results, in order.
pub(super) fn tool_calls(items: &[Item]) -> Vec<ToolCallObject> {
    let result_of = |id| {
        items.iter().find_map(|item| match &item.body {
            ItemBody::ToolResult(result) if result.call == id => Some(result),
            _ => None,
        })
    };
    let call = |item: &Item| match &item.body {
        ItemBody::ToolCall(call) => Some(ToolCallObject::new(call, item.at, result_of(call.id))),
        _ => None,
    };
    items.iter().filter_map(call).collect()
}
