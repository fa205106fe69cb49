//! The use case: send a message, watch its turn, and all else a client may want.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use crate::{
    Agent, BusyPolicy, ChatError, Conversation, ConversationId, ConversationPage, ConversationStore, Cursor, Environment, IdempotencyKey,
    Observer, StoreError, Title, ToolCallPage, ToolCallRecord, Toolset, Turn, TurnEvent, TurnId, TurnLimits, TurnLog, TurnPage, TurnView,
    UserId,
};

/// What the use case works with.
#[derive(Clone)]
pub struct Deps {
    /// Where conversations are kept.
    pub store: Arc<dyn ConversationStore>,
    /// What says what comes next.
    pub agent: Arc<dyn Agent>,
    /// The tools its agent may call.
    pub tools: Arc<dyn Toolset>,
    /// Time and chance.
    pub environment: Arc<dyn Environment>,
    /// Who hears what turns do.
    pub observer: Arc<dyn Observer>,
    /// How much and how long.
    pub limits: TurnLimits,
}

/// A user's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartTurn {
    /// Who sends it.
    pub owner: UserId,
    /// Where to; a new conversation if `None`.
    pub conversation: Option<ConversationId>,
    /// What it says.
    pub text: String,
    /// What to do if a turn of the conversation runs already.
    pub busy: BusyPolicy,
    /// Recognises a repetition.
    pub idempotency: Option<IdempotencyKey>,
}

/// A wish to have a turn's message answered anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryTurn {
    /// Who asks.
    pub owner: UserId,
    /// The turn to answer anew.
    pub turn: TurnId,
    /// What to do if a turn of the conversation runs already.
    pub busy: BusyPolicy,
    /// Recognises a repetition.
    pub idempotency: Option<IdempotencyKey>,
}

/// A turn whose message is durable.
pub struct StartedTurn {
    /// The turn, as it stands.
    pub turn: Turn,
    /// Whether it was started by an earlier request with the same idempotency key.
    pub repeated: bool,
    /// Runs the turn, and those that wait behind it. The host spawns it where it outlives the request.
    /// `None` if the turn waits, or was started before. Dropped unrun, the turn is found again by the sweep.
    pub task: Option<TurnTask>,
}

/// Runs turns until nothing is left to run. Ends by itself.
pub type TurnTask = BoxFuture<'static, ()>;

/// News of a turn as it comes, each with the reader's cursor after it. Ends after [`TurnEvent::Ended`] or an error.
pub type TurnStream = BoxStream<'static, Result<(Cursor, TurnEvent), ChatError>>;

/// The use case. Knows nothing of any conversation between calls, but for the turns that run in it at the moment.
pub struct ChatService {}

#[allow(unused)]
impl ChatService {
    /// Makes this process known to the store as a worker.
    ///
    /// # Errors
    /// The store's.
    pub async fn open(deps: Deps) -> Result<Arc<Self>, StoreError> { todo!() }

    /// Stores a user's message and begins or queues its turn.
    pub async fn start_turn(self: &Arc<Self>, request: StartTurn) -> Result<StartedTurn, ChatError> { todo!() }

    /// Begins a new turn from the message of an earlier one.
    pub async fn retry_turn(self: &Arc<Self>, request: RetryTurn) -> Result<StartedTurn, ChatError> { todo!() }

    /// The news of a turn after `cursor`, until its end, wherever it runs.
    ///
    /// # Errors
    /// `TurnNotFound`; `Invalid(Cursor)` if the cursor is not one of this turn; the store's.
    pub async fn watch_turn(self: &Arc<Self>, owner: &UserId, turn: TurnId, cursor: Cursor) -> Result<TurnStream, ChatError> { todo!() }

    /// Asks that a turn be cancelled; returns it as it stood when the wish was recorded.
    pub async fn cancel_turn(&self, owner: &UserId, turn: TurnId) -> Result<Turn, ChatError> { todo!() }

    /// A turn as it stands, with all its items.
    pub async fn turn(&self, owner: &UserId, turn: TurnId) -> Result<TurnView, ChatError> { todo!() }

    /// A page of an owner's conversations, the last active first.
    pub async fn conversations(&self, owner: &UserId, page: ConversationPage) -> Result<Vec<Conversation>, ChatError> { todo!() }

    /// One conversation.
    pub async fn conversation(&self, owner: &UserId, id: ConversationId) -> Result<Conversation, ChatError> { todo!() }

    /// Renames a conversation.
    pub async fn rename(&self, owner: &UserId, id: ConversationId, title: &Title) -> Result<Conversation, ChatError> { todo!() }

    /// Deletes a conversation; a turn that runs in it stops.
    pub async fn delete(&self, owner: &UserId, id: ConversationId) -> Result<(), ChatError> { todo!() }

    /// A page of a conversation's turns.
    pub async fn turns(&self, owner: &UserId, id: ConversationId, page: TurnPage) -> Result<Vec<TurnLog>, ChatError> { todo!() }

    /// A page of a conversation's tool calls.
    pub async fn tool_calls(&self, owner: &UserId, id: ConversationId, page: ToolCallPage) -> Result<Vec<ToolCallRecord>, ChatError> { todo!() }

    /// Whether the store answers.
    pub async fn ready(&self) -> Result<(), ChatError> { todo!() }

    /// The life of the worker: heartbeats, and taking over abandoned turns, whose tasks it gives to `spawn`.
    /// Returns after [`hand_over`](Self::hand_over).
    pub async fn work(self: Arc<Self>, spawn: impl Fn(TurnTask) + Send) { todo!() }

    /// Refuses new turns from now on (`ShuttingDown`), while those that run go on.
    pub fn close(&self) { todo!() }

    /// Stops the turns that still run without ending them, and gives them to whoever claims them.
    pub async fn hand_over(&self) { todo!() }
}
