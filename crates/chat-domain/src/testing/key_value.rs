//! A store of documents in an ordered map: how to write your own store.
//!
//! A store of documents loads those that a call needs as [`Documents`], calls the method of the
//! same purpose, and saves the documents that it changed, all in one transaction (here: under one
//! lock). It judges leases by its own clock. A store with a table for each kind of row loads what
//! [`LogNeeds`] names and saves [`Changes`](crate::log::Changes) instead.

mod inspection;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::log::{Documents, LedgerError, LogNeeds};
use crate::*;

/// A store in memory. Keeps the whole contract except durability; its leases follow tokio's clock,
/// which tests can pause, or a clock that a test gives.
pub struct KeyValueStore {
    tables: Mutex<Tables>,
    clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
}

#[derive(Default)]
struct Tables {
    documents: Documents,
    /// When each worker's lease expires.
    workers: HashMap<WorkerId, Timestamp>,
    feedback: BTreeMap<MessageId, Feedback>,
}

impl Default for KeyValueStore {
    fn default() -> Self {
        let opened = Instant::now();
        Self::with_clock(move || Timestamp(0).after(opened.elapsed()))
    }
}

impl KeyValueStore {
    /// An empty store with a clock of its own.
    pub fn with_clock(clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self {
            tables: Mutex::default(),
            clock: Box::new(clock),
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time by the store's clock.
    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Runs a command as one transaction.
    fn write<T>(
        &self,
        needs: &LogNeeds,
        command: impl FnOnce(&mut Ledger) -> Result<T, LedgerError>,
        held_turn: impl FnOnce(&mut T) -> Option<&mut HeldTurn>,
    ) -> StoreResult<T> {
        let documents = &mut self.tables().documents;
        Ok(documents.apply(needs, command, held_turn, self.now())?)
    }
}

#[async_trait]
impl Conversations for KeyValueStore {
    async fn list(&self, owner: &UserId, page: ConversationPage) -> StoreResult<Vec<Conversation>> {
        Ok(self.tables().documents.list(owner, page))
    }

    async fn get(&self, owner: &UserId, id: ConversationId) -> StoreResult<Option<Conversation>> {
        let tables = self.tables();
        let document = tables.documents.get(owner, id);
        Ok(document.map(|document| document.conversation.clone()))
    }

    async fn rename(
        &self,
        owner: &UserId,
        id: ConversationId,
        title: &Title,
        at: Timestamp,
    ) -> StoreResult<Conversation> {
        let mut tables = self.tables();
        let conversation = &mut tables.documents.get_mut(owner, id)?.conversation;
        (conversation.title, conversation.updated_at) = (title.clone(), at);
        Ok(conversation.clone())
    }

    async fn delete(&self, owner: &UserId, id: ConversationId) -> StoreResult<()> {
        let mut tables = self.tables();
        tables.documents.get_mut(owner, id)?;
        tables.documents.0.remove(&id);
        Ok(())
    }

    async fn turns(
        &self,
        owner: &UserId,
        id: ConversationId,
        page: TurnPage,
    ) -> StoreResult<Option<Vec<LoggedTurn>>> {
        let tables = self.tables();
        let document = tables.documents.get(owner, id);
        Ok(document.map(|document| document.turns(page)))
    }

    async fn turn(
        &self,
        owner: &UserId,
        turn: TurnRef,
        after: Position,
    ) -> StoreResult<Option<TurnView>> {
        Ok(self.tables().documents.turn(owner, turn, after))
    }

    async fn tool_calls(
        &self,
        owner: &UserId,
        id: ConversationId,
        page: ToolCallPage,
    ) -> StoreResult<Option<Vec<ToolCallRecord>>> {
        let tables = self.tables();
        let document = tables.documents.get(owner, id);
        Ok(document.map(|document| document.tool_calls(page)))
    }

    async fn request_cancel(&self, owner: &UserId, id: TurnId) -> StoreResult<Turn> {
        let mut tables = self.tables();
        let turn = &mut tables.documents.turn_row_mut(owner, id)?.turn;
        turn.cancel_requested |= !turn.status.is_ended();
        Ok(turn.clone())
    }

    async fn release_key(&self, owner: &UserId, id: TurnId) -> StoreResult<()> {
        let mut tables = self.tables();
        tables.documents.turn_row_mut(owner, id)?.idempotency = None;
        Ok(())
    }

    async fn set_feedback(
        &self,
        owner: &UserId,
        id: ConversationId,
        messages: Vec<MessageId>,
        feedback: Feedback,
        _: Timestamp,
    ) -> StoreResult<()> {
        let mut tables = self.tables();
        if !tables.documents.has_messages(owner, id, &messages) {
            return Err(Refusal::NotFound.into());
        }
        let messages = messages.into_iter();
        tables
            .feedback
            .extend(messages.map(|message| (message, feedback)));
        Ok(())
    }
}

#[async_trait]
impl TurnLog for KeyValueStore {
    async fn begin(&self, turn: BeginTurn) -> StoreResult<BeginOutcome> {
        let needs = LogNeeds::default().begin(&turn);
        self.write(&needs, |log| log.begin(&turn), BeginOutcome::held_turn)
    }

    async fn append(&self, append: AppendItems) -> StoreResult<Vec<Item>> {
        let needs = LogNeeds::default().append(&append);
        self.write(&needs, |log| log.append(&append), |_| None)
    }

    async fn end(&self, end: EndTurn) -> StoreResult<EndedTurn> {
        let needs = LogNeeds::default().end(&end);
        self.write(&needs, |log| log.end(&end), |ended| ended.next.as_mut())
    }

    async fn force_end(
        &self,
        lease: &TurnLease,
        failure: TurnFailure,
        at: Timestamp,
    ) -> StoreResult<()> {
        let mut tables = self.tables();
        Ok(tables.documents.force_end(lease, failure, at)?)
    }
}

#[async_trait]
impl WorkerLeases for KeyValueStore {
    async fn register(&self, worker: WorkerId, lease: Duration) -> StoreResult<()> {
        self.tables()
            .workers
            .insert(worker, self.now().after(lease));
        Ok(())
    }

    async fn heartbeat(
        &self,
        worker: WorkerId,
        lease: Duration,
        drafts: Vec<DraftUpdate>,
    ) -> StoreResult<Heartbeat> {
        let mut tables = self.tables();
        let expires = tables.workers.get_mut(&worker).ok_or(Refusal::LeaseLost)?;
        *expires = self.now().after(lease);
        let cancel = tables.documents.heartbeat(worker, &drafts);
        Ok(Heartbeat { cancel })
    }

    async fn claim(&self, claim: Claim) -> StoreResult<Vec<HeldTurn>> {
        let Tables {
            documents, workers, ..
        } = &mut *self.tables();
        let expiry = |worker| workers.get(&worker).copied();
        let (claimed, dead) = documents.claim(&claim, expiry, self.now());
        workers.retain(|worker, _| !dead.contains(worker));
        Ok(claimed)
    }

    async fn deregister(&self, worker: WorkerId, handed_over: Vec<TurnId>) -> StoreResult<()> {
        let mut tables = self.tables();
        let (expires, now) = (tables.workers.remove(&worker), self.now());
        tables.documents.release(worker, &handed_over, expires, now);
        Ok(())
    }

    async fn turn_versions(&self, turns: Vec<TurnId>) -> StoreResult<HashMap<TurnId, TurnVersion>> {
        let tables = self.tables();
        let version = |id| Some((id, tables.documents.of_turn(id)?.version(id)?));
        Ok(turns.into_iter().filter_map(version).collect())
    }

    async fn ping(&self) -> StoreResult<()> {
        Ok(())
    }
}
