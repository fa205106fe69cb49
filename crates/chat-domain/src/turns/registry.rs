//! The turns that run in this process, and the readers in this process that wait for a turn
//! wherever it runs.
//!
//! This is the only state outside the store, and it goes when the turn goes.
//!
//! - A [`TurnSlot`] belongs to one turn id. Readers and the attempt hold it; the map in
//!   [`TurnRegistry`] only points to it. It is dropped with its last holder.
//! - A [`RunHandle`] fills the slot while the turn runs here: it puts a [`RunningTurn`] there,
//!   changes what readers see of it, and empties the slot on [`release`](RunHandle::release). An
//!   attempt with a newer lease takes the slot over.
//! - Ownership is *uncertain* while the store may have given this worker a turn that does not run
//!   here (a lost answer, a dropped attempt): the next claims then tell the store which turns run
//!   here, and get the others back (ADR 4). It stays uncertain until the store has answered a claim
//!   that was sent a lease later, because a call that was given up may take effect that late.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::{
    ConversationId, DraftUpdate, HeldTurn, Ordinal, SeenText, TurnId, TurnLease, TurnView, UserId,
};

/// A request to stop an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Continue.
    None,
    /// End the turn as cancelled.
    Cancel,
    /// Leave the turn as it is, to other workers.
    Release,
}

/// A turn that runs here.
pub(crate) struct RunningTurn {
    pub(crate) owner: UserId,
    pub(crate) view: TurnView,
    lease: TurnLease,
    stop: watch::Sender<Stop>,
    saved: Option<SeenText>,
}

impl RunningTurn {
    fn is_running(&self) -> bool {
        !self.view.turn.status.is_ended()
    }

    /// Requests a stop. A released attempt stays released.
    fn stop(&self, stop: Stop) {
        self.stop.send_if_modified(|current| {
            let changes = *current != Stop::Release && *current != stop;
            if changes {
                *current = stop;
            }
            changes
        });
    }
}

/// The place where readers wait for a turn: empty while the turn does not run here.
pub(crate) struct TurnSlot {
    turn: TurnId,
    running: watch::Sender<Option<RunningTurn>>,
    registry: Weak<TurnRegistry>,
}

impl TurnSlot {
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<RunningTurn>> {
        self.running.subscribe()
    }
}

impl Drop for TurnSlot {
    fn drop(&mut self) {
        if let Some(registry) = self.registry.upgrade() {
            let mut slots = registry.slots();
            let slot = slots.get(&self.turn);
            if slot.is_some_and(|slot| slot.strong_count() == 0) {
                slots.remove(&self.turn);
            }
        }
    }
}

/// The turns that run in this process.
pub(crate) struct TurnRegistry {
    slots: Mutex<BTreeMap<TurnId, Weak<TurnSlot>>>,
    /// How many attempts have a handle.
    attempts: watch::Sender<usize>,
    /// Since when the store may have turns under this worker's name that do not run here.
    uncertain_since: Mutex<Option<Instant>>,
    /// The turns released since this worker hands its turns over; `None` before.
    handed_over: Mutex<Option<Vec<TurnId>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TurnRegistry {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            slots: Mutex::default(),
            attempts: watch::Sender::new(0),
            uncertain_since: Mutex::default(),
            handed_over: Mutex::default(),
        })
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<TurnId, Weak<TurnSlot>>> {
        lock(&self.slots)
    }

    /// The slot of a turn, which exists for as long as it is held.
    pub(crate) fn slot(self: &Arc<Self>, turn: TurnId) -> Arc<TurnSlot> {
        let mut slots = self.slots();
        if let Some(slot) = slots.get(&turn).and_then(Weak::upgrade) {
            return slot;
        }
        let slot = Arc::new(TurnSlot {
            turn,
            running: watch::Sender::new(None),
            registry: Arc::downgrade(self),
        });
        slots.insert(turn, Arc::downgrade(&slot));
        slot
    }

    fn existing_slot(&self, turn: TurnId) -> Option<Arc<TurnSlot>> {
        self.slots().get(&turn).and_then(Weak::upgrade)
    }

    fn all_slots(&self) -> Vec<Arc<TurnSlot>> {
        self.slots().values().filter_map(Weak::upgrade).collect()
    }

    /// Fills the slot of a turn that is about to run here. `None` if the slot is filled under a
    /// newer lease already.
    pub(crate) fn start(self: &Arc<Self>, held: &HeldTurn) -> Option<RunHandle> {
        let slot = self.slot(held.turn.id);
        let (stop, stopped) = watch::channel(if held.turn.cancel_requested {
            Stop::Cancel
        } else {
            Stop::None
        });
        let running = RunningTurn {
            owner: held.owner.clone(),
            view: TurnView {
                turn: held.turn.clone(),
                items: held.items.clone(),
                draft: None,
            },
            lease: held.lease,
            stop,
            saved: None,
        };
        let is_started = slot.running.send_if_modified(|current| match current {
            Some(other) if other.lease.epoch >= running.lease.epoch => false,
            current => {
                *current = Some(running);
                true
            }
        });
        is_started.then(|| {
            self.attempts.send_modify(|attempts| *attempts += 1);
            RunHandle {
                registry: Arc::clone(self),
                slot,
                lease: held.lease,
                stopped,
            }
        })
    }

    fn stop_where(&self, stop: Stop, is_meant: impl Fn(&RunningTurn) -> bool) {
        for slot in self.all_slots() {
            let running = slot.running.borrow();
            if let Some(running) = running.as_ref().filter(|running| is_meant(running)) {
                running.stop(stop);
            }
        }
    }

    /// Cancels a turn if it runs here.
    pub(crate) fn cancel(&self, turn: TurnId) {
        if let Some(slot) = self.existing_slot(turn)
            && let Some(running) = slot.running.borrow().as_ref()
        {
            running.stop(Stop::Cancel);
        }
    }

    /// Cancels a conversation's turn if it runs here and came before `before`.
    pub(crate) fn cancel_in(&self, conversation: ConversationId, before: Ordinal) {
        self.stop_where(Stop::Cancel, |running| {
            let turn = &running.view.turn;
            turn.conversation == conversation && turn.ordinal < before
        });
    }

    /// Releases a conversation's turn if it runs here.
    pub(crate) fn release_in(&self, conversation: ConversationId) {
        self.stop_where(Stop::Release, |running| {
            running.view.turn.conversation == conversation
        });
    }

    /// Releases all turns for other workers to run.
    pub(crate) fn hand_over_all(&self) {
        lock(&self.handed_over).get_or_insert_default();
        self.release_all();
    }

    /// Releases all turns.
    pub(crate) fn release_all(&self) {
        self.stop_where(Stop::Release, |_| true);
    }

    /// Returns when no turn runs here.
    pub(crate) async fn wait_until_idle(&self) {
        let mut attempts = self.attempts.subscribe();
        // Waiting cannot fail: `self` owns the sender.
        let _ = attempts.wait_for(|attempts| *attempts == 0).await;
    }

    /// Records the release of a turn. It is a hand-over if this worker hands over all its turns:
    /// then the attempt does not count.
    pub(crate) fn record_release(&self, turn: TurnId) {
        if let Some(turns) = lock(&self.handed_over).as_mut() {
            turns.push(turn);
        }
    }

    /// The turns that were handed over.
    pub(crate) fn handed_over(&self) -> Vec<TurnId> {
        lock(&self.handed_over).clone().unwrap_or_default()
    }

    /// The turns that run here.
    pub(crate) fn running(&self) -> Vec<TurnId> {
        let is_running = |slot: &Arc<TurnSlot>| {
            let running = slot.running.borrow();
            running.as_ref().is_some_and(RunningTurn::is_running)
        };
        let slots = self.all_slots().into_iter();
        slots.filter(is_running).map(|slot| slot.turn).collect()
    }

    /// The turns that have readers here and do not run here.
    pub(crate) fn awaited(&self) -> Vec<TurnId> {
        let slots = self.all_slots().into_iter();
        let awaited = slots.filter(|slot| slot.running.borrow().is_none());
        awaited.map(|slot| slot.turn).collect()
    }

    /// Wakes the readers of a turn.
    pub(crate) fn wake(&self, turn: TurnId) {
        if let Some(slot) = self.existing_slot(turn) {
            slot.running.send_modify(|_| ());
        }
    }

    /// The drafts that grew since they were marked as saved.
    pub(crate) fn unsaved_drafts(&self) -> Vec<DraftUpdate> {
        let unsaved = |slot: &Arc<TurnSlot>| {
            let running = slot.running.borrow();
            let running = running.as_ref()?;
            let draft = running.view.draft.as_ref()?;
            let seen = SeenText {
                message: draft.message,
                bytes: draft.text.len(),
            };
            (running.saved != Some(seen)).then(|| DraftUpdate {
                lease: running.lease,
                draft: draft.clone(),
            })
        };
        self.all_slots().iter().filter_map(unsaved).collect()
    }

    /// Marks drafts as saved.
    pub(crate) fn mark_saved(&self, drafts: &[(TurnLease, SeenText)]) {
        for (lease, saved) in drafts {
            let Some(slot) = self.existing_slot(lease.turn) else {
                continue;
            };
            slot.running.send_if_modified(|running| {
                if let Some(running) = running.as_mut().filter(|r| r.lease == *lease) {
                    running.saved = Some(*saved);
                }
                false
            });
        }
    }

    /// Records that the store may have turns under this worker's name that do not run here.
    pub(crate) fn mark_uncertain(&self) {
        *lock(&self.uncertain_since) = Some(Instant::now());
    }

    /// When ownership became uncertain last, unless that was settled.
    pub(crate) fn uncertain_since(&self) -> Option<Instant> {
        *lock(&self.uncertain_since)
    }

    /// Settles the uncertainty of that moment. A later one stays.
    pub(crate) fn settle_uncertainty(&self, since: Instant) {
        lock(&self.uncertain_since).take_if(|marked| *marked == since);
    }
}

/// The handle of an attempt on its slot. Dropped before the turn has ended, it releases the turn.
pub(crate) struct RunHandle {
    registry: Arc<TurnRegistry>,
    slot: Arc<TurnSlot>,
    pub(crate) lease: TurnLease,
    stopped: watch::Receiver<Stop>,
}

impl RunHandle {
    /// Changes what readers see, and wakes them.
    pub(crate) fn update(&self, change: impl FnOnce(&mut TurnView)) {
        self.slot.running.send_if_modified(|current| match current {
            Some(running) if running.lease == self.lease => {
                change(&mut running.view);
                true
            }
            _ => false,
        });
    }

    /// Returns when the attempt should stop, and how.
    pub(crate) async fn wait_for_stop(&self) -> Stop {
        let mut stopped = self.stopped.clone();
        let stop = stopped.wait_for(|stop| *stop != Stop::None).await;
        // The sender is gone once a newer lease has taken the slot over.
        stop.map_or(Stop::Release, |stop| *stop)
    }

    /// Returns when the attempt is released, even if it was cancelled before.
    pub(crate) async fn wait_for_release(&self) {
        let mut stopped = self.stopped.clone();
        // An error means that a newer lease has taken the slot over.
        let _ = stopped.wait_for(|stop| *stop == Stop::Release).await;
    }

    /// Makes the worker ask the store which turns it holds.
    pub(crate) fn mark_uncertain(&self) {
        self.registry.mark_uncertain();
    }

    /// Releases the turn for other workers, unless it has ended.
    pub(crate) fn release(&self) {
        self.slot.running.send_if_modified(|current| match current {
            Some(running) if running.lease == self.lease && running.is_running() => {
                self.registry.mark_uncertain();
                if *self.stopped.borrow() == Stop::Release {
                    self.registry.record_release(self.lease.turn);
                }
                *current = None;
                true
            }
            _ => false,
        });
    }
}

impl Drop for RunHandle {
    fn drop(&mut self) {
        // The host may drop a task at any time.
        self.release();
        self.registry
            .attempts
            .send_modify(|attempts| *attempts -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::LogBuilder;
    use crate::{TurnStatus, WorkerId};

    fn held(epoch: u64) -> HeldTurn {
        let mut log = LogBuilder::new();
        log.user("Hello");
        let log = log.log(1, TurnStatus::Running);
        let lease = TurnLease {
            turn: log.turn.id,
            worker: WorkerId(log.turn.id.0),
            epoch,
        };
        HeldTurn {
            turn: log.turn,
            owner: UserId::new("ann").unwrap(),
            lease,
            attempt: 1,
            spent: Duration::ZERO,
            items: log.items,
        }
    }

    #[tokio::test]
    async fn the_newest_lease_takes_the_slot() {
        let registry = TurnRegistry::new();
        let first = registry.start(&held(1)).unwrap();
        let second = registry.start(&held(2)).unwrap();
        assert_eq!(first.wait_for_stop().await, Stop::Release);
        let late = registry.start(&held(1));
        assert!(late.is_none(), "a late answer took the slot");
        // Neither the old attempt's updates nor its end touch the new one.
        first.update(|view| view.items.clear());
        drop(first);
        second.update(|view| assert_eq!(view.items.len(), 1));
        assert_eq!(registry.running(), [held(2).turn.id]);
        assert_eq!(registry.uncertain_since(), None);
        drop(second);
        let since = registry.uncertain_since().unwrap();
        registry.settle_uncertainty(since - Duration::from_secs(1));
        assert_eq!(registry.uncertain_since(), Some(since));
        registry.settle_uncertainty(since);
        assert_eq!(registry.uncertain_since(), None);
        registry.wait_until_idle().await;
        assert!(registry.slots().is_empty(), "a slot is left behind");
    }
}
