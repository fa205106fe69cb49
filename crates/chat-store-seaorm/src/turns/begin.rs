//! Beginning a turn.

use std::time::Duration;

use chat_domain::{
    BeginTurn, Begun, BusyPolicy, ConversationId, Item, ItemBody, Message, Ordinal, Position,
    StoreError, Target, Turn, TurnId, TurnStatus, Usage,
};

use super::ledger::{Change, ConversationRow, Ledger, TurnRow};
use crate::fault::Fault;
use crate::job::Stop;

impl Ledger {
    pub(super) fn begin(&mut self, begin: &BeginTurn) -> Result<Begun, Stop> {
        if let Some(row) = self.turns.get(&begin.turn) {
            return Ok(begun_before(row, begin));
        }
        if let Target::Existing(id) = begin.target
            && self
                .conversations
                .get(&id)
                .is_none_or(|row| row.owner != begin.owner)
        {
            return Err(StoreError::NotFound.into());
        }
        if let Some(existing) = self.used_key(begin)? {
            return Ok(Begun::Existing(existing));
        }
        let conversation = begin.target.id();
        if let Some(retried) = begin.retry_of {
            let row = self
                .turns
                .get(&retried)
                .filter(|row| row.turn.conversation == conversation)
                .ok_or(StoreError::NotFound)?;
            if row.turn.superseded {
                return Err(StoreError::Superseded.into());
            }
        }
        let busy = self.make_way(conversation, begin)?;
        if let Target::New(id, title) = &begin.target {
            self.conversations.insert(
                *id,
                ConversationRow {
                    id: *id,
                    owner: begin.owner.clone(),
                    title: Some(title.clone()),
                    updated_at: begin.at,
                    last_position: 0,
                    last_ordinal: 0,
                    unseen: 0,
                    change: Change::Insert,
                },
            );
        }
        self.store(conversation, begin, busy).map_err(Stop::Fault)
    }

    /// The turn that the idempotency key was used for.
    fn used_key(&self, begin: &BeginTurn) -> Result<Option<Turn>, StoreError> {
        let Some(key) = &begin.idempotency else {
            return Ok(None);
        };
        let used = self
            .keys
            .get(&(begin.owner.clone(), key.key.clone()))
            .and_then(|id| self.turns.get(id));
        match used {
            Some(row) if row.idempotency.as_ref() != Some(key) => {
                Err(StoreError::IdempotencyMismatch)
            }
            used => Ok(used.map(|row| row.turn.clone())),
        }
    }

    /// Applies the busy policy; says whether the turn has to wait.
    fn make_way(&mut self, conversation: ConversationId, begin: &BeginTurn) -> Result<bool, Stop> {
        let Some(running) = self
            .open_turns(conversation)
            .find(|row| row.is_running())
            .map(|row| row.turn.id)
        else {
            return Ok(false);
        };
        if begin.busy == BusyPolicy::Reject {
            return Err(StoreError::TurnRunning(running).into());
        }
        let open: Vec<TurnId> = self
            .open_turns(conversation)
            .map(|row| row.turn.id)
            .collect();
        let unseen = self
            .conversations
            .get(&conversation)
            .map_or(0, |row| row.unseen);
        // One of the open ones runs; the others wait.
        if open.len() + unseen > usize::try_from(begin.queue_limit).unwrap_or(usize::MAX) {
            return Err(StoreError::QueueFull.into());
        }
        if begin.busy == BusyPolicy::Interrupt {
            for id in open {
                self.change_turn(id)?.turn.cancel_requested = true;
            }
        }
        Ok(true)
    }

    fn store(
        &mut self,
        conversation: ConversationId,
        begin: &BeginTurn,
        busy: bool,
    ) -> Result<Begun, Fault> {
        let row = self.change_conversation(conversation)?;
        row.updated_at = begin.at;
        row.last_ordinal += 1;
        let ordinal = Ordinal(row.last_ordinal);
        let turn = Turn {
            id: begin.turn,
            conversation,
            ordinal,
            status: TurnStatus::Queued,
            cancel_requested: false,
            retry_of: begin.retry_of,
            superseded: false,
            created_at: begin.at,
            usage: Usage::default(),
            finish: None,
            turns_left_out: 0,
        };
        self.add_turn(TurnRow {
            turn: turn.clone(),
            owner: begin.owner.clone(),
            holder: None,
            epoch: 0,
            stored_epoch: 0,
            stored_holder: None,
            attempt: 0,
            spent: Duration::ZERO,
            next: None,
            idempotency: begin.idempotency.clone(),
            has_draft: false,
            retried: begin
                .retry_of
                .and_then(|id| self.turns.get(&id))
                .map(|row| row.turn.ordinal),
            change: Change::Insert,
        });
        let body = ItemBody::Message(Message::user(begin.message, begin.text.clone()));
        let mut message = Item {
            position: Position::START,
            turn: begin.turn,
            at: begin.at,
            body,
        };
        if busy {
            self.insert(message);
            return Ok(Begun::Queued(turn));
        }
        self.insert(message.clone());
        message.position = self.start(begin.turn, begin.worker)?;
        let held = self.turns.get(&begin.turn).and_then(TurnRow::held);
        let mut held = held
            .ok_or_else(|| Fault::Contradiction("a turn that was begun does not run".to_owned()))?;
        held.items.push(message);
        Ok(Begun::Running(held))
    }
}

/// What an earlier call with the same turn's id began, as it stands now.
fn begun_before(row: &TurnRow, begin: &BeginTurn) -> Begun {
    let ours = row.is_running() && row.holder == Some(begin.worker);
    match row.held().filter(|_| ours) {
        Some(held) => Begun::Running(held),
        None => Begun::Queued(row.turn.clone()),
    }
}
