//! Ending a turn, and beginning the next.

use chat_domain::{
    ConversationId, EndedTurn, Item, NewItem, StoreError, Timestamp, TurnId, TurnLease,
    TurnOutcome, TurnStatus, Usage, WorkerId,
};

use super::ledger::{Ledger, TurnRow};
use crate::fault::Fault;
use crate::job::Stop;

/// The end of a running turn.
pub(crate) struct End {
    pub(crate) lease: TurnLease,
    pub(crate) last: Vec<NewItem>,
    pub(crate) outcome: TurnOutcome,
    pub(crate) usage: Usage,
    pub(crate) at: Timestamp,
}

impl Ledger {
    pub(super) fn end(&mut self, end: &End) -> Result<EndedTurn, Stop> {
        let id = end.lease.turn;
        let row = self
            .turns
            .get(&id)
            .filter(|row| row.is_held_by(&end.lease))
            .ok_or(StoreError::LeaseLost)?;
        if !row.is_running() {
            return Ok(self.ended_before(row, end));
        }
        let conversation = row.turn.conversation;
        let unseen = self
            .conversations
            .get(&conversation)
            .is_some_and(|row| row.unseen > 0);
        if row.stored_epoch == 0 && unseen {
            // It was begun in this batch, by an end that had the turn after it at hand, but none
            // further. Alone it finds its own.
            return Err(
                Fault::Contradiction("the turn that waits next is not at hand".to_owned()).into(),
            );
        }
        let items = self.place(id, &end.last)?;
        let row = self.change_turn(id)?;
        row.turn.status = TurnStatus::Ended {
            at: end.at,
            outcome: end.outcome.clone(),
        };
        row.turn.usage = end.usage;
        row.turn.note_last_items(&items);
        row.has_draft = false;
        self.close(conversation, id);
        self.change_conversation(conversation)?.updated_at = end.at;
        let next = self.start_next(conversation, end.lease.worker, end.at)?;
        let row = self.change_turn(id)?;
        row.next = next;
        let turn = row.turn.clone();
        let next = next
            .and_then(|next| self.turns.get(&next))
            .and_then(TurnRow::held);
        Ok(EndedTurn { turn, items, next })
    }

    /// What the call that ended this turn did, as it stands now.
    fn ended_before(&self, row: &TurnRow, end: &End) -> EndedTurn {
        let items = end
            .last
            .iter()
            .filter_map(|item| self.stored(item))
            .collect();
        let next = row.next.and_then(|next| self.turns.get(&next));
        // Claimed since, it is in other hands: perhaps in this worker's own, under the claim's
        // lease.
        let as_begun = |next: &&TurnRow| {
            next.is_running() && next.holder == Some(end.lease.worker) && next.epoch == 1
        };
        let next = next.filter(as_begun).and_then(TurnRow::held);
        EndedTurn {
            turn: row.turn.clone(),
            items,
            next,
        }
    }

    /// Begins the turn that waits longest. Those before it that are not wanted any more end.
    fn start_next(
        &mut self,
        conversation: ConversationId,
        worker: WorkerId,
        at: Timestamp,
    ) -> Result<Option<TurnId>, Fault> {
        loop {
            let next = self.open_turns(conversation).next();
            let Some((id, wanted)) = next.map(|row| (row.turn.id, !row.turn.cancel_requested))
            else {
                return Ok(None);
            };
            if wanted {
                self.start(id, worker)?;
                return Ok(Some(id));
            }
            self.place_message(id)?;
            self.change_turn(id)?.turn.status = TurnStatus::Ended {
                at,
                outcome: TurnOutcome::Cancelled,
            };
            self.close(conversation, id);
        }
    }

    fn close(&mut self, conversation: ConversationId, id: TurnId) {
        if let Some(open) = self.open.get_mut(&conversation) {
            open.retain(|_, turn| *turn != id);
        }
    }

    fn stored(&self, item: &NewItem) -> Option<Item> {
        use chat_domain::ItemBody::{Message, ToolCall, ToolResult};
        match &item.body {
            Message(message) => self.messages.get(&message.id).map(|row| row.item.clone()),
            ToolCall(call) => self.calls.get(&call.id).map(|row| row.call.clone()),
            ToolResult(result) => self
                .calls
                .get(&result.call)
                .and_then(|row| row.result.clone()),
        }
    }
}
