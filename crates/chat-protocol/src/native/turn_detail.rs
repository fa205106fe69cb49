//! A turn with its messages and its draft.

use chat_domain::{LoggedTurn, TurnView};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::native::messages::{MessageObject, messages};
use crate::native::turns::TurnObject;

/// A turn with its messages.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TurnDetail)]
pub struct TurnDetailObject {
    /// The turn.
    #[serde(flatten)]
    pub turn: TurnObject,
    /// Its messages.
    pub messages: Vec<MessageObject>,
    /// The draft of the answer, which may still be discarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft: Option<DraftObject>,
}

/// The draft of an answer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Draft)]
pub struct DraftObject {
    /// The message that the draft becomes.
    pub message_id: Uuid,
    /// The text so far.
    pub content: String,
}

impl From<TurnView> for TurnDetailObject {
    fn from(view: TurnView) -> Self {
        let draft = view.draft.map(|draft| DraftObject {
            message_id: draft.message.0,
            content: draft.text,
        });
        let log = LoggedTurn {
            turn: view.turn,
            items: view.items,
        };
        Self {
            turn: (&log.turn).into(),
            messages: messages(&log).into_iter().flatten().collect(),
            draft,
        }
    }
}
