//! Where conversations are kept.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use async_trait::async_trait;

use crate::{
    Conversation, ConversationId, Draft, Feedback, HeldTurn, Item, MessageId, NewItem, Ordinal,
    Position, Timestamp, Title, ToolCall, ToolResult, Turn, TurnFailure, TurnId, TurnLease,
    TurnLog, TurnOutcome, TurnView, Usage, UserId, WorkerId,
};

/// Where conversations are kept. The only memory there is.
///
/// # Contract
/// - One method is one transaction: all of it is durable when it returns `Ok`, or nothing of it
///   ever is. The one exception is [`StoreError::Unavailable`]: the outcome may be unknown, and the
///   same call may be repeated, for all ids are chosen by the caller and the store recognises them.
/// - A future that is dropped leaves its transaction whole: done or not done.
/// - What a caller has dropped, or heard to be `Unavailable`, is done before whatever it asks next,
///   or never: else a worker could be given a turn after it has asked which ones it may have missed
///   (`docs/MODEL.md`).
/// - Owners are kept apart: another owner's id is [`StoreError::NotFound`], like one that never
///   was.
/// - Leases are judged by the store's clock, never by the caller's.
/// - `begin_turn`, `append`, `end_turn` and the reads use a number of statements that does not
///   depend on the length of the conversation.
/// - At most one turn of a conversation runs. While none runs, none is queued.
///
/// The suite [`store_contract!`](crate::store_contract) checks an implementation.
#[cfg_attr(feature = "testing", mockall::automock)]
#[async_trait]
pub trait ConversationStore: Send + Sync {
    // Reading and keeping, as one owner.

    /// One page of an owner's conversations: the last active first, ties by id.
    async fn conversations(
        &self,
        owner: &UserId,
        page: ConversationPage,
    ) -> Result<Vec<Conversation>, StoreError>;

    /// One page of an owner's conversations, in the order of their ids, which is that of their
    /// beginnings. Unlike the order of the last activity it never changes, and a page may begin
    /// after a conversation that is gone.
    async fn conversations_begun(
        &self,
        owner: &UserId,
        page: BegunPage,
    ) -> Result<Vec<Conversation>, StoreError>;

    /// One conversation.
    async fn conversation(
        &self,
        owner: &UserId,
        id: ConversationId,
    ) -> Result<Conversation, StoreError>;

    /// Changes the title, and `updated_at` to `at`.
    async fn rename(
        &self,
        owner: &UserId,
        id: ConversationId,
        title: &Title,
        at: Timestamp,
    ) -> Result<Conversation, StoreError>;

    /// Deletes a conversation and all that belongs to it. A turn that runs in it can write nothing
    /// from then on.
    async fn delete(&self, owner: &UserId, id: ConversationId) -> Result<(), StoreError>;

    /// A page of a conversation's turns with their items, in order of their ordinals whatever the
    /// direction of the page.
    async fn turns(
        &self,
        owner: &UserId,
        id: ConversationId,
        page: TurnPage,
    ) -> Result<Vec<TurnLog>, StoreError>;

    /// One turn: its items after `after`, and its draft, unless the draft's message is an item
    /// already. Of a queued turn always the user's message alone, at [`Position::START`].
    async fn turn(
        &self,
        owner: &UserId,
        id: TurnId,
        after: Position,
    ) -> Result<TurnView, StoreError>;

    /// The turn of a conversation that a message belongs to.
    async fn turn_of(
        &self,
        owner: &UserId,
        id: ConversationId,
        message: MessageId,
    ) -> Result<Turn, StoreError>;

    /// The message that each of these turns answers in the first place, and when it was made: its
    /// own, or if it is a retry, that of the turn where the retries began. Unknown turns are passed
    /// over.
    async fn first_asked(
        &self,
        owner: &UserId,
        turns: Vec<TurnId>,
    ) -> Result<HashMap<TurnId, (MessageId, Timestamp)>, StoreError>;

    /// A page of a conversation's tool calls with their results, in order of their positions,
    /// superseded turns included.
    async fn tool_calls(
        &self,
        owner: &UserId,
        id: ConversationId,
        page: ToolCallPage,
    ) -> Result<Vec<ToolCallRecord>, StoreError>;

    /// Asks that a turn be cancelled, and returns it as it stands then. A running turn's worker
    /// hears of it by its heartbeat; a queued one ends when its time comes; an ended one stays as
    /// it is.
    async fn request_cancel(&self, owner: &UserId, id: TurnId) -> Result<Turn, StoreError>;

    /// Forgets the idempotency key of a turn: the same request is a new one from now on.
    async fn forget_key(&self, owner: &UserId, id: TurnId) -> Result<(), StoreError>;

    /// Keeps what the owner thinks of messages of a conversation, in place of what they thought
    /// before. All must be in it: else `NotFound`, and nothing is kept.
    async fn give_feedback(
        &self,
        owner: &UserId,
        id: ConversationId,
        messages: Vec<MessageId>,
        feedback: Feedback,
        at: Timestamp,
    ) -> Result<(), StoreError>;

    /// What the owner thinks of the messages of a conversation, in order of the messages' ids.
    async fn feedback(
        &self,
        owner: &UserId,
        id: ConversationId,
    ) -> Result<Vec<(MessageId, Feedback)>, StoreError>;

    // Turns that run.

    /// Stores a user's message and begins its turn, or queues it if a turn of the conversation
    /// runs.
    ///
    /// In this order: an unknown conversation is `NotFound`; an idempotency key that was used
    /// before gives [`Begun::Existing`] (same fingerprint) or `IdempotencyMismatch`; [`BusyPolicy`]
    /// and the queue's limit are applied. An error stores nothing. A turn with `retry_of`
    /// supersedes that turn and all between when it starts to run; `retry_of` must be a turn of the
    /// same conversation (`NotFound` otherwise) that is not superseded (`Superseded`).
    ///
    /// [`BusyPolicy::Interrupt`] asks to cancel the running turn and all queued ones in the same
    /// transaction.
    ///
    /// Repeating the call with the same turn id returns what the first one began:
    /// [`Begun::Running`] if the turn still runs under this worker's name, else [`Begun::Queued`]
    /// with the turn as it stands.
    async fn begin_turn(&self, turn: BeginTurn) -> Result<Begun, StoreError>;

    /// Adds items to a running turn, all or none, and clears its draft.
    ///
    /// Items already stored under their ids are returned as they are, so the same call may be
    /// repeated.
    ///
    /// # Errors
    /// `LeaseLost` if the lease is not the turn's current one, or the turn has ended or is gone.
    async fn append(&self, lease: &TurnLease, items: Vec<NewItem>)
    -> Result<Vec<Item>, StoreError>;

    /// Adds the last items, ends the turn, clears its draft and begins the next queued turn for the
    /// same worker.
    ///
    /// Queued turns whose cancel was requested get their message placed and end as `Cancelled` on
    /// the way. Repeating the call with the same lease returns what the first one did; the next
    /// turn only if nobody has claimed it since.
    ///
    /// # Errors
    /// `LeaseLost`, as in `append`.
    async fn end_turn(
        &self,
        lease: &TurnLease,
        last: Vec<NewItem>,
        outcome: TurnOutcome,
        usage: Usage,
        at: Timestamp,
    ) -> Result<EndedTurn, StoreError>;

    /// Ends a running turn as failed by its lease alone, where [`end_turn`](Self::end_turn) fails
    /// for good.
    ///
    /// Depends on no other row than the turn's own: neither its items nor its conversation need to
    /// be readable. Open tool calls end as unknown and the next queued turn begins as far as their
    /// rows allow it; that turn is held by no worker, so the next claim takes it, and no attempt is
    /// counted for it yet. Repeating the call with the same lease changes nothing.
    ///
    /// # Errors
    /// `LeaseLost`, as in `append`.
    async fn force_end(
        &self,
        lease: &TurnLease,
        failure: TurnFailure,
        at: Timestamp,
    ) -> Result<(), StoreError>;

    // Workers.

    /// Makes a worker known: its turns are safe from being claimed for `lease`. Workers whose
    /// leases ended long ago and that hold no turn may be forgotten.
    async fn enroll(&self, worker: WorkerId, lease: Duration) -> Result<(), StoreError>;

    /// Renews a worker's lease, saves drafts and says which of its running turns should be
    /// cancelled. Drafts whose lease is not current, or whose message is an item already, are
    /// passed over.
    ///
    /// # Errors
    /// `LeaseLost` if the worker is not known any more: others may have claimed its turns. It must
    /// stop them and enroll under a new id.
    async fn heartbeat(
        &self,
        worker: WorkerId,
        lease: Duration,
        drafts: Vec<(TurnLease, Draft)>,
    ) -> Result<Heartbeat, StoreError>;

    /// Takes over running turns that no living worker holds: each by exactly one caller, with a new
    /// epoch, one more attempt and no draft. The claimer itself counts as living; its own turns are
    /// claimed only by [`Claim::holding`]. A turn that cannot be loaded is ended as failed with
    /// [`FailureKind::Internal`](crate::FailureKind::Internal), as by
    /// [`force_end`](Self::force_end), and left out: it never keeps a worker from the other turns.
    /// A worker whose lease ran out is forgotten when one of its turns is claimed. It takes nothing
    /// of others before its next heartbeat: what it asked may have been on its way for long, while
    /// others could not say that they live.
    async fn claim_abandoned(&self, claim: Claim) -> Result<Vec<HeldTurn>, StoreError>;

    /// Deregisters a worker and releases its turns: it can write them no more, and they can be
    /// claimed at once. The worker's attempt does not count for the turns in `handed_over`. For its
    /// other turns it does: their runs were broken off before.
    async fn retire(&self, worker: WorkerId, handed_over: Vec<TurnId>) -> Result<(), StoreError>;

    /// How these turns stand, whosoever they are: a worker's readers wait for them. Unknown ones
    /// are passed over. One statement.
    async fn marks(&self, turns: Vec<TurnId>) -> Result<HashMap<TurnId, TurnMark>, StoreError>;

    /// Whether the store answers.
    async fn ping(&self) -> Result<(), StoreError>;
}

/// Tells whether a turn has changed, without saying what is in it: while its mark is the same, so
/// are its status, items and draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnMark {
    /// How often it was begun or claimed.
    pub epoch: u64,
    /// Whether it has ended.
    pub ended: bool,
    /// The place of the last item of its conversation.
    pub last: Position,
    /// The length of its draft.
    pub draft_bytes: usize,
}

/// Which of an owner's conversations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConversationPage {
    /// Only those listed after this one: the last conversation of the page before.
    pub after: Option<(Timestamp, ConversationId)>,
    /// At most so many.
    pub limit: u32,
}

/// Which of an owner's conversations, in the order of their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BegunPage {
    /// Only those behind this one in the page's order. It need not be there any more.
    pub after: Option<ConversationId>,
    /// At most so many.
    pub limit: u32,
    /// Whether the newest comes first.
    pub newest_first: bool,
}

/// Which of a conversation's turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnPage {
    /// Only turns after this one.
    pub after: Option<Ordinal>,
    /// Only turns before this one.
    pub before: Option<Ordinal>,
    /// At most so many: the first of them, or the last if `newest`.
    pub limit: u32,
    /// Whether `limit` keeps the last ones rather than the first.
    pub newest: bool,
    /// Whether superseded turns are included.
    pub superseded: bool,
}

impl TurnPage {
    /// Every turn that has not been superseded.
    pub const ALL: Self = Self {
        after: None,
        before: None,
        limit: u32::MAX,
        newest: false,
        superseded: false,
    };
}

/// Which of a conversation's tool calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToolCallPage {
    /// Only calls after this place.
    pub after: Position,
    /// At most so many.
    pub limit: u32,
}

/// A tool call as the audit shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCallRecord {
    /// The call's place in the conversation.
    pub position: Position,
    /// The turn.
    pub turn: TurnId,
    /// Whether that turn is superseded.
    pub superseded: bool,
    /// When it was recorded.
    pub at: Timestamp,
    /// The call.
    pub call: ToolCall,
    /// What came of it, as far as is known.
    pub result: Option<ToolResult>,
}

/// A user's message and the turn it begins. All ids are new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeginTurn {
    /// Who sends it.
    pub owner: UserId,
    /// Where to.
    pub target: Target,
    /// The new turn.
    pub turn: TurnId,
    /// The new message.
    pub message: MessageId,
    /// What it says.
    pub text: String,
    /// When.
    pub at: Timestamp,
    /// The worker that will run the turn.
    pub worker: WorkerId,
    /// What to do if a turn runs already.
    pub busy: BusyPolicy,
    /// How many turns may wait in the conversation.
    pub queue_limit: u32,
    /// Recognises a repetition of the request.
    pub idempotency: Option<IdempotencyKey>,
    /// The turn that this one answers anew.
    pub retry_of: Option<TurnId>,
}

/// The conversation a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A new one, under this id and title.
    New(ConversationId, Title),
    /// One that exists.
    Existing(ConversationId),
}

impl Target {
    /// The conversation's id.
    pub fn id(&self) -> ConversationId {
        match self {
            Self::New(id, _) | Self::Existing(id) => *id,
        }
    }
}

/// What to do with a message when a turn of its conversation runs already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BusyPolicy {
    /// Wait for its turn, in order of arrival.
    #[default]
    Enqueue,
    /// Refuse it: [`StoreError::TurnRunning`].
    Reject,
    /// Cancel the running and the waiting turns, keep what they did, then run.
    Interrupt,
}

/// Recognises a repetition of a request. Keys of different owners never meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// What the client chose, at most 255 bytes.
    pub key: String,
    /// A digest of the request, so that the same key with another request is noticed.
    pub fingerprint: [u8; 32],
}

/// What [`ConversationStore::begin_turn`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// The turn runs: run it.
    Running(HeldTurn),
    /// The turn waits for an earlier one.
    Queued(Turn),
    /// The idempotency key was used before, for this turn.
    Existing(Turn),
}

/// What [`ConversationStore::end_turn`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedTurn {
    /// The turn, ended.
    pub turn: Turn,
    /// The last items, in their places.
    pub items: Vec<Item>,
    /// The next turn of the conversation, running now: run it.
    pub next: Option<HeldTurn>,
}

/// What a worker hears.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// Turns it holds whose cancel was requested.
    pub cancel: Vec<TurnId>,
}

/// A worker's wish for abandoned turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who claims.
    pub worker: WorkerId,
    /// At most so many.
    pub limit: u32,
    /// If given: all the turns the worker knows that it runs. Running turns that the store has
    /// under its name but are not listed count as abandoned too: an answer that was lost had given
    /// them to it.
    pub holding: Option<Vec<TurnId>>,
}

/// What a store refuses or fails at.
///
/// [`Unavailable`](Self::Unavailable) is transient, unless the content is damaged: the same call
/// may succeed later. Every other error is permanent.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such thing, or another owner's.
    #[error("not found")]
    NotFound,
    /// A retry has taken the place of the turn that was to be answered anew.
    #[error("the turn is superseded")]
    Superseded,
    /// A turn of the conversation runs, and the message was to be rejected then.
    #[error("turn {0} is running")]
    TurnRunning(TurnId),
    /// Too many turns wait in the conversation.
    #[error("the queue of the conversation is full")]
    QueueFull,
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    IdempotencyMismatch,
    /// The lease is not the current one.
    #[error("the lease is lost")]
    LeaseLost,
    /// The store cannot do it now. Whether it was done may be unknown.
    #[error("the store is unavailable ({0:?})")]
    Unavailable(Unavailability, #[source] Box<dyn Error + Send + Sync>),
    /// A permanent error: the same call fails again. A row that cannot be read, a value that the
    /// database refuses, a wrong statement. Nothing was done.
    #[error("store fault")]
    Internal(#[source] Box<dyn Error + Send + Sync>),
}

impl StoreError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(kind, _) if *kind != Unavailability::Damaged)
    }
}

/// Why a store is unavailable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unavailability {
    /// It cannot be reached.
    Unreachable,
    /// It is slower than its limit.
    Timeout,
    /// Its disk is full.
    Full,
    /// It can only be read.
    ReadOnly,
    /// Its content is damaged. Somebody has to restore it before anything more can be stored.
    Damaged,
}
