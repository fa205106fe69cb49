//! What a batch of commands works on, as loaded and as changed by the commands before.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::time::Duration;

use chat_domain::{
    ConversationId, HeldTurn, IdempotencyKey, Item, ItemBody, MessageId, NewItem, Ordinal,
    Position, StoreError, Timestamp, Title, ToolCallId, Turn, TurnId, TurnLease, TurnStatus,
    UserId, WorkerId,
};

use crate::fault::Fault;

/// What becomes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It stays.
    None,
    /// It is updated.
    Update,
    /// It is inserted.
    Insert,
}

impl Change {
    fn touch(&mut self) {
        if *self == Self::None {
            *self = Self::Update;
        }
    }
}

pub(super) struct ConversationRow {
    pub(super) id: ConversationId,
    pub(super) owner: UserId,
    /// Of a new one alone.
    pub(super) title: Option<Title>,
    pub(super) updated_at: Timestamp,
    pub(super) last_position: u64,
    pub(super) last_ordinal: u64,
    /// How many turns wait that are not at hand.
    pub(super) unseen: usize,
    pub(super) change: Change,
}

pub(super) struct TurnRow {
    pub(super) turn: Turn,
    pub(super) owner: UserId,
    pub(super) holder: Option<WorkerId>,
    pub(super) epoch: u64,
    /// The epoch when it was fetched; 0 if it did not run then.
    pub(super) stored_epoch: u64,
    /// The holder when it was fetched.
    pub(super) stored_holder: Option<WorkerId>,
    pub(super) attempt: u32,
    /// How long the attempts before ran.
    pub(super) spent: Duration,
    /// The turn that this one's end began.
    pub(super) next: Option<TurnId>,
    pub(super) idempotency: Option<IdempotencyKey>,
    pub(super) has_draft: bool,
    /// The ordinal of the turn that this one answers anew.
    pub(super) retried: Option<Ordinal>,
    pub(super) change: Change,
}

impl TurnRow {
    /// Whether `lease` is, or was at the end, the turn's current one.
    pub(super) fn is_held_by(&self, lease: &TurnLease) -> bool {
        // Taken out of a build that shows that the fault campaign notices it: docs/TORTURE.md.
        cfg!(sabotage = "epoch") || self.holder == Some(lease.worker) && self.epoch == lease.epoch
    }

    pub(super) fn is_running(&self) -> bool {
        self.turn.status == TurnStatus::Running
    }

    /// The turn as its holder gets it; the items are found later.
    pub(super) fn held(&self) -> Option<HeldTurn> {
        let lease = TurnLease {
            turn: self.turn.id,
            worker: self.holder?,
            epoch: self.epoch,
        };
        Some(HeldTurn {
            turn: self.turn.clone(),
            owner: self.owner.clone(),
            lease,
            attempt: self.attempt,
            spent: self.spent,
            items: Vec::new(),
        })
    }
}

/// A tool call and what came of it.
pub(super) struct CallRow {
    pub(super) call: Item,
    pub(super) result: Option<Item>,
    pub(super) change: Change,
}

/// A message; `Update` places one that has waited.
pub(super) struct MessageRow {
    pub(super) item: Item,
    pub(super) change: Change,
}

#[derive(Default)]
pub(super) struct Ledger {
    pub(super) conversations: HashMap<ConversationId, ConversationRow>,
    pub(super) turns: HashMap<TurnId, TurnRow>,
    /// Of the turns that run or wait, those that matter here.
    pub(super) open: HashMap<ConversationId, BTreeMap<Ordinal, TurnId>>,
    pub(super) keys: HashMap<(UserId, String), TurnId>,
    pub(super) messages: HashMap<MessageId, MessageRow>,
    pub(super) calls: HashMap<ToolCallId, CallRow>,
    /// Places given to the messages of turns that waited.
    pub(super) placed: Vec<(TurnId, Position)>,
    /// Ordinals, of each conversation, that a retry took the place of.
    pub(super) superseded: Vec<(ConversationId, Range<Ordinal>)>,
}

impl Ledger {
    pub(super) fn add_turn(&mut self, row: TurnRow) {
        let turn = &row.turn;
        if !turn.status.is_ended() {
            self.open
                .entry(turn.conversation)
                .or_default()
                .insert(turn.ordinal, turn.id);
        }
        if let Some(used) = &row.idempotency {
            self.keys
                .insert((row.owner.clone(), used.key.clone()), turn.id);
        }
        self.turns.entry(turn.id).or_insert(row);
    }

    pub(super) fn open_turns(
        &self,
        conversation: ConversationId,
    ) -> impl Iterator<Item = &TurnRow> {
        let ids = self
            .open
            .get(&conversation)
            .into_iter()
            .flat_map(BTreeMap::values);
        ids.filter_map(|id| self.turns.get(id))
    }

    /// A turn, to be changed.
    pub(super) fn change_turn(&mut self, id: TurnId) -> Result<&mut TurnRow, Fault> {
        let row = self
            .turns
            .get_mut(&id)
            .ok_or_else(|| Fault::Contradiction(format!("turn {id} went away")))?;
        row.change.touch();
        Ok(row)
    }

    /// A conversation, to be changed.
    pub(super) fn change_conversation(
        &mut self,
        id: ConversationId,
    ) -> Result<&mut ConversationRow, Fault> {
        let row = self
            .conversations
            .get_mut(&id)
            .ok_or_else(|| Fault::Contradiction(format!("conversation {id} went away")))?;
        row.change.touch();
        Ok(row)
    }

    /// How far a conversation's log goes now. One that is not at hand is not changed.
    pub(super) fn end_of(&self, conversation: ConversationId) -> Option<Position> {
        self.conversations
            .get(&conversation)
            .map(|row| Position(row.last_position))
    }

    /// The conversation of a turn that is at hand.
    pub(super) fn conversation_of(&self, id: TurnId) -> Result<ConversationId, Fault> {
        let turn = self.turns.get(&id).map(|row| row.turn.conversation);
        turn.ok_or_else(|| Fault::Contradiction(format!("turn {id} is not at hand")))
    }

    pub(super) fn next_position(
        &mut self,
        conversation: ConversationId,
    ) -> Result<Position, Fault> {
        let row = self.change_conversation(conversation)?;
        row.last_position += 1;
        Ok(Position(row.last_position))
    }

    /// The running turn that `lease` is the current lease of.
    pub(super) fn leased(&self, lease: &TurnLease) -> Result<&TurnRow, StoreError> {
        let row = self
            .turns
            .get(&lease.turn)
            .filter(|row| row.is_held_by(lease) && row.is_running());
        row.ok_or(StoreError::LeaseLost)
    }

    /// Begins a turn whose message is stored: places it, and supersedes what it answers anew.
    pub(super) fn start(&mut self, id: TurnId, worker: WorkerId) -> Result<Position, Fault> {
        let position = self.place_message(id)?;
        let row = self.change_turn(id)?;
        row.turn.status = TurnStatus::Running;
        (row.holder, row.epoch, row.attempt) = (Some(worker), 1, 1);
        if let Some(retried) = row.retried {
            let (conversation, ordinals) = (row.turn.conversation, retried..row.turn.ordinal);
            let rows = self
                .turns
                .values_mut()
                .filter(|row| row.turn.conversation == conversation);
            rows.filter(|row| ordinals.contains(&row.turn.ordinal))
                .for_each(|row| row.turn.superseded = true);
            self.superseded.push((conversation, ordinals));
        }
        Ok(position)
    }

    /// Gives the message of a turn that waited its place.
    pub(super) fn place_message(&mut self, id: TurnId) -> Result<Position, Fault> {
        let conversation = self.change_turn(id)?.turn.conversation;
        let position = self.next_position(conversation)?;
        match self
            .messages
            .values_mut()
            .find(|row| row.item.turn == id && row.item.is_unplaced())
        {
            Some(new) => new.item.position = position,
            None => self.placed.push((id, position)),
        }
        Ok(position)
    }

    /// Stores items of a turn at the end of its conversation. Those that are stored already stay as
    /// they are.
    pub(super) fn place(&mut self, id: TurnId, items: &[NewItem]) -> Result<Vec<Item>, Fault> {
        let conversation = self.conversation_of(id)?;
        items
            .iter()
            .map(|item| self.place_one(conversation, id, item))
            .collect()
    }

    fn place_one(
        &mut self,
        conversation: ConversationId,
        turn: TurnId,
        new: &NewItem,
    ) -> Result<Item, Fault> {
        let known = match &new.body {
            ItemBody::Message(message) => self.messages.get(&message.id).map(|row| &row.item),
            ItemBody::ToolCall(call) => self.calls.get(&call.id).map(|row| &row.call),
            ItemBody::ToolResult(result) => match self.calls.get(&result.call) {
                Some(row) if row.call.turn == turn => row.result.as_ref(),
                _ => {
                    return Err(Fault::Contradiction(format!(
                        "a result of {}, which this turn did not call",
                        result.call
                    )));
                }
            },
        };
        if let Some(known) = known {
            let same = known.turn == turn;
            return if same {
                Ok(known.clone())
            } else {
                Err(Fault::Contradiction("an id is used twice".to_owned()))
            };
        }
        let item = Item {
            position: self.next_position(conversation)?,
            turn,
            at: new.at,
            body: new.body.clone(),
        };
        self.insert(item.clone());
        Ok(item)
    }

    /// Stores a new item.
    pub(super) fn insert(&mut self, item: Item) {
        match &item.body {
            ItemBody::Message(message) => {
                self.messages.insert(
                    message.id,
                    MessageRow {
                        item,
                        change: Change::Insert,
                    },
                );
            }
            ItemBody::ToolCall(call) => {
                self.calls.insert(
                    call.id,
                    CallRow {
                        call: item,
                        result: None,
                        change: Change::Insert,
                    },
                );
            }
            ItemBody::ToolResult(result) => {
                if let Some(row) = self.calls.get_mut(&result.call) {
                    row.result = Some(item);
                    row.change.touch();
                }
            }
        }
    }
}
