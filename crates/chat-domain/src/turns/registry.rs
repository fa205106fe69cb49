//! The turns that run in this process, and the readers here that wait for a turn wherever it runs.
//!
//! This is all that is known outside the store, and it goes when a turn does.
//!
//! - A [`TurnSlot`] belongs to one turn id. Readers and the run hold it; the map in [`TurnRegistry`] only
//!   points to it. It goes with the last of them.
//! - A [`Run`] sits in the seat while the turn runs here: it puts a [`RunningTurn`] there, changes
//!   what readers see of it, and takes it away when it lets go. A run with a newer lease takes the
//!   seat over.
//! - *UncertainOwnership* is noted when the store may have given us a turn that nobody here runs (an answer that
//!   was lost, a run that was dropped): the next sweeps then tell the store which turns are running
//!   here, and get the others back (ADR 4). It lasts until the store has answered such a sweep that
//!   began a lease later: what was sent to the store may be done only after the answer was given
//!   up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::{
    ConversationId, DraftUpdate, HeldTurn, Ordinal, SeenText, TurnId, TurnLease, TurnView, UserId,
};

/// Why a run should stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It should not.
    Not,
    /// End it as cancelled.
    Cancel,
    /// Leave it as it is, to others.
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

    /// Tells the run to stop. A run that was let go of stays so.
    fn stop(&self, stop: Stop) {
        self.stop.send_if_modified(|now| {
            let changes = *now != Stop::Release && *now != stop;
            if changes {
                *now = stop;
            }
            changes
        });
    }
}

/// Where readers wait for a turn: empty while it does not run here.
pub(crate) struct TurnSlot {
    turn: TurnId,
    live: watch::Sender<Option<RunningTurn>>,
    turns: Weak<TurnRegistry>,
}

impl TurnSlot {
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<RunningTurn>> {
        self.live.subscribe()
    }
}

impl Drop for TurnSlot {
    fn drop(&mut self) {
        if let Some(turns) = self.turns.upgrade() {
            let mut seats = turns.seats();
            if seats
                .get(&self.turn)
                .is_some_and(|seat| seat.strong_count() == 0)
            {
                seats.remove(&self.turn);
            }
        }
    }
}

/// The turns that run in this process.
pub(crate) struct TurnRegistry {
    seats: Mutex<HashMap<TurnId, Weak<TurnSlot>>>,
    running: watch::Sender<usize>,
    /// Since when the store may have turns under our name that nobody here runs.
    doubt: Mutex<Option<Instant>>,
    /// Once this worker hands its turns over: those it has released since.
    handed_over: Mutex<Option<Vec<TurnId>>>,
}

impl TurnRegistry {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            seats: Mutex::default(),
            running: watch::Sender::new(0),
            doubt: Mutex::default(),
            handed_over: Mutex::default(),
        })
    }

    fn seats(&self) -> MutexGuard<'_, HashMap<TurnId, Weak<TurnSlot>>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The seat of a turn, for as long as somebody holds it.
    pub(crate) fn seat(self: &Arc<Self>, turn: TurnId) -> Arc<TurnSlot> {
        let mut seats = self.seats();
        if let Some(seat) = seats.get(&turn).and_then(Weak::upgrade) {
            return seat;
        }
        let seat = Arc::new(TurnSlot {
            turn,
            live: watch::Sender::new(None),
            turns: Arc::downgrade(self),
        });
        seats.insert(turn, Arc::downgrade(&seat));
        seat
    }

    /// Seats a turn that is to run here. `None` if it is seated under a newer lease already.
    pub(crate) fn start(self: &Arc<Self>, held: &HeldTurn) -> Option<RunHandle> {
        let seat = self.seat(held.turn.id);
        let (stop, stopped) = watch::channel(if held.turn.cancel_requested {
            Stop::Cancel
        } else {
            Stop::Not
        });
        let view = TurnView {
            turn: held.turn.clone(),
            items: held.items.clone(),
            draft: None,
        };
        let live = RunningTurn {
            owner: held.owner.clone(),
            view,
            lease: held.lease,
            stop,
            saved: None,
        };
        let seated = seat.live.send_if_modified(|slot| match slot {
            Some(other) if other.lease.epoch >= live.lease.epoch => false,
            slot => {
                *slot = Some(live);
                true
            }
        });
        seated.then(|| {
            self.running.send_modify(|running| *running += 1);
            RunHandle {
                turns: Arc::clone(self),
                seat,
                lease: held.lease,
                stopped,
            }
        })
    }

    fn all(&self) -> Vec<Arc<TurnSlot>> {
        self.seats().values().filter_map(Weak::upgrade).collect()
    }

    fn stop_if(&self, stop: Stop, wanted: impl Fn(&RunningTurn) -> bool) {
        for seat in self.all() {
            if let Some(live) = seat.live.borrow().as_ref().filter(|live| wanted(live)) {
                live.stop(stop);
            }
        }
    }

    /// Cancels a turn if it runs here.
    pub(crate) fn cancel(&self, turn: TurnId) {
        let seat = self.seats().get(&turn).and_then(Weak::upgrade);
        if let Some(seat) = seat
            && let Some(live) = seat.live.borrow().as_ref()
        {
            live.stop(Stop::Cancel);
        }
    }

    /// Cancels a conversation's turn if it runs here and came before `before`.
    pub(crate) fn cancel_in(&self, conversation: ConversationId, before: Ordinal) {
        self.stop_if(Stop::Cancel, |live| {
            live.view.turn.conversation == conversation && live.view.turn.ordinal < before
        });
    }

    /// Lets go of a conversation's turn if it runs here.
    pub(crate) fn release_in(&self, conversation: ConversationId) {
        self.stop_if(Stop::Release, |live| {
            live.view.turn.conversation == conversation
        });
    }

    /// Releases all turns for other workers to run.
    pub(crate) fn hand_over_all(&self) {
        self.handed_over
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_default();
        self.release_all();
    }

    /// Lets go of all turns.
    pub(crate) fn release_all(&self) {
        self.stop_if(Stop::Release, |_| true);
    }

    /// Returns when no turn runs here.
    pub(crate) async fn idle(&self) {
        // The sender is ours, so waiting cannot fail.
        let _ = self
            .running
            .subscribe()
            .wait_for(|running| *running == 0)
            .await;
    }

    /// Notes the release of a turn. It is a hand-over if this worker hands over all: then the
    /// attempt does not count.
    pub(crate) fn note_release(&self, turn: TurnId) {
        self.handed_over
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter_mut()
            .for_each(|turns| turns.push(turn));
    }

    /// The turns that were handed over.
    pub(crate) fn handed_over(&self) -> Vec<TurnId> {
        self.handed_over
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .unwrap_or_default()
    }

    /// The turns that run here.
    pub(crate) fn running(&self) -> Vec<TurnId> {
        let runs = |seat: &Arc<TurnSlot>| {
            seat.live
                .borrow()
                .as_ref()
                .is_some_and(RunningTurn::is_running)
        };
        self.all()
            .iter()
            .filter(|seat| runs(seat))
            .map(|seat| seat.turn)
            .collect()
    }

    /// The turns whose readers wait here for what happens elsewhere.
    pub(crate) fn awaited(&self) -> Vec<TurnId> {
        self.all()
            .iter()
            .filter(|seat| seat.live.borrow().is_none())
            .map(|seat| seat.turn)
            .collect()
    }

    /// Lets the readers of a turn look again.
    pub(crate) fn wake(&self, turn: TurnId) {
        let seat = self.seats().get(&turn).and_then(Weak::upgrade);
        if let Some(seat) = seat {
            seat.live.send_modify(|_| ());
        }
    }

    /// The drafts that grew since they were marked as saved.
    pub(crate) fn unsaved_drafts(&self) -> Vec<DraftUpdate> {
        let unsaved = |seat: &Arc<TurnSlot>| {
            let live = seat.live.borrow();
            let live = live.as_ref()?;
            let draft = live.view.draft.as_ref()?;
            let now = SeenText {
                message: draft.message,
                bytes: draft.text.len(),
            };
            (live.saved != Some(now)).then(|| DraftUpdate {
                lease: live.lease,
                draft: draft.clone(),
            })
        };
        self.all().iter().filter_map(unsaved).collect()
    }

    /// Marks drafts as saved.
    pub(crate) fn mark_saved(&self, drafts: &[(TurnLease, SeenText)]) {
        for (lease, saved) in drafts {
            let seat = self.seats().get(&lease.turn).and_then(Weak::upgrade);
            if let Some(seat) = seat {
                seat.live.send_if_modified(|slot| {
                    if let Some(live) = slot.as_mut().filter(|live| live.lease == *lease) {
                        live.saved = Some(*saved);
                    }
                    false
                });
            }
        }
    }

    /// Notes that the store may have turns under our name that nobody here runs.
    pub(crate) fn doubt(&self) {
        *self.doubt.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// When doubt was noted last, unless it was settled since.
    pub(crate) fn doubt_since(&self) -> Option<Instant> {
        *self.doubt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Settles the doubt of that moment. UncertainOwnership that was noted since stays.
    pub(crate) fn settle_doubt(&self, since: Instant) {
        self.doubt
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take_if(|noted| *noted == since);
    }
}

/// One run of a turn here. Dropped before its turn has ended, the turn is let go of.
pub(crate) struct RunHandle {
    turns: Arc<TurnRegistry>,
    seat: Arc<TurnSlot>,
    pub(crate) lease: TurnLease,
    stopped: watch::Receiver<Stop>,
}

impl RunHandle {
    /// Changes what readers see, and wakes them.
    pub(crate) fn update(&self, change: impl FnOnce(&mut TurnView)) {
        self.seat.live.send_if_modified(|slot| match slot {
            Some(live) if live.lease == self.lease => {
                change(&mut live.view);
                true
            }
            _ => false,
        });
    }

    /// Returns when the run should stop, and why.
    pub(crate) async fn stopped(&self) -> Stop {
        let mut stopped = self.stopped.clone();
        // The sender goes when the seat is given to a newer lease.
        stopped
            .wait_for(|stop| *stop != Stop::Not)
            .await
            .map_or(Stop::Release, |stop| *stop)
    }

    /// Returns when the run is let go of, even if it was cancelled before.
    pub(crate) async fn let_go(&self) {
        // An error means that the seat was given to a newer lease.
        let _ = self
            .stopped
            .clone()
            .wait_for(|stop| *stop == Stop::Release)
            .await;
    }
}

impl Drop for RunHandle {
    fn drop(&mut self) {
        self.seat.live.send_if_modified(|slot| match slot {
            Some(live) if live.lease == self.lease && live.is_running() => {
                self.turns.doubt();
                if *self.stopped.borrow() == Stop::Release {
                    self.turns.note_release(self.lease.turn);
                }
                *slot = None;
                true
            }
            _ => false,
        });
        self.turns.running.send_modify(|running| *running -= 1);
    }
}

/// While it lives, an answer of the store is awaited that may give us a turn. Dropped, that turn
/// may be lost to us.
pub(crate) struct UncertainOwnership<'a>(Option<&'a TurnRegistry>);

impl<'a> UncertainOwnership<'a> {
    pub(crate) fn arm(turns: &'a TurnRegistry) -> Self {
        Self(Some(turns))
    }

    pub(crate) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for UncertainOwnership<'_> {
    fn drop(&mut self) {
        if let Some(live) = self.0 {
            live.doubt();
        }
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
    async fn the_newest_lease_has_the_seat() {
        let turns = TurnRegistry::new();
        let first = turns.start(&held(1)).unwrap();
        let second = turns.start(&held(2)).unwrap();
        assert_eq!(first.stopped().await, Stop::Release);
        assert!(
            turns.start(&held(1)).is_none(),
            "an answer that came late took the seat"
        );
        // Neither what the old run says nor its end touches the new one.
        first.update(|view| view.items.clear());
        drop(first);
        second.update(|view| assert_eq!(view.items.len(), 1));
        assert_eq!(turns.running(), [held(2).turn.id]);
        assert_eq!(turns.doubt_since(), None);
        drop(second);
        let doubt = turns.doubt_since().unwrap();
        turns.settle_doubt(doubt - Duration::from_secs(1));
        assert_eq!(turns.doubt_since(), Some(doubt));
        turns.settle_doubt(doubt);
        assert_eq!(turns.doubt_since(), None);
        turns.idle().await;
        assert!(turns.seats().is_empty(), "a seat stays behind");
    }
}
