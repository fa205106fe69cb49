//! Reading and managing conversations, as their owner.

use async_trait::async_trait;

use super::StoreResult;
use crate::{
    Conversation, ConversationId, Feedback, LoggedTurn, MessageId, Ordinal, Position, Timestamp,
    Title, ToolCall, ToolResult, Turn, TurnId, TurnView, UserId,
};

/// Reads and manages the conversations of one owner at a time.
///
/// A conversation, turn or message that does not exist or belongs to another owner is `None`, or
/// [`Refusal::NotFound`](crate::Refusal::NotFound) for a method that changes it.
#[async_trait]
pub trait Conversations: Send + Sync {
    /// A page of the owner's conversations.
    async fn list(&self, owner: &UserId, page: ConversationPage) -> StoreResult<Vec<Conversation>>;

    /// One conversation.
    async fn get(&self, owner: &UserId, id: ConversationId) -> StoreResult<Option<Conversation>>;

    /// Changes the title, and `updated_at` to `at`.
    async fn rename(
        &self,
        owner: &UserId,
        id: ConversationId,
        title: &Title,
        at: Timestamp,
    ) -> StoreResult<Conversation>;

    /// Deletes a conversation with everything in it. Its running turn can write nothing any more.
    async fn delete(&self, owner: &UserId, id: ConversationId) -> StoreResult<()>;

    /// A page of a conversation's turns with their items, by ascending ordinal whatever the order
    /// of the page.
    async fn turns(
        &self,
        owner: &UserId,
        id: ConversationId,
        page: TurnPage,
    ) -> StoreResult<Option<Vec<LoggedTurn>>>;

    /// One turn: its items after `after`, and its draft unless the draft's message is an item
    /// already. A queued turn always has the user's message alone, at [`Position::START`].
    async fn turn(
        &self,
        owner: &UserId,
        turn: TurnRef,
        after: Position,
    ) -> StoreResult<Option<TurnView>>;

    /// A page of a conversation's tool calls with their results, by ascending position, superseded
    /// turns included.
    async fn tool_calls(
        &self,
        owner: &UserId,
        id: ConversationId,
        page: ToolCallPage,
    ) -> StoreResult<Option<Vec<ToolCallRecord>>>;

    /// Requests the cancellation of a turn, and returns it as it is then. A running turn's worker
    /// learns of it with its next heartbeat; a queued turn ends when it would start; an ended turn
    /// does not change.
    async fn request_cancel(&self, owner: &UserId, id: TurnId) -> StoreResult<Turn>;

    /// Releases the idempotency key of a turn: the same request begins a new turn from now on.
    async fn release_key(&self, owner: &UserId, id: TurnId) -> StoreResult<()>;

    /// Stores the owner's feedback on messages of a conversation, in place of earlier feedback. If
    /// one of the messages is not in the conversation, nothing is stored.
    async fn set_feedback(
        &self,
        owner: &UserId,
        id: ConversationId,
        messages: Vec<MessageId>,
        feedback: Feedback,
        at: Timestamp,
    ) -> StoreResult<()>;
}

/// Selects conversations of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConversationPage {
    /// The order, and where the page begins.
    pub order: ConversationOrder,
    /// The largest number of conversations.
    pub limit: u32,
}

impl ConversationPage {
    /// The last active conversations.
    pub const fn last_active(after: Option<ConversationCursor>, limit: u32) -> Self {
        Self {
            order: ConversationOrder::LastActivity { after },
            limit,
        }
    }

    /// The page of these conversations, which are all of an owner: for stores without an index in
    /// this order.
    pub fn select(self, mut all: Vec<Conversation>) -> Vec<Conversation> {
        let cursor = |conversation: &Conversation| ConversationCursor {
            updated_at: conversation.updated_at,
            id: conversation.id,
        };
        match self.order {
            ConversationOrder::LastActivity { after } => {
                all.sort_by_key(|found| std::cmp::Reverse(cursor(found)));
                all.retain(|found| after.is_none_or(|after| cursor(found) < after));
            }
            ConversationOrder::Created { after, order } => {
                all.sort_by_key(|found| found.id);
                match order {
                    PageOrder::OldestFirst => {
                        all.retain(|found| after.is_none_or(|after| found.id > after));
                    }
                    PageOrder::NewestFirst => {
                        all.reverse();
                        all.retain(|found| after.is_none_or(|after| found.id < after));
                    }
                }
            }
        }
        all.truncate(usize::try_from(self.limit).unwrap_or(usize::MAX));
        all
    }
}

/// The order of a page of conversations, and where the page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConversationOrder {
    /// By last activity, the newest first; ties by id.
    LastActivity {
        /// Only conversations listed after this one.
        after: Option<ConversationCursor>,
    },
    /// By creation, which is the order of the ids. It never changes.
    Created {
        /// Only conversations after this one in the page's order. It may be deleted.
        after: Option<ConversationId>,
        /// The direction.
        order: PageOrder,
    },
}

/// A place in the order of last activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConversationCursor {
    /// When something last happened in the conversation.
    pub updated_at: Timestamp,
    /// The conversation.
    pub id: ConversationId,
}

/// The direction of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PageOrder {
    /// The oldest first.
    #[default]
    OldestFirst,
    /// The newest first.
    NewestFirst,
}

/// Names a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnRef {
    /// The turn with this id.
    Id(TurnId),
    /// The turn of this conversation that the message belongs to.
    Message(ConversationId, MessageId),
}

/// Selects turns of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnPage {
    /// Only turns after this one.
    pub after: Option<Ordinal>,
    /// Only turns before this one.
    pub before: Option<Ordinal>,
    /// The largest number of turns.
    pub limit: u32,
    /// Whether `limit` keeps the oldest or the newest turns.
    pub order: PageOrder,
    /// Whether superseded turns are included.
    pub includes_superseded: bool,
}

impl TurnPage {
    /// Every turn that is not superseded.
    pub const ALL: Self = Self {
        after: None,
        before: None,
        limit: u32::MAX,
        order: PageOrder::OldestFirst,
        includes_superseded: false,
    };
}

/// Selects tool calls of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToolCallPage {
    /// Only calls after this position.
    pub after: Position,
    /// The largest number of calls.
    pub limit: u32,
}

/// A tool call as the audit shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCallRecord {
    /// The call's position in the conversation.
    pub position: Position,
    /// The turn.
    pub turn: TurnId,
    /// Whether that turn is superseded.
    pub superseded: bool,
    /// When the call was recorded.
    pub at: Timestamp,
    /// The call.
    pub call: ToolCall,
    /// Its result, as far as it is known.
    pub result: Option<ToolResult>,
}
