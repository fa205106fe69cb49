//! The reply to a message, once its turn has ended.

use chat_domain::{Item, LoggedTurn, Turn, TurnOutcome, TurnPage, TurnStatus};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::native::messages::{MessageObject, messages};
use crate::native::tool_calls::ToolCallObject;
use crate::native::turns::{ContextObject, FinishReasonName, context};
use crate::problem::{Code, Problem};

/// How the turn of a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReplyStatus {
    /// The agent has answered.
    Success,
    /// The turn was cancelled; its text so far is kept.
    Cancelled,
}

/// The reply to a message.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChatReply)]
pub struct ChatReply {
    /// How the turn ended.
    pub status: ReplyStatus,
    /// The conversation, which may be new.
    pub conversation_id: Uuid,
    /// The turn.
    pub turn_id: Uuid,
    /// The assistant's text.
    pub response: String,
    /// The turn's tool calls.
    pub tool_calls: Vec<ToolCallObject>,
    /// Why the agent stopped writing. Absent if it did not end the answer itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<FinishReasonName>,
    /// The part of the conversation that the agent did not read for its answer. Absent if it read
    /// all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<ContextObject>,
    /// The messages of the conversation up to this turn, without superseded turns; or of this turn
    /// only, as requested.
    pub messages: Vec<MessageObject>,
}

/// The turns of a conversation that [`reply`] needs: all up to the turn of the reply, so that a
/// repeated request gets the same reply.
pub fn turns_up_to(turn: &Turn) -> TurnPage {
    TurnPage {
        before: Some(chat_domain::Ordinal(turn.ordinal.0 + 1)),
        includes_superseded: true,
        ..TurnPage::ALL
    }
}

/// The end of the text that [`begin`] starts.
pub const END: &str = "]}";

/// The text of a reply up to its first message. The messages of its turns follow
/// ([`append_messages`]), then [`END`].
///
/// # Errors
/// The problem of a turn that failed.
pub fn begin(turn: Turn, items: Vec<Item>) -> Result<String, Problem> {
    let mut text =
        serde_json::to_string(&reply(turn, items, Some(&[]))?).map_err(|_| Code::Internal)?;
    // The messages are the last member, so that the text before them can be written first.
    let whole = text.len();
    text.truncate(
        text.strip_suffix(r#""messages":[]}"#)
            .map_or(0, |_| whole - END.len()),
    );
    if text.is_empty() {
        Err(Code::Internal.into())
    } else {
        Ok(text)
    }
}

/// Appends the messages of a turn to the text of a reply, which ends with `[` or with another
/// message.
///
/// # Errors
/// `internal` if a message cannot be encoded, which does not occur.
pub fn append_messages(text: &mut String, is_first: bool, log: &LoggedTurn) -> Result<(), Problem> {
    let mut separator = if is_first { "" } else { "," };
    for message in messages(log).into_iter().flatten() {
        text.push_str(separator);
        text.push_str(&serde_json::to_string(&message).map_err(|_| Code::Internal)?);
        separator = ",";
    }
    Ok(())
}

/// The reply to the message of a turn with these items. `conversation` has the turns of
/// [`turns_up_to`]; `None` for a reply with this turn only. Superseded turns are left out, unless
/// the turn of the reply is superseded too.
///
/// # Errors
/// The problem of a turn that failed.
pub fn reply(
    turn: Turn,
    items: Vec<Item>,
    conversation: Option<&[LoggedTurn]>,
) -> Result<ChatReply, Problem> {
    let status = match &turn.status {
        TurnStatus::Ended {
            outcome: TurnOutcome::Completed,
            ..
        } => ReplyStatus::Success,
        TurnStatus::Ended {
            outcome: TurnOutcome::Cancelled,
            ..
        } => ReplyStatus::Cancelled,
        TurnStatus::Ended {
            outcome: TurnOutcome::Failed(failure),
            ..
        } => {
            return Err(Problem::turn_failure(failure).in_turn(turn.conversation, turn.id));
        }
        TurnStatus::Queued | TurnStatus::Running => return Err(Code::Internal.into()),
    };
    let log = LoggedTurn { turn, items };
    let (response, tool_calls) = match messages(&log) {
        [_, Some(answer)] => (answer.content, answer.tool_calls),
        _ => Default::default(),
    };
    let read = conversation.unwrap_or(std::slice::from_ref(&log));
    let all = read
        .iter()
        .any(|read| read.turn.id == log.turn.id && read.turn.superseded);
    let shown = read
        .iter()
        .filter(|read| all || !read.turn.superseded || read.turn.id == log.turn.id);
    Ok(ChatReply {
        status,
        conversation_id: log.turn.conversation.0,
        turn_id: log.turn.id.0,
        response,
        tool_calls,
        finish_reason: log.turn.finish.map(Into::into),
        context: context(&log.turn),
        messages: shown.flat_map(messages).flatten().collect(),
    })
}
