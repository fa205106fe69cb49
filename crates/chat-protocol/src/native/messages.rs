//! Messages as JSON.

use chat_domain::{Item, ItemBody, LoggedTurn, Role};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::native::tool_calls::{ToolCallObject, tool_calls};
use crate::native::turns::{
    ContextObject, FinishReasonName, TurnErrorObject, TurnState, UsageObject, context, ended_at,
    failure,
};
use crate::time::Time;

/// The author.
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

/// A message. A turn has one user message and at most one assistant message, with all the turn's
/// text and tool calls.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Message)]
pub struct MessageObject {
    /// Its id; for an assistant message, the id of the turn's last step so far.
    pub id: Uuid,
    /// The turn it belongs to.
    pub turn_id: Uuid,
    /// The author.
    pub role: RoleName,
    /// The text; for an assistant message, the texts of the turn's steps, separated by blank lines.
    pub content: String,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// The tool calls of the turn; empty for a user message.
    pub tool_calls: Vec<ToolCallObject>,
    /// Text and calls in their order, if the turn has called tools.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<MessagePart>,
    /// The status of its turn.
    pub turn_status: TurnState,
    /// Why its turn failed: on the turn's last message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<TurnErrorObject>,
    /// When its turn ended: on the turn's last message.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub turn_ended_at: Option<Time>,
    /// Tokens that its turn used: on the turn's last message, once the turn has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageObject>,
    /// Why the agent stopped writing: on an assistant message whose turn has ended. Absent if the
    /// agent did not end the answer itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<FinishReasonName>,
    /// The part of the conversation that the agent did not read: on an assistant message. Absent
    /// if it read the whole conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<ContextObject>,
    /// The turn that its turn retries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<Uuid>,
    /// Whether a retry has superseded its turn.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub superseded: bool,
}

/// A part of a message.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = MessagePart)]
pub enum MessagePart {
    /// Text.
    Text {
        /// The text.
        text: String,
    },
    /// A tool call.
    ToolCall {
        /// The call, one of the message's `tool_calls`.
        id: Uuid,
    },
}

/// The messages of a turn: the user's, and the assistant's once it has text or tool calls.
///
/// An assistant message without text and calls is included only if it is the whole answer of a
/// completed turn.
pub fn messages(log: &LoggedTurn) -> [Option<MessageObject>; 2] {
    let mut user = user_message(log);
    let mut assistant = assistant_message(log);
    if let Some(last) = assistant.as_mut().or(user.as_mut()) {
        last.error = failure(&log.turn);
        last.turn_ended_at = ended_at(&log.turn);
        last.usage = last.turn_ended_at.is_some().then(|| log.turn.usage.into());
    }
    [user, assistant]
}

fn message(log: &LoggedTurn, item: &Item, id: Uuid, role: Role, content: String) -> MessageObject {
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
        turn_ended_at: None,
        usage: None,
        finish_reason: None,
        context: None,
        retry_of: log.turn.retry_of.map(|id| id.0),
        superseded: log.turn.superseded,
    }
}

fn user_message(log: &LoggedTurn) -> Option<MessageObject> {
    log.items.iter().find_map(|item| match &item.body {
        ItemBody::Message(body) if body.role == Role::User => {
            Some(message(log, item, body.id.0, body.role, body.text.clone()))
        }
        _ => None,
    })
}

fn assistant_message(log: &LoggedTurn) -> Option<MessageObject> {
    let mut last = None;
    let mut texts = Vec::new();
    let mut parts = Vec::new();
    for item in &log.items {
        match &item.body {
            ItemBody::Message(body) if body.role == Role::Assistant => {
                last = Some((item, body.id));
                if !body.text.is_empty() {
                    texts.push(body.text.as_str());
                    parts.push(MessagePart::Text {
                        text: body.text.clone(),
                    });
                }
            }
            ItemBody::ToolCall(call) => parts.push(MessagePart::ToolCall { id: call.id.0 }),
            _ => {}
        }
    }
    let (item, id) = last?;
    let tool_calls = tool_calls(&log.items);
    if parts.is_empty() && TurnState::from(&log.turn.status) != TurnState::Completed {
        return None;
    }
    let parts = if tool_calls.is_empty() {
        Vec::new()
    } else {
        parts
    };
    let (finish_reason, context) = (log.turn.finish.map(Into::into), context(&log.turn));
    let base = message(log, item, id.0, Role::Assistant, texts.join("\n\n"));
    Some(MessageObject {
        tool_calls,
        parts,
        finish_reason,
        context,
        ..base
    })
}
