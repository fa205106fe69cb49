//! A reader of a turn: here where it runs, else in the store.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::watch;

use super::registry::{RunningTurn, TurnSlot};
use crate::{
    ChatError, ConversationStore, Cursor, InvalidInput, TurnEvent, TurnId, TurnRef, TurnStream,
    UserId,
};

pub(crate) struct Reader {
    pub(crate) store: Arc<dyn ConversationStore>,
    pub(crate) owner: UserId,
    pub(crate) turn: TurnId,
    /// How far it has come.
    pub(crate) cursor: Cursor,
    pub(crate) live: watch::Receiver<Option<RunningTurn>>,
    /// Keeps the sender of `live`.
    pub(crate) _seat: Arc<TurnSlot>,
    /// What is known and not yet told.
    pub(crate) ready: VecDeque<(Cursor, TurnEvent)>,
}

impl Reader {
    /// What the reader does not know yet, as it comes.
    pub(crate) fn news(self) -> TurnStream {
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
            let live = self
                .live
                .borrow_and_update()
                .as_ref()
                .map(|live| live.view.events_after(self.cursor));
            let events = match live {
                Some(events) => events,
                None => {
                    let view = self
                        .store
                        .turn(&self.owner, TurnRef::Id(self.turn), self.cursor.position)
                        .await
                        .map_err(ChatError::Store)?
                        .ok_or(ChatError::TurnNotFound)?;
                    view.events_after(self.cursor)
                }
            };
            self.ready = events.map_err(|_| InvalidInput::Cursor)?.into();
            if self.ready.is_empty() {
                // The sender is in our seat, so waiting cannot fail.
                let _ = self.live.changed().await;
            }
        }
    }
}
