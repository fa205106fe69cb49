//! The current state of a turn, and its difference to a reader's cursor.

use crate::{Draft, Item, ItemBody, MessageId, Position, Role, Turn};

/// The current state of a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnView {
    /// The turn.
    pub turn: Turn,
    /// Its items, in order; of a partial view, those after some position. Of a queued turn the
    /// user's message alone, at [`Position::START`], because it has no place yet: readers get
    /// it when it has one.
    pub items: Vec<Item>,
    /// Text that is being written.
    pub draft: Option<Draft>,
}

/// A reader's position in a turn. Any replica can resume from it, years later too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The last item seen.
    pub position: Position,
    /// Text seen of a message that is not an item yet (or was not when it was seen).
    pub text: Option<SeenText>,
    /// Whether the end was seen: nothing can follow.
    pub ended: bool,
}

impl Cursor {
    /// The start of a turn.
    pub const START: Self = Self {
        position: Position::START,
        text: None,
        ended: false,
    };
}

/// Text seen of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeenText {
    /// The message.
    pub message: MessageId,
    /// How many bytes of its text were seen.
    pub bytes: usize,
}

/// A change of a turn, for its readers. Exhaustive on purpose: every protocol encodes all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TurnEvent {
    /// An assistant message grew. Its text is the concatenation of its deltas.
    Text {
        /// The message.
        message: MessageId,
        /// The added text.
        delta: String,
    },
    /// The text shown for this message will never be an item: its worker died, and another attempt
    /// writes another message.
    Discarded {
        /// The message.
        message: MessageId,
    },
    /// An item is durable. Events with an assistant message's whole text came before.
    Item(Item),
    /// The turn has ended. The last event.
    Ended(Turn),
}

/// A cursor that no reader of this turn can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cursor does not belong to this turn")]
pub struct CursorMismatch;

impl TurnView {
    /// The events after a `cursor` that a client sent. Only on a whole view, with all
    /// items.
    ///
    /// # Errors
    /// [`CursorMismatch`] if no reader of this turn can have come there: it names a place that is
    /// not in this turn, an end that has not come, or text that the message does not have.
    pub fn checked_events_after(
        &self,
        cursor: Cursor,
    ) -> Result<Vec<(Cursor, TurnEvent)>, CursorMismatch> {
        let known = cursor.position == Position::START
            || self
                .items
                .iter()
                .any(|item| item.position == cursor.position);
        let last = self
            .items
            .last()
            .map_or(Position::START, |item| item.position);
        let wrong_end = cursor.ended && !(self.turn.status.is_ended() && cursor.position == last);
        if !known || wrong_end {
            return Err(CursorMismatch);
        }
        self.events_after(cursor)
    }

    /// Whether a reader has seen more than this whole view shows: the reader was served from the
    /// store, and the attempt has not received the answer to its own write.
    pub(crate) fn is_behind(&self, cursor: Cursor) -> bool {
        let last = self.items.last().map(|item| item.position);
        cursor.position > last.unwrap_or_default() || (cursor.ended && !self.turn.status.is_ended())
    }

    /// The events after `cursor`, each with the cursor after it. Items
    /// before the cursor are not needed.
    ///
    /// The same for every reader, live or resumed, on any replica. A view that lags behind the
    /// reader (a stored draft behind the live one) gives nothing, not an error.
    ///
    /// # Errors
    /// [`CursorMismatch`] if the cursor has seen text that the message does not have.
    pub fn events_after(&self, cursor: Cursor) -> Result<Vec<(Cursor, TurnEvent)>, CursorMismatch> {
        if cursor.ended {
            return Ok(Vec::new());
        }
        let mut delta = Delta {
            cursor,
            events: Vec::new(),
        };
        let known = self
            .items
            .partition_point(|item| item.position <= cursor.position);
        for item in self.items.iter().skip(known) {
            if let ItemBody::Message(message) = &item.body
                && message.role == Role::Assistant
            {
                if delta.text(message.id, &message.text)? == Reach::Behind {
                    return Err(CursorMismatch);
                }
                delta.cursor.text = None;
            }
            delta.cursor.position = item.position;
            delta.push(TurnEvent::Item(item.clone()));
        }
        if let Some(draft) = &self.draft {
            delta.text(draft.message, &draft.text)?;
        }
        if self.turn.status.is_ended() {
            delta.discard();
            delta.cursor.ended = true;
            delta.push(TurnEvent::Ended(self.turn.clone()));
        }
        Ok(delta.events)
    }
}

/// Whether a message's text reaches as far as the reader has seen.
#[derive(PartialEq)]
enum Reach {
    Enough,
    Behind,
}

struct Delta {
    cursor: Cursor,
    events: Vec<(Cursor, TurnEvent)>,
}

impl Delta {
    fn push(&mut self, event: TurnEvent) {
        self.events.push((self.cursor, event));
    }

    /// Adds the new text of `message`, whose text so far is `text`.
    fn text(&mut self, message: MessageId, text: &str) -> Result<Reach, CursorMismatch> {
        let seen = match self.cursor.text {
            Some(seen) if seen.message == message => seen.bytes,
            _ => 0,
        };
        if seen == 0 {
            self.discard();
        }
        if seen > text.len() {
            return Ok(Reach::Behind);
        }
        let delta = text.get(seen..).ok_or(CursorMismatch)?;
        if !delta.is_empty() {
            self.cursor.text = Some(SeenText {
                message,
                bytes: text.len(),
            });
            self.push(TurnEvent::Text {
                message,
                delta: delta.to_owned(),
            });
        }
        Ok(Reach::Enough)
    }

    /// Discards the text seen last, if there is some.
    fn discard(&mut self) {
        if let Some(SeenText { message, .. }) = self.cursor.text.take() {
            self.push(TurnEvent::Discarded { message });
        }
    }
}

#[cfg(test)]
mod tests;
