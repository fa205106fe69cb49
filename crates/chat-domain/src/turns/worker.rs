//! The worker: one heartbeat for all the turns it holds, and a look for turns that nobody holds.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::registry::TurnRegistry;
use crate::{
    ChatServiceConfig, Claim, DraftUpdate, HeldTurn, Refusal, SeenText, StoreError,
    TurnLifecycleEvent, WorkerId,
};

/// How many abandoned turns are taken over at once.
const CLAIM_BATCH: u32 = 32;

/// This process as the store knows it.
pub(crate) struct Worker {
    id: Mutex<WorkerId>,
    /// Until when nobody can have taken our turns.
    safe_until: watch::Sender<Instant>,
    /// When the store answered again after it had not.
    returned: Mutex<StoreOutage>,
}

/// Whether the store answers heartbeats.
enum StoreOutage {
    /// It always did.
    NeverAway,
    /// It does not.
    Away,
    /// It does since then.
    At(Instant),
}

impl Worker {
    /// Makes a worker known to the store.
    pub(crate) async fn register(deps: &ChatServiceConfig) -> Result<Self, StoreError> {
        let id = WorkerId(deps.environment.fresh_id());
        let sent = Instant::now();
        deps.store.register(id, deps.limits.lease).await?;
        Ok(Self {
            id: Mutex::new(id),
            safe_until: watch::Sender::new(sent + margin(deps)),
            returned: Mutex::new(StoreOutage::NeverAway),
        })
    }

    pub(crate) fn id(&self) -> WorkerId {
        *self.id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when nobody can have taken our turns for some time to come.
    pub(crate) async fn lease_is_safe(&self) {
        // The sender is ours, so waiting cannot fail.
        let _ = self
            .safe_until
            .subscribe()
            .wait_for(|until| Instant::now() < *until)
            .await;
    }

    /// Heartbeats for ever.
    pub(crate) async fn beat(&self, deps: &ChatServiceConfig, live: &TurnRegistry) {
        let mut ticks = every(deps.limits.heartbeat);
        loop {
            ticks.tick().await;
            self.beat_once(deps, live).await;
        }
    }

    async fn beat_once(&self, deps: &ChatServiceConfig, live: &TurnRegistry) {
        let drafts = live.unsaved_drafts();
        let saved: Vec<_> = drafts
            .iter()
            .map(|DraftUpdate { lease, draft }| {
                let (message, bytes) = (draft.message, draft.text.len());
                (*lease, SeenText { message, bytes })
            })
            .collect();
        let sent = Instant::now();
        let mut beaten = deps
            .store
            .heartbeat(self.id(), deps.limits.lease, drafts)
            .await;
        if let Err(error @ StoreError::Internal(_)) = &beaten
            && !saved.is_empty()
        {
            // A draft that the store refuses must not cost the worker its lease. The item that it
            // becomes will tell.
            deps.observer.observe(TurnLifecycleEvent::StoreFailed {
                doing: "save drafts",
                error,
            });
            beaten = deps
                .store
                .heartbeat(self.id(), deps.limits.lease, Vec::new())
                .await;
        }
        match beaten {
            Ok(heard) => {
                self.record_heartbeat(true);
                self.safe_until.send_replace(sent + margin(deps));
                live.mark_saved(&saved);
                heard.cancel.into_iter().for_each(|turn| live.cancel(turn));
            }
            Err(StoreError::Refused(Refusal::LeaseLost)) => {
                self.record_heartbeat(true);
                self.replace(deps, live).await;
            }
            Err(error) => {
                self.record_heartbeat(false);
                deps.observer.observe(TurnLifecycleEvent::StoreFailed {
                    doing: "heartbeat",
                    error: &error,
                });
            }
        }
    }

    /// Notes whether the store answered a heartbeat.
    fn record_heartbeat(&self, answered: bool) {
        let mut returned = self.returned.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*returned, answered) {
            (_, false) => *returned = StoreOutage::Away,
            (StoreOutage::Away, true) => *returned = StoreOutage::At(Instant::now()),
            (_, true) => {}
        }
    }

    /// Whether those who live can have said so. While the store was away they could not: their
    /// leases, and ours, ran out without anybody's death.
    fn others_were_heard(&self, deps: &ChatServiceConfig) -> bool {
        match &*self.returned.lock().unwrap_or_else(PoisonError::into_inner) {
            StoreOutage::NeverAway => true,
            StoreOutage::Away => false,
            StoreOutage::At(then) => then.elapsed() >= deps.limits.heartbeat * 2,
        }
    }

    /// Goes on under a new name, because the store has forgotten the old one, and lets go of what
    /// was held under that.
    async fn replace(&self, deps: &ChatServiceConfig, live: &TurnRegistry) {
        let new = WorkerId(deps.environment.fresh_id());
        let old = std::mem::replace(
            &mut *self.id.lock().unwrap_or_else(PoisonError::into_inner),
            new,
        );
        live.release_all();
        deps.observer
            .observe(TurnLifecycleEvent::WorkerReplaced { old, new });
        let sent = Instant::now();
        // The old name's lease says nothing of the new one's.
        self.safe_until.send_replace(sent);
        match deps.store.register(new, deps.limits.lease).await {
            Ok(()) => drop(self.safe_until.send_replace(sent + margin(deps))),
            Err(error) => deps.observer.observe(TurnLifecycleEvent::StoreFailed {
                doing: "register",
                error: &error,
            }),
        }
    }

    /// Takes over abandoned turns for ever.
    pub(crate) async fn sweep(
        &self,
        deps: &ChatServiceConfig,
        live: &Arc<TurnRegistry>,
        run: impl Fn(HeldTurn),
    ) {
        let mut ticks = every(deps.limits.sweep);
        loop {
            ticks.tick().await;
            if !self.others_were_heard(deps) {
                continue;
            }
            // A lease is longer than anything may be on its way to the store.
            let (doubt, asked) = (live.doubt_since(), Instant::now());
            loop {
                let holding = doubt.map(|_| live.running());
                match deps
                    .store
                    .claim(Claim {
                        worker: self.id(),
                        limit: CLAIM_BATCH,
                        holding,
                    })
                    .await
                {
                    Ok(claimed) => {
                        let more = claimed.len() >= CLAIM_BATCH as usize;
                        claimed.into_iter().for_each(&run);
                        if !more {
                            if let Some(since) =
                                doubt.filter(|since| asked >= *since + deps.limits.lease)
                            {
                                live.settle_doubt(since);
                            }
                            break;
                        }
                    }
                    Err(error) => {
                        // The answer may have been lost, and turns with it.
                        live.doubt();
                        deps.observer.observe(TurnLifecycleEvent::StoreFailed {
                            doing: "claim",
                            error: &error,
                        });
                        break;
                    }
                }
            }
        }
    }
}

/// How long after a heartbeat was sent nobody can take our turns, with a heartbeat to spare for the
/// tool call that starts then.
fn margin(deps: &ChatServiceConfig) -> Duration {
    deps.limits.lease.saturating_sub(deps.limits.heartbeat)
}

pub(super) fn every(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
