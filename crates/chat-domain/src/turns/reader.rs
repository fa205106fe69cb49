//! A reader of a turn: from memory where the turn runs here, else from the store.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::watch;

use super::registry::{RunningTurn, TurnSlot};
use crate::{
    ChatError, ConversationStore, Cursor, InvalidInput, TurnEvent, TurnId, TurnRef, UserId,
};

/// A stream of a turn's events, each with the reader's cursor after it. Ends after
/// [`TurnEvent::Ended`] or an error.
pub type TurnStream = BoxStream<'static, Result<(Cursor, TurnEvent), ChatError>>;

pub(crate) struct Reader {
    pub(crate) store: Arc<dyn ConversationStore>,
    pub(crate) owner: UserId,
    pub(crate) turn: TurnId,
    /// The reader's position.
    pub(crate) cursor: Cursor,
    pub(crate) running: watch::Receiver<Option<RunningTurn>>,
    /// Keeps the sender of `running`.
    pub(crate) _slot: Arc<TurnSlot>,
    /// Events that are known and not yet returned.
    pub(crate) ready: VecDeque<(Cursor, TurnEvent)>,
}

impl Reader {
    /// The events after the cursor, as they come.
    pub(crate) fn events(self) -> TurnStream {
        stream::try_unfold(self, Self::next).boxed()
    }

    async fn next(mut self) -> Result<Option<((Cursor, TurnEvent), Self)>, ChatError> {
        loop {
            if let Some((cursor, event)) = self.ready.pop_front() {
                self.cursor = cursor;
                return Ok(Some(((cursor, event), self)));
            }
            if self.cursor.ended {
                return Ok(None);
            }
            let here = {
                let running = self.running.borrow_and_update();
                let running = running.as_ref();
                running.map(|running| {
                    if running.view.is_behind(self.cursor) {
                        return Ok(Vec::new());
                    }
                    running.view.events_after(self.cursor)
                })
            };
            let events = match here {
                Some(events) => events,
                None => {
                    let turn = TurnRef::Id(self.turn);
                    let view = self.store.turn(&self.owner, turn, self.cursor.position);
                    let view = view.await.map_err(ChatError::Store)?;
                    let view = view.ok_or(ChatError::TurnNotFound)?;
                    view.events_after(self.cursor)
                }
            };
            self.ready = events.map_err(|_| InvalidInput::Cursor)?.into();
            if self.ready.is_empty() {
                // Waiting cannot fail: the slot has the sender.
                let _ = self.running.changed().await;
            }
        }
    }
}
