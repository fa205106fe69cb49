//! The use case: everything that clients may request: sending messages, watching turns, and
//! managing conversations.

use std::sync::Arc;

use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::turns::lease::{UncertainOwnership, WorkerLease};
use crate::turns::reader::Reader;
use crate::turns::registry::{RunHandle, RunningTurn, TurnRegistry};
use crate::turns::remote;
use crate::turns::runner::TurnRunner;
use crate::{
    BeginOutcome, BeginTurn, BusyPolicy, ChatError, ChatServiceConfig, Conversation,
    ConversationId, ConversationPage, Cursor, Feedback, HeldTurn, IdempotencyKey, InvalidInput,
    ItemBody, LoggedTurn, MessageId, OriginalMessage, Position, Refusal, RetryOf, Role, StoreError,
    Target, Title, ToolCallPage, ToolCallRecord, Turn, TurnId, TurnPage, TurnRef, TurnStream,
    TurnView, UserId,
};

/// A user's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartTurn {
    /// The user who sends it.
    pub owner: UserId,
    /// Where to; a new conversation if `None`.
    pub conversation: Option<ConversationId>,
    /// Its text.
    pub text: String,
    /// The policy if a turn of the conversation runs already.
    pub busy: BusyPolicy,
    /// Recognises a repetition.
    pub idempotency: Option<IdempotencyKey>,
}

impl StartTurn {
    /// A message that begins a new conversation.
    pub fn new(owner: UserId, text: impl Into<String>) -> Self {
        Self {
            owner,
            conversation: None,
            text: text.into(),
            busy: BusyPolicy::default(),
            idempotency: None,
        }
    }
}

/// A request to retry a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryTurn {
    /// The user who asks.
    pub owner: UserId,
    /// The turn to retry.
    pub turn: TurnId,
    /// The policy if a turn of the conversation runs already.
    pub busy: BusyPolicy,
    /// Recognises a repetition.
    pub idempotency: Option<IdempotencyKey>,
}

/// A turn whose message is durable.
pub struct StartedTurn {
    /// The turn.
    pub turn: Turn,
    /// Whether it was started by an earlier request with the same idempotency key.
    pub repeated: bool,
    /// Runs the turn, and those that wait behind it. The host spawns it where it outlives the
    /// request. `None` if the turn waits, or was started before. If the task is dropped before it
    /// runs, the next claim finds the turn.
    pub task: Option<TurnTask>,
}

/// Runs turns until nothing is left to run. Ends by itself.
pub type TurnTask = BoxFuture<'static, ()>;

/// The use case. Between calls it keeps no state of a conversation except for its running turns.
pub struct ChatService {
    config: ChatServiceConfig,
    worker: WorkerLease,
    registry: Arc<TurnRegistry>,
    phase: watch::Sender<ShutdownPhase>,
}

/// The phase of the shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ShutdownPhase {
    Running,
    /// Nothing new is taken.
    Draining,
    /// Running turns are released.
    Releasing,
    Released,
}

impl ChatService {
    /// Makes this process known to the store as a worker. The host then spawns
    /// [`work`](Self::work).
    ///
    /// # Errors
    /// The store's.
    pub async fn open(config: ChatServiceConfig) -> Result<Arc<Self>, StoreError> {
        let worker = WorkerLease::register(&config).await?;
        Ok(Arc::new(Self {
            config,
            worker,
            registry: TurnRegistry::new(),
            phase: watch::Sender::new(ShutdownPhase::Running),
        }))
    }

    /// Stores a user's message and begins or queues its turn. The message is durable when this
    /// returns `Ok`.
    ///
    /// Once the store has been asked, dropping the future does not undo it: the turn is then found
    /// by the sweep.
    ///
    /// # Errors
    /// `Invalid`, `ConversationNotFound`, `Busy`, `QueueFull`, `IdempotencyMismatch`,
    /// `ShuttingDown`; the store's.
    pub async fn start_turn(
        self: &Arc<Self>,
        request: StartTurn,
    ) -> Result<StartedTurn, ChatError> {
        let StartTurn {
            owner,
            conversation,
            text,
            busy,
            idempotency,
        } = request;
        self.check_open()?;
        check_message(&text, self.config.limits.message_chars)?;
        let target = match conversation {
            Some(id) => Target::Existing(id),
            None => Target::New(
                ConversationId(self.config.environment.fresh_id()),
                Title::from_message(&text),
            ),
        };
        self.begin(owner, target, text, busy, idempotency, None)
            .await
            .map_err(no_conversation)
    }

    /// Sends a message and waits for the end of its turn; returns the turn with all its items.
    ///
    /// Runs the turn itself: if the future is dropped, another worker claims the turn. A turn that
    /// runs elsewhere or is queued is awaited, which needs [`work`](Self::work).
    ///
    /// # Errors
    /// Those of [`start_turn`](Self::start_turn) and [`watch_turn`](Self::watch_turn).
    pub async fn send(self: &Arc<Self>, request: StartTurn) -> Result<TurnView, ChatError> {
        let owner = request.owner.clone();
        let StartedTurn { turn, task, .. } = self.start_turn(request).await?;
        match task {
            Some(task) => task.await,
            None => {
                let events = self.watch_turn(&owner, turn.id, Cursor::START).await?;
                events.try_for_each(|_| async { Ok(()) }).await?;
            }
        }
        self.turn(&owner, turn.id).await
    }

    /// Begins a new turn from the message of an earlier one. When it starts to run, it supersedes
    /// that turn and all after it.
    ///
    /// # Errors
    /// `TurnNotFound`, `Superseded`, and those of [`start_turn`](Self::start_turn).
    pub async fn retry_turn(
        self: &Arc<Self>,
        request: RetryTurn,
    ) -> Result<StartedTurn, ChatError> {
        let RetryTurn {
            owner,
            turn,
            busy,
            idempotency,
        } = request;
        self.check_open()?;
        let view = self.turn(&owner, turn).await?;
        let message = view.items.iter().find_map(|item| match &item.body {
            ItemBody::Message(message) if message.role == Role::User => Some((message, item.at)),
            _ => None,
        });
        let (message, at) = message.ok_or(ChatError::TurnNotFound)?;
        let original = view
            .turn
            .original
            .unwrap_or(OriginalMessage { id: message.id, at });
        let (text, target) = (
            message.text.clone(),
            Target::Existing(view.turn.conversation),
        );
        let retry = RetryOf { turn, original };
        self.begin(owner, target, text, busy, idempotency, Some(retry))
            .await
            .map_err(no_turn)
    }

    async fn begin(
        self: &Arc<Self>,
        owner: UserId,
        target: Target,
        text: String,
        busy: BusyPolicy,
        idempotency: Option<IdempotencyKey>,
        retry_of: Option<RetryOf>,
    ) -> Result<StartedTurn, StoreError> {
        let environment = &self.config.environment;
        let conversation = target.id();
        let begin = BeginTurn {
            owner,
            target,
            turn: TurnId(environment.fresh_id()),
            message: MessageId(environment.fresh_id()),
            text,
            at: environment.now(),
            worker: self.worker.id(),
            busy,
            queue_limit: self.config.limits.queue,
            idempotency,
            retry_of,
        };
        let uncertain = UncertainOwnership::arm(&self.registry);
        let begun = self.config.store.begin(begin).await;
        if !matches!(
            begun,
            Err(StoreError::Unavailable(..) | StoreError::Internal(_))
        ) {
            uncertain.disarm();
        }
        Ok(match begun? {
            BeginOutcome::Started(held) => {
                let turn = held.turn.clone();
                StartedTurn {
                    turn,
                    repeated: false,
                    task: self.task(held),
                }
            }
            BeginOutcome::Stored(turn) => {
                // For a turn that runs here: other workers learn of it by their heartbeat.
                if busy == BusyPolicy::Interrupt {
                    self.registry.cancel_in(conversation, turn.ordinal);
                }
                StartedTurn {
                    turn,
                    repeated: false,
                    task: None,
                }
            }
            BeginOutcome::Duplicate(turn) => StartedTurn {
                turn,
                repeated: true,
                task: None,
            },
        })
    }

    /// Registers a turn that is about to run here, unless it belongs to another worker by now.
    fn start(&self, held: &HeldTurn) -> Option<RunHandle> {
        let run = self.registry.start(held)?;
        // Checked only after the registration: a release of all turns before it did not include
        // this turn.
        let is_ours = held.lease.worker == self.worker.id()
            && *self.phase.borrow() < ShutdownPhase::Releasing;
        if !is_ours {
            self.registry.record_release(held.turn.id);
        }
        is_ours.then_some(run)
    }

    /// The task that runs a turn and those that wait behind it. `None` if it runs here under a
    /// newer lease already.
    fn task(self: &Arc<Self>, held: HeldTurn) -> Option<TurnTask> {
        let run = self.start(&held)?;
        let service = Arc::clone(self);
        Some(Box::pin(async move {
            let mut current = Some((held, run));
            while let Some((held, run)) = current {
                let runner = TurnRunner::new(&service.config, &service.worker, held, run);
                let next = runner.run().await;
                current = next.and_then(|held| service.start(&held).map(|run| (held, run)));
            }
        }))
    }

    /// A stream of a turn's events after `cursor`, until its end, wherever it runs. Events of
    /// turns that run elsewhere come while [`work`](Self::work) runs.
    ///
    /// # Errors
    /// `TurnNotFound`; `Invalid(Cursor)` if it is not a position in this turn; the store's.
    pub async fn watch_turn(
        self: &Arc<Self>,
        owner: &UserId,
        turn: TurnId,
        cursor: Cursor,
    ) -> Result<TurnStream, ChatError> {
        let slot = self.registry.slot(turn);
        let running = slot.subscribe();
        let here = {
            let running = running.borrow();
            let mine = running.as_ref().filter(|running| running.owner == *owner);
            let is_ahead = |running: &&RunningTurn| !running.view.is_behind(cursor);
            let mine = mine.filter(is_ahead);
            mine.map(|running| running.view.checked_events_after(cursor))
        };
        let events = match here {
            Some(events) => events,
            None => self.turn(owner, turn).await?.checked_events_after(cursor),
        };
        let reader = Reader {
            store: Arc::clone(&self.config.store),
            owner: owner.clone(),
            turn,
            cursor,
            running,
            _slot: slot,
            ready: events.map_err(|_| InvalidInput::Cursor)?.into(),
        };
        Ok(reader.events())
    }

    /// Requests the cancellation of a turn. Returns the turn as it was when the request was stored.
    ///
    /// # Errors
    /// `TurnNotFound`; the store's.
    pub async fn cancel_turn(&self, owner: &UserId, turn: TurnId) -> Result<Turn, ChatError> {
        let observed = self
            .config
            .store
            .request_cancel(owner, turn)
            .await
            .map_err(no_turn)?;
        self.registry.cancel(turn);
        Ok(observed)
    }

    /// A turn as it is in the store, with all its items.
    ///
    /// # Errors
    /// `TurnNotFound`; the store's.
    pub async fn turn(&self, owner: &UserId, turn: TurnId) -> Result<TurnView, ChatError> {
        self.turn_by(owner, TurnRef::Id(turn), Position::START)
            .await
    }

    /// The turn of a conversation that a message belongs to.
    ///
    /// # Errors
    /// `TurnNotFound`; the store's.
    pub async fn turn_of_message(
        &self,
        owner: &UserId,
        id: ConversationId,
        message: MessageId,
    ) -> Result<Turn, ChatError> {
        let turn = TurnRef::Message(id, message);
        Ok(self.turn_by(owner, turn, Position::END).await?.turn)
    }

    async fn turn_by(
        &self,
        owner: &UserId,
        turn: TurnRef,
        after: Position,
    ) -> Result<TurnView, ChatError> {
        let view = self.config.store.turn(owner, turn, after).await;
        view.map_err(no_turn)?.ok_or(ChatError::TurnNotFound)
    }

    /// A page of an owner's conversations.
    ///
    /// # Errors
    /// The store's.
    pub async fn conversations(
        &self,
        owner: &UserId,
        page: ConversationPage,
    ) -> Result<Vec<Conversation>, ChatError> {
        let page = self.config.store.list(owner, page).await;
        page.map_err(no_conversation)
    }

    /// One conversation.
    ///
    /// # Errors
    /// `ConversationNotFound`; the store's.
    pub async fn conversation(
        &self,
        owner: &UserId,
        id: ConversationId,
    ) -> Result<Conversation, ChatError> {
        let conversation = self.config.store.get(owner, id).await;
        found(conversation)
    }

    /// Renames a conversation.
    ///
    /// # Errors
    /// `ConversationNotFound`; the store's.
    pub async fn rename(
        &self,
        owner: &UserId,
        id: ConversationId,
        title: &Title,
    ) -> Result<Conversation, ChatError> {
        let now = self.config.environment.now();
        let renamed = self.config.store.rename(owner, id, title, now).await;
        renamed.map_err(no_conversation)
    }

    /// Deletes a conversation; its running turn stops.
    ///
    /// # Errors
    /// `ConversationNotFound`; the store's.
    pub async fn delete(&self, owner: &UserId, id: ConversationId) -> Result<(), ChatError> {
        let deleted = self.config.store.delete(owner, id).await;
        deleted.map_err(no_conversation)?;
        self.registry.release_in(id);
        Ok(())
    }

    /// A page of a conversation's turns.
    ///
    /// # Errors
    /// `ConversationNotFound`; the store's.
    pub async fn turns(
        &self,
        owner: &UserId,
        id: ConversationId,
        page: TurnPage,
    ) -> Result<Vec<LoggedTurn>, ChatError> {
        found(self.config.store.turns(owner, id, page).await)
    }

    /// The turn that answers a user's message now: its own, or the retry that superseded it.
    ///
    /// # Errors
    /// `TurnNotFound`, `Superseded` if the message has left the conversation; the store's.
    pub async fn turn_answering(
        &self,
        owner: &UserId,
        id: ConversationId,
        question: MessageId,
    ) -> Result<Turn, ChatError> {
        let turn = TurnRef::Message(id, question);
        let TurnView { turn, items, .. } = self.turn_by(owner, turn, Position::START).await?;
        let asks = |body: &ItemBody| matches!(body, ItemBody::Message(message) if message.id == question && message.role == Role::User);
        if !items.iter().any(|item| asks(&item.body)) {
            return Err(ChatError::TurnNotFound);
        }
        if !turn.superseded {
            return Ok(turn);
        }
        // If the message was retried, then by the first turn behind it that is not superseded.
        let behind = TurnPage {
            after: Some(turn.ordinal),
            limit: 1,
            ..TurnPage::ALL
        };
        let next = self.turns(owner, id, behind).await?.pop();
        let original = turn.original.map_or(question, |original| original.id);
        match next.map(|logged| logged.turn) {
            Some(next) if next.original.is_some_and(|next| next.id == original) => Ok(next),
            _ => Err(ChatError::Superseded),
        }
    }

    /// Releases the idempotency key of a turn: the same request begins a new turn from now on.
    ///
    /// # Errors
    /// `TurnNotFound`; the store's.
    pub async fn release_key(&self, owner: &UserId, turn: TurnId) -> Result<(), ChatError> {
        self.config
            .store
            .release_key(owner, turn)
            .await
            .map_err(no_turn)
    }

    /// Stores the owner's feedback on messages of a conversation.
    ///
    /// # Errors
    /// `ConversationNotFound`, also if one of the messages is not in it; the store's.
    pub async fn set_feedback(
        &self,
        owner: &UserId,
        id: ConversationId,
        messages: Vec<MessageId>,
        feedback: Feedback,
    ) -> Result<(), ChatError> {
        let at = self.config.environment.now();
        self.config
            .store
            .set_feedback(owner, id, messages, feedback, at)
            .await
            .map_err(no_conversation)
    }

    /// A page of a conversation's tool calls.
    ///
    /// # Errors
    /// `ConversationNotFound`; the store's.
    pub async fn tool_calls(
        &self,
        owner: &UserId,
        id: ConversationId,
        page: ToolCallPage,
    ) -> Result<Vec<ToolCallRecord>, ChatError> {
        found(self.config.store.tool_calls(owner, id, page).await)
    }

    /// Whether new turns can be taken: the store answers, and this worker is not about to stop.
    ///
    /// # Errors
    /// `ShuttingDown`; the store's.
    pub async fn ready(&self) -> Result<(), ChatError> {
        self.check_open()?;
        self.config.store.ping().await.map_err(ChatError::Store)
    }

    /// Runs the worker: sends heartbeats, claims abandoned turns and passes their tasks to `spawn`.
    /// Returns after [`hand_over`](Self::hand_over).
    pub async fn work(self: Arc<Self>, spawn: impl Fn(TurnTask) + Send) {
        let run = |held| {
            if let Some(task) = self.task(held) {
                spawn(task);
            }
        };
        let closed = self.wait_for_phase(ShutdownPhase::Draining);
        let (config, registry) = (&self.config, &self.registry);
        let sweep = self.worker.claim_abandoned(config, registry, closed, run);
        let beat = async {
            tokio::select! {
                biased;
                () = self.wait_for_phase(ShutdownPhase::Released) => {}
                () = self.worker.send_heartbeats(&self.config, &self.registry) => {}
            }
        };
        let follow = async {
            tokio::select! {
                biased;
                () = self.wait_for_phase(ShutdownPhase::Released) => {}
                () = remote::watch_remote_turns(&self.config, &self.registry) => {}
            }
        };
        tokio::join!(sweep, beat, follow);
    }

    /// Refuses new turns from now on and claims none, while running turns continue.
    pub fn close(&self) {
        self.phase
            .send_modify(|phase| *phase = (*phase).max(ShutdownPhase::Draining));
    }

    /// Releases the turns that still run, without ending them, so that other workers can claim
    /// them. Their tasks must still be polled while this waits for them.
    ///
    /// # Errors
    /// The store's: then the turns are claimed when the lease has run out.
    pub async fn hand_over(&self) -> Result<(), StoreError> {
        self.phase.send_replace(ShutdownPhase::Releasing);
        self.registry.hand_over_all();
        self.registry.wait_until_idle().await;
        let retired = self
            .config
            .store
            .deregister(self.worker.id(), self.registry.handed_over())
            .await;
        self.phase.send_replace(ShutdownPhase::Released);
        retired
    }

    fn check_open(&self) -> Result<(), ChatError> {
        if *self.phase.borrow() == ShutdownPhase::Running {
            Ok(())
        } else {
            Err(ChatError::ShuttingDown)
        }
    }

    async fn wait_for_phase(&self, phase: ShutdownPhase) {
        // Waiting cannot fail: `self` owns the sender.
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }
}

fn no_turn(error: StoreError) -> ChatError {
    chat_error(error, ChatError::TurnNotFound)
}

fn no_conversation(error: StoreError) -> ChatError {
    chat_error(error, ChatError::ConversationNotFound)
}

/// The result of a look-up of a conversation.
fn found<T>(read: Result<Option<T>, StoreError>) -> Result<T, ChatError> {
    read.map_err(no_conversation)?
        .ok_or(ChatError::ConversationNotFound)
}

fn chat_error(error: StoreError, not_found: ChatError) -> ChatError {
    match error.refusal() {
        Some(Refusal::NotFound) => not_found,
        Some(Refusal::Superseded) => ChatError::Superseded,
        Some(Refusal::TurnRunning(turn)) => ChatError::Busy(turn),
        Some(Refusal::QueueFull) => ChatError::QueueFull,
        Some(Refusal::IdempotencyMismatch) => ChatError::IdempotencyMismatch,
        Some(Refusal::LeaseLost) | None => ChatError::Store(error),
    }
}

/// A user's message is 1 to `limit` characters, not only white space, and without U+0000.
fn check_message(text: &str, limit: usize) -> Result<(), InvalidInput> {
    if text.trim().is_empty() {
        return Err(InvalidInput::MessageEmpty);
    }
    if text.contains('\0') {
        return Err(InvalidInput::Nul);
    }
    let length = text.chars().count();
    if length > limit {
        return Err(InvalidInput::MessageTooLong { limit, length });
    }
    Ok(())
}
