//! The writes of an attempt: retried while the store is unavailable; and the end of a turn that the
//! store refuses permanently.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Abort, AbortReason, TurnRunner, failed};
use crate::guards;
use crate::{
    AppendItems, EndTurn, EndedTurn, FailureKind, Item, ItemBody, LoggedTurn, NewItem, Position,
    Refusal, StoreError, TurnFailure, TurnLifecycleEvent, TurnOutcome, TurnPage, TurnRef, TurnView,
};

/// The first and the longest pause before a call of an unavailable store is retried.
const STORE_BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The failure of a turn that the store cannot read or write.
const STORE_FAILURE: &str = "The server could not read or store a part of this conversation.";

impl TurnRunner<'_> {
    pub(super) async fn read_history(&self) -> Result<Vec<LoggedTurn>, AbortReason> {
        let (store, held) = (&self.config.store, &self.held);
        let page = TurnPage {
            before: Some(held.turn.ordinal),
            ..TurnPage::ALL
        };
        let read = || store.turns(&held.owner, held.turn.conversation, page);
        let turns = self.retry("read the history", read).await?;
        turns.ok_or(AbortReason::LeaseLost)
    }

    pub(super) async fn append(&mut self, items: Vec<NewItem>) -> Result<(), Abort> {
        let (store, lease) = (&self.config.store, self.run.lease);
        let append = || {
            let items = items.clone();
            store.append(AppendItems { lease, items })
        };
        let placed = match self.retry("append", append).await {
            Ok(placed) => placed,
            Err(reason) => return Err(reason.with(items)),
        };
        self.run.update(|view| {
            view.items.extend(placed.iter().cloned());
            view.draft = None;
        });
        self.items.extend(placed);
        Ok(())
    }

    pub(super) async fn end(
        &self,
        last: Vec<NewItem>,
        outcome: TurnOutcome,
    ) -> Result<EndedTurn, Abort> {
        let store = &self.config.store;
        let end = EndTurn {
            lease: self.run.lease,
            last,
            outcome,
            usage: self.usage,
            at: self.config.environment.now(),
        };
        let ended = self.retry("end the turn", || store.end(end.clone())).await;
        let ended = match ended {
            Ok(ended) => ended,
            Err(reason) => return Err(reason.with(end.last)),
        };
        self.show_end(&ended);
        Ok(ended)
    }

    fn show_end(&self, ended: &EndedTurn) {
        self.run.update(|view| {
            view.items.extend(ended.items.iter().cloned());
            view.draft = None;
            view.turn = ended.turn.clone();
        });
    }

    /// Ends the turn as failed after a permanent error of the store, with as many of the `refused`
    /// items as the store takes.
    pub(super) async fn end_after_store_failure(
        &mut self,
        refused: Vec<NewItem>,
    ) -> Result<EndedTurn, Abort> {
        // Calls that were not stored were not run, so only the text remains of a refused step.
        let is_text = |item: &NewItem| match &item.body {
            ItemBody::Message(message) => !message.text.is_empty(),
            ItemBody::ToolCall(_) | ItemBody::ToolResult(_) => false,
        };
        let text: Vec<_> = refused.into_iter().filter(is_text).collect();
        for text in [text, Vec::new()] {
            if !self.reread().await? {
                break;
            }
            let is_stored = |new: &NewItem| self.items.iter().any(|item| item.body == new.body);
            let mut last = text;
            last.retain(|item| !is_stored(item));
            // Never without results for its calls: a forced end has its own way to store them.
            last.extend(self.unfinished_calls_as_unknown());
            let outcome = failed(FailureKind::Internal, STORE_FAILURE.to_owned());
            match self.end(last, outcome).await {
                Err(Abort {
                    reason: AbortReason::StoreFailed,
                    ..
                }) => {}
                ended => return ended,
            }
        }
        self.reread().await?;
        Ok(self.force_end().await?)
    }

    /// Takes over what the store has of the turn; returns whether it can be read. A write that it
    /// refuses may have been done by an earlier call whose answer was lost.
    async fn reread(&mut self) -> Result<bool, AbortReason> {
        let Some(stored) = self.read_turn().await? else {
            return Ok(false);
        };
        if stored.turn.status.is_ended() {
            // The next turn may be held under this worker's name: a release makes it ask for it.
            return Err(AbortReason::LeaseLost);
        }
        if stored.items.len() > self.items.len() {
            self.run.update(|view| {
                view.items.clone_from(&stored.items);
                view.draft = None;
            });
            self.items = stored.items;
        }
        Ok(true)
    }

    /// The turn as the store has it; `None` if it cannot be read.
    async fn read_turn(&self) -> Result<Option<TurnView>, AbortReason> {
        let (store, held) = (&self.config.store, &self.held);
        let read = || store.turn(&held.owner, TurnRef::Id(held.turn.id), Position::START);
        match self.retry("read the turn", read).await {
            Ok(view) => Ok(Some(view.ok_or(AbortReason::LeaseLost)?)),
            Err(AbortReason::StoreFailed) => Ok(None),
            Err(reason) => Err(reason),
        }
    }

    async fn force_end(&self) -> Result<EndedTurn, AbortReason> {
        let (store, lease) = (&self.config.store, &self.run.lease);
        let at = self.config.environment.now();
        let failure = TurnFailure {
            kind: FailureKind::Internal,
            message: STORE_FAILURE.to_owned(),
        };
        let end = || store.force_end(lease, failure.clone(), at);
        self.retry("force the end of the turn", end).await?;
        // An earlier end, whose answer was lost, may have given the next turn to this worker.
        self.run.mark_uncertain();
        // The store has ended the open calls, too. If the turn cannot be read, the store answers
        // its readers.
        let stored = self.read_turn().await?.ok_or(AbortReason::LeaseLost)?;
        let is_new = |item: &Item| !self.items.contains(item);
        let ended = EndedTurn {
            turn: stored.turn,
            items: stored.items.into_iter().filter(is_new).collect(),
            next: None,
        };
        self.show_end(&ended);
        Ok(ended)
    }

    /// Calls the store, again and again while it is unavailable.
    async fn retry<'s, T>(
        &self,
        operation: &'static str,
        call: impl Fn() -> BoxFuture<'s, Result<T, StoreError>>,
    ) -> Result<T, AbortReason> {
        let (mut backoff, longest) = STORE_BACKOFF;
        // After the turn's own limit its readers should learn that the store is unavailable; a
        // claim takes the turn later.
        let give_up_at = self.deadline.max(Instant::now()) + self.config.limits.lease;
        loop {
            match call().await {
                Ok(done) => return Ok(done),
                Err(StoreError::Refused(Refusal::LeaseLost | Refusal::NotFound)) => {
                    return Err(AbortReason::LeaseLost);
                }
                Err(error) => {
                    self.observe(TurnLifecycleEvent::StoreFailed {
                        operation,
                        error: &error,
                    });
                    if !error.is_transient() {
                        return Err(if guards::ENDS_REFUSED_TURNS {
                            AbortReason::StoreFailed
                        } else {
                            AbortReason::LeaseLost
                        });
                    }
                }
            }
            tokio::select! {
                biased;
                () = self.run.wait_for_release() => return Err(AbortReason::LeaseLost),
                () = sleep_until(give_up_at) => return Err(AbortReason::LeaseLost),
                () = sleep(backoff) => backoff = (backoff * 2).min(longest),
            }
        }
    }
}
