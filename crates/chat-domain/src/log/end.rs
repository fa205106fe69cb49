//! Ending a turn, and starting the next queued one.

use super::{EndTurn, EndedTurn, Ledger, LedgerError, Refusal, TurnRow};
use crate::{ConversationId, Timestamp, TurnId, TurnOutcome, TurnStatus, WorkerId};

impl Ledger {
    /// Ends a running turn, and starts the next queued one.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn end(&mut self, end: &EndTurn) -> Result<EndedTurn, LedgerError> {
        let id = end.lease.turn;
        let row = self.turn(id).filter(|row| row.is_held_by(&end.lease));
        let row = row.ok_or(Refusal::LeaseLost)?;
        if !row.is_running() {
            return Ok(self.repeated_end(row, end));
        }
        let conversation = row.turn.conversation;
        self.check_next_is_loaded(id, conversation)?;
        let items = self.add_items(id, &end.last)?;
        let row = self.change_turn(id)?;
        row.turn.status = TurnStatus::Ended {
            at: end.at,
            outcome: end.outcome.clone(),
        };
        row.turn.usage = end.usage;
        row.turn.note_last_items(&items);
        row.has_draft = false;
        self.close_turn(conversation, id);
        self.change_conversation(conversation)?.updated_at = end.at;
        let next = self.start_next(conversation, end.lease.worker, end.at)?;
        let row = self.change_turn(id)?;
        row.next = next;
        let turn = row.turn.clone();
        let next = next.and_then(|next| self.turn(next));
        Ok(EndedTurn {
            turn,
            items,
            next: next.and_then(TurnRow::held),
        })
    }

    /// If an earlier `end` of the same batch started this turn, the turn after it may not be
    /// loaded. Applied alone, the command loads its own rows.
    fn check_next_is_loaded(
        &self,
        id: TurnId,
        conversation: ConversationId,
    ) -> Result<(), LedgerError> {
        let started_in_batch = self
            .turns
            .get(&id)
            .is_some_and(|tracked| tracked.loaded_epoch == 0);
        if started_in_batch && self.open_turns_not_loaded(conversation) > 0 {
            return Err(LedgerError::Inconsistent(
                "the next queued turn is not loaded".to_owned(),
            ));
        }
        Ok(())
    }

    /// The outcome of a repeated call.
    fn repeated_end(&self, row: &TurnRow, end: &EndTurn) -> EndedTurn {
        let last = end.last.iter();
        let items = last.filter_map(|item| self.stored_item(&item.body).cloned());
        // If the next turn was claimed since, another lease is current, perhaps one of this same
        // worker.
        let is_as_started = |next: &&TurnRow| {
            next.is_running() && next.holder == Some(end.lease.worker) && next.epoch == 1
        };
        let next = row.next.and_then(|next| self.turn(next));
        EndedTurn {
            turn: row.turn.clone(),
            items: items.collect(),
            next: next.filter(is_as_started).and_then(TurnRow::held),
        }
    }

    /// Starts the first queued turn. Those before it whose cancellation was requested end.
    fn start_next(
        &mut self,
        conversation: ConversationId,
        worker: WorkerId,
        at: Timestamp,
    ) -> Result<Option<TurnId>, LedgerError> {
        loop {
            let Some(next) = self.open_turns(conversation).next() else {
                return Ok(None);
            };
            let (id, is_cancelled) = (next.turn.id, next.turn.cancel_requested);
            if !is_cancelled {
                self.start_turn(id, worker)?;
                return Ok(Some(id));
            }
            self.place_message(id)?;
            self.change_turn(id)?.turn.status = TurnStatus::Ended {
                at,
                outcome: TurnOutcome::Cancelled,
            };
            self.close_turn(conversation, id);
        }
    }
}
