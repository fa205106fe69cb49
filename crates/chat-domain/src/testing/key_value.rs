//! A store of documents in an ordered map: how to write your own store.
//!
//! Everything a store does is here. It loads the rows that a command needs, lets the rules decide,
//! and saves what they changed, all in one transaction (here: under one lock). It judges leases by
//! its own clock. And it reads. A store with a table per kind of row does the same with
//! [`LogNeeds`] and [`Changes`](crate::log::Changes) row by row.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::log::{ConversationDocument, LedgerError, LoadedRows, LogNeeds};
use crate::*;

/// A store in memory. Keeps the whole contract except durability; its leases follow tokio's clock,
/// which tests can pause, or a clock that a test gives.
pub struct KeyValueStore {
    tables: Mutex<Tables>,
    clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
}

#[derive(Default)]
struct Tables {
    documents: BTreeMap<ConversationId, ConversationDocument>,
    /// When each worker's lease expires.
    workers: HashMap<WorkerId, Timestamp>,
    feedback: BTreeMap<MessageId, Feedback>,
}

fn not_found() -> StoreError {
    Refusal::NotFound.into()
}

impl Default for KeyValueStore {
    fn default() -> Self {
        let opened = Instant::now();
        Self::with_clock(move || {
            let micros = opened.elapsed().as_micros();
            Timestamp(i64::try_from(micros).unwrap_or(i64::MAX))
        })
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

    /// Shows the conversations.
    pub fn inspect<T>(
        &self,
        look: impl FnOnce(&BTreeMap<ConversationId, ConversationDocument>) -> T,
    ) -> T {
        look(&self.tables().documents)
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deletes all workers, as if their leases had expired.
    pub fn delete_workers(&self) {
        self.tables().workers.clear();
    }

    /// The time by the store's clock.
    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    fn after(&self, time: Duration) -> Timestamp {
        let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        Timestamp(self.now().0.saturating_add(micros))
    }

    /// Applies one command as one transaction.
    fn write<T>(
        &self,
        needs: &LogNeeds,
        command: impl FnOnce(&mut Ledger) -> Result<T, LedgerError>,
        held_turn: impl FnOnce(&mut T) -> Option<&mut HeldTurn>,
    ) -> Result<T, StoreError> {
        let mut tables = self.tables();
        let mut loaded = LoadedRows::default();
        let documents = tables.documents.values();
        for document in documents.filter(|document| is_needed(document, needs)) {
            document.load_into(&mut loaded);
        }
        let mut ledger = Ledger::new(loaded);
        let mut outcome = command(&mut ledger)?;
        let changes = ledger.into_changes()?;
        for new in &changes.new_conversations {
            let document = ConversationDocument::new(new);
            tables.documents.insert(new.id, document);
        }
        for document in tables.documents.values_mut() {
            document.save(&changes, self.now());
        }
        if let Some(held) = held_turn(&mut outcome) {
            let document = tables.documents.get(&held.turn.conversation);
            let stored = document.and_then(|document| document.held(held.turn.id));
            held.items = stored.map_or_else(Vec::new, |stored| stored.items);
        }
        Ok(outcome)
    }
}

fn is_needed(document: &ConversationDocument, needs: &LogNeeds) -> bool {
    let is_needed_turn = |row: &TurnRow| {
        let key = row.idempotency.as_ref().map(|used| (&row.owner, &used.key));
        let mut keys = needs.keys.iter().map(|(owner, key)| (owner, key));
        needs.turns.contains(&row.turn.id) || keys.any(|needed| key == Some(needed))
    };
    needs.conversations.contains(&document.conversation.id) || document.rows().any(is_needed_turn)
}

impl Tables {
    fn owned(&mut self, owner: &UserId, id: ConversationId) -> Option<&mut ConversationDocument> {
        let document = self.documents.get_mut(&id)?;
        (document.conversation.owner == *owner).then_some(document)
    }

    fn owned_turn(&mut self, owner: &UserId, id: TurnId) -> Result<&mut TurnRow, StoreError> {
        let documents = self.documents.values_mut();
        let mut rows = documents.flat_map(ConversationDocument::rows_mut);
        let row = rows.find(|row| row.turn.id == id && row.owner == *owner);
        row.ok_or_else(not_found)
    }

    fn document_of(&self, turn: TurnId) -> Option<&ConversationDocument> {
        let mut documents = self.documents.values();
        documents.find(|document| document.rows().any(|row| row.turn.id == turn))
    }
}

#[async_trait]
impl Conversations for KeyValueStore {
    async fn list(
        &self,
        owner: &UserId,
        page: ConversationPage,
    ) -> Result<Vec<Conversation>, StoreError> {
        let tables = self.tables();
        let all = tables.documents.values().map(|d| d.conversation.clone());
        let mut all: Vec<_> = all.filter(|found| found.owner == *owner).collect();
        match page.order {
            ConversationOrder::LastActivity { after } => {
                let cursor = |c: &Conversation| ConversationCursor {
                    updated_at: c.updated_at,
                    id: c.id,
                };
                all.sort_by_key(|found| std::cmp::Reverse(cursor(found)));
                all.retain(|found| after.is_none_or(|after| cursor(found) < after));
            }
            ConversationOrder::Created { after, order } => {
                if order == PageOrder::NewestFirst {
                    all.reverse();
                    all.retain(|found| after.is_none_or(|after| found.id < after));
                } else {
                    all.retain(|found| after.is_none_or(|after| found.id > after));
                }
            }
        }
        all.truncate(usize::try_from(page.limit).unwrap_or(usize::MAX));
        Ok(all)
    }

    async fn get(
        &self,
        owner: &UserId,
        id: ConversationId,
    ) -> Result<Option<Conversation>, StoreError> {
        let mut tables = self.tables();
        let document = tables.owned(owner, id);
        Ok(document.map(|document| document.conversation.clone()))
    }

    async fn rename(
        &self,
        owner: &UserId,
        id: ConversationId,
        title: &Title,
        at: Timestamp,
    ) -> Result<Conversation, StoreError> {
        let mut tables = self.tables();
        let document = tables.owned(owner, id).ok_or_else(not_found)?;
        let conversation = &mut document.conversation;
        (conversation.title, conversation.updated_at) = (title.clone(), at);
        Ok(conversation.clone())
    }

    async fn delete(&self, owner: &UserId, id: ConversationId) -> Result<(), StoreError> {
        let mut tables = self.tables();
        tables.owned(owner, id).ok_or_else(not_found)?;
        tables.documents.remove(&id);
        Ok(())
    }

    async fn turns(
        &self,
        owner: &UserId,
        id: ConversationId,
        page: TurnPage,
    ) -> Result<Option<Vec<LoggedTurn>>, StoreError> {
        let mut tables = self.tables();
        Ok(tables.owned(owner, id).map(|document| document.turns(page)))
    }

    async fn turn(
        &self,
        owner: &UserId,
        turn: TurnRef,
        after: Position,
    ) -> Result<Option<TurnView>, StoreError> {
        let mut tables = self.tables();
        let found = match turn {
            TurnRef::Id(id) => tables.owned_turn(owner, id).ok().map(|row| row.turn.id),
            TurnRef::Message(id, message) => {
                let document = tables.owned(owner, id);
                document.and_then(|document| document.turn_of_message(message))
            }
        };
        let view = |id| tables.document_of(id)?.turn(id, after);
        Ok(found.and_then(view))
    }

    async fn tool_calls(
        &self,
        owner: &UserId,
        id: ConversationId,
        page: ToolCallPage,
    ) -> Result<Option<Vec<ToolCallRecord>>, StoreError> {
        let mut tables = self.tables();
        let document = tables.owned(owner, id);
        Ok(document.map(|document| document.tool_calls(page)))
    }

    async fn request_cancel(&self, owner: &UserId, id: TurnId) -> Result<Turn, StoreError> {
        let mut tables = self.tables();
        let turn = &mut tables.owned_turn(owner, id)?.turn;
        turn.cancel_requested |= !turn.status.is_ended();
        Ok(turn.clone())
    }

    async fn release_key(&self, owner: &UserId, id: TurnId) -> Result<(), StoreError> {
        self.tables().owned_turn(owner, id)?.idempotency = None;
        Ok(())
    }

    async fn set_feedback(
        &self,
        owner: &UserId,
        id: ConversationId,
        messages: Vec<MessageId>,
        feedback: Feedback,
        _: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let document = tables.owned(owner, id).ok_or_else(not_found)?;
        let is_there = |message: &MessageId| document.turn_of_message(*message).is_some();
        if messages.is_empty() || !messages.iter().all(is_there) {
            return Err(not_found());
        }
        let given = messages.into_iter().map(|message| (message, feedback));
        tables.feedback.extend(given);
        Ok(())
    }
}

#[async_trait]
impl TurnLog for KeyValueStore {
    async fn begin(&self, turn: BeginTurn) -> Result<BeginOutcome, StoreError> {
        let needs = LogNeeds::default().begin(&turn);
        self.write(&needs, |log| log.begin(&turn), BeginOutcome::held_turn)
    }

    async fn append(&self, append: AppendItems) -> Result<Vec<Item>, StoreError> {
        let needs = LogNeeds::default().append(&append);
        self.write(&needs, |log| log.append(&append), |_| None)
    }

    async fn end(&self, end: EndTurn) -> Result<EndedTurn, StoreError> {
        let needs = LogNeeds::default().end(&end);
        self.write(&needs, |log| log.end(&end), |ended| ended.next.as_mut())
    }

    async fn force_end(
        &self,
        lease: &TurnLease,
        failure: TurnFailure,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let id = tables.document_of(lease.turn).map(|d| d.conversation.id);
        let document = id.and_then(|id| tables.documents.get_mut(&id));
        let document = document.ok_or(Refusal::LeaseLost)?;
        Ok(document.force_end(lease, failure, at)?)
    }
}

#[async_trait]
impl WorkerLeases for KeyValueStore {
    async fn register(&self, worker: WorkerId, lease: Duration) -> Result<(), StoreError> {
        self.tables().workers.insert(worker, self.after(lease));
        Ok(())
    }

    async fn heartbeat(
        &self,
        worker: WorkerId,
        lease: Duration,
        drafts: Vec<DraftUpdate>,
    ) -> Result<Heartbeat, StoreError> {
        let mut tables = self.tables();
        let expires = tables.workers.get_mut(&worker).ok_or(Refusal::LeaseLost)?;
        *expires = self.after(lease);
        let mut cancel = Vec::new();
        for document in tables.documents.values_mut() {
            drafts.iter().for_each(|draft| document.save_draft(draft));
            let mine = |row: &&TurnRow| row.is_running() && row.holder == Some(worker);
            let cancelled = document.rows().filter(mine);
            let cancelled = cancelled.filter(|row| row.turn.cancel_requested);
            cancel.extend(cancelled.map(|row| row.turn.id));
        }
        Ok(Heartbeat { cancel })
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<HeldTurn>, StoreError> {
        let Tables {
            documents, workers, ..
        } = &mut *self.tables();
        let now = self.now();
        let is_alive = |worker: &WorkerId| workers.get(worker).is_some_and(|until| *until > now);
        // A worker whose own lease expired claims no turn of others.
        let may_take = is_alive(&claim.worker);
        let is_abandoned = |row: &TurnRow| match row.holder {
            Some(holder) if holder == claim.worker => {
                let holding = claim.holding.as_ref();
                holding.is_some_and(|holding| !holding.contains(&row.turn.id))
            }
            Some(holder) => may_take && !is_alive(&holder),
            None => may_take,
        };
        let mut claimed = Vec::new();
        let mut dead = Vec::new();
        for document in documents.values_mut() {
            let rows = document.rows().filter(|row| row.is_running());
            let abandoned = rows.filter(|row| is_abandoned(row));
            let abandoned: Vec<_> = abandoned.map(|row| (row.turn.id, row.holder)).collect();
            for (turn, holder) in abandoned {
                if claimed.len() == usize::try_from(claim.limit).unwrap_or(usize::MAX) {
                    break;
                }
                let expired = holder.and_then(|holder| workers.get(&holder)).copied();
                claimed.extend(document.claim(turn, claim.worker, expired, now));
                dead.extend(holder.filter(|holder| *holder != claim.worker));
            }
        }
        workers.retain(|worker, _| !dead.contains(worker));
        Ok(claimed)
    }

    async fn deregister(
        &self,
        worker: WorkerId,
        handed_over: Vec<TurnId>,
    ) -> Result<(), StoreError> {
        let mut tables = self.tables();
        tables.workers.remove(&worker);
        let documents = tables.documents.values_mut();
        documents.for_each(|document| document.release(worker, &handed_over, self.now()));
        Ok(())
    }

    async fn turn_versions(
        &self,
        turns: Vec<TurnId>,
    ) -> Result<HashMap<TurnId, TurnVersion>, StoreError> {
        let tables = self.tables();
        let version = |id| Some((id, tables.document_of(id)?.version(id)?));
        Ok(turns.into_iter().filter_map(version).collect())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::{ConversationStore, testing::KeyValueStore};

    crate::store_contract! {
        async { ((), Arc::new(KeyValueStore::default()) as Arc<dyn ConversationStore>) }
    }
}
