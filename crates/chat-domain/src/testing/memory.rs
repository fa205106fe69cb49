//! The in-memory store with faults that tests ask for.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{Gate, KeyValueStore};
use crate::*;

/// An in-memory store that fails where a test says so.
#[derive(Default)]
pub struct MemoryStore {
    store: KeyValueStore,
    faults: Mutex<Faults>,
}

#[derive(Default)]
struct Faults {
    next: VecDeque<Unavailability>,
    refused: Vec<RefusedCall>,
    lost: Option<RefusedCall>,
    heartbeats: bool,
    unreachable: bool,
    end_gate: Option<Gate>,
    claim_gate: Option<Gate>,
    calls: u64,
}

/// A call that fails permanently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedCall {
    /// Reading a history.
    Histories,
    /// Reading a turn.
    Turns,
    /// Adding items to a turn.
    Appends,
    /// Ending a turn with items.
    EndsWithItems,
    /// Ending a turn, with items or without.
    Ends,
    /// Heartbeats with drafts.
    Drafts,
}

fn unavailable(kind: Unavailability) -> StoreError {
    StoreError::Unavailable(kind, "a fault that the test asked for".into())
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the next calls fail, one fault each.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Unavailability>) {
        self.faults().next.extend(faults);
    }

    /// Makes these calls fail permanently, each time.
    pub fn refuse(&self, refused: impl IntoIterator<Item = RefusedCall>) {
        self.faults().refused = refused.into_iter().collect();
    }

    /// Makes the answer to the next such call get lost: the call is done, and fails as unavailable.
    pub fn lose_answer(&self, call: RefusedCall) {
        self.faults().lost = Some(call);
    }

    /// Whether the answer to this call gets lost.
    fn loses_answer(&self, call: RefusedCall) -> bool {
        let mut faults = self.faults();
        faults.lost.take_if(|lost| *lost == call).is_some()
    }

    /// Makes all calls fail, or no more.
    pub fn set_unreachable(&self, unreachable: bool) {
        self.faults().unreachable = unreachable;
    }

    /// Makes each end of a turn wait at this gate.
    pub fn hold_ends(&self, gate: &Gate) {
        self.faults().end_gate = Some(gate.clone());
    }

    /// Makes the answer to each claim wait at this gate.
    pub fn hold_claims(&self, gate: &Gate) {
        self.faults().claim_gate = Some(gate.clone());
    }

    /// Makes all heartbeats fail, or no more.
    pub fn fail_heartbeats(&self, fail: bool) {
        self.faults().heartbeats = fail;
    }

    /// The number of calls so far.
    pub fn calls(&self) -> u64 {
        self.faults().calls
    }

    /// Deletes all workers, as if their leases had expired.
    pub fn delete_workers(&self) {
        self.store.delete_workers();
    }

    /// Takes the fault that is meant for this call.
    fn check(&self, refused: &[RefusedCall]) -> StoreResult<()> {
        let mut faults = self.faults();
        faults.calls += 1;
        if faults.unreachable {
            return Err(unavailable(Unavailability::Unreachable));
        }
        if let Some(kind) = faults.next.pop_front() {
            return Err(unavailable(kind));
        }
        if refused.iter().any(|call| faults.refused.contains(call)) {
            let error = "a permanent error that the test asked for";
            return Err(StoreError::Internal(error.into()));
        }
        Ok(())
    }
}

#[async_trait]
impl Conversations for MemoryStore {
    async fn list(&self, owner: &UserId, page: ConversationPage) -> StoreResult<Vec<Conversation>> {
        self.check(&[])?;
        self.store.list(owner, page).await
    }

    async fn get(&self, owner: &UserId, id: ConversationId) -> StoreResult<Option<Conversation>> {
        self.check(&[])?;
        self.store.get(owner, id).await
    }

    async fn rename(
        &self,
        owner: &UserId,
        id: ConversationId,
        title: &Title,
        at: Timestamp,
    ) -> StoreResult<Conversation> {
        self.check(&[])?;
        self.store.rename(owner, id, title, at).await
    }

    async fn delete(&self, owner: &UserId, id: ConversationId) -> StoreResult<()> {
        self.check(&[])?;
        self.store.delete(owner, id).await
    }

    async fn turns(
        &self,
        owner: &UserId,
        id: ConversationId,
        page: TurnPage,
    ) -> StoreResult<Option<Vec<LoggedTurn>>> {
        let is_history = page.before.is_some();
        self.check(if is_history {
            &[RefusedCall::Histories]
        } else {
            &[]
        })?;
        self.store.turns(owner, id, page).await
    }

    async fn turn(
        &self,
        owner: &UserId,
        turn: TurnRef,
        after: Position,
    ) -> StoreResult<Option<TurnView>> {
        self.check(&[RefusedCall::Turns])?;
        self.store.turn(owner, turn, after).await
    }

    async fn tool_calls(
        &self,
        owner: &UserId,
        id: ConversationId,
        page: ToolCallPage,
    ) -> StoreResult<Option<Vec<ToolCallRecord>>> {
        self.check(&[])?;
        self.store.tool_calls(owner, id, page).await
    }

    async fn request_cancel(&self, owner: &UserId, id: TurnId) -> StoreResult<Turn> {
        self.check(&[])?;
        self.store.request_cancel(owner, id).await
    }

    async fn release_key(&self, owner: &UserId, id: TurnId) -> StoreResult<()> {
        self.check(&[])?;
        self.store.release_key(owner, id).await
    }

    async fn set_feedback(
        &self,
        owner: &UserId,
        id: ConversationId,
        messages: Vec<MessageId>,
        feedback: Feedback,
        at: Timestamp,
    ) -> StoreResult<()> {
        self.check(&[])?;
        self.store
            .set_feedback(owner, id, messages, feedback, at)
            .await
    }
}

#[async_trait]
impl TurnLog for MemoryStore {
    async fn begin(&self, turn: BeginTurn) -> StoreResult<BeginOutcome> {
        self.check(&[])?;
        self.store.begin(turn).await
    }

    async fn append(&self, append: AppendItems) -> StoreResult<Vec<Item>> {
        if self.loses_answer(RefusedCall::Appends) {
            self.store.append(append).await?;
            return Err(unavailable(Unavailability::Unreachable));
        }
        self.check(&[RefusedCall::Appends])?;
        self.store.append(append).await
    }

    async fn end(&self, end: EndTurn) -> StoreResult<EndedTurn> {
        let gate = self.faults().end_gate.clone();
        if let Some(gate) = gate {
            gate.pass().await;
        }
        let refused: &[RefusedCall] = if end.last.is_empty() {
            &[RefusedCall::Ends]
        } else {
            &[RefusedCall::EndsWithItems, RefusedCall::Ends]
        };
        if refused.first().is_some_and(|call| self.loses_answer(*call)) {
            self.store.end(end).await?;
            return Err(unavailable(Unavailability::Unreachable));
        }
        self.check(refused)?;
        self.store.end(end).await
    }

    async fn force_end(
        &self,
        lease: &TurnLease,
        failure: TurnFailure,
        at: Timestamp,
    ) -> StoreResult<()> {
        self.check(&[])?;
        self.store.force_end(lease, failure, at).await
    }
}

#[async_trait]
impl WorkerLeases for MemoryStore {
    async fn register(&self, worker: WorkerId, lease: Duration) -> StoreResult<()> {
        self.check(&[])?;
        self.store.register(worker, lease).await
    }

    async fn heartbeat(
        &self,
        worker: WorkerId,
        lease: Duration,
        drafts: Vec<DraftUpdate>,
    ) -> StoreResult<Heartbeat> {
        if self.faults().heartbeats {
            return Err(unavailable(Unavailability::Unreachable));
        }
        self.check(if drafts.is_empty() {
            &[]
        } else {
            &[RefusedCall::Drafts]
        })?;
        self.store.heartbeat(worker, lease, drafts).await
    }

    async fn claim(&self, claim: Claim) -> StoreResult<Vec<HeldTurn>> {
        self.check(&[])?;
        let claimed = self.store.claim(claim).await;
        let gate = self.faults().claim_gate.clone();
        if let Some(gate) = gate {
            gate.pass().await;
        }
        claimed
    }

    async fn deregister(&self, worker: WorkerId, handed_over: Vec<TurnId>) -> StoreResult<()> {
        self.check(&[])?;
        self.store.deregister(worker, handed_over).await
    }

    async fn turn_versions(&self, turns: Vec<TurnId>) -> StoreResult<HashMap<TurnId, TurnVersion>> {
        // Asked at any time, it must not take a fault that is meant for another call.
        if self.faults().unreachable {
            return Err(unavailable(Unavailability::Unreachable));
        }
        self.store.turn_versions(turns).await
    }

    async fn ping(&self) -> StoreResult<()> {
        self.check(&[])?;
        self.store.ping().await
    }
}
