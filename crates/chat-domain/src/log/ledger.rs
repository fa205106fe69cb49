//! The rows of some commands, as loaded and as changed by the commands applied so far.

use std::collections::BTreeMap;

use super::{
    CallRow, Changes, ConversationChange, LedgerError, LoadedConversation, LoadedRows, MessageRow,
    NewConversation, PlacedMessage, Refusal, ResultRow, SupersededTurns, TurnChange, TurnRow,
};
use crate::{
    ConversationId, Item, ItemBody, MessageId, NewItem, Ordinal, Position, Title, ToolCallId,
    TurnId, TurnLease, TurnStatus, UserId, WorkerId,
};

/// Applies commands to loaded rows, in memory: [`begin`](Self::begin), [`append`](Self::append) and
/// [`end`](Self::end). After [`LedgerError::Inconsistent`] it must be dropped. The same rows and
/// commands always give the same changes in the same order.
#[derive(Debug, Default)]
pub struct Ledger {
    pub(super) conversations: BTreeMap<ConversationId, TrackedConversation>,
    pub(super) turns: BTreeMap<TurnId, TrackedTurn>,
    /// The loaded turns that run or are queued, in order.
    open: BTreeMap<ConversationId, BTreeMap<Ordinal, TurnId>>,
    pub(super) keys: BTreeMap<(UserId, String), TurnId>,
    messages: BTreeMap<MessageId, TrackedMessage>,
    calls: BTreeMap<ToolCallId, TrackedCall>,
    placed: Vec<PlacedMessage>,
    superseded: Vec<SupersededTurns>,
}

/// How a row differs from the stored one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    Update,
    Insert,
}

impl Change {
    fn mark_updated(&mut self) {
        if *self == Self::None {
            *self = Self::Update;
        }
    }
}

#[derive(Debug)]
pub(super) struct TrackedConversation {
    pub(super) row: LoadedConversation,
    /// The title of a new conversation.
    title: Option<Title>,
    is_changed: bool,
}

#[derive(Debug)]
pub(super) struct TrackedTurn {
    pub(super) row: TurnRow,
    /// The epoch and the holder when the turn was loaded.
    pub(super) loaded_epoch: u64,
    loaded_holder: Option<WorkerId>,
    change: Change,
}

#[derive(Debug)]
struct TrackedMessage {
    item: Item,
    is_new: bool,
}

#[derive(Debug)]
struct TrackedCall {
    call: Item,
    result: Option<Item>,
    change: Change,
}

fn inconsistent<T>(what: String) -> Result<T, LedgerError> {
    Err(LedgerError::Inconsistent(what))
}

impl Ledger {
    /// A ledger of these rows.
    pub fn new(loaded: LoadedRows) -> Self {
        let mut ledger = Self::default();
        for row in loaded.conversations {
            let tracked = TrackedConversation {
                row,
                title: None,
                is_changed: false,
            };
            ledger.conversations.insert(tracked.row.id, tracked);
        }
        for row in loaded.turns {
            ledger.add_turn(row, Change::None);
        }
        for item in loaded.items {
            ledger.add_item(item, Change::None);
        }
        ledger
    }

    /// The position of the last item of a conversation; `None` if it was not loaded.
    pub fn last_position_of(&self, conversation: ConversationId) -> Option<Position> {
        let tracked = self.conversations.get(&conversation)?;
        Some(Position(tracked.row.last_position))
    }

    /// The changes of all commands applied.
    ///
    /// # Errors
    /// `Inconsistent` if an item belongs to a turn that was not loaded.
    pub fn into_changes(self) -> Result<Changes, LedgerError> {
        let mut changes = Changes {
            superseded: self.superseded,
            placed_messages: self.placed,
            ..Changes::default()
        };
        let conversation_of = |turn: TurnId| match self.turns.get(&turn) {
            Some(tracked) => Ok(tracked.row.turn.conversation),
            None => inconsistent(format!("an item of turn {turn}, which is not loaded")),
        };
        for TrackedMessage { item, is_new } in self.messages.into_values() {
            if let (true, ItemBody::Message(message)) = (is_new, item.body) {
                changes.new_messages.push(MessageRow {
                    conversation: conversation_of(item.turn)?,
                    turn: item.turn,
                    position: (item.position != Position::START).then_some(item.position),
                    at: item.at,
                    message,
                });
            }
        }
        for TrackedCall {
            call: item,
            result,
            change,
        } in self.calls.into_values()
        {
            let result = result.and_then(result_row);
            match (change, item.body) {
                (Change::Insert, ItemBody::ToolCall(call)) => changes.new_calls.push(CallRow {
                    conversation: conversation_of(item.turn)?,
                    turn: item.turn,
                    position: item.position,
                    at: item.at,
                    call,
                    result,
                }),
                (Change::Update, _) => changes.results.extend(result),
                _ => {}
            }
        }
        for tracked in self.turns.into_values() {
            match tracked.change {
                Change::None => {}
                Change::Update => changes.turns.push(TurnChange {
                    row: tracked.row,
                    loaded_epoch: tracked.loaded_epoch,
                    loaded_holder: tracked.loaded_holder,
                }),
                Change::Insert => changes.new_turns.push(tracked.row),
            }
        }
        let conversations = self.conversations.into_values();
        for tracked in conversations.filter(|tracked| tracked.is_changed) {
            tracked.add_to(&mut changes);
        }
        Ok(changes)
    }

    pub(super) fn add_conversation(&mut self, row: LoadedConversation, title: Title) {
        let tracked = TrackedConversation {
            row,
            title: Some(title),
            is_changed: true,
        };
        self.conversations.insert(tracked.row.id, tracked);
    }

    pub(super) fn add_new_turn(&mut self, row: TurnRow) {
        self.add_turn(row, Change::Insert);
    }

    fn add_turn(&mut self, row: TurnRow, change: Change) {
        let turn = &row.turn;
        if !turn.status.is_ended() {
            let open = self.open.entry(turn.conversation).or_default();
            open.insert(turn.ordinal, turn.id);
        }
        if let Some(used) = &row.idempotency {
            let key = (row.owner.clone(), used.key.clone());
            self.keys.insert(key, turn.id);
        }
        self.turns.entry(turn.id).or_insert(TrackedTurn {
            loaded_epoch: row.epoch,
            loaded_holder: row.holder,
            row,
            change,
        });
    }

    pub(super) fn turn(&self, id: TurnId) -> Option<&TurnRow> {
        self.turns.get(&id).map(|tracked| &tracked.row)
    }

    /// The loaded turns of a conversation that run or are queued, in order.
    pub(super) fn open_turns(
        &self,
        conversation: ConversationId,
    ) -> impl Iterator<Item = &TurnRow> {
        let open = self.open.get(&conversation).into_iter();
        open.flat_map(BTreeMap::values)
            .filter_map(|id| self.turn(*id))
    }

    pub(super) fn open_turns_not_loaded(&self, conversation: ConversationId) -> usize {
        let tracked = self.conversations.get(&conversation);
        tracked.map_or(0, |tracked| tracked.row.open_turns_not_loaded)
    }

    /// Takes an ended turn from those that run or are queued.
    pub(super) fn close_turn(&mut self, conversation: ConversationId, id: TurnId) {
        if let Some(open) = self.open.get_mut(&conversation) {
            open.retain(|_, turn| *turn != id);
        }
    }

    pub(super) fn change_turn(&mut self, id: TurnId) -> Result<&mut TurnRow, LedgerError> {
        match self.turns.get_mut(&id) {
            Some(tracked) => {
                tracked.change.mark_updated();
                Ok(&mut tracked.row)
            }
            None => inconsistent(format!("turn {id} is not loaded")),
        }
    }

    pub(super) fn change_conversation(
        &mut self,
        id: ConversationId,
    ) -> Result<&mut LoadedConversation, LedgerError> {
        match self.conversations.get_mut(&id) {
            Some(tracked) => {
                tracked.is_changed = true;
                Ok(&mut tracked.row)
            }
            None => inconsistent(format!("conversation {id} is not loaded")),
        }
    }

    fn next_position(&mut self, conversation: ConversationId) -> Result<Position, LedgerError> {
        let row = self.change_conversation(conversation)?;
        row.last_position += 1;
        Ok(Position(row.last_position))
    }

    /// Refuses a lease that is not the current one of a running turn.
    pub(super) fn check_lease(&self, lease: &TurnLease) -> Result<(), Refusal> {
        let row = self.turn(lease.turn);
        let is_current = row.is_some_and(|row| row.is_running() && row.is_held_by(lease));
        if is_current {
            Ok(())
        } else {
            Err(Refusal::LeaseLost)
        }
    }

    /// Starts a stored turn: gives its message a position, and supersedes the turns it retries.
    pub(super) fn start_turn(
        &mut self,
        id: TurnId,
        worker: WorkerId,
    ) -> Result<Position, LedgerError> {
        let position = self.place_message(id)?;
        let row = self.change_turn(id)?;
        row.turn.status = TurnStatus::Running;
        (row.holder, row.epoch, row.attempt) = (Some(worker), 1, 1);
        if let Some(retried) = row.retried {
            let (conversation, ordinals) = (row.turn.conversation, retried..row.turn.ordinal);
            for TrackedTurn { row, .. } in self.turns.values_mut() {
                let turn = &mut row.turn;
                turn.superseded |=
                    turn.conversation == conversation && ordinals.contains(&turn.ordinal);
            }
            self.superseded.push(SupersededTurns {
                conversation,
                ordinals,
            });
        }
        Ok(position)
    }

    /// Gives the message of a queued turn its position.
    pub(super) fn place_message(&mut self, turn: TurnId) -> Result<Position, LedgerError> {
        let conversation = self.change_turn(turn)?.turn.conversation;
        let position = self.next_position(conversation)?;
        let mut messages = self.messages.values_mut();
        let unplaced =
            messages.find(|message| message.item.turn == turn && message.item.is_unplaced());
        match unplaced {
            Some(message) if message.is_new => message.item.position = position,
            Some(message) => {
                message.item.position = position;
                self.placed.push(PlacedMessage { turn, position });
            }
            None => self.placed.push(PlacedMessage { turn, position }),
        }
        Ok(position)
    }

    /// Adds items of a turn at the end of its conversation. Items that are stored already are
    /// returned as they are.
    pub(super) fn add_items(
        &mut self,
        turn: TurnId,
        items: &[NewItem],
    ) -> Result<Vec<Item>, LedgerError> {
        let items = items.iter();
        items
            .map(|item| self.add_items_of_turn(turn, item))
            .collect()
    }

    fn add_items_of_turn(&mut self, turn: TurnId, new: &NewItem) -> Result<Item, LedgerError> {
        if let ItemBody::ToolResult(result) = &new.body {
            let call = self.calls.get(&result.call);
            if call.is_none_or(|tracked| tracked.call.turn != turn) {
                let call = result.call;
                return inconsistent(format!("a result of {call}, which this turn did not call"));
            }
        }
        if let Some(stored) = self.stored_item(&new.body) {
            return if stored.turn == turn {
                Ok(stored.clone())
            } else {
                inconsistent("an id is used by two turns".to_owned())
            };
        }
        let conversation = self.change_turn(turn)?.turn.conversation;
        let item = Item {
            position: self.next_position(conversation)?,
            turn,
            at: new.at,
            body: new.body.clone(),
        };
        self.add_new_item(item.clone());
        Ok(item)
    }

    /// The item with the same id.
    pub(super) fn stored_item(&self, body: &ItemBody) -> Option<&Item> {
        match body {
            ItemBody::Message(message) => self.messages.get(&message.id).map(|m| &m.item),
            ItemBody::ToolCall(call) => self.calls.get(&call.id).map(|c| &c.call),
            ItemBody::ToolResult(result) => self.calls.get(&result.call)?.result.as_ref(),
        }
    }

    pub(super) fn add_new_item(&mut self, item: Item) {
        self.add_item(item, Change::Insert);
    }

    fn add_item(&mut self, item: Item, change: Change) {
        match &item.body {
            ItemBody::Message(message) => {
                let is_new = change == Change::Insert;
                self.messages
                    .insert(message.id, TrackedMessage { item, is_new });
            }
            ItemBody::ToolCall(call) => {
                let tracked = TrackedCall {
                    call: item.clone(),
                    result: None,
                    change,
                };
                self.calls.insert(call.id, tracked);
            }
            ItemBody::ToolResult(result) => {
                if let Some(tracked) = self.calls.get_mut(&result.call) {
                    tracked.result = Some(item);
                    if change == Change::Insert {
                        tracked.change.mark_updated();
                    }
                }
            }
        }
    }
}

impl TrackedConversation {
    fn add_to(self, changes: &mut Changes) {
        let LoadedConversation {
            id,
            owner,
            updated_at,
            last_position,
            last_ordinal,
            ..
        } = self.row;
        match self.title {
            Some(title) => changes.new_conversations.push(NewConversation {
                id,
                owner,
                title,
                created_at: updated_at,
                last_position,
                last_ordinal,
            }),
            None => changes.conversations.push(ConversationChange {
                id,
                updated_at,
                last_position,
                last_ordinal,
            }),
        }
    }
}

fn result_row(item: Item) -> Option<ResultRow> {
    let ItemBody::ToolResult(result) = item.body else {
        return None;
    };
    Some(ResultRow {
        turn: item.turn,
        position: item.position,
        at: item.at,
        result,
    })
}
