//! The writes of a run: repeated while the store is unavailable; and the end of a turn that the
//! store refuses.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Halt, TurnRunner, failed};
use crate::guards;
use crate::turns::plan::{self, Next};
use crate::{
    AppendItems, EndTurn, EndedTurn, FailureKind, ItemBody, LoggedTurn, NewItem, Refusal,
    StoreError, ToolOutcome, TurnFailure, TurnLifecycleEvent, TurnOutcome, TurnPage, TurnStatus,
    UnknownCause,
};

/// The first and the longest pause before a call of an unavailable store is repeated.
const STORE_PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// What the user is told of a turn that the store cannot read or write.
const STORE_FAULT: &str = "The server could not read or store a part of this conversation.";

impl TurnRunner<'_> {
    pub(super) async fn read_history(&self) -> Result<Vec<LoggedTurn>, Halt> {
        let (store, held) = (&self.deps.store, &self.held);
        let page = TurnPage {
            before: Some(held.turn.ordinal),
            ..TurnPage::ALL
        };
        let turns = self
            .persist("read the history", || {
                store.turns(&held.owner, held.turn.conversation, page)
            })
            .await?;
        turns.ok_or(Halt::Released)
    }

    pub(super) async fn append(&mut self, items: Vec<NewItem>) -> Result<(), Halt> {
        let (store, lease) = (&self.deps.store, &self.run.lease);
        let append = || {
            store.append(AppendItems {
                lease: *lease,
                items: items.clone(),
            })
        };
        let placed = match self.persist("append", append).await {
            Ok(placed) => placed,
            Err(halt) => return Err(self.refused(halt, items)),
        };
        self.run.update(|view| {
            view.items.extend(placed.iter().cloned());
            view.draft = None;
        });
        self.items.extend(placed);
        Ok(())
    }

    pub(super) async fn end(
        &mut self,
        last: Vec<NewItem>,
        outcome: TurnOutcome,
    ) -> Result<EndedTurn, Halt> {
        let (store, lease, at) = (
            &self.deps.store,
            &self.run.lease,
            self.deps.environment.now(),
        );
        let ended = self
            .persist("end the turn", || {
                store.end(EndTurn {
                    lease: *lease,
                    last: last.clone(),
                    outcome: outcome.clone(),
                    usage: self.usage,
                    at,
                })
            })
            .await;
        let ended = match ended {
            Ok(ended) => ended,
            Err(halt) => return Err(self.refused(halt, last)),
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

    fn refused(&mut self, halt: Halt, items: Vec<NewItem>) -> Halt {
        if matches!(halt, Halt::StoreFault) {
            self.refused = items;
        }
        halt
    }

    /// Ends the turn as failed after a permanent error of the store, with as much of its items as
    /// the store takes.
    pub(super) async fn end_after_fault(&mut self) -> Result<EndedTurn, Halt> {
        let open = match plan::next(&self.items, usize::MAX) {
            Next::CallTools(calls) => calls,
            Next::CallAgent | Next::End(_) => Vec::new(),
        };
        let unknown: Vec<_> = open
            .iter()
            .map(|call| self.result(call.id, ToolOutcome::Unknown(UnknownCause::Interrupted)))
            .collect();
        // Calls that were not recorded were never made, so the text remains of a refused step.
        let is_text = |item: &NewItem| matches!(&item.body, ItemBody::Message(message) if !message.text.is_empty());
        let said = std::mem::take(&mut self.refused)
            .into_iter()
            .filter(is_text);
        let with_text: Vec<_> = said.chain(unknown.iter().cloned()).collect();
        for last in [with_text, unknown, Vec::new()] {
            match self
                .end(last, failed(FailureKind::Internal, STORE_FAULT.to_owned()))
                .await
            {
                Err(Halt::StoreFault) => {}
                ended => return ended,
            }
        }
        self.force_end().await
    }

    async fn force_end(&self) -> Result<EndedTurn, Halt> {
        let (store, lease, at) = (
            &self.deps.store,
            &self.run.lease,
            self.deps.environment.now(),
        );
        let failure = TurnFailure {
            kind: FailureKind::Internal,
            message: STORE_FAULT.to_owned(),
        };
        self.persist("force the end of the turn", || {
            store.force_end(lease, failure.clone(), at)
        })
        .await?;
        let mut turn = self.held.turn.clone();
        turn.status = TurnStatus::Ended {
            at,
            outcome: TurnOutcome::Failed(failure),
        };
        let ended = EndedTurn {
            turn,
            items: Vec::new(),
            next: None,
        };
        self.show_end(&ended);
        Ok(ended)
    }

    /// Does a unit of work of the store, again and again while the store is unavailable.
    async fn persist<'s, T>(
        &self,
        doing: &'static str,
        work: impl Fn() -> BoxFuture<'s, Result<T, StoreError>>,
    ) -> Result<T, Halt> {
        let (mut pause, longest) = STORE_PAUSE;
        // Past the turn's own limit its readers should be told that the store is unavailable; the
        // sweep finds the turn later.
        let patience = self.deadline.max(Instant::now()) + self.deps.limits.lease;
        loop {
            match work().await {
                Ok(done) => return Ok(done),
                Err(StoreError::Refused(Refusal::LeaseLost | Refusal::NotFound)) => {
                    return Err(Halt::Released);
                }
                Err(error) => {
                    self.deps.observer.observe(TurnLifecycleEvent::StoreFailed {
                        doing,
                        error: &error,
                    });
                    if !error.is_transient() {
                        return Err(if guards::ENDS_REFUSED_TURNS {
                            Halt::StoreFault
                        } else {
                            Halt::Released
                        });
                    }
                }
            }
            tokio::select! {
                () = self.run.let_go() => return Err(Halt::Released),
                () = sleep_until(patience) => return Err(Halt::Released),
                () = sleep(pause) => pause = (pause * 2).min(longest),
            }
        }
    }
}
