//! Cursors as text. Clients store and return them; only the server parses them, and no other text
//! is accepted.

use chat_domain::{ConversationId, Cursor, MessageId, Position, SeenText, Timestamp, TurnId};
use uuid::Uuid;

/// The text is not a cursor of this list or turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid cursor")]
pub struct InvalidCursor;

/// Encodes the place of a reader of a turn: the last digits of the turn's id, the position, the
/// draft's message and how many bytes of it were seen, and `e` if the end was seen; for example
/// `5b1c0d3e.4`, `5b1c0d3e.4.0190…9f.17`, `5b1c0d3e.6.e`.
pub fn write_turn(turn: TurnId, cursor: Cursor) -> String {
    let mut text = format!("{}.{}", tail(turn.0), cursor.position.0);
    if let Some(SeenText { message, bytes }) = cursor.text {
        text = format!("{text}.{}.{bytes}", message.0.simple());
    }
    if cursor.ended {
        text.push_str(".e");
    }
    text
}

/// Decodes a text that [`write_turn`] made for the same turn.
///
/// # Errors
/// The text is another turn's cursor, or not a cursor.
pub fn read_turn(turn: TurnId, text: &str) -> Result<Cursor, InvalidCursor> {
    let cursor = parse_turn(text).ok_or(InvalidCursor)?;
    // Each cursor has one spelling: any other text that parses was not made here.
    if write_turn(turn, cursor) == text {
        Ok(cursor)
    } else {
        Err(InvalidCursor)
    }
}

fn parse_turn(text: &str) -> Option<Cursor> {
    let mut parts = text.split('.').skip(1);
    let position = Position(parts.next().and_then(number)?);
    let (text, ended) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (None, ..) => (None, false),
        (Some("e"), None, ..) => (None, true),
        (Some(message), Some(bytes), end, None) => {
            let seen = SeenText {
                message: MessageId(Uuid::try_parse(message).ok()?),
                bytes: bytes.parse().ok()?,
            };
            (Some(seen), end == Some("e"))
        }
        _ => return None,
    };
    Some(Cursor {
        position,
        text,
        ended,
    })
}

/// Encodes a place in a list of conversations.
pub fn write_conversation(at: Timestamp, id: ConversationId) -> String {
    format!("c.{}.{}", at.0, id.0.simple())
}

/// Decodes a text that [`write_conversation`] made.
///
/// # Errors
/// The text is another list's cursor, or not a cursor.
pub fn read_conversation(text: &str) -> Result<(Timestamp, ConversationId), InvalidCursor> {
    let parse = || {
        let (at, id) = text.strip_prefix("c.")?.split_once('.')?;
        Some((
            Timestamp(at.parse().ok()?),
            ConversationId(Uuid::try_parse(id).ok()?),
        ))
    };
    let (at, id) = parse().ok_or(InvalidCursor)?;
    if write_conversation(at, id) == text {
        Ok((at, id))
    } else {
        Err(InvalidCursor)
    }
}

/// The lists of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// Its messages.
    Messages,
    /// Its tool calls.
    ToolCalls,
}

/// Encodes a place in a list of a conversation.
pub fn write_place(list: List, conversation: ConversationId, place: u64) -> String {
    let tag = match list {
        List::Messages => 'm',
        List::ToolCalls => 't',
    };
    format!("{tag}.{}.{place}", tail(conversation.0))
}

/// Decodes a text that [`write_place`] made for the same list of the same conversation.
///
/// # Errors
/// The text is another list's cursor, or not a cursor.
pub fn read_place(
    list: List,
    conversation: ConversationId,
    text: &str,
) -> Result<u64, InvalidCursor> {
    let place = text
        .rsplit_once('.')
        .and_then(|(_, place)| number(place))
        .ok_or(InvalidCursor)?;
    if write_place(list, conversation, place) == text {
        Ok(place)
    } else {
        Err(InvalidCursor)
    }
}

/// A number that fits into the signed integers of databases.
fn number(text: &str) -> Option<u64> {
    text.parse::<i64>()
        .ok()
        .and_then(|number| u64::try_from(number).ok())
}

/// The last eight hexadecimal digits of an id, which are random in version 7.
fn tail(id: Uuid) -> String {
    format!("{:08x}", id.as_u128() & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id() -> impl Strategy<Value = Uuid> {
        any::<u128>().prop_map(Uuid::from_u128)
    }

    fn cursor() -> impl Strategy<Value = Cursor> {
        let text = proptest::option::of((id(), any::<usize>()).prop_map(|(id, bytes)| SeenText {
            message: MessageId(id),
            bytes,
        }));
        (0..=i64::MAX as u64, text, any::<bool>()).prop_map(|(position, text, ended)| Cursor {
            position: Position(position),
            text,
            ended,
        })
    }

    proptest! {
        #[test]
        fn a_cursor_is_decoded_for_its_own_turn_only(
            turn in id(), other in id(), cursor in cursor(),
        ) {
            let text = write_turn(TurnId(turn), cursor);
            prop_assert_eq!(read_turn(TurnId(turn), &text), Ok(cursor));
            prop_assume!(tail(turn) != tail(other));
            prop_assert_eq!(read_turn(TurnId(other), &text), Err(InvalidCursor));
        }

        #[test]
        fn a_place_is_decoded_for_its_own_list_only(
            id in id(), other in id(), at in any::<i64>(), place in 0..=i64::MAX as u64,
        ) {
            let (id, other) = (ConversationId(id), ConversationId(other));
            let listed = write_conversation(Timestamp(at), id);
            prop_assert_eq!(read_conversation(&listed), Ok((Timestamp(at), id)));
            let text = write_place(List::Messages, id, place);
            prop_assert_eq!(read_place(List::Messages, id, &text), Ok(place));
            prop_assert_eq!(read_place(List::ToolCalls, id, &text), Err(InvalidCursor));
            prop_assert_eq!(read_conversation(&text), Err(InvalidCursor));
            prop_assert_eq!(read_place(List::Messages, id, &listed), Err(InvalidCursor));
            prop_assume!(tail(id.0) != tail(other.0));
            prop_assert_eq!(read_place(List::Messages, other, &text), Err(InvalidCursor));
        }

        #[test]
        fn places_beyond_a_signed_integer_are_rejected(
            turn in id(), place in i64::MAX as u64 + 1..,
        ) {
            let cursor = Cursor { position: Position(place), ..Cursor::START };
            let text = write_turn(TurnId(turn), cursor);
            prop_assert_eq!(read_turn(TurnId(turn), &text), Err(InvalidCursor));
            let conversation = ConversationId(turn);
            let text = write_place(List::Messages, conversation, place);
            prop_assert!(read_place(List::Messages, conversation, &text).is_err());
        }

        #[test]
        fn other_text_is_rejected(
            turn in id(),
            text in "\\PC{0,30}|[0-9a-f]{8}\\.[+0-9]{1,3}(\\.[0-9a-fe]{0,33}){0,4}",
        ) {
            if let Ok(cursor) = read_turn(TurnId(turn), &text) {
                prop_assert_eq!(write_turn(TurnId(turn), cursor), text);
            }
        }
    }
}
