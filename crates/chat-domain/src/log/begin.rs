//! Beginning a turn: idempotency, retries, the busy policy and the queue's limit.

use std::time::Duration;

use super::{
    BeginOutcome, BeginTurn, BusyPolicy, Ledger, LedgerError, LoadedConversation, Refusal, Target,
    TurnRow,
};
use crate::{
    ConversationId, Item, ItemBody, Message, Ordinal, Position, Turn, TurnId, TurnStatus, Usage,
};

impl Ledger {
    /// Stores a message and starts or queues its turn. Checks in this order: an earlier call with
    /// the same turn id, the conversation, the idempotency key, the retried turn, the busy policy.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn begin(&mut self, begin: &BeginTurn) -> Result<BeginOutcome, LedgerError> {
        if let Some(row) = self.turn(begin.turn) {
            return Ok(repeated(row, begin));
        }
        let conversation = begin.target.id();
        if let Target::Existing(id) = begin.target {
            let owner = self.conversations.get(&id).map(|known| &known.row.owner);
            if owner != Some(&begin.owner) {
                return Err(Refusal::NotFound.into());
            }
        }
        if let Some(turn) = self.turn_of_key(begin)? {
            return Ok(BeginOutcome::Duplicate(turn));
        }
        let retried = begin
            .retry_of
            .map(|retry| self.retried(retry.turn, conversation))
            .transpose()?;
        let must_wait = self.apply_busy_policy(conversation, begin)?;
        if let Target::New(id, title) = &begin.target {
            let row = LoadedConversation {
                id: *id,
                owner: begin.owner.clone(),
                updated_at: begin.at,
                last_position: 0,
                last_ordinal: 0,
                open_turns_not_loaded: 0,
            };
            self.add_conversation(row, title.clone());
        }
        self.store_turn(conversation, begin, retried, must_wait)
    }

    /// The turn that the idempotency key was used for.
    fn turn_of_key(&self, begin: &BeginTurn) -> Result<Option<Turn>, Refusal> {
        let Some(key) = &begin.idempotency else {
            return Ok(None);
        };
        let used_by = self.keys.get(&(begin.owner.clone(), key.key.clone()));
        match used_by.and_then(|id| self.turn(*id)) {
            Some(row) if row.idempotency.as_ref() != Some(key) => Err(Refusal::IdempotencyMismatch),
            row => Ok(row.map(|row| row.turn.clone())),
        }
    }

    /// The ordinal of a turn that may be retried.
    fn retried(&self, id: TurnId, conversation: ConversationId) -> Result<Ordinal, Refusal> {
        match self.turn(id) {
            Some(row) if row.turn.conversation != conversation => Err(Refusal::NotFound),
            Some(row) if row.turn.superseded => Err(Refusal::Superseded),
            Some(row) => Ok(row.turn.ordinal),
            None => Err(Refusal::NotFound),
        }
    }

    /// Returns whether the turn must wait for a running one.
    fn apply_busy_policy(
        &mut self,
        conversation: ConversationId,
        begin: &BeginTurn,
    ) -> Result<bool, LedgerError> {
        let running = self.open_turns(conversation).find(|row| row.is_running());
        let Some(running) = running.map(|row| row.turn.id) else {
            return Ok(false);
        };
        if begin.busy == BusyPolicy::Reject {
            return Err(Refusal::TurnRunning(running).into());
        }
        let open = self.open_turns(conversation);
        let open: Vec<TurnId> = open.map(|row| row.turn.id).collect();
        // One of the open turns runs; the others are queued.
        let queued = open.len() - 1 + self.open_turns_not_loaded(conversation);
        if queued >= usize::try_from(begin.queue_limit).unwrap_or(usize::MAX) {
            return Err(Refusal::QueueFull.into());
        }
        if begin.busy == BusyPolicy::Interrupt {
            for id in open {
                self.change_turn(id)?.turn.cancel_requested = true;
            }
        }
        Ok(true)
    }

    fn store_turn(
        &mut self,
        conversation: ConversationId,
        begin: &BeginTurn,
        retried: Option<Ordinal>,
        must_wait: bool,
    ) -> Result<BeginOutcome, LedgerError> {
        let row = self.change_conversation(conversation)?;
        row.updated_at = begin.at;
        row.last_ordinal += 1;
        let turn = Turn {
            id: begin.turn,
            conversation,
            ordinal: Ordinal(row.last_ordinal),
            status: TurnStatus::Queued,
            cancel_requested: false,
            retry_of: begin.retry_of.map(|retry| retry.turn),
            original: begin.retry_of.map(|retry| retry.original),
            superseded: false,
            created_at: begin.at,
            usage: Usage::default(),
            finish: None,
            turns_left_out: 0,
        };
        self.add_new_turn(TurnRow {
            turn: turn.clone(),
            owner: begin.owner.clone(),
            holder: None,
            epoch: 0,
            attempt: 0,
            spent: Duration::ZERO,
            next: None,
            idempotency: begin.idempotency.clone(),
            has_draft: false,
            retried,
        });
        let mut message = Item {
            position: Position::START,
            turn: begin.turn,
            at: begin.at,
            body: ItemBody::Message(Message::user(begin.message, begin.text.clone())),
        };
        self.add_new_item(message.clone());
        if must_wait {
            return Ok(BeginOutcome::Stored(turn));
        }
        message.position = self.start_turn(begin.turn, begin.worker)?;
        match self.turn(begin.turn).and_then(TurnRow::held) {
            Some(mut held) => {
                held.items.push(message);
                Ok(BeginOutcome::Started(held))
            }
            None => Err(LedgerError::Inconsistent(
                "a started turn does not run".to_owned(),
            )),
        }
    }
}

/// The outcome of a call whose turn id is stored already.
fn repeated(row: &TurnRow, begin: &BeginTurn) -> BeginOutcome {
    let is_ours = row.is_running() && row.holder == Some(begin.worker);
    match row.held().filter(|_| is_ours) {
        Some(held) => BeginOutcome::Started(held),
        None => BeginOutcome::Stored(row.turn.clone()),
    }
}
