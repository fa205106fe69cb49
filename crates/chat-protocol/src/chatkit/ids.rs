//! Ids of ChatKit: a prefix for the kind of object, and a UUID in hexadecimal digits.

use std::fmt;

use chat_domain::{ConversationId, MessageId};
use serde::{Serialize, Serializer};
use uuid::Uuid;

/// The id of a thread: `thr_` and the id of the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadId(pub ConversationId);

impl ThreadId {
    /// Parses an id.
    pub fn parse(text: &str) -> Option<Self> {
        uuid(text.strip_prefix("thr_")?).map(|id| Self(ConversationId(id)))
    }
}

impl fmt::Display for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thr_{}", self.0.0.simple())
    }
}

impl Serialize for ThreadId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The kind of an item of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemKind {
    /// A message, `msg_`.
    Message,
    /// The tool calls of the message's step, `wf_`.
    Workflow,
    /// The notice of an incomplete turn, `tsk_` and the id of its last message.
    Notice,
}

impl ItemKind {
    const ALL: [Self; 3] = [Self::Message, Self::Workflow, Self::Notice];

    fn prefix(self) -> &'static str {
        match self {
            Self::Message => "msg_",
            Self::Workflow => "wf_",
            Self::Notice => "tsk_",
        }
    }
}

/// The id of an item. Each item belongs to a message, which identifies its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemId {
    /// Its kind.
    pub kind: ItemKind,
    /// The message.
    pub message: MessageId,
}

impl ItemId {
    /// Parses an id.
    pub fn parse(text: &str) -> Option<Self> {
        ItemKind::ALL.into_iter().find_map(|kind| {
            let id = uuid(text.strip_prefix(kind.prefix())?)?;
            Some(Self {
                kind,
                message: MessageId(id),
            })
        })
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.kind.prefix(), self.message.0.simple())
    }
}

impl Serialize for ItemId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Parses 32 hexadecimal digits in lower case; no other format.
fn uuid(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text)
        .ok()
        .filter(|id| id.simple().to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_and_have_one_spelling() {
        let id = Uuid::from_u128(0x0190_a1b2_0000_7000_8000_0000_0000_00ff);
        let thread = ThreadId(ConversationId(id));
        assert_eq!(thread.to_string(), "thr_0190a1b20000700080000000000000ff");
        assert_eq!(ThreadId::parse(&thread.to_string()), Some(thread));
        for kind in ItemKind::ALL {
            let item = ItemId {
                kind,
                message: MessageId(id),
            };
            assert_eq!(ItemId::parse(&item.to_string()), Some(item));
            assert_eq!(ThreadId::parse(&item.to_string()), None);
        }
        for other in [
            "",
            "thr_",
            "thr_x",
            "client_1",
            "thr_0190A1B20000700080000000000000FF",
            "thr_0190a1b2-0000-7000-8000-0000000000ff",
        ] {
            assert_eq!(
                (ThreadId::parse(other), ItemId::parse(other)),
                (None, None),
                "{other}"
            );
        }
    }
}
