//! The rows that the rules work on, as loaded and as changed.

use std::ops::Range;
use std::time::Duration;

use crate::{
    ConversationId, HeldTurn, IdempotencyKey, Item, ItemBody, Message, Ordinal, Position,
    Timestamp, Title, ToolCall, ToolResult, Turn, TurnId, TurnLease, TurnStatus, UserId, WorkerId,
};

/// The rows that a store has loaded for some commands. More rows than needed do no harm.
#[derive(Clone, Debug, Default)]
pub struct LoadedRows {
    /// The conversations of all commands, as far as they exist.
    pub conversations: Vec<LoadedConversation>,
    /// The turns. A turn may be listed twice.
    pub turns: Vec<TurnRow>,
    /// Stored items: messages, tool calls and, after their calls, tool results.
    pub items: Vec<Item>,
}

/// A stored conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedConversation {
    /// Its id.
    pub id: ConversationId,
    /// The user it belongs to.
    pub owner: UserId,
    /// When something last happened in it.
    pub updated_at: Timestamp,
    /// The position of its last item; 0 if it has none.
    pub last_position: u64,
    /// The ordinal of its last turn; 0 if it has none.
    pub last_ordinal: u64,
    /// How many of its running and queued turns are not among the loaded rows.
    pub open_turns_not_loaded: usize,
}

/// A turn with what the store keeps about its execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnRow {
    /// The turn.
    pub turn: Turn,
    /// The owner of its conversation.
    pub owner: UserId,
    /// The worker that holds it, or held it when it ended.
    pub holder: Option<WorkerId>,
    /// The fencing token: grows with each claim; 0 before it first runs.
    pub epoch: u64,
    /// How often it was started; a graceful hand-over does not count.
    pub attempt: u32,
    /// How long the earlier attempts ran, by the store's clock.
    pub spent: Duration,
    /// The turn that the end of this one began.
    pub next: Option<TurnId>,
    /// Recognises a repetition of the request that began it.
    pub idempotency: Option<IdempotencyKey>,
    /// Whether a draft of it is stored.
    pub has_draft: bool,
    /// The ordinal of the turn that this one retries.
    pub retried: Option<Ordinal>,
}

impl TurnRow {
    /// Whether `lease` is the turn's current lease, or was when it ended.
    pub fn is_held_by(&self, lease: &TurnLease) -> bool {
        let is_current = self.holder == Some(lease.worker) && self.epoch == lease.epoch;
        is_current || !crate::guards::CHECKS_EPOCH
    }

    /// Whether the turn runs.
    pub fn is_running(&self) -> bool {
        self.turn.status == TurnStatus::Running
    }

    /// The turn as its holder gets it, without items; `None` if no worker holds it.
    pub fn held(&self) -> Option<HeldTurn> {
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

/// The changes that a ledger has made. All must be saved in one transaction, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Conversations to insert.
    pub new_conversations: Vec<NewConversation>,
    /// Conversations to update.
    pub conversations: Vec<ConversationChange>,
    /// Turns to update. To be saved before `new_turns`, and those that do not run before those that
    /// do, where the store enforces that at most one turn of a conversation runs.
    pub turns: Vec<TurnChange>,
    /// Turns to insert.
    pub new_turns: Vec<TurnRow>,
    /// Turns that a retry supersedes, loaded or not. To be saved after the turns.
    pub superseded: Vec<SupersededTurns>,
    /// Stored messages of queued turns that get a position.
    pub placed_messages: Vec<PlacedMessage>,
    /// Messages to insert.
    pub new_messages: Vec<MessageRow>,
    /// Tool calls to insert, some with their results.
    pub new_calls: Vec<CallRow>,
    /// Results of tool calls that are stored already.
    pub results: Vec<ResultRow>,
}

/// A conversation to insert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewConversation {
    /// Its id.
    pub id: ConversationId,
    /// The user it belongs to.
    pub owner: UserId,
    /// Its title.
    pub title: Title,
    /// When it was created; also its `updated_at`.
    pub created_at: Timestamp,
    /// The position of its last item.
    pub last_position: u64,
    /// The ordinal of its last turn.
    pub last_ordinal: u64,
}

/// New values of a stored conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConversationChange {
    /// Its id.
    pub id: ConversationId,
    /// When something last happened in it.
    pub updated_at: Timestamp,
    /// The position of its last item.
    pub last_position: u64,
    /// The ordinal of its last turn.
    pub last_ordinal: u64,
}

/// New values of a stored turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnChange {
    /// The turn as it is now. Its draft goes unless `has_draft`.
    pub row: TurnRow,
    /// The epoch that was loaded. The stored epoch must still be this one.
    pub loaded_epoch: u64,
    /// The holder that was loaded. The stored holder must still be this one.
    pub loaded_holder: Option<WorkerId>,
}

/// Turns of one conversation that a retry supersedes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupersededTurns {
    /// The conversation.
    pub conversation: ConversationId,
    /// The turns' ordinals.
    pub ordinals: Range<Ordinal>,
}

/// A position for the stored message of a queued turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedMessage {
    /// The turn.
    pub turn: TurnId,
    /// The message's position.
    pub position: Position,
}

/// A message with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRow {
    /// The conversation.
    pub conversation: ConversationId,
    /// The turn.
    pub turn: TurnId,
    /// Its position; `None` while its turn is queued.
    pub position: Option<Position>,
    /// When it was created.
    pub at: Timestamp,
    /// The message.
    pub message: Message,
}

impl MessageRow {
    /// The row as an item of the log.
    pub fn item(&self) -> Item {
        Item {
            position: self.position.unwrap_or(Position::START),
            turn: self.turn,
            at: self.at,
            body: ItemBody::Message(self.message.clone()),
        }
    }
}

/// A tool call with its place in the log, and its result as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRow {
    /// The conversation.
    pub conversation: ConversationId,
    /// The turn.
    pub turn: TurnId,
    /// Its position.
    pub position: Position,
    /// When it was recorded.
    pub at: Timestamp,
    /// The call.
    pub call: ToolCall,
    /// Its result.
    pub result: Option<ResultRow>,
}

impl CallRow {
    /// The row as items of the log: the call, and its result.
    pub fn items(&self) -> (Item, Option<Item>) {
        let call = Item {
            position: self.position,
            turn: self.turn,
            at: self.at,
            body: ItemBody::ToolCall(self.call.clone()),
        };
        (call, self.result.as_ref().map(ResultRow::item))
    }
}

/// The result of a tool call with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultRow {
    /// The turn of the call.
    pub turn: TurnId,
    /// Its position.
    pub position: Position,
    /// When it was recorded.
    pub at: Timestamp,
    /// The result, which names its call.
    pub result: ToolResult,
}

impl ResultRow {
    /// The row as an item of the log.
    pub fn item(&self) -> Item {
        Item {
            position: self.position,
            turn: self.turn,
            at: self.at,
            body: ItemBody::ToolResult(self.result.clone()),
        }
    }
}
