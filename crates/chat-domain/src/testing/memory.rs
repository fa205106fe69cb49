mod faults;
mod log;
mod lookups;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

pub use faults::Refused;

use super::Gate;
use crate::{
    BeginTurn, Begun, BegunPage, BusyPolicy, Claim, Conversation, ConversationId, ConversationPage,
    ConversationStore, Draft, EndedTurn, Feedback, Heartbeat, HeldTurn, IdempotencyKey, Item,
    ItemBody, Message, MessageId, NewItem, Ordinal, Position, StoreError, Target, Timestamp, Title,
    ToolCallPage, ToolCallRecord, Turn, TurnFailure, TurnId, TurnLease, TurnLog, TurnMark,
    TurnOutcome, TurnPage, TurnStatus, TurnView, Unavailability, Usage, UserId, WorkerId,
};

/// A store in memory, for tests. Keeps the whole contract but durability; leases go by tokio's
/// clock, which tests can pause.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    conversations: BTreeMap<ConversationId, Log>,
    workers: HashMap<WorkerId, Instant>,
    faults: VecDeque<Unavailability>,
    refused: Vec<Refused>,
    deaf: bool,
    away: bool,
    end_gate: Option<Gate>,
    calls: u64,
}

struct Log {
    conversation: Conversation,
    turns: Vec<Row>,
    last_position: u64,
    feedback: BTreeMap<MessageId, Feedback>,
}

struct Row {
    turn: Turn,
    /// While the turn is queued, the user's message alone, unplaced.
    items: Vec<Item>,
    holder: Option<WorkerId>,
    epoch: u64,
    attempt: u32,
    /// When the current attempt began.
    started: Option<Instant>,
    /// How long the attempts before ran.
    spent: Duration,
    draft: Option<Draft>,
    idempotency: Option<IdempotencyKey>,
    /// What the end of this turn began, so that the end may be repeated.
    next: Option<TurnId>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let mut state = self.lock();
        state.calls += 1;
        match state
            .away
            .then_some(Unavailability::Unreachable)
            .or_else(|| state.faults.pop_front())
        {
            Some(fault) => Err(StoreError::Unavailable(
                fault,
                "a fault that the test asked for".into(),
            )),
            None => Ok(state),
        }
    }
}

impl State {
    fn owned(&mut self, owner: &UserId, id: ConversationId) -> Result<&mut Log, StoreError> {
        self.conversations
            .get_mut(&id)
            .filter(|log| log.conversation.owner == *owner)
            .ok_or(StoreError::NotFound)
    }

    fn owned_turn(&mut self, owner: &UserId, id: TurnId) -> Result<&mut Row, StoreError> {
        self.conversations
            .values_mut()
            .filter(|log| log.conversation.owner == *owner)
            .flat_map(|log| &mut log.turns)
            .find(|row| row.turn.id == id)
            .ok_or(StoreError::NotFound)
    }

    /// The log and the place in it of the turn this lease is, or was, for.
    fn leased(&mut self, lease: &TurnLease) -> Result<(&mut Log, usize), StoreError> {
        for log in self.conversations.values_mut() {
            if let Some(at) = log.turns.iter().position(|row| row.lease() == Some(*lease)) {
                return Ok((log, at));
            }
        }
        Err(StoreError::LeaseLost)
    }
}

impl Row {
    fn lease(&self) -> Option<TurnLease> {
        self.holder.map(|worker| TurnLease {
            turn: self.turn.id,
            worker,
            epoch: self.epoch,
        })
    }

    fn is_running(&self) -> bool {
        self.turn.status == TurnStatus::Running
    }

    /// Counts the time of the current attempt, up to `until`.
    fn settle(&mut self, until: Instant) {
        self.spent += self.started.take().map_or(Duration::ZERO, |started| {
            until.saturating_duration_since(started)
        });
    }
}

fn same_id(a: &ItemBody, b: &ItemBody) -> bool {
    match (a, b) {
        (ItemBody::Message(a), ItemBody::Message(b)) => a.id == b.id,
        (ItemBody::ToolCall(a), ItemBody::ToolCall(b)) => a.id == b.id,
        (ItemBody::ToolResult(a), ItemBody::ToolResult(b)) => a.call == b.call,
        _ => false,
    }
}

fn limited<T>(all: impl Iterator<Item = T>, limit: u32) -> Vec<T> {
    all.take(usize::try_from(limit).unwrap_or(usize::MAX))
        .collect()
}

#[async_trait]
impl ConversationStore for MemoryStore {
    async fn conversations(
        &self,
        owner: &UserId,
        page: ConversationPage,
    ) -> Result<Vec<Conversation>, StoreError> {
        let state = self.open()?;
        let mut all: Vec<_> = state
            .conversations
            .values()
            .map(|log| &log.conversation)
            .filter(|c| c.owner == *owner)
            .collect();
        all.sort_by_key(|c| std::cmp::Reverse((c.updated_at, c.id)));
        let after =
            |c: &&&Conversation| page.after.is_none_or(|after| (c.updated_at, c.id) < after);
        Ok(limited(
            all.iter().filter(after).map(|c| (*c).clone()),
            page.limit,
        ))
    }

    async fn conversations_begun(
        &self,
        owner: &UserId,
        page: BegunPage,
    ) -> Result<Vec<Conversation>, StoreError> {
        Ok(self.open()?.conversations_begun(owner, page))
    }

    async fn conversation(
        &self,
        owner: &UserId,
        id: ConversationId,
    ) -> Result<Conversation, StoreError> {
        Ok(self.open()?.owned(owner, id)?.conversation.clone())
    }

    async fn rename(
        &self,
        owner: &UserId,
        id: ConversationId,
        title: &Title,
        at: Timestamp,
    ) -> Result<Conversation, StoreError> {
        let mut state = self.open()?;
        let conversation = &mut state.owned(owner, id)?.conversation;
        (conversation.title, conversation.updated_at) = (title.clone(), at);
        Ok(conversation.clone())
    }

    async fn delete(&self, owner: &UserId, id: ConversationId) -> Result<(), StoreError> {
        let mut state = self.open()?;
        state.owned(owner, id)?;
        state.conversations.remove(&id);
        Ok(())
    }

    async fn turns(
        &self,
        owner: &UserId,
        id: ConversationId,
        page: TurnPage,
    ) -> Result<Vec<TurnLog>, StoreError> {
        let mut state = self.open()?;
        if page.before.is_some() {
            state.check(&[Refused::Histories])?;
        }
        let wanted = |row: &&Row| {
            let ordinal = row.turn.ordinal;
            page.after.is_none_or(|after| ordinal > after)
                && page.before.is_none_or(|before| ordinal < before)
                && (page.superseded || !row.turn.superseded)
        };
        let rows = state.owned(owner, id)?.turns.iter().filter(wanted);
        let log = |row: &Row| TurnLog {
            turn: row.turn.clone(),
            items: row.items.clone(),
        };
        if page.newest {
            let mut logs = limited(rows.rev().map(log), page.limit);
            logs.reverse();
            return Ok(logs);
        }
        Ok(limited(rows.map(log), page.limit))
    }

    async fn turn(
        &self,
        owner: &UserId,
        id: TurnId,
        after: Position,
    ) -> Result<TurnView, StoreError> {
        let mut state = self.open()?;
        let row = state.owned_turn(owner, id)?;
        let items = row
            .items
            .iter()
            .filter(|item| item.is_unplaced() || item.position > after)
            .cloned()
            .collect();
        Ok(TurnView {
            turn: row.turn.clone(),
            items,
            draft: row.draft.clone(),
        })
    }

    async fn turn_of(
        &self,
        owner: &UserId,
        id: ConversationId,
        message: MessageId,
    ) -> Result<Turn, StoreError> {
        self.open()?.turn_of(owner, id, message)
    }

    async fn first_asked(
        &self,
        owner: &UserId,
        turns: Vec<TurnId>,
    ) -> Result<HashMap<TurnId, (MessageId, Timestamp)>, StoreError> {
        Ok(self.open()?.first_asked(owner, turns))
    }

    async fn tool_calls(
        &self,
        owner: &UserId,
        id: ConversationId,
        page: ToolCallPage,
    ) -> Result<Vec<ToolCallRecord>, StoreError> {
        let mut state = self.open()?;
        let log = state.owned(owner, id)?;
        let results: HashMap<_, _> = log
            .turns
            .iter()
            .flat_map(|row| &row.items)
            .filter_map(|item| match &item.body {
                ItemBody::ToolResult(result) => Some((result.call, result)),
                _ => None,
            })
            .collect();
        let calls = log
            .turns
            .iter()
            .flat_map(|row| row.items.iter().map(move |item| (&row.turn, item)))
            .filter_map(|(turn, item)| {
                let ItemBody::ToolCall(call) = &item.body else {
                    return None;
                };
                let result = results.get(&call.id).map(|result| (*result).clone());
                let (turn, superseded) = (turn.id, turn.superseded);
                Some(ToolCallRecord {
                    position: item.position,
                    turn,
                    superseded,
                    at: item.at,
                    call: call.clone(),
                    result,
                })
            });
        Ok(limited(
            calls.filter(|call| call.position > page.after),
            page.limit,
        ))
    }

    async fn request_cancel(&self, owner: &UserId, id: TurnId) -> Result<Turn, StoreError> {
        let mut state = self.open()?;
        let turn = &mut state.owned_turn(owner, id)?.turn;
        turn.cancel_requested |= !turn.status.is_ended();
        Ok(turn.clone())
    }

    async fn forget_key(&self, owner: &UserId, id: TurnId) -> Result<(), StoreError> {
        self.open()?.owned_turn(owner, id)?.idempotency = None;
        Ok(())
    }

    async fn give_feedback(
        &self,
        owner: &UserId,
        id: ConversationId,
        messages: Vec<MessageId>,
        feedback: Feedback,
        _: Timestamp,
    ) -> Result<(), StoreError> {
        self.open()?.give_feedback(owner, id, messages, feedback)
    }

    async fn feedback(
        &self,
        owner: &UserId,
        id: ConversationId,
    ) -> Result<Vec<(MessageId, Feedback)>, StoreError> {
        self.open()?.feedback(owner, id)
    }

    async fn begin_turn(&self, begin: BeginTurn) -> Result<Begun, StoreError> {
        let mut state = self.open()?;
        let id = begin.target.id();
        let rows = || {
            state
                .conversations
                .values()
                .filter(|log| log.conversation.owner == begin.owner)
                .flat_map(|log| &log.turns)
        };
        if let Some(row) = rows().find(|row| row.turn.id == begin.turn) {
            let log = state
                .conversations
                .get(&row.turn.conversation)
                .ok_or(StoreError::NotFound)?;
            return if row.is_running() && row.holder == Some(begin.worker) {
                log.held(row).map(Begun::Running)
            } else {
                Ok(Begun::Queued(row.turn.clone()))
            };
        }
        if let Target::Existing(id) = begin.target
            && state
                .conversations
                .get(&id)
                .is_none_or(|log| log.conversation.owner != begin.owner)
        {
            return Err(StoreError::NotFound);
        }
        if let Some(key) = &begin.idempotency
            && let Some(row) = rows().find(|row| {
                row.idempotency
                    .as_ref()
                    .is_some_and(|used| used.key == key.key)
            })
        {
            let same = row.idempotency.as_ref() == Some(key);
            return if same {
                Ok(Begun::Existing(row.turn.clone()))
            } else {
                Err(StoreError::IdempotencyMismatch)
            };
        }
        if let Some(retried) = begin.retry_of {
            let row = rows()
                .find(|row| row.turn.id == retried && row.turn.conversation == id)
                .ok_or(StoreError::NotFound)?;
            if row.turn.superseded {
                return Err(StoreError::Superseded);
            }
        }
        if let Target::New(id, title) = &begin.target {
            let (owner, title) = (begin.owner.clone(), title.clone());
            let conversation = Conversation {
                id: *id,
                owner,
                title,
                created_at: begin.at,
                updated_at: begin.at,
            };
            state.conversations.insert(
                *id,
                Log {
                    conversation,
                    turns: Vec::new(),
                    last_position: 0,
                    feedback: BTreeMap::new(),
                },
            );
        }
        let log = state.owned(&begin.owner, id)?;
        let running = log.running().map(|row| row.turn.id);
        if let Some(running) = running {
            let queued = log
                .turns
                .iter()
                .filter(|row| row.turn.status == TurnStatus::Queued)
                .count();
            match begin.busy {
                BusyPolicy::Reject => return Err(StoreError::TurnRunning(running)),
                _ if queued >= usize::try_from(begin.queue_limit).unwrap_or(usize::MAX) => {
                    return Err(StoreError::QueueFull);
                }
                BusyPolicy::Enqueue => {}
                BusyPolicy::Interrupt => {
                    log.turns
                        .iter_mut()
                        .filter(|row| !row.turn.status.is_ended())
                        .for_each(|row| row.turn.cancel_requested = true);
                }
            }
        }
        log.conversation.updated_at = begin.at;
        let turn = Turn {
            id: begin.turn,
            conversation: id,
            ordinal: Ordinal(log.turns.len() as u64 + 1),
            status: TurnStatus::Queued,
            cancel_requested: false,
            retry_of: begin.retry_of,
            superseded: false,
            created_at: begin.at,
            usage: Usage::default(),
            finish: None,
            turns_left_out: 0,
        };
        let body = ItemBody::Message(Message::user(begin.message, begin.text));
        let items = vec![Item {
            position: Position::START,
            turn: turn.id,
            at: begin.at,
            body,
        }];
        let idempotency = begin.idempotency;
        log.turns.push(Row {
            turn: turn.clone(),
            items,
            holder: None,
            epoch: 0,
            attempt: 0,
            started: None,
            spent: Duration::ZERO,
            draft: None,
            idempotency,
            next: None,
        });
        if running.is_some() {
            return Ok(Begun::Queued(turn));
        }
        let at = log.turns.len() - 1;
        log.run(at, begin.worker)?;
        let row = log.turns.last().ok_or(StoreError::NotFound)?;
        log.held(row).map(Begun::Running)
    }

    async fn append(
        &self,
        lease: &TurnLease,
        items: Vec<NewItem>,
    ) -> Result<Vec<Item>, StoreError> {
        let mut state = self.open()?;
        state.check(&[Refused::Appends])?;
        let (log, at) = state.leased(lease)?;
        if !log.row(at)?.is_running() {
            return Err(StoreError::LeaseLost);
        }
        let placed = log.place(at, items)?;
        log.row(at)?.draft = None;
        Ok(placed)
    }

    async fn end_turn(
        &self,
        lease: &TurnLease,
        last: Vec<NewItem>,
        outcome: TurnOutcome,
        usage: Usage,
        now: Timestamp,
    ) -> Result<EndedTurn, StoreError> {
        let gate = self.lock().end_gate.clone();
        if let Some(gate) = gate {
            gate.pass().await;
        }
        let mut state = self.open()?;
        state.check(if last.is_empty() {
            &[Refused::Ends]
        } else {
            &[Refused::Ends, Refused::EndsWithItems]
        })?;
        let (log, at) = state.leased(lease)?;
        let items = if log.row(at)?.is_running() {
            let items = log.place(at, last)?;
            let row = log.row(at)?;
            row.draft = None;
            row.turn.usage = usage;
            row.turn.note_last_items(&items);
            row.turn.status = TurnStatus::Ended { at: now, outcome };
            log.conversation.updated_at = now;
            log.row(at)?.next = log.run_next(lease.worker, now)?;
            items
        } else {
            let known = |item: NewItem| {
                log.turns
                    .get(at)?
                    .items
                    .iter()
                    .find(|known| same_id(&known.body, &item.body))
                    .cloned()
            };
            last.into_iter().filter_map(known).collect()
        };
        let row = log.row(at)?;
        let (turn, next) = (row.turn.clone(), row.next);
        // Claimed since, it is in other hands: perhaps in this worker's own, under the claim's
        // lease.
        let as_begun =
            |row: &&Row| row.is_running() && row.holder == Some(lease.worker) && row.epoch == 1;
        let next = log
            .turns
            .iter()
            .find(|row| Some(row.turn.id) == next && as_begun(row));
        let next = next.map(|row| log.held(row)).transpose()?;
        Ok(EndedTurn { turn, items, next })
    }

    async fn force_end(
        &self,
        lease: &TurnLease,
        failure: TurnFailure,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut state = self.open()?;
        let (log, at) = state.leased(lease)?;
        if log.row(at)?.is_running() {
            log.force_end(at, failure, now)?;
        }
        Ok(())
    }

    async fn enroll(&self, worker: WorkerId, lease: Duration) -> Result<(), StoreError> {
        self.open()?.workers.insert(worker, Instant::now() + lease);
        Ok(())
    }

    async fn heartbeat(
        &self,
        worker: WorkerId,
        lease: Duration,
        drafts: Vec<(TurnLease, Draft)>,
    ) -> Result<Heartbeat, StoreError> {
        let mut state = self.open()?;
        if state.deaf {
            return Err(StoreError::Unavailable(
                Unavailability::Unreachable,
                "heartbeats fail".into(),
            ));
        }
        if !drafts.is_empty() {
            state.check(&[Refused::Drafts])?;
        }
        *state
            .workers
            .get_mut(&worker)
            .ok_or(StoreError::LeaseLost)? = Instant::now() + lease;
        for (lease, draft) in drafts {
            if let Ok((log, at)) = state.leased(&lease) {
                let row = log.row(at)?;
                let is_item = row.items.iter().any(|item| matches!(&item.body, ItemBody::Message(message) if message.id == draft.message));
                if row.is_running() && !is_item {
                    row.draft = Some(draft);
                }
            }
        }
        let rows = state.conversations.values().flat_map(|log| &log.turns);
        let cancel = rows
            .filter(|row| {
                row.is_running() && row.holder == Some(worker) && row.turn.cancel_requested
            })
            .map(|row| row.turn.id);
        Ok(Heartbeat {
            cancel: cancel.collect(),
        })
    }

    async fn claim_abandoned(&self, claim: Claim) -> Result<Vec<HeldTurn>, StoreError> {
        let mut state = self.open()?;
        let State {
            conversations,
            workers,
            ..
        } = &mut *state;
        let now = Instant::now();
        let mut claimed = Vec::new();
        let takes = workers.get(&claim.worker).is_some_and(|until| *until > now);
        for log in conversations.values_mut() {
            for at in 0..log.turns.len() {
                let row = log.row(at)?;
                if claimed.len() >= usize::try_from(claim.limit).unwrap_or(usize::MAX)
                    || !row.is_running()
                {
                    continue;
                }
                let holder = row.holder;
                let abandoned = match holder {
                    Some(holder) if holder == claim.worker => claim
                        .holding
                        .as_ref()
                        .is_some_and(|holding| !holding.contains(&row.turn.id)),
                    Some(holder) => takes && workers.get(&holder).is_none_or(|until| *until <= now),
                    None => takes,
                };
                if !abandoned {
                    continue;
                }
                let lapsed = holder
                    .and_then(|holder| workers.get(&holder))
                    .map_or(now, |until| now.min(*until));
                row.settle(lapsed);
                row.started = Some(now);
                (row.holder, row.epoch, row.attempt, row.draft) =
                    (Some(claim.worker), row.epoch + 1, row.attempt + 1, None);
                let row = log.turns.get(at).ok_or(StoreError::NotFound)?;
                claimed.push(log.held(row)?);
                if let Some(dead) = holder.filter(|holder| *holder != claim.worker) {
                    workers.remove(&dead);
                }
            }
        }
        Ok(claimed)
    }

    async fn retire(&self, worker: WorkerId, handed_over: Vec<TurnId>) -> Result<(), StoreError> {
        let mut state = self.open()?;
        state.workers.remove(&worker);
        let rows = state
            .conversations
            .values_mut()
            .flat_map(|log| &mut log.turns);
        for row in rows.filter(|row| row.is_running() && row.holder == Some(worker)) {
            row.settle(Instant::now());
            (row.holder, row.attempt) = (
                None,
                row.attempt - u32::from(handed_over.contains(&row.turn.id)),
            );
        }
        Ok(())
    }

    async fn marks(&self, turns: Vec<TurnId>) -> Result<HashMap<TurnId, TurnMark>, StoreError> {
        // Asked at any time, this must not take the faults that are meant for others.
        let state = self.lock();
        if state.away {
            return Err(StoreError::Unavailable(
                Unavailability::Unreachable,
                "a fault that the test asked for".into(),
            ));
        }
        let rows = state
            .conversations
            .values()
            .flat_map(|log| log.turns.iter().map(move |row| (log, row)));
        let mark = |(log, row): (&Log, &Row)| {
            let draft_bytes = row.draft.as_ref().map_or(0, |draft| draft.text.len());
            TurnMark {
                epoch: row.epoch,
                ended: row.turn.status.is_ended(),
                last: Position(log.last_position),
                draft_bytes,
            }
        };
        Ok(rows
            .filter(|(_, row)| turns.contains(&row.turn.id))
            .map(|found| (found.1.turn.id, mark(found)))
            .collect())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.open().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::{ConversationStore, testing::MemoryStore};

    crate::store_contract! { async { ((), Arc::new(MemoryStore::new()) as Arc<dyn ConversationStore>) } }
}
