//! The store: the domain's ports on a backend's writer and readers.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chat_domain::{
    AppendItems, BeginOutcome, BeginTurn, Claim, Conversation, ConversationId, ConversationPage,
    Conversations, DraftUpdate, EndTurn, EndedTurn, Feedback, Heartbeat, HeldTurn, Item,
    LoggedTurn, MessageId, Position, StoreResult, Timestamp, Title, ToolCallPage, ToolCallRecord,
    Turn, TurnFailure, TurnId, TurnLease, TurnLog, TurnPage, TurnRef, TurnVersion, TurnView,
    UserId, WorkerId, WorkerLeases,
};
use tokio::time::timeout;

use crate::backend::{Backend, Writer};
use crate::batch::{BatchedWrite, Command, WriteRequest};
use crate::connection::Connection;
use crate::error::StoreFault;
use crate::guards;
use crate::options::{OpenError, OpenOptions};
use crate::postgres;
use crate::queries::claims::ClaimAbandoned;
use crate::queries::conversations::{self, Delete, Rename};
use crate::queries::feedback::SetFeedback;
use crate::queries::force_end::ForceEnd;
use crate::queries::log;
use crate::queries::turns::{Cancel, ReleaseKey};
use crate::queries::workers::{self, DeleteAllWorkers, Deregister, Register, RenewLease};
use crate::reader::Reader;
use crate::sqlite::Sqlite;

/// A [`ConversationStore`](chat_domain::ConversationStore) in a database.
///
/// Concurrent commands of many callers are committed as one transaction; reads do not wait for
/// it. Its tasks run on the runtime it was opened on, whatever runtime its methods are called from.
pub struct SeaOrmStore {
    writer: Box<dyn Writer>,
    pub(crate) reader: Reader,
    backend: Arc<dyn Backend>,
    timeout: Duration,
}

impl fmt::Debug for SeaOrmStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeaOrmStore").finish_non_exhaustive()
    }
}

impl SeaOrmStore {
    /// Opens the database at `url`: `sqlite://path` or `postgres://user:password@host/database`.
    ///
    /// Creates an SQLite file that does not exist, and its folder. The file belongs to this process
    /// until the store is closed (or a moment after it is dropped) or the process ends. No other
    /// worker can be alive then, so all workers are deregistered, and the turns they ran can be
    /// claimed at once.
    ///
    /// A PostgreSQL database must exist, and is shared with all other processes that open it.
    ///
    /// # Errors
    /// See [`OpenError`].
    ///
    /// # Panics
    /// Outside of a tokio runtime with time enabled.
    pub async fn open(url: &str, options: OpenOptions) -> Result<Self, OpenError> {
        let backend: Arc<dyn Backend> = match url.split_once(':') {
            Some(("sqlite", _)) => Arc::new(Sqlite::open(url, &options).await?),
            Some(("postgres" | "postgresql", _)) => Arc::new(postgres::open(url, &options).await?),
            _ => {
                return Err(OpenError::Url {
                    reason: "it begins with neither `sqlite:` nor `postgres:`".to_owned(),
                });
            }
        };
        Self::start(backend, &options).await
    }

    pub(crate) async fn start(
        backend: Arc<dyn Backend>,
        options: &OpenOptions,
    ) -> Result<Self, OpenError> {
        let store = Self {
            writer: Arc::clone(&backend).start_writer(options),
            reader: Reader::new(Arc::clone(&backend), options.timeout),
            backend,
            timeout: options.timeout,
        };
        if store.backend.is_exclusive() {
            store
                .write(DeleteAllWorkers)
                .await
                .map_err(|error| OpenError::Database(Box::new(error)))?;
        }
        Ok(store)
    }

    /// Submits a command; returns when it is durable. If the caller goes away, it is done or not
    /// done.
    pub(crate) async fn submit<C, A>(
        &self,
        command: C,
        write: impl FnOnce(WriteRequest<C, A>) -> BatchedWrite,
    ) -> StoreResult<A> {
        let (request, answer) = WriteRequest::new(command);
        let done = async {
            self.writer.send(write(request)).await?;
            answer.await.map_err(|_| StoreFault::Closed)
        };
        timeout(self.timeout, done)
            .await
            .map_err(|_| StoreFault::TimedOut)??
    }

    /// Submits a command with statements of its own.
    pub(crate) async fn write<C: Command>(&self, command: C) -> StoreResult<C::Answer> {
        self.submit(command, BatchedWrite::other).await
    }

    /// Finishes what was begun, closes the database and releases it. Every later call returns
    /// `Unavailable`.
    pub async fn close(&self) {
        self.writer.close().await;
        self.backend.close().await;
    }
}

#[async_trait]
impl Conversations for SeaOrmStore {
    async fn list(&self, owner: &UserId, page: ConversationPage) -> StoreResult<Vec<Conversation>> {
        let owner = owner.clone();
        let read = move |db| conversations::list(db, owner.clone(), page);
        self.reader.run(read).await
    }

    async fn get(&self, owner: &UserId, id: ConversationId) -> StoreResult<Option<Conversation>> {
        let owner = owner.clone();
        let read = move |db: Box<dyn Connection>| {
            let owner = owner.clone();
            async move { conversations::get(&*db, &owner, id).await }
        };
        self.reader.run(read).await
    }

    async fn rename(
        &self,
        owner: &UserId,
        id: ConversationId,
        title: &Title,
        at: Timestamp,
    ) -> StoreResult<Conversation> {
        let rename = Rename {
            owner: owner.clone(),
            id,
            title: title.clone(),
            at,
        };
        self.write(rename).await
    }

    async fn delete(&self, owner: &UserId, id: ConversationId) -> StoreResult<()> {
        let delete = Delete::new(owner.clone(), id);
        self.write(delete).await
    }

    async fn turns(
        &self,
        owner: &UserId,
        id: ConversationId,
        page: TurnPage,
    ) -> StoreResult<Option<Vec<LoggedTurn>>> {
        let owner = owner.clone();
        let read = move |db| log::turns(db, owner.clone(), id, page);
        self.reader.run(read).await
    }

    async fn turn(
        &self,
        owner: &UserId,
        turn: TurnRef,
        after: Position,
    ) -> StoreResult<Option<TurnView>> {
        let owner = owner.clone();
        let read = move |db| log::turn(db, owner.clone(), turn, after);
        self.reader.run(read).await
    }

    async fn tool_calls(
        &self,
        owner: &UserId,
        id: ConversationId,
        page: ToolCallPage,
    ) -> StoreResult<Option<Vec<ToolCallRecord>>> {
        let owner = owner.clone();
        let read = move |db| log::tool_calls(db, owner.clone(), id, page);
        self.reader.run(read).await
    }

    async fn request_cancel(&self, owner: &UserId, id: TurnId) -> StoreResult<Turn> {
        let owner = owner.clone();
        self.write(Cancel { owner, id }).await
    }

    async fn release_key(&self, owner: &UserId, id: TurnId) -> StoreResult<()> {
        let owner = owner.clone();
        self.write(ReleaseKey { owner, id }).await
    }

    async fn set_feedback(
        &self,
        owner: &UserId,
        id: ConversationId,
        messages: Vec<MessageId>,
        feedback: Feedback,
        at: Timestamp,
    ) -> StoreResult<()> {
        let set = SetFeedback {
            owner: owner.clone(),
            id,
            messages: messages.into_iter().collect(),
            feedback,
            at,
        };
        self.write(set).await
    }
}

#[async_trait]
impl TurnLog for SeaOrmStore {
    async fn begin(&self, turn: BeginTurn) -> StoreResult<BeginOutcome> {
        let turn = BeginTurn {
            idempotency: turn.idempotency.filter(|_| guards::RECOGNISES_KEYS),
            ..turn
        };
        self.submit(turn, BatchedWrite::Begin).await
    }

    async fn append(&self, append: AppendItems) -> StoreResult<Vec<Item>> {
        self.submit(append, BatchedWrite::Append).await
    }

    async fn end(&self, end: EndTurn) -> StoreResult<EndedTurn> {
        self.submit(end, BatchedWrite::End).await
    }

    async fn force_end(
        &self,
        lease: &TurnLease,
        failure: TurnFailure,
        at: Timestamp,
    ) -> StoreResult<()> {
        let lease = *lease;
        let end = ForceEnd { lease, failure, at };
        self.write(end).await
    }
}

#[async_trait]
impl WorkerLeases for SeaOrmStore {
    async fn register(&self, worker: WorkerId, lease: Duration) -> StoreResult<()> {
        let register = Register { worker, lease };
        self.write(register).await
    }

    async fn heartbeat(
        &self,
        worker: WorkerId,
        lease: Duration,
        drafts: Vec<DraftUpdate>,
    ) -> StoreResult<Heartbeat> {
        let renew = RenewLease {
            worker,
            lease,
            drafts,
        };
        self.write(renew).await
    }

    async fn claim(&self, claim: Claim) -> StoreResult<Vec<HeldTurn>> {
        self.write(ClaimAbandoned(claim)).await
    }

    async fn deregister(&self, worker: WorkerId, handed_over: Vec<TurnId>) -> StoreResult<()> {
        let deregister = Deregister {
            worker,
            handed_over,
        };
        self.write(deregister).await
    }

    async fn turn_versions(&self, turns: Vec<TurnId>) -> StoreResult<HashMap<TurnId, TurnVersion>> {
        let read = move |db| workers::turn_versions(db, turns.clone());
        self.reader.run(read).await
    }

    async fn ping(&self) -> StoreResult<()> {
        if self.writer.is_closed() {
            return Err(StoreFault::Closed.into());
        }
        self.backend.check()?;
        let backend = Arc::clone(&self.backend);
        let ping = move |db: Box<dyn Connection>| {
            let backend = Arc::clone(&backend);
            async move { Ok(backend.ping(&*db).await?) }
        };
        self.reader.run(ping).await
    }
}
