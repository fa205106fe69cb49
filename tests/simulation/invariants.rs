//! Invariants after every step that changes the store, and at the end.
//!
//! The checker keeps the conversations as they were before the step. Each step names its cause; a
//! change that the cause does not allow is a violation.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat_domain::log::ConversationDocument;
use chat_domain::{
    BeginOutcome, BeginTurn, BusyPolicy, Claim, ConversationId, HeldTurn, Item, Refusal,
    StoreError, Target, TurnId, TurnLease, TurnRow, TurnStatus, UserId, WorkerId,
};

use crate::log_rules;
use crate::plan::{Call, Fault, Plan};
use crate::trace::short;
use crate::witness::Witness;

type Documents = BTreeMap<ConversationId, ConversationDocument>;

/// A property that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub property: &'static str,
    pub text: String,
}

impl Violation {
    pub fn new(property: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { property, text }
    }
}

/// Fails with a violation unless something holds.
pub fn ensure(
    property: &'static str,
    holds: bool,
    text: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds {
        Ok(())
    } else {
        Err(Violation::new(property, text()))
    }
}

/// The cause of a change of the store.
pub enum Cause<'a> {
    Begin(&'a BeginTurn, &'a Result<BeginOutcome, StoreError>),
    Append {
        lease: TurnLease,
        is_done: bool,
    },
    End {
        lease: TurnLease,
        is_done: bool,
        next: Option<&'a HeldTurn>,
    },
    ForceEnd {
        lease: TurnLease,
        is_done: bool,
    },
    Claim(&'a Claim, &'a [HeldTurn]),
    Deregister {
        worker: WorkerId,
        handed_over: &'a [TurnId],
    },
    Heartbeat,
    Cancel(TurnId),
    ReleaseKey(TurnId),
    Rename,
    Delete {
        owner: &'a UserId,
        id: ConversationId,
    },
}

/// The store as it was, and what else the checker knows.
pub struct Checker {
    before: Documents,
    /// Until when the lease of each worker runs, by the store's clock.
    leases: BTreeMap<WorkerId, i64>,
    /// How often each turn was handed over.
    handed_over: BTreeMap<TurnId, u32>,
    deleted: BTreeSet<ConversationId>,
    attempts: u32,
    /// How often a turn may be started, where no fault interrupts its workers.
    most_starts: Option<u32>,
    steps: usize,
    queue: usize,
    /// How long a turn may run at most.
    longest: Duration,
    turns: u64,
    /// By how much the store's clock was put back.
    put_back: Duration,
    were_cut: bool,
}

impl Checker {
    pub fn new(plan: &Plan) -> Self {
        let limits = &plan.options.limits;
        Self {
            before: BTreeMap::new(),
            leases: BTreeMap::new(),
            handed_over: BTreeMap::new(),
            deleted: BTreeSet::new(),
            attempts: limits.attempts,
            most_starts: most_starts(plan),
            steps: limits.steps,
            queue: usize::try_from(limits.queue).unwrap_or(usize::MAX),
            // The store's clock, which measures the attempts before, drifts.
            longest: limits.turn + limits.turn / 10 + Duration::from_millis(100),
            turns: 0,
            put_back: Duration::ZERO,
            were_cut: false,
        }
    }

    /// How many turns were stored.
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// How many turns run or are queued.
    pub fn open_turns(&self) -> usize {
        let rows = self.before.values().flat_map(ConversationDocument::rows);
        rows.filter(|row| !row.turn.status.is_ended()).count()
    }

    /// The running turns that were cancelled.
    pub fn cancelled_turns(&self) -> Vec<TurnId> {
        let rows = self.before.values().flat_map(ConversationDocument::rows);
        let cancelled = rows.filter(|row| row.is_running() && row.turn.cancel_requested);
        cancelled.map(|row| row.turn.id).collect()
    }

    /// The running turns that none of these workers holds.
    pub fn turns_of_the_dead(&self, living: &[WorkerId]) -> Vec<String> {
        let rows = self.before.values().flat_map(ConversationDocument::rows);
        rows.filter(|row| row.is_running())
            .filter(|row| row.holder.is_none_or(|holder| !living.contains(&holder)))
            .map(|row| format!("turn {}", short(row.turn.id.0)))
            .collect()
    }

    pub fn is_deleted(&self, conversation: ConversationId) -> bool {
        self.deleted.contains(&conversation)
    }

    /// A worker's lease begins again.
    pub fn renew(&mut self, worker: WorkerId, now: i64, lease: Duration) {
        let micros = i64::try_from(lease.as_micros()).unwrap_or(i64::MAX);
        self.leases.insert(worker, now + micros);
    }

    /// The store has deleted the rows of all workers.
    pub fn forget_workers(&mut self) {
        self.leases.clear();
        self.were_cut = true;
    }

    /// The store's clock has jumped.
    pub fn clock_jumped(&mut self, millis: i64) {
        if millis < 0 {
            self.put_back += Duration::from_millis(millis.unsigned_abs());
        } else {
            self.were_cut = true;
        }
    }

    pub fn clock_jumps(&self) -> Duration {
        self.put_back
    }

    /// Whether leases ended before their time.
    pub fn leases_were_cut(&self) -> bool {
        self.were_cut
    }

    /// Checks one step.
    pub fn check_step(
        &mut self,
        documents: &Documents,
        cause: &Cause<'_>,
        witness: &Witness,
        now: i64,
    ) -> Result<(), Violation> {
        self.check_command(documents, cause, now)?;
        if let Cause::Delete { owner, id } = cause {
            self.check_deletion(documents, owner, *id)?;
        }
        for id in self.before.keys() {
            ensure("kept", documents.contains_key(id), || {
                format!("conversation {} is gone", short(id.0))
            })?;
        }
        for (id, document) in documents {
            let before = self.before.get(id);
            if before == Some(document) {
                continue;
            }
            log_rules::check(document, self.steps)?;
            self.check_changes(before, document, cause, witness)?;
            let new = document.rows().count() - before.map_or(0, |known| known.rows().count());
            self.turns += u64::try_from(new).unwrap_or(0);
            self.before.insert(*id, document.clone());
        }
        Ok(())
    }

    fn check_deletion(
        &mut self,
        documents: &Documents,
        owner: &UserId,
        id: ConversationId,
    ) -> Result<(), Violation> {
        if documents.contains_key(&id) {
            return Ok(());
        }
        if let Some(document) = self.before.remove(&id) {
            self.deleted.insert(id);
            let is_theirs = document.conversation.owner == *owner;
            return ensure("isolation", is_theirs, || {
                format!("{owner} has deleted another user's conversation")
            });
        }
        Ok(())
    }

    fn row(&self, turn: TurnId) -> Option<&TurnRow> {
        let mut rows = self.before.values().flat_map(ConversationDocument::rows);
        rows.find(|row| row.turn.id == turn)
    }

    /// Checks whether the rules allow the outcome of a command.
    fn check_command(
        &mut self,
        documents: &Documents,
        cause: &Cause<'_>,
        now: i64,
    ) -> Result<(), Violation> {
        match cause {
            Cause::Begin(begin, begun) => self.check_begin(documents, begin, begun),
            Cause::Append { lease, is_done } => self.check_lease(lease, *is_done, true),
            Cause::ForceEnd { lease, is_done } => self.check_lease(lease, *is_done, false),
            Cause::End {
                lease,
                is_done,
                next,
            } => {
                self.check_lease(lease, *is_done, false)?;
                let is_held = next.is_none_or(|next| next.lease.worker == lease.worker);
                ensure("one-at-a-time", is_held, || {
                    "the next turn is handed to another worker".to_owned()
                })
            }
            Cause::Claim(claim, claimed) => self.check_claim(claim, claimed, now),
            Cause::Deregister {
                worker,
                handed_over,
            } => {
                let rows = documents.values().flat_map(ConversationDocument::rows);
                let released: Vec<TurnId> = rows
                    .filter(|row| row.is_running() && handed_over.contains(&row.turn.id))
                    .filter(|row| {
                        let before = self.row(row.turn.id);
                        before.is_some_and(|before| before.holder == Some(*worker))
                    })
                    .map(|row| row.turn.id)
                    .collect();
                for turn in released {
                    *self.handed_over.entry(turn).or_default() += 1;
                }
                self.leases.remove(worker);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A write is done only under the current lease.
    fn check_lease(
        &self,
        lease: &TurnLease,
        is_done: bool,
        must_run: bool,
    ) -> Result<(), Violation> {
        let row = self.row(lease.turn);
        let is_current = row.is_some_and(|row| {
            row.holder == Some(lease.worker)
                && row.epoch == lease.epoch
                && (row.is_running() || !must_run)
        });
        ensure("fenced-writes", is_current || !is_done, || {
            let turn = short(lease.turn.0);
            format!("turn {turn} is written under the old epoch {}", lease.epoch)
        })
    }

    fn check_claim(
        &mut self,
        claim: &Claim,
        claimed: &[HeldTurn],
        now: i64,
    ) -> Result<(), Violation> {
        let is_alive =
            |worker: &WorkerId| self.leases.get(worker).is_some_and(|until| *until > now);
        let mut dead = Vec::new();
        for held in claimed {
            let turn = short(held.turn.id.0);
            let holder = self.row(held.turn.id).and_then(|row| row.holder);
            if holder == Some(claim.worker) {
                let holding = claim.holding.as_ref();
                let is_lost = holding.is_some_and(|known| !known.contains(&held.turn.id));
                ensure("leases", is_lost, || {
                    format!("turn {turn} is claimed by its own holder, which runs it")
                })?;
                continue;
            }
            ensure("leases", is_alive(&claim.worker), || {
                format!("turn {turn} is claimed under a lease that has expired")
            })?;
            let is_free = holder.is_none_or(|holder| !is_alive(&holder));
            ensure("leases", is_free, || {
                format!("turn {turn} is claimed from a worker whose lease runs")
            })?;
            dead.extend(holder);
        }
        self.leases.retain(|worker, _| !dead.contains(worker));
        Ok(())
    }

    /// A message is stored, recognised or refused only where it may be.
    fn check_begin(
        &self,
        documents: &Documents,
        begin: &BeginTurn,
        begun: &Result<BeginOutcome, StoreError>,
    ) -> Result<(), Violation> {
        let id = begin.target.id();
        let known = self.before.get(&id);
        let known = known.filter(|known| known.conversation.owner == begin.owner);
        let rows = || self.before.values().flat_map(ConversationDocument::rows);
        let of_key = begin.idempotency.as_ref().and_then(|key| {
            rows().find(|row| {
                let used = row.idempotency.as_ref();
                row.owner == begin.owner && used.is_some_and(|used| used.key == key.key)
            })
        });
        let open = known.map_or(0, |known| {
            known
                .rows()
                .filter(|row| !row.turn.status.is_ended())
                .count()
        });
        let refusal = match begun {
            Ok(outcome) => {
                self.check_outcome(begin, outcome, of_key, open)?;
                return check_interruption(documents, begin, outcome);
            }
            Err(error) => error.refusal(),
        };
        let is_new = matches!(begin.target, Target::New(..));
        let may_be = match refusal {
            Some(Refusal::NotFound) => known.is_none() && !is_new || begin.retry_of.is_some(),
            Some(Refusal::IdempotencyMismatch) => {
                of_key.is_some_and(|row| row.idempotency != begin.idempotency)
            }
            Some(Refusal::TurnRunning(_)) => begin.busy == BusyPolicy::Reject && open > 0,
            Some(Refusal::QueueFull) => open > self.queue,
            Some(Refusal::Superseded) => begin
                .retry_of
                .is_some_and(|retry| self.row(retry.turn).is_some_and(|row| row.turn.superseded)),
            Some(Refusal::LeaseLost) | None => false,
        };
        ensure("refused", may_be, || {
            format!("a message is refused without a reason: {begun:?}")
        })
    }

    fn check_outcome(
        &self,
        begin: &BeginTurn,
        outcome: &BeginOutcome,
        of_key: Option<&TurnRow>,
        open: usize,
    ) -> Result<(), Violation> {
        let is_repeated = self.row(begin.turn).is_some();
        match outcome {
            BeginOutcome::Duplicate(turn) => {
                let is_same = of_key.is_some_and(|row| {
                    row.turn.id == turn.id && row.idempotency == begin.idempotency
                });
                ensure("idempotency", is_same, || {
                    "a request counts as a repetition of another".to_owned()
                })
            }
            _ if is_repeated => Ok(()),
            _ => {
                ensure("idempotency", of_key.is_none(), || {
                    "a message is stored again under its key".to_owned()
                })?;
                let may_wait = begin.busy != BusyPolicy::Reject && open <= self.queue;
                ensure("refused", may_wait || open == 0, || {
                    format!("a message is taken behind {open} others: {:?}", begin.busy)
                })?;
                let runs = matches!(outcome, BeginOutcome::Started(_));
                ensure("one-at-a-time", runs == (open == 0), || {
                    format!("a turn begins next to {open} others: {outcome:?}")
                })
            }
        }
    }

    /// Checks what has changed in one conversation.
    fn check_changes(
        &self,
        before: Option<&ConversationDocument>,
        after: &ConversationDocument,
        cause: &Cause<'_>,
        witness: &Witness,
    ) -> Result<(), Violation> {
        let old = before.into_iter().flat_map(ConversationDocument::entries);
        let old: Vec<_> = old.collect();
        let count = after.entries().count();
        ensure("kept", count >= old.len(), || "a turn is gone".to_owned())?;
        for (place, (row, items, _)) in after.entries().enumerate() {
            let known = old.get(place);
            match known {
                Some((known, had, _)) => {
                    log_rules::check_row(known, row, cause)?;
                    log_rules::check_items(had, items, known, cause)?;
                }
                None => ensure(
                    "unsent",
                    matches!(cause, Cause::Begin(begin, _) if begin.turn == row.turn.id),
                    || "a turn came from nowhere".to_owned(),
                )?,
            }
            let had = known.map_or(0, |(_, had, _)| had.len());
            let new: &[Item] = items.get(had..).unwrap_or_default();
            log_rules::check_origin(row, new, items, witness)?;
            self.check_bounds(row)?;
        }
        Ok(())
    }

    /// A turn starts as often and runs as long as it may.
    fn check_bounds(&self, row: &TurnRow) -> Result<(), Violation> {
        let turn = short(row.turn.id.0);
        let handed_over = self.handed_over.get(&row.turn.id).copied().unwrap_or(0);
        let counted = u64::from(row.attempt) + u64::from(handed_over);
        ensure("bounded", counted == row.epoch, || {
            format!(
                "turn {turn} was started {} times, handed over {handed_over} times, and {} \
                 attempts are counted",
                row.epoch, row.attempt
            )
        })?;
        let is_started_too_often = self.most_starts.is_some_and(|most| row.attempt > most);
        ensure("bounded", !is_started_too_often, || {
            format!("turn {turn} is started for the {}. time", row.attempt)
        })
    }

    /// The holder of a turn, which has run it for some time, does something for it. It may start
    /// only so often, and run only for so long.
    pub fn check_activity(&self, row: &TurnRow, runs: Duration) -> Result<(), Violation> {
        let turn = short(row.turn.id.0);
        ensure("bounded", row.attempt <= self.attempts, || {
            format!(
                "turn {turn} is run in attempt {} of {}",
                row.attempt, self.attempts
            )
        })?;
        let ran = row.spent + runs;
        ensure("bounded", ran <= self.longest + self.put_back, || {
            format!("turn {turn} has run for {ran:?}, and something is done for it")
        })
    }

    /// Checks what must hold when everything has ended.
    pub fn check_end(&self, witness: &Witness) -> Result<(), Violation> {
        for document in self.before.values() {
            for (row, _, draft) in document.entries() {
                let turn = short(row.turn.id.0);
                ensure("ends", row.turn.status.is_ended(), || {
                    format!("turn {turn} is {:?}", row.turn.status)
                })?;
                ensure("drafts", draft.is_none() && !row.has_draft, || {
                    format!("turn {turn} has ended, and has a draft")
                })?;
            }
        }
        for message in &witness.acknowledged {
            if self.is_deleted(message.conversation) {
                continue;
            }
            let row = self.row(message.turn);
            let is_kept = row.is_some_and(|row| row.turn.ordinal == message.ordinal);
            ensure("kept", is_kept, || {
                format!(
                    "the acknowledged turn {} is not stored",
                    short(message.turn.0)
                )
            })?;
            let status = row.map(|row| &row.turn.status);
            let is_answered = matches!(status, Some(TurnStatus::Ended { .. }));
            ensure("ends", is_answered, || {
                format!("turn {} is {status:?}", short(message.turn.0))
            })?;
            for other in &witness.acknowledged {
                let is_later =
                    other.conversation == message.conversation && other.sent > message.answered;
                ensure(
                    "order",
                    !is_later || other.ordinal > message.ordinal,
                    || "messages are not in the order in which they were acknowledged".to_owned(),
                )?;
            }
        }
        Ok(())
    }
}

/// A message that interrupts cancels the turns before it.
fn check_interruption(
    documents: &Documents,
    begin: &BeginTurn,
    outcome: &BeginOutcome,
) -> Result<(), Violation> {
    let BeginOutcome::Stored(turn) = outcome else {
        return Ok(());
    };
    let rows = documents.get(&turn.conversation).into_iter();
    let mut rows = rows
        .flat_map(ConversationDocument::rows)
        .map(|row| &row.turn);
    let goes_on = rows.find(|other| {
        other.ordinal < turn.ordinal && !other.status.is_ended() && !other.cancel_requested
    });
    let interrupts = begin.busy == BusyPolicy::Interrupt;
    ensure("cancels", !interrupts || goes_on.is_none(), || {
        "a message interrupts, and a turn before it continues".to_owned()
    })
}

/// How often a turn may be started in a world where the store does nothing worse than to refuse.
fn most_starts(plan: &Plan) -> Option<u32> {
    let refuses = |fault: &Fault| {
        matches!(fault, Fault::Refuse(call) if *call != Call::Heartbeat)
            || matches!(fault, Fault::Poison(_) | Fault::Value)
    };
    let only_refuses = plan.faults.iter().all(|planned| refuses(&planned.fault));
    // A worker in doubt may take a turn from itself, and the last start ends the turn.
    only_refuses.then_some(plan.options.limits.attempts + 3)
}
