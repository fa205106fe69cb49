//! The lease of this process as a worker: one heartbeat for all the turns it holds, and claims of
//! turns that no worker holds.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::registry::TurnRegistry;
use crate::{
    ChatServiceConfig, Claim, DraftUpdate, HeldTurn, Refusal, SeenText, StoreError,
    TurnLifecycleEvent, WorkerId,
};

/// How many abandoned turns one claim takes at most.
const CLAIM_BATCH: u32 = 32;

/// This process as a worker of the store.
pub(crate) struct WorkerLease {
    id: Mutex<WorkerId>,
    /// Until when no other worker can have claimed this worker's turns.
    safe_until: watch::Sender<Instant>,
    outage: Mutex<StoreOutage>,
}

/// Whether the store answers heartbeats.
enum StoreOutage {
    /// It has always answered.
    Never,
    /// It does not answer now.
    Now,
    /// It answers again since this moment.
    EndedAt(Instant),
}

impl WorkerLease {
    /// Registers a worker.
    pub(crate) async fn register(config: &ChatServiceConfig) -> Result<Self, StoreError> {
        let id = WorkerId(config.environment.fresh_id());
        let sent = Instant::now();
        config.store.register(id, config.limits.lease).await?;
        Ok(Self {
            id: Mutex::new(id),
            safe_until: watch::Sender::new(sent + safe_time(config)),
            outage: Mutex::new(StoreOutage::Never),
        })
    }

    pub(crate) fn id(&self) -> WorkerId {
        *self.id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when no other worker can claim this worker's turns for some time.
    pub(crate) async fn wait_until_safe(&self) {
        let mut safe_until = self.safe_until.subscribe();
        // Waiting cannot fail: `self` owns the sender.
        let _ = safe_until.wait_for(|until| Instant::now() < *until).await;
    }

    /// Sends heartbeats; never returns.
    pub(crate) async fn send_heartbeats(
        &self,
        config: &ChatServiceConfig,
        registry: &TurnRegistry,
    ) {
        let mut ticks = every(config.limits.heartbeat);
        loop {
            ticks.tick().await;
            self.heartbeat(config, registry).await;
        }
    }

    async fn heartbeat(&self, config: &ChatServiceConfig, registry: &TurnRegistry) {
        let lease = config.limits.lease;
        let drafts = registry.unsaved_drafts();
        let saved: Vec<_> = drafts
            .iter()
            .map(|DraftUpdate { lease, draft }| {
                let (message, bytes) = (draft.message, draft.text.len());
                (*lease, SeenText { message, bytes })
            })
            .collect();
        let sent = Instant::now();
        let mut answer = config.store.heartbeat(self.id(), lease, drafts).await;
        if let Err(error @ StoreError::Internal(_)) = &answer
            && !saved.is_empty()
        {
            // A draft that the store refuses must not cost the worker its lease. The attempt will
            // fail when the draft becomes an item.
            observe_failure(config, "save drafts", error);
            answer = config.store.heartbeat(self.id(), lease, Vec::new()).await;
        }
        match answer {
            Ok(heartbeat) => {
                self.record_heartbeat(true);
                self.safe_until.send_replace(sent + safe_time(config));
                registry.mark_saved(&saved);
                let cancelled = heartbeat.cancel.into_iter();
                cancelled.for_each(|turn| registry.cancel(turn));
            }
            Err(StoreError::Refused(Refusal::LeaseLost)) => {
                self.record_heartbeat(true);
                self.register_again(config, registry).await;
            }
            Err(error) => {
                self.record_heartbeat(false);
                observe_failure(config, "heartbeat", &error);
            }
        }
    }

    fn record_heartbeat(&self, is_answered: bool) {
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*outage, is_answered) {
            (_, false) => *outage = StoreOutage::Now,
            (StoreOutage::Now, true) => *outage = StoreOutage::EndedAt(Instant::now()),
            (_, true) => {}
        }
    }

    /// Whether every live worker can have renewed its lease. During an outage of the store none
    /// could: their leases expired although they live.
    fn others_could_renew(&self, config: &ChatServiceConfig) -> bool {
        match &*self.outage.lock().unwrap_or_else(PoisonError::into_inner) {
            StoreOutage::Never => true,
            StoreOutage::Now => false,
            StoreOutage::EndedAt(end) => end.elapsed() >= config.limits.heartbeat * 2,
        }
    }

    /// Registers under a new id, because the store has deleted the old one, and releases the turns
    /// that were held under it.
    async fn register_again(&self, config: &ChatServiceConfig, registry: &TurnRegistry) {
        let new = WorkerId(config.environment.fresh_id());
        let old = {
            let mut id = self.id.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *id, new)
        };
        registry.release_all();
        let event = TurnLifecycleEvent::WorkerReplaced { old, new };
        config.observer.observe(event);
        let sent = Instant::now();
        // The lease of the old id says nothing about the new one's.
        self.safe_until.send_replace(sent);
        match config.store.register(new, config.limits.lease).await {
            Ok(()) => drop(self.safe_until.send_replace(sent + safe_time(config))),
            Err(error) => observe_failure(config, "register", &error),
        }
    }

    /// Claims abandoned turns and gives them to `run`, until `closed`.
    pub(crate) async fn claim_abandoned(
        &self,
        config: &ChatServiceConfig,
        registry: &Arc<TurnRegistry>,
        closed: impl Future<Output = ()>,
        run: impl Fn(HeldTurn),
    ) {
        let mut ticks = every(config.limits.sweep);
        let mut closed = pin!(closed);
        loop {
            tokio::select! {
                biased;
                () = &mut closed => return,
                _ = ticks.tick() => {}
            }
            // A claim is never dropped: the turns that it takes would stand still.
            if self.others_could_renew(config) && self.claim_batch(config, registry, &run).await {
                ticks.reset_immediately();
            }
        }
    }

    /// Returns whether there may be more to claim.
    async fn claim_batch(
        &self,
        config: &ChatServiceConfig,
        registry: &Arc<TurnRegistry>,
        run: impl Fn(HeldTurn),
    ) -> bool {
        let (uncertain_since, sent) = (registry.uncertain_since(), Instant::now());
        let claim = Claim {
            worker: self.id(),
            limit: CLAIM_BATCH,
            holding: uncertain_since.map(|_| registry.running()),
        };
        let claimed = match config.store.claim(claim).await {
            Ok(claimed) => claimed,
            Err(error) => {
                // The answer may be lost, and turns with it.
                registry.mark_uncertain();
                observe_failure(config, "claim", &error);
                return false;
            }
        };
        let may_be_more = claimed.len() >= CLAIM_BATCH as usize;
        claimed.into_iter().for_each(&run);
        // A call is never on its way to the store for longer than a lease.
        let is_settled = |since: &Instant| sent >= *since + config.limits.lease;
        if let Some(since) = uncertain_since.filter(is_settled)
            && !may_be_more
        {
            registry.settle_uncertainty(since);
        }
        may_be_more
    }
}

/// Guards a call of the store whose answer may give this worker a turn. Dropped without an answer,
/// it makes ownership uncertain.
pub(crate) struct UncertainOwnership<'a>(Option<&'a TurnRegistry>);

impl<'a> UncertainOwnership<'a> {
    pub(crate) fn arm(registry: &'a TurnRegistry) -> Self {
        Self(Some(registry))
    }

    pub(crate) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for UncertainOwnership<'_> {
    fn drop(&mut self) {
        if let Some(registry) = self.0 {
            registry.mark_uncertain();
        }
    }
}

/// How long after a heartbeat was sent no other worker can claim this worker's turns. One heartbeat
/// less than the lease, for a tool call that starts at the end of that time.
fn safe_time(config: &ChatServiceConfig) -> Duration {
    let limits = &config.limits;
    limits.lease.saturating_sub(limits.heartbeat)
}

fn observe_failure(config: &ChatServiceConfig, operation: &'static str, error: &StoreError) {
    let event = TurnLifecycleEvent::StoreFailed { operation, error };
    config.observer.observe(event);
}

pub(super) fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
