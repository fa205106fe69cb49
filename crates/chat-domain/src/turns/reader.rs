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
                running.and_then(|running| {
                    let view = &running.view;
                    match view.is_behind(self.cursor) {
                        false => Some(view.events_after(self.cursor)),
                        // An ended view does not change: only the store has the rest.
                        true if view.turn.status.is_ended() => None,
                        true => Some(Ok(Vec::new())),
                    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{LogBuilder, MockConversationStore};
    use crate::turns::registry::TurnRegistry;
    use crate::{HeldTurn, Timestamp, TurnLease, TurnOutcome, TurnStatus, TurnView, WorkerId};

    #[tokio::test]
    async fn a_reader_ahead_of_an_ended_view_reads_the_store() {
        let ended = TurnStatus::Ended {
            at: Timestamp(9),
            outcome: TurnOutcome::Completed,
        };
        let mut log = LogBuilder::new();
        log.user("Hi");
        let held_items = log.items().to_vec();
        log.assistant("Hello.");
        let stored = log.log(1, ended.clone());
        let owner = UserId::new("ann").unwrap();

        // The attempt never got the answer to the write of its last item, and ended.
        let registry = TurnRegistry::new();
        let held = HeldTurn {
            turn: stored.turn.clone(),
            owner: owner.clone(),
            lease: TurnLease {
                turn: stored.turn.id,
                worker: WorkerId(stored.turn.id.0),
                epoch: 1,
            },
            attempt: 1,
            spent: std::time::Duration::ZERO,
            items: held_items,
        };
        let _run = registry.start(&held).unwrap();
        let slot = registry.slot(stored.turn.id);

        let view = TurnView {
            turn: stored.turn.clone(),
            items: stored.items.clone(),
            draft: None,
        };
        let mut store = MockConversationStore::new();
        store
            .expect_turn()
            .returning(move |_, _, _| Ok(Some(view.clone())));
        let cursor = Cursor {
            position: stored.items.last().unwrap().position,
            ..Cursor::START
        };
        let reader = Reader {
            store: Arc::new(store),
            owner,
            turn: stored.turn.id,
            cursor,
            running: slot.subscribe(),
            _slot: slot,
            ready: VecDeque::new(),
        };
        let events: Vec<_> = reader.events().map(Result::unwrap).collect().await;
        assert!(
            matches!(events.as_slice(), [(_, TurnEvent::Ended(_))]),
            "{events:?}"
        );
    }
}
