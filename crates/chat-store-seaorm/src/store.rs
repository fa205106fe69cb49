//! The port, on the writer and the readers.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use chat_domain::{
    BeginTurn, Begun, BegunPage, Claim, Conversation, ConversationId, ConversationPage,
    ConversationStore, Draft, EndedTurn, Feedback, Heartbeat, HeldTurn, Item, MessageId, NewItem,
    Position, StoreError, Timestamp, Title, ToolCallPage, ToolCallRecord, Turn, TurnFailure,
    TurnId, TurnLease, TurnLog, TurnMark, TurnOutcome, TurnPage, TurnView, Usage, UserId, WorkerId,
};

use crate::conversations::{Cancel, Delete, ForgetKey, Rename};
use crate::fault::Fault;
use crate::feedback::{self, Give};
use crate::job::Job;
use crate::lookups;
use crate::open::{self, OpenError, OpenOptions};
use crate::reader::{self, Reader};
use crate::source::Source;
use crate::turns::{Append, End, ForceEnd};
use crate::workers::{Beat, Enroll, ForgetAll, Retire, TakeOver};
use crate::writer::Writer;

/// How many batches are written at the same time, at most: more of them are smaller, and each costs
/// its round trips.
const MOST_LANES: u32 = 8;

/// One lane for so many connections: readers and whoever is beside the lanes need some too.
const CONNECTIONS: u32 = 3;

/// A [`ConversationStore`] in a database.
///
/// What many callers ask at the same time is committed as one transaction; reading goes on beside
/// it. Its tasks run on the runtime it was opened on, whatever runtime its methods are called from.
pub struct SeaOrmStore {
    pub(crate) writer: Writer,
    reader: Reader,
    source: Source,
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
        Self::start(open::open(url, &options).await?, &options).await
    }

    pub(crate) async fn start(source: Source, options: &OpenOptions) -> Result<Self, OpenError> {
        let lanes = (options.connections / CONNECTIONS).clamp(1, MOST_LANES);
        let store = Self {
            writer: Writer::start(&source, options.batch.max(1), lanes, options.timeout),
            reader: Reader::new(source.clone(), options.timeout),
            source,
        };
        if matches!(store.source, Source::Sqlite(_)) {
            store
                .writer
                .submit(ForgetAll, Job::other)
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
impl ConversationStore for SeaOrmStore {
    async fn conversations(
        &self,
        owner: &UserId,
        page: ConversationPage,
    ) -> Result<Vec<Conversation>, StoreError> {
        let owner = owner.clone();
        self.reader
            .run(move |db| reader::conversations(db, owner.clone(), page))
            .await
    }

    async fn conversations_begun(
        &self,
        owner: &UserId,
        page: BegunPage,
    ) -> Result<Vec<Conversation>, StoreError> {
        let owner = owner.clone();
        self.reader
            .run(move |db| lookups::conversations_begun(db, owner.clone(), page))
            .await
    }

    async fn conversation(
        &self,
        owner: &UserId,
        id: ConversationId,
    ) -> Result<Conversation, StoreError> {
        let owner = owner.clone();
        self.reader
            .run(move |db| reader::conversation(db, owner.clone(), id))
            .await
    }

    async fn rename(
        &self,
        owner: &UserId,
        id: ConversationId,
        title: &Title,
        at: Timestamp,
    ) -> Result<Conversation, StoreError> {
        let (owner, title) = (owner.clone(), title.clone());
        self.writer
            .submit(
                Rename {
                    owner,
                    id,
                    title,
                    at,
                },
                Job::other,
            )
            .await
    }

    async fn delete(&self, owner: &UserId, id: ConversationId) -> Result<(), StoreError> {
        self.writer
            .submit(Delete::new(owner.clone(), id), Job::other)
            .await
    }

    async fn turns(
        &self,
        owner: &UserId,
        id: ConversationId,
        page: TurnPage,
    ) -> Result<Vec<TurnLog>, StoreError> {
        let owner = owner.clone();
        self.reader
            .run(move |db| reader::turns(db, owner.clone(), id, page))
            .await
    }

    async fn turn(
        &self,
        owner: &UserId,
        id: TurnId,
        after: Position,
    ) -> Result<TurnView, StoreError> {
        let owner = owner.clone();
        self.reader
            .run(move |db| reader::turn(db, owner.clone(), id, after))
            .await
    }

    async fn turn_of(
        &self,
        owner: &UserId,
        id: ConversationId,
        message: MessageId,
    ) -> Result<Turn, StoreError> {
        let owner = owner.clone();
        self.reader
            .run(move |db| lookups::turn_of(db, owner.clone(), id, message))
            .await
    }

    async fn first_asked(
        &self,
        owner: &UserId,
        turns: Vec<TurnId>,
    ) -> Result<HashMap<TurnId, (MessageId, Timestamp)>, StoreError> {
        let owner = owner.clone();
        self.reader
            .run(move |db| lookups::first_asked(db, owner.clone(), turns.clone()))
            .await
    }

    async fn tool_calls(
        &self,
        owner: &UserId,
        id: ConversationId,
        page: ToolCallPage,
    ) -> Result<Vec<ToolCallRecord>, StoreError> {
        let owner = owner.clone();
        self.reader
            .run(move |db| reader::tool_calls(db, owner.clone(), id, page))
            .await
    }

    async fn request_cancel(&self, owner: &UserId, id: TurnId) -> Result<Turn, StoreError> {
        self.writer
            .submit(
                Cancel {
                    owner: owner.clone(),
                    id,
                },
                Job::other,
            )
            .await
    }

    async fn forget_key(&self, owner: &UserId, id: TurnId) -> Result<(), StoreError> {
        self.writer
            .submit(
                ForgetKey {
                    owner: owner.clone(),
                    id,
                },
                Job::other,
            )
            .await
    }

    async fn give_feedback(
        &self,
        owner: &UserId,
        id: ConversationId,
        messages: Vec<MessageId>,
        feedback: Feedback,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let messages = messages.into_iter().collect();
        self.writer
            .submit(
                Give {
                    owner: owner.clone(),
                    id,
                    messages,
                    feedback,
                    at,
                },
                Job::other,
            )
            .await
    }

    async fn feedback(
        &self,
        owner: &UserId,
        id: ConversationId,
    ) -> Result<Vec<(MessageId, Feedback)>, StoreError> {
        let owner = owner.clone();
        self.reader
            .run(move |db| feedback::read(db, owner.clone(), id))
            .await
    }

    async fn begin_turn(&self, turn: BeginTurn) -> Result<Begun, StoreError> {
        // Taken out of a build that shows that the fault campaign notices it: docs/TORTURE.md.
        let turn = BeginTurn {
            idempotency: turn.idempotency.filter(|_| !cfg!(sabotage = "idempotency")),
            ..turn
        };
        self.writer.submit(turn, Job::Begin).await
    }

    async fn append(
        &self,
        lease: &TurnLease,
        items: Vec<NewItem>,
    ) -> Result<Vec<Item>, StoreError> {
        self.writer
            .submit(
                Append {
                    lease: *lease,
                    items,
                },
                Job::Append,
            )
            .await
    }

    async fn end_turn(
        &self,
        lease: &TurnLease,
        last: Vec<NewItem>,
        outcome: TurnOutcome,
        usage: Usage,
        at: Timestamp,
    ) -> Result<EndedTurn, StoreError> {
        self.writer
            .submit(
                End {
                    lease: *lease,
                    last,
                    outcome,
                    usage,
                    at,
                },
                Job::End,
            )
            .await
    }

    async fn force_end(
        &self,
        lease: &TurnLease,
        failure: TurnFailure,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.writer
            .submit(
                ForceEnd {
                    lease: *lease,
                    failure,
                    at,
                },
                Job::other,
            )
            .await
    }

    async fn enroll(&self, worker: WorkerId, lease: Duration) -> Result<(), StoreError> {
        self.writer
            .submit(Enroll { worker, lease }, Job::other)
            .await
    }

    async fn heartbeat(
        &self,
        worker: WorkerId,
        lease: Duration,
        drafts: Vec<(TurnLease, Draft)>,
    ) -> Result<Heartbeat, StoreError> {
        self.writer
            .submit(
                Beat {
                    worker,
                    lease,
                    drafts,
                },
                Job::other,
            )
            .await
    }

    async fn claim_abandoned(&self, claim: Claim) -> Result<Vec<HeldTurn>, StoreError> {
        self.writer.submit(TakeOver(claim), Job::other).await
    }

    async fn retire(&self, worker: WorkerId, handed_over: Vec<TurnId>) -> Result<(), StoreError> {
        self.writer
            .submit(
                Retire {
                    worker,
                    handed_over,
                },
                Job::other,
            )
            .await
    }

    async fn marks(&self, turns: Vec<TurnId>) -> Result<HashMap<TurnId, TurnMark>, StoreError> {
        self.reader
            .run(move |db| lookups::marks(db, turns.clone()))
            .await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        if self.writer.is_gone() {
            return Err(Fault::Closed.into());
        }
        self.source.check()?;
        let source = self.source.clone();
        self.reader
            .run(move |db| {
                let source = source.clone();
                async move { Ok(source.ping(&db).await?) }
            })
            .await
    }
}
