//! A conversation with its whole log as one value.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::{Changes, LoadedConversation, LoadedRows, LogNeeds, NewConversation, Refusal, TurnRow};
use crate::{
    Claim, Conversation, Draft, DraftUpdate, HeldTurn, Item, ItemBody, LoggedTurn, MessageId,
    Ordinal, PageOrder, Position, Timestamp, ToolCallId, ToolCallPage, ToolCallRecord, ToolOutcome,
    ToolResult, TurnFailure, TurnId, TurnLease, TurnOutcome, TurnPage, TurnStatus, TurnVersion,
    TurnView, UnknownCause, WorkerId,
};

/// A conversation with its whole log as one value, for stores that keep documents under keys, and
/// for stores in memory. `now` is always the time by the store's own clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationDocument {
    /// The conversation.
    pub conversation: Conversation,
    last_position: u64,
    last_ordinal: u64,
    turns: Vec<Entry>,
}

/// A turn of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    row: TurnRow,
    /// By position. A queued turn has the user's message alone, at [`Position::START`].
    items: Vec<Item>,
    draft: Option<Draft>,
    /// When the current attempt started.
    started: Option<Timestamp>,
}

impl Entry {
    fn held(&self) -> Option<HeldTurn> {
        let items = self.items.clone();
        self.row.held().map(|held| HeldTurn { items, ..held })
    }

    /// Adds the time of the current attempt, up to `until`, to the time spent.
    fn stop_clock(&mut self, until: Timestamp) {
        let started = self.started.take().unwrap_or(until);
        let micros = u64::try_from(until.0 - started.0).unwrap_or(0);
        self.row.spent += Duration::from_micros(micros);
    }

    fn has_message(&self, id: MessageId) -> bool {
        let is_it = |item: &Item| matches!(&item.body, ItemBody::Message(m) if m.id == id);
        self.items.iter().any(is_it)
    }

    /// The tool calls without a result, in order.
    fn open_calls(&self) -> Vec<ToolCallId> {
        let bodies = || self.items.iter().map(|item| &item.body);
        let results: HashSet<_> = bodies()
            .filter_map(|body| match body {
                ItemBody::ToolResult(result) => Some(result.call),
                _ => None,
            })
            .collect();
        let calls = bodies().filter_map(|body| match body {
            ItemBody::ToolCall(call) => Some(call.id),
            _ => None,
        });
        calls.filter(|call| !results.contains(call)).collect()
    }
}

fn limited<T>(all: impl Iterator<Item = T>, limit: u32) -> Vec<T> {
    all.take(usize::try_from(limit).unwrap_or(usize::MAX))
        .collect()
}

impl ConversationDocument {
    /// A new conversation, without its turns: [`save`](Self::save) adds them.
    pub fn new(new: &NewConversation) -> Self {
        Self {
            conversation: Conversation {
                id: new.id,
                owner: new.owner.clone(),
                title: new.title.clone(),
                created_at: new.created_at,
                updated_at: new.created_at,
            },
            last_position: new.last_position,
            last_ordinal: new.last_ordinal,
            turns: Vec::new(),
        }
    }

    /// Adds a turn as a store has it. `started` is when the current attempt started.
    #[cfg(any(test, feature = "testing"))]
    pub fn push_turn(
        &mut self,
        row: TurnRow,
        items: Vec<Item>,
        draft: Option<Draft>,
        started: Option<Timestamp>,
    ) {
        self.turns.push(Entry {
            row,
            items,
            draft,
            started,
        });
    }

    /// Whether a command needs rows of this conversation.
    pub fn is_needed(&self, needs: &LogNeeds) -> bool {
        let is_needed_turn = |row: &TurnRow| {
            let key = row.idempotency.as_ref().map(|used| (&row.owner, &used.key));
            let mut keys = needs.keys.iter().map(|(owner, key)| (owner, key));
            needs.turns.contains(&row.turn.id) || keys.any(|needed| key == Some(needed))
        };
        needs.conversations.contains(&self.conversation.id) || self.rows().any(is_needed_turn)
    }

    /// Adds all rows of the conversation to those loaded for a command.
    pub fn load_into(&self, loaded: &mut LoadedRows) {
        loaded.conversations.push(LoadedConversation {
            id: self.conversation.id,
            owner: self.conversation.owner.clone(),
            updated_at: self.conversation.updated_at,
            last_position: self.last_position,
            last_ordinal: self.last_ordinal,
            open_turns_not_loaded: 0,
        });
        let rows = self.turns.iter().map(|entry| entry.row.clone());
        loaded.turns.extend(rows);
        let items = self.turns.iter().flat_map(|entry| &entry.items);
        loaded.items.extend(items.cloned());
    }

    /// Makes those of the changes that concern this conversation.
    pub fn save(&mut self, changes: &Changes, now: Timestamp) {
        let id = self.conversation.id;
        for change in changes.conversations.iter().filter(|c| c.id == id) {
            self.conversation.updated_at = change.updated_at;
            self.last_position = change.last_position;
            self.last_ordinal = change.last_ordinal;
        }
        let changed = changes.turns.iter().map(|change| &change.row);
        let rows = changed.chain(&changes.new_turns);
        for row in rows.filter(|row| row.turn.conversation == id) {
            self.save_turn(row, now);
        }
        for superseded in &changes.superseded {
            let is_meant = |turn: &TurnRow| superseded.ordinals.contains(&turn.turn.ordinal);
            let mine = superseded.conversation == id;
            let rows = self.rows_mut().filter(|row| mine && is_meant(row));
            rows.for_each(|row| row.turn.superseded = true);
        }
        for placed in &changes.placed_messages {
            let items = self.entry(placed.turn).map(|entry| &mut entry.items);
            let items = items.into_iter().flatten();
            items.for_each(|item| item.position = placed.position);
        }
        let messages = changes.new_messages.iter().map(|row| row.item());
        let calls = changes.new_calls.iter().flat_map(|row| {
            let (call, result) = row.items();
            std::iter::once(call).chain(result)
        });
        let results = changes.results.iter().map(|row| row.item());
        for item in messages.chain(calls).chain(results) {
            if let Some(entry) = self.entry(item.turn) {
                entry.items.push(item);
                entry.items.sort_by_key(|item| item.position);
            }
        }
    }

    fn save_turn(&mut self, row: &TurnRow, now: Timestamp) {
        let started = row.is_running().then_some(now);
        match self.entry(row.turn.id) {
            Some(entry) => {
                entry.started = entry.started.or(started);
                entry.draft = entry.draft.take().filter(|_| row.has_draft);
                entry.row = row.clone();
            }
            None => {
                self.turns.push(Entry {
                    row: row.clone(),
                    items: Vec::new(),
                    draft: None,
                    started,
                });
                self.turns.sort_by_key(|entry| entry.row.turn.ordinal);
            }
        }
    }

    fn entry(&mut self, id: TurnId) -> Option<&mut Entry> {
        self.turns.iter_mut().find(|entry| entry.row.turn.id == id)
    }

    /// The turns, by ordinal.
    pub fn rows(&self) -> impl Iterator<Item = &TurnRow> {
        self.turns.iter().map(|entry| &entry.row)
    }

    /// Whether a turn belongs to the conversation.
    pub fn has_turn(&self, id: TurnId) -> bool {
        self.rows().any(|row| row.turn.id == id)
    }

    /// The turns, to be changed.
    pub fn rows_mut(&mut self) -> impl Iterator<Item = &mut TurnRow> {
        self.turns.iter_mut().map(|entry| &mut entry.row)
    }

    /// The turns, by ordinal, each with its items and its draft.
    pub fn entries(&self) -> impl Iterator<Item = (&TurnRow, &[Item], Option<&Draft>)> {
        let entries = self.turns.iter();
        entries.map(|entry| (&entry.row, entry.items.as_slice(), entry.draft.as_ref()))
    }

    /// A running turn of the document as its holder gets it, with its items.
    pub fn held(&self, id: TurnId) -> Option<HeldTurn> {
        let mut entries = self.turns.iter();
        entries.find(|entry| entry.row.turn.id == id)?.held()
    }

    /// A page of the turns.
    pub fn turns(&self, page: TurnPage) -> Vec<LoggedTurn> {
        let is_wanted = |entry: &&Entry| {
            let turn = &entry.row.turn;
            page.after.is_none_or(|after| turn.ordinal > after)
                && page.before.is_none_or(|before| turn.ordinal < before)
                && (page.includes_superseded || !turn.superseded)
        };
        let entries = self.turns.iter().filter(is_wanted);
        let logged = |entry: &Entry| LoggedTurn {
            turn: entry.row.turn.clone(),
            items: entry.items.clone(),
        };
        if page.order == PageOrder::NewestFirst {
            let mut newest = limited(entries.rev().map(logged), page.limit);
            newest.reverse();
            return newest;
        }
        limited(entries.map(logged), page.limit)
    }

    /// A turn with its items after a position.
    pub fn turn(&self, id: TurnId, after: Position) -> Option<TurnView> {
        let mut entries = self.turns.iter();
        let entry = entries.find(|entry| entry.row.turn.id == id)?;
        let items = entry.items.iter();
        Some(TurnView {
            turn: entry.row.turn.clone(),
            items: items
                .filter(|item| item.is_unplaced() || item.position > after)
                .cloned()
                .collect(),
            draft: entry.draft.clone(),
        })
    }

    /// The turn that a message belongs to.
    pub fn turn_of_message(&self, message: MessageId) -> Option<TurnId> {
        let mut entries = self.turns.iter();
        let entry = entries.find(|entry| entry.has_message(message))?;
        Some(entry.row.turn.id)
    }

    /// A page of the tool calls.
    pub fn tool_calls(&self, page: ToolCallPage) -> Vec<ToolCallRecord> {
        let items = || self.turns.iter().flat_map(|entry| &entry.items);
        let results: HashMap<_, _> = items()
            .filter_map(|item| match &item.body {
                ItemBody::ToolResult(result) => Some((result.call, result)),
                _ => None,
            })
            .collect();
        let mut records = Vec::new();
        for entry in &self.turns {
            let items = entry.items.iter();
            for item in items.filter(|item| item.position > page.after) {
                if let ItemBody::ToolCall(call) = &item.body {
                    records.push(ToolCallRecord {
                        position: item.position,
                        turn: entry.row.turn.id,
                        superseded: entry.row.turn.superseded,
                        at: item.at,
                        call: call.clone(),
                        result: results.get(&call.id).map(|result| (*result).clone()),
                    });
                }
            }
        }
        limited(records.into_iter(), page.limit)
    }

    /// Saves those of a worker's drafts that belong to turns of this conversation, and returns
    /// which turns of the worker are to be cancelled.
    pub fn heartbeat(&mut self, worker: WorkerId, drafts: &[DraftUpdate]) -> Vec<TurnId> {
        drafts.iter().for_each(|update| self.save_draft(update));
        let is_cancelled = |row: &&TurnRow| {
            row.is_running() && row.holder == Some(worker) && row.turn.cancel_requested
        };
        let cancelled = self.rows().filter(is_cancelled);
        cancelled.map(|row| row.turn.id).collect()
    }

    /// Saves a draft, unless its lease is not current or its message is an item already.
    fn save_draft(&mut self, update: &DraftUpdate) {
        if let Some(entry) = self.entry(update.lease.turn)
            && entry.row.is_running()
            && entry.row.is_held_by(&update.lease)
            && !entry.has_message(update.draft.message)
        {
            entry.draft = Some(update.draft.clone());
            entry.row.has_draft = true;
        }
    }

    /// The version of a turn.
    pub fn version(&self, id: TurnId) -> Option<TurnVersion> {
        let mut entries = self.turns.iter();
        let entry = entries.find(|entry| entry.row.turn.id == id)?;
        Some(TurnVersion {
            epoch: entry.row.epoch,
            ended: entry.row.turn.status.is_ended(),
            last: Position(self.last_position),
            draft_bytes: entry.draft.as_ref().map_or(0, |draft| draft.text.len()),
        })
    }

    /// The running turns that a claim may take, and their holders. A worker whose own lease expired
    /// may take no turn of others.
    pub fn claimable(
        &self,
        claim: &Claim,
        is_alive: impl Fn(WorkerId) -> bool,
    ) -> Vec<(TurnId, Option<WorkerId>)> {
        let may_take = is_alive(claim.worker);
        let is_claimable = |row: &&TurnRow| match row.holder {
            Some(holder) if holder == claim.worker => {
                let holding = claim.holding.as_ref();
                holding.is_some_and(|holding| !holding.contains(&row.turn.id))
            }
            Some(holder) => may_take && !is_alive(holder),
            None => may_take,
        };
        let running = self.rows().filter(|row| row.is_running());
        let claimable = running.filter(is_claimable);
        claimable.map(|row| (row.turn.id, row.holder)).collect()
    }

    /// Claims a running turn for a worker. `expired` is when the lease of its holder expired, if
    /// it had one.
    pub fn claim(
        &mut self,
        id: TurnId,
        worker: WorkerId,
        expired: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<HeldTurn> {
        let entry = self.entry(id).filter(|entry| entry.row.is_running())?;
        entry.stop_clock(expired.map_or(now, |at| at.min(now)));
        entry.started = Some(now);
        entry.draft = None;
        let row = &mut entry.row;
        (row.holder, row.has_draft) = (Some(worker), false);
        (row.epoch, row.attempt) = (row.epoch + 1, row.attempt + 1);
        entry.held()
    }

    /// Releases the running turns of a worker. The attempt at those in `handed_over` does not
    /// count. `expires` is when the worker's lease expires, if it has one.
    pub fn release(
        &mut self,
        worker: WorkerId,
        handed_over: &[TurnId],
        expires: Option<Timestamp>,
        now: Timestamp,
    ) {
        let is_theirs = |row: &TurnRow| row.is_running() && row.holder == Some(worker);
        let entries = self.turns.iter_mut();
        for entry in entries.filter(|entry| is_theirs(&entry.row)) {
            entry.stop_clock(expires.map_or(now, |at| at.min(now)));
            entry.row.holder = None;
            entry.row.attempt -= u32::from(handed_over.contains(&entry.row.turn.id));
        }
    }

    /// Ends a running turn without its items, as [`TurnLog::force_end`](crate::TurnLog::force_end)
    /// does. The next queued turn starts without a holder.
    ///
    /// # Errors
    /// `LeaseLost`.
    pub fn force_end(
        &mut self,
        lease: &TurnLease,
        failure: TurnFailure,
        at: Timestamp,
    ) -> Result<(), Refusal> {
        let entry = self.entry(lease.turn);
        let entry = entry.filter(|entry| entry.row.is_held_by(lease));
        let entry = entry.ok_or(Refusal::LeaseLost)?;
        if !entry.row.is_running() {
            return Ok(());
        }
        (entry.draft, entry.row.has_draft) = (None, false);
        entry.row.turn.status = TurnStatus::Ended {
            at,
            outcome: TurnOutcome::Failed(failure),
        };
        for call in entry.open_calls() {
            self.add_unknown_result(lease.turn, call, at);
        }
        self.conversation.updated_at = at;
        self.start_next_unheld();
        Ok(())
    }

    fn add_unknown_result(&mut self, turn: TurnId, call: ToolCallId, at: Timestamp) {
        self.last_position += 1;
        let position = Position(self.last_position);
        if let Some(entry) = self.entry(turn) {
            entry.items.push(Item {
                position,
                turn,
                at,
                body: ItemBody::ToolResult(ToolResult {
                    call,
                    outcome: ToolOutcome::Unknown(UnknownCause::Interrupted),
                    started_at: at,
                    took: Duration::ZERO,
                }),
            });
        }
    }

    fn start_next_unheld(&mut self) {
        let is_queued = |entry: &&mut Entry| entry.row.turn.status == TurnStatus::Queued;
        let Some(next) = self.turns.iter_mut().find(is_queued) else {
            return;
        };
        self.last_position += 1;
        let position = Position(self.last_position);
        next.items
            .iter_mut()
            .for_each(|item| item.position = position);
        next.row.turn.status = TurnStatus::Running;
        let ordinal: Ordinal = next.row.turn.ordinal;
        if let Some(retried) = next.row.retried {
            let rows = self.rows_mut();
            rows.filter(|row| (retried..ordinal).contains(&row.turn.ordinal))
                .for_each(|row| row.turn.superseded = true);
        }
    }
}
