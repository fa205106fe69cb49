//! The port, on the writer and the readers.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use chat_domain::{
    AppendItems, BeginOutcome, BeginTurn, Claim, Conversation, ConversationId, ConversationPage,
    Conversations, DraftUpdate, EndTurn, EndedTurn, Feedback, Heartbeat, HeldTurn, Item,
    LoggedTurn, MessageId, Position, StoreError, Timestamp, Title, ToolCallPage, ToolCallRecord,
    Turn, TurnFailure, TurnId, TurnLease, TurnLog, TurnPage, TurnRef, TurnVersion, TurnView,
    UserId, WorkerId, WorkerLeases,
};

use crate::backend::Backend;
use crate::conversations::{Cancel, Delete, ReleaseKey, Rename};
use crate::error::StoreFault;
use crate::feedback::SetFeedback;
use crate::guards;
use crate::job::BatchedWrite;
use crate::options::{OpenError, OpenOptions};
use crate::reader::{self, Reader};
use crate::turns::ForceEnd;
use crate::workers::{self, ClaimAbandoned, DeleteAllWorkers, Deregister, Register, RenewLease};
use crate::writer::Writer;

/// How many batches are written at the same time, at most: more of them are smaller, and each costs
/// its round trips.
const MOST_LANES: u32 = 8;

/// One lane for so many connections: reads need some too.
const CONNECTIONS: u32 = 3;

/// A [`ConversationStore`](chat_domain::ConversationStore) in a database.
///
/// Concurrent commands of many callers are committed as one transaction; reads do not wait for
/// it. Its tasks run on the runtime it was opened on, whatever runtime its methods are called from.
pub struct SeaOrmStore {
    pub(crate) writer: Writer,
    reader: Reader,
    source: Backend,
}

impl fmt::Debug for SeaOrmStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeaOrmStore").finish_non_exhaustive()
    }
}

impl SeaOrmStore {
    /// Opens the database at `url`: `sqlite://path` or `postgres://user:password@host/database`.
    ///
    /// An SQLite file is made if it is not there, with the folder it is in. It belongs to this
    /// process until the store is closed (or has gone, a moment after it was dropped), or the
    /// process ends, however it ends. So no other worker can be alive: all are forgotten, and the
    /// turns they ran can be claimed at once.
    ///
    /// A PostgreSQL database must exist, and is shared with all other processes that open it.
    ///
    /// # Errors
    /// See [`OpenError`].
    ///
    /// # Panics
    /// Outside of a tokio runtime with time enabled.
    pub async fn open(url: &str, options: OpenOptions) -> Result<Self, OpenError> {
        Self::start(Backend::open(url, &options).await?, &options).await
    }

    pub(crate) async fn start(source: Backend, options: &OpenOptions) -> Result<Self, OpenError> {
        let lanes = (options.connections / CONNECTIONS).clamp(1, MOST_LANES);
        let store = Self {
            writer: Writer::start(&source, options.batch.max(1), lanes, options.timeout),
            reader: Reader::new(source.clone(), options.timeout),
            source,
        };
        if matches!(store.source, Backend::Sqlite(_)) {
            store
                .writer
                .submit(DeleteAllWorkers, BatchedWrite::other)
                .await
                .map_err(|error| OpenError::Database(Box::new(error)))?;
        }
        Ok(store)
    }

    /// Finishes what was begun, closes the database and lets it go. Whatever is asked from then on
    /// is `Unavailable`.
    pub async fn close(&self) {
        self.writer.close().await;
        self.source.close().await;
    }
}

#[async_trait]
impl Conversations for SeaOrmStore {
    async fn list(
        &self,
        owner: &UserId,
        page: ConversationPage,
    ) -> Result<Vec<Conversation>, StoreError> {
        let owner = owner.clone();
        let read = move |db| reader::conversations(db, owner.clone(), page);
        self.reader.run(read).await
    }

    async fn get(
        &self,
        owner: &UserId,
        id: ConversationId,
    ) -> Result<Option<Conversation>, StoreError> {
        let owner = owner.clone();
        let read = move |db| reader::conversation(db, owner.clone(), id);
        self.reader.run(read).await
    }

    async fn rename(
        &self,
        owner: &UserId,
        id: ConversationId,
        title: &Title,
        at: Timestamp,
    ) -> Result<Conversation, StoreError> {
        let rename = Rename {
            owner: owner.clone(),
            id,
            title: title.clone(),
            at,
        };
        self.writer.submit(rename, BatchedWrite::other).await
    }

    async fn delete(&self, owner: &UserId, id: ConversationId) -> Result<(), StoreError> {
        let delete = Delete::new(owner.clone(), id);
        self.writer.submit(delete, BatchedWrite::other).await
    }

    async fn turns(
        &self,
        owner: &UserId,
        id: ConversationId,
        page: TurnPage,
    ) -> Result<Option<Vec<LoggedTurn>>, StoreError> {
        let owner = owner.clone();
        let read = move |db| reader::turns(db, owner.clone(), id, page);
        self.reader.run(read).await
    }

    async fn turn(
        &self,
        owner: &UserId,
        turn: TurnRef,
        after: Position,
    ) -> Result<Option<TurnView>, StoreError> {
        let owner = owner.clone();
        let read = move |db| reader::turn(db, owner.clone(), turn, after);
        self.reader.run(read).await
    }

    async fn tool_calls(
        &self,
        owner: &UserId,
        id: ConversationId,
        page: ToolCallPage,
    ) -> Result<Option<Vec<ToolCallRecord>>, StoreError> {
        let owner = owner.clone();
        let read = move |db| reader::tool_calls(db, owner.clone(), id, page);
        self.reader.run(read).await
    }

    async fn request_cancel(&self, owner: &UserId, id: TurnId) -> Result<Turn, StoreError> {
        let owner = owner.clone();
        self.writer
            .submit(Cancel { owner, id }, BatchedWrite::other)
            .await
    }

    async fn release_key(&self, owner: &UserId, id: TurnId) -> Result<(), StoreError> {
        let owner = owner.clone();
        self.writer
            .submit(ReleaseKey { owner, id }, BatchedWrite::other)
            .await
    }

    async fn set_feedback(
        &self,
        owner: &UserId,
        id: ConversationId,
        messages: Vec<MessageId>,
        feedback: Feedback,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let set = SetFeedback {
            owner: owner.clone(),
            id,
            messages: messages.into_iter().collect(),
            feedback,
            at,
        };
        self.writer.submit(set, BatchedWrite::other).await
    }
}

#[async_trait]
impl TurnLog for SeaOrmStore {
    async fn begin(&self, turn: BeginTurn) -> Result<BeginOutcome, StoreError> {
        let turn = BeginTurn {
            idempotency: turn.idempotency.filter(|_| guards::RECOGNISES_KEYS),
            ..turn
        };
        self.writer.submit(turn, BatchedWrite::Begin).await
    }

    async fn append(&self, append: AppendItems) -> Result<Vec<Item>, StoreError> {
        self.writer.submit(append, BatchedWrite::Append).await
    }

    async fn end(&self, end: EndTurn) -> Result<EndedTurn, StoreError> {
        self.writer.submit(end, BatchedWrite::End).await
    }

    async fn force_end(
        &self,
        lease: &TurnLease,
        failure: TurnFailure,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let lease = *lease;
        let end = ForceEnd { lease, failure, at };
        self.writer.submit(end, BatchedWrite::other).await
    }
}

#[async_trait]
impl WorkerLeases for SeaOrmStore {
    async fn register(&self, worker: WorkerId, lease: Duration) -> Result<(), StoreError> {
        let register = Register { worker, lease };
        self.writer.submit(register, BatchedWrite::other).await
    }

    async fn heartbeat(
        &self,
        worker: WorkerId,
        lease: Duration,
        drafts: Vec<DraftUpdate>,
    ) -> Result<Heartbeat, StoreError> {
        let renew = RenewLease {
            worker,
            lease,
            drafts,
        };
        self.writer.submit(renew, BatchedWrite::other).await
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<HeldTurn>, StoreError> {
        self.writer
            .submit(ClaimAbandoned(claim), BatchedWrite::other)
            .await
    }

    async fn deregister(
        &self,
        worker: WorkerId,
        handed_over: Vec<TurnId>,
    ) -> Result<(), StoreError> {
        let deregister = Deregister {
            worker,
            handed_over,
        };
        self.writer.submit(deregister, BatchedWrite::other).await
    }

    async fn turn_versions(
        &self,
        turns: Vec<TurnId>,
    ) -> Result<HashMap<TurnId, TurnVersion>, StoreError> {
        let read = move |db| workers::turn_versions(db, turns.clone());
        self.reader.run(read).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        if self.writer.is_gone() {
            return Err(StoreFault::Closed.into());
        }
        self.source.check()?;
        let source = self.source.clone();
        let ping = move |db| {
            let source = source.clone();
            async move { Ok(source.ping(&db).await?) }
        };
        self.reader.run(ping).await
    }
}
