//! What clients are shown: conversations, turns, messages, tool calls.

use chat_domain::{
    Conversation, Item, ItemBody, RawJson, Role, ToolCall, ToolCallRecord, ToolOutcome, ToolResult, Turn, TurnFailure, TurnLog,
    TurnOutcome, TurnStatus, TurnView, Usage,
};
use serde::Serialize;
use serde_json::value::RawValue;
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
    /// What it is called.
    pub title: String,
    /// When it was begun.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// When something last happened in it.
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

/// Where a turn stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = TurnStatus)]
pub enum TurnState {
    /// Its message is kept; an earlier turn of the conversation runs.
    Queued,
    /// It runs.
    Running,
    /// The agent has answered.
    Completed,
    /// It was stopped; what had been said is kept.
    Cancelled,
    /// It could not be finished; what had been said is kept.
    Failed,
}

impl From<&TurnStatus> for TurnState {
    fn from(status: &TurnStatus) -> Self {
        match status {
            TurnStatus::Queued => Self::Queued,
            TurnStatus::Running => Self::Running,
            TurnStatus::Ended { outcome: TurnOutcome::Completed, .. } => Self::Completed,
            TurnStatus::Ended { outcome: TurnOutcome::Cancelled, .. } => Self::Cancelled,
            TurnStatus::Ended { outcome: TurnOutcome::Failed(_), .. } => Self::Failed,
        }
    }
}

/// Why a turn failed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TurnError)]
pub struct TurnErrorObject {
    /// The cause, one of the codes of problems.
    pub code: &'static str,
    /// What happened.
    pub message: String,
}

impl From<&TurnFailure> for TurnErrorObject {
    fn from(failure: &TurnFailure) -> Self {
        Self { code: Code::from(failure.kind).row().code, message: failure.message.clone() }
    }
}

fn failure(turn: &Turn) -> Option<TurnErrorObject> {
    match &turn.status {
        TurnStatus::Ended { outcome: TurnOutcome::Failed(failure), .. } => Some(failure.into()),
        _ => None,
    }
}

/// Tokens used, as the agent says.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Usage)]
pub struct UsageObject {
    /// Tokens read.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
}

impl From<Usage> for UsageObject {
    fn from(usage: Usage) -> Self {
        Self { input_tokens: usage.input_tokens, output_tokens: usage.output_tokens }
    }
}

/// Everything done in answer to one user message.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Turn)]
pub struct TurnObject {
    /// Its id.
    pub id: Uuid,
    /// The conversation it belongs to.
    pub conversation_id: Uuid,
    /// Where it stands.
    pub status: TurnState,
    /// Whether somebody asked to cancel it.
    pub cancel_requested: bool,
    /// The turn that this one answers anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<Uuid>,
    /// Whether a retry has taken this turn's place.
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
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<TurnErrorObject>,
}

impl From<&Turn> for TurnObject {
    fn from(turn: &Turn) -> Self {
        let ended_at = match &turn.status {
            TurnStatus::Ended { at, .. } => Some(Time(*at)),
            _ => None,
        };
        Self {
            id: turn.id.0,
            conversation_id: turn.conversation.0,
            status: (&turn.status).into(),
            cancel_requested: turn.cancel_requested,
            retry_of: turn.retry_of.map(|id| id.0),
            superseded: turn.superseded,
            created_at: Time(turn.created_at),
            ended_at,
            usage: turn.usage.into(),
            error: failure(turn),
        }
    }
}

/// A turn with what was said and done in it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TurnDetail)]
pub struct TurnDetailObject {
    /// The turn.
    #[serde(flatten)]
    pub turn: TurnObject,
    /// Its messages.
    pub messages: Vec<MessageObject>,
    /// Text that is being written, and may yet be discarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft: Option<DraftObject>,
}

/// Text that is being written.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Draft)]
pub struct DraftObject {
    /// The message it will become.
    pub message_id: Uuid,
    /// The text so far.
    pub content: String,
}

impl From<TurnView> for TurnDetailObject {
    fn from(view: TurnView) -> Self {
        let draft = view.draft.map(|draft| DraftObject { message_id: draft.message.0, content: draft.text });
        let log = TurnLog { turn: view.turn, items: view.items };
        Self { turn: (&log.turn).into(), messages: messages(&log).into_iter().flatten().collect(), draft }
    }
}

/// Who speaks.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Role)]
pub enum RoleName {
    /// The owner of the conversation.
    User,
    /// The agent.
    Assistant,
}

impl From<Role> for RoleName {
    fn from(role: Role) -> Self {
        match role {
            Role::User => Self::User,
            Role::Assistant => Self::Assistant,
        }
    }
}

/// A message. A turn has one of the user and at most one of the assistant, with all the turn's text and tool calls.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Message)]
pub struct MessageObject {
    /// Its id; of an assistant's message, that of the turn's last step so far.
    pub id: Uuid,
    /// The turn it belongs to.
    pub turn_id: Uuid,
    /// Who speaks.
    pub role: RoleName,
    /// What is said; of an assistant's message, the texts of the turn's steps, with a blank line between them.
    pub content: String,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// The tool calls of the turn; a user's message has none.
    pub tool_calls: Vec<ToolCallObject>,
    /// If the turn has called tools: text and calls in the order in which they came.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// Where its turn stands.
    pub turn_status: TurnState,
    /// Why its turn failed: on the turn's last message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<TurnErrorObject>,
    /// Whether a retry has taken its turn's place.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub superseded: bool,
}

/// A part of a message.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = MessagePart)]
pub enum Part {
    /// Text.
    Text {
        /// What is said.
        text: String,
    },
    /// A tool call.
    ToolCall {
        /// The call, one of the message's `tool_calls`.
        id: Uuid,
    },
}

/// What became of a tool call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ToolCallStatus)]
pub enum CallState {
    /// There is no result yet.
    Running,
    /// The tool answered.
    Succeeded,
    /// The tool did not do it, or said that it failed.
    Failed,
    /// Nobody knows whether it ran: a server went away meanwhile, and repeating it might do harm.
    Unknown,
}

/// Why a tool call failed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ToolError)]
pub struct ToolErrorObject {
    /// The cause: `unknown_tool`, `invalid_arguments`, `failed`, `timed_out`, `unavailable`, `too_large`, `not_run` or `unknown_outcome`.
    pub code: &'static str,
    /// What happened.
    pub message: String,
}

/// What came of a tool call.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ToolOutcome)]
pub struct OutcomeObject {
    /// What became of it.
    pub status: CallState,
    /// The tool's answer, byte for byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub result: Option<Box<RawValue>>,
    /// Why there is none.
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
            ToolOutcome::Succeeded(output) => {
                Self { status: CallState::Succeeded, result: Some(raw(&output.0)), error: None, executed_at, duration_ms: Some(took) }
            }
            ToolOutcome::Failed(error) => {
                let error = ToolErrorObject { code: error.kind.code(), message: error.message.clone() };
                Self { status: CallState::Failed, result: None, error: Some(error), executed_at, duration_ms: Some(took) }
            }
            ToolOutcome::Unknown => {
                let message = "the connection to the tool was lost; it may or may not have done its work".to_owned();
                let error = ToolErrorObject { code: "unknown_outcome", message };
                Self { status: CallState::Unknown, result: None, error: Some(error), executed_at, duration_ms: None }
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
    /// What the agent gave it, byte for byte.
    #[schema(value_type = serde_json::Value)]
    pub parameters: Box<RawValue>,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: OutcomeObject,
}

impl ToolCallObject {
    fn new(call: &ToolCall, recorded: chat_domain::Timestamp, result: Option<&ToolResult>) -> Self {
        let running =
            || OutcomeObject { status: CallState::Running, result: None, error: None, executed_at: Time(recorded), duration_ms: None };
        Self {
            id: call.id.0,
            tool_name: call.tool.clone(),
            parameters: raw(&call.arguments),
            outcome: result.map_or_else(running, OutcomeObject::from),
        }
    }
}

/// A tool call as the audit shows it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecordedToolCall)]
pub struct RecordedToolCall {
    /// The call.
    #[serde(flatten)]
    pub call: ToolCallObject,
    /// The turn it was made in.
    pub turn_id: Uuid,
    /// Whether a retry has taken that turn's place.
    pub superseded: bool,
    /// The assistant message of the step that made it.
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

/// JSON text as it is. What is no JSON, which the domain rules out, becomes a string of it.
pub(crate) fn raw(json: &RawJson) -> Box<RawValue> {
    RawValue::from_string(json.as_str().to_owned())
        .or_else(|_| serde_json::value::to_raw_value(json.as_str()))
        .unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// The messages of a turn: the user's, and the assistant's once it has said or done something.
///
/// An assistant's message without text and calls is shown only if it is the whole answer of a turn that completed.
pub fn messages(log: &TurnLog) -> [Option<MessageObject>; 2] {
    let mut user = user_message(log);
    let mut assistant = assistant_message(log);
    if let Some(last) = assistant.as_mut().or(user.as_mut()) {
        last.error = failure(&log.turn);
    }
    [user, assistant]
}

fn message(log: &TurnLog, item: &Item, id: Uuid, role: Role, content: String) -> MessageObject {
    MessageObject {
        id,
        turn_id: log.turn.id.0,
        role: role.into(),
        content,
        created_at: Time(item.at),
        tool_calls: Vec::new(),
        parts: Vec::new(),
        turn_status: (&log.turn.status).into(),
        error: None,
        superseded: log.turn.superseded,
    }
}

fn user_message(log: &TurnLog) -> Option<MessageObject> {
    log.items.iter().find_map(|item| match &item.body {
        ItemBody::Message(said) if said.role == Role::User => Some(message(log, item, said.id.0, said.role, said.text.clone())),
        _ => None,
    })
}

fn assistant_message(log: &TurnLog) -> Option<MessageObject> {
    let mut last = None;
    let mut texts = Vec::new();
    let mut parts = Vec::new();
    for item in &log.items {
        match &item.body {
            ItemBody::Message(said) if said.role == Role::Assistant => {
                last = Some((item, said.id));
                if !said.text.is_empty() {
                    texts.push(said.text.as_str());
                    parts.push(Part::Text { text: said.text.clone() });
                }
            }
            ItemBody::ToolCall(call) => parts.push(Part::ToolCall { id: call.id.0 }),
            _ => {}
        }
    }
    let (item, id) = last?;
    let tool_calls = tool_calls(&log.items);
    if parts.is_empty() && TurnState::from(&log.turn.status) != TurnState::Completed {
        return None;
    }
    let parts = if tool_calls.is_empty() { Vec::new() } else { parts };
    Some(MessageObject { tool_calls, parts, ..message(log, item, id.0, Role::Assistant, texts.join("\n\n")) })
}

/// The tool calls among some items, with their results, in order.
fn tool_calls(items: &[Item]) -> Vec<ToolCallObject> {
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
