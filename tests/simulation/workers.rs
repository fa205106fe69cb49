//! The workers: processes that start, crash, freeze, stop and lose sight of the store.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chat_domain::{
    ChatService, ChatServiceConfig, Observer, TurnId, TurnLifecycleEvent, TurnRow, TurnTask,
    WorkerId,
};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::agent::SimulatedAgent;
use crate::clock::WorkerEnvironment;
use crate::executor::Group;
use crate::random::{chance, millis};
use crate::store::StoreClient;
use crate::tools::SimulatedTools;
use crate::trace::short;
use crate::world::World;

/// How long a request may take at a worker that is not frozen.
const REQUEST_LIMIT: Duration = Duration::from_secs(16);

/// One run of a worker's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub index: usize,
    pub group: Group,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {}.{}", self.index, self.group.0)
    }
}

/// The workers of a world.
pub struct Workers {
    slots: Mutex<Vec<Slot>>,
    /// The process that each worker id belongs to.
    names: Mutex<BTreeMap<WorkerId, Group>>,
    /// The latest epoch in which each process runs a turn, and since when.
    epochs: Mutex<BTreeMap<(Group, TurnId), (u64, Duration)>>,
    calls: AtomicU64,
}

/// A place for a worker's process.
#[derive(Default)]
struct Slot {
    running: Option<Running>,
    starts: u32,
    /// By how much its wall clock is wrong, in milliseconds.
    wrong_by: Arc<AtomicI64>,
}

struct Running {
    process: Process,
    /// Once it is open.
    service: Option<Arc<ChatService>>,
    /// How long it has been frozen, in all, and until when.
    frozen: Duration,
    frozen_until: Duration,
    is_leaving: bool,
}

impl Workers {
    pub fn new(count: usize) -> Self {
        Self {
            slots: Mutex::new((0..count).map(|_| Slot::default()).collect()),
            names: Mutex::default(),
            epochs: Mutex::default(),
            calls: AtomicU64::new(0),
        }
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<WorkerId, Group>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all processes.
    pub fn clear(&self) {
        let running: Vec<_> = {
            let mut slots = self.slots();
            slots.iter_mut().map(|slot| slot.running.take()).collect()
        };
        // Destructors look at the slots: they must not be locked.
        drop(running);
    }

    /// Counts a call of the store.
    pub fn count_call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// A process registers under this id.
    pub fn name(&self, process: Process, worker: WorkerId) {
        self.names().insert(worker, process.group);
    }

    fn epochs(&self) -> MutexGuard<'_, BTreeMap<(Group, TurnId), (u64, Duration)>> {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the store has a turn under this process's name, in whatever epoch: a worker in doubt
    /// may take a turn from itself, and learn of it later.
    pub fn is_holder(&self, process: Process, row: &TurnRow) -> bool {
        let holder = row.holder.filter(|_| row.is_running());
        holder.and_then(|id| self.names().get(&id).copied()) == Some(process.group)
    }

    /// Whether this process has begun to run a turn that it does not hold any more.
    pub fn runs_stale(&self, process: Process, row: &TurnRow) -> bool {
        let known = self.epochs().get(&(process.group, row.turn.id)).copied();
        known.is_some() && self.holds_since(process, row).is_none()
    }

    /// Since when this process runs a turn that it holds; `None` if it does not hold it, or does
    /// not know of it.
    pub fn holds_since(&self, process: Process, row: &TurnRow) -> Option<Duration> {
        let is_theirs = self.is_holder(process, row);
        let (epoch, since) = *self.epochs().get(&(process.group, row.turn.id))?;
        (is_theirs && epoch == row.epoch).then_some(since)
    }

    /// Makes a worker's wall clock jump.
    pub fn jump(&self, index: usize, millis: i64) {
        if let Some(slot) = self.slots().get(index) {
            slot.wrong_by.fetch_add(millis, Ordering::Relaxed);
        }
    }

    fn with<T>(&self, process: Process, look: impl FnOnce(&mut Running) -> T) -> Option<T> {
        let mut slots = self.slots();
        let running = slots.get_mut(process.index)?.running.as_mut()?;
        (running.process == process).then(|| look(running))
    }

    /// How long a process has been frozen, unless it is gone.
    pub fn frozen(&self, process: Process) -> Option<Duration> {
        self.with(process, |running| running.frozen)
    }

    /// An open service: that of this worker, or of the next one that has one.
    fn open(&self, index: usize) -> Option<(Process, Arc<ChatService>)> {
        let slots = self.slots();
        let order = slots.iter().cycle().skip(index).take(slots.len());
        order
            .filter_map(|slot| slot.running.as_ref())
            .find_map(|running| Some((running.process, running.service.clone()?)))
    }

    fn process(&self, index: usize) -> Option<Process> {
        let slots = self.slots();
        Some(slots.get(index)?.running.as_ref()?.process)
    }
}

/// Lifecycle events become lines of the story.
struct Story {
    world: Arc<World>,
    process: Process,
}

impl Observer for Story {
    fn observe(&self, event: TurnLifecycleEvent<'_>) {
        let process = self.process;
        if let TurnLifecycleEvent::TurnStarted { lease, .. } = event {
            let (attempt, now) = ((process.group, lease.turn), self.world.elapsed());
            let known = {
                let mut epochs = self.world.workers.epochs();
                let latest = epochs.entry(attempt).or_insert((0, now));
                let known = latest.0;
                if known < lease.epoch {
                    *latest = (lease.epoch, now);
                }
                known
            };
            // A task that is polled late starts under a lease that its process has lost since.
            self.world.check("leases", known != lease.epoch, || {
                let turn = short(lease.turn.0);
                format!(
                    "{process} runs turn {turn} twice under epoch {}",
                    lease.epoch
                )
            });
        }
        self.world.note(|| match event {
            TurnLifecycleEvent::TurnStarted { lease, attempt, .. } => {
                let turn = short(lease.turn.0);
                format!(
                    "{process}: runs turn {turn}, attempt {attempt}, epoch {}",
                    lease.epoch
                )
            }
            TurnLifecycleEvent::TurnEnded { turn, .. } => {
                format!("{process}: turn {} has ended", short(turn.id.0))
            }
            TurnLifecycleEvent::TurnReleased { lease } => {
                format!(
                    "{process}: releases turn {}, epoch {}",
                    short(lease.turn.0),
                    lease.epoch
                )
            }
            TurnLifecycleEvent::StepFailed { lease, error } => {
                format!(
                    "{process}: turn {}: the step failed: {error}",
                    short(lease.turn.0)
                )
            }
            TurnLifecycleEvent::ContextShortened {
                lease,
                turns_left_out,
                ..
            } => {
                format!(
                    "{process}: turn {}: {turns_left_out} turns left out",
                    short(lease.turn.0)
                )
            }
            TurnLifecycleEvent::ToolCalled { tool, outcome, .. } => {
                format!("{process}: {tool} gave {outcome:?}")
            }
            TurnLifecycleEvent::StoreFailed { operation, error } => {
                format!("{process}: {operation}: {error}")
            }
            TurnLifecycleEvent::WorkerReplaced { old, new } => {
                format!("{process}: was {}, is {}", short(old.0), short(new.0))
            }
        });
    }
}

impl World {
    /// Starts a worker's process, unless it runs.
    pub fn start(self: &Arc<Self>, index: usize) {
        let process = {
            let mut slots = self.workers.slots();
            let count = u32::try_from(slots.len()).unwrap_or(1);
            let Some(slot) = slots.get_mut(index) else {
                return;
            };
            if slot.running.is_some() {
                return;
            }
            slot.starts += 1;
            let place = u32::try_from(index).unwrap_or(0);
            let process = Process {
                index,
                group: Group(1 + place + count * (slot.starts - 1)),
            };
            slot.running = Some(Running {
                process,
                service: None,
                frozen: Duration::ZERO,
                frozen_until: Duration::ZERO,
                is_leaving: false,
            });
            process
        };
        self.note(|| format!("{process} starts"));
        let world = Arc::clone(self);
        let life = async move { world.life(process).await };
        self.executor.spawn(process.group, Box::pin(life));
    }

    async fn life(self: Arc<Self>, process: Process) {
        let service = loop {
            match ChatService::open(self.config(process)).await {
                Ok(service) => break service,
                Err(_) => sleep(Duration::from_millis(500)).await,
            }
        };
        let shown = Arc::clone(&service);
        self.workers
            .with(process, |running| running.service = Some(shown));
        self.note(|| format!("{process} is open"));
        let executor = Arc::clone(&self.executor);
        service
            .work(move |task| executor.spawn(process.group, task))
            .await;
    }

    fn config(self: &Arc<Self>, process: Process) -> ChatServiceConfig {
        let wrong_by = {
            let slots = self.workers.slots();
            let slot = slots.get(process.index);
            slot.map(|slot| Arc::clone(&slot.wrong_by))
                .unwrap_or_default()
        };
        let world = || Arc::clone(self);
        ChatServiceConfig {
            store: Arc::new(StoreClient {
                world: world(),
                process,
            }),
            agent: Arc::new(SimulatedAgent {
                world: world(),
                process,
            }),
            tools: Arc::new(SimulatedTools {
                world: world(),
                process,
            }),
            environment: Arc::new(WorkerEnvironment {
                clock: self.clock.clone(),
                wrong_by,
                ids: Arc::clone(&self.ids),
            }),
            observer: Arc::new(Story {
                world: world(),
                process,
            }),
            limits: self.plan.options.limits.clone(),
        }
    }

    /// The process is gone, with everything in it. Returns whether it was there.
    fn end_process(&self, process: Process) -> bool {
        let ended = {
            let mut slots = self.workers.slots();
            let slot = slots.get_mut(process.index);
            let running = slot.map(|slot| &mut slot.running);
            running.and_then(|running| running.take_if(|found| found.process == process))
        };
        let was_there = ended.is_some();
        drop(ended);
        if was_there {
            self.executor.kill(process.group);
        }
        was_there
    }

    fn start_later(self: &Arc<Self>, index: usize, after: Duration) {
        let world = Arc::clone(self);
        self.spawn(async move {
            sleep(after).await;
            world.start(index);
        });
    }

    pub fn crash_worker(self: &Arc<Self>, index: usize, restarts_after: Duration) {
        if let Some(process) = self.workers.process(index) {
            self.crash_process(process, restarts_after);
        }
    }

    fn crash_process(self: &Arc<Self>, process: Process, restarts_after: Duration) {
        if self.end_process(process) {
            self.note(|| format!("{process} crashes"));
            self.start_later(process.index, restarts_after);
        }
    }

    /// The calling task's process crashes. Never returns.
    pub async fn crash(self: &Arc<Self>, process: Process) {
        let after = millis(&mut self.draw(2), 100..=20_000);
        // A call that was struck may outlast the faults.
        let after = if self.is_healed() {
            Duration::ZERO
        } else {
            after
        };
        self.crash_process(process, after);
        std::future::pending().await
    }

    pub fn freeze_worker(self: &Arc<Self>, index: usize, lasts: Duration) {
        if let Some(process) = self.workers.process(index) {
            self.freeze_process(process, lasts);
        }
    }

    fn freeze_process(self: &Arc<Self>, process: Process, lasts: Duration) {
        self.note(|| format!("{process} freezes for {lasts:?}"));
        let until = self.elapsed() + lasts;
        self.workers.with(process, |running| {
            running.frozen += lasts;
            running.frozen_until = running.frozen_until.max(until);
        });
        self.executor.freeze(process.group);
        let world = Arc::clone(self);
        self.spawn(async move {
            sleep(lasts).await;
            world.note(|| format!("{process} continues"));
            world.executor.thaw(process.group);
        });
    }

    /// The calling task's process freezes. Returns when it continues.
    pub async fn freeze(self: &Arc<Self>, process: Process, lasts: Duration) {
        if self.is_healed() {
            return;
        }
        self.freeze_process(process, lasts);
        tokio::task::yield_now().await;
        sleep(Duration::from_millis(1)).await;
    }

    /// A worker stops as on SIGTERM, and starts again after a while.
    pub async fn stop_worker(self: &Arc<Self>, index: usize, lasts: Duration) {
        self.leave(index).await;
        self.start_later(index, lasts);
    }

    /// A worker stops as on SIGTERM: it takes nothing new, lets turns go on for some time, and
    /// hands the others over.
    pub async fn leave(self: &Arc<Self>, index: usize) {
        let Some(process) = self.workers.process(index) else {
            return;
        };
        let leaving = self.workers.with(process, |running| {
            let first = !std::mem::replace(&mut running.is_leaving, true);
            running.service.clone().filter(|_| first)
        });
        let Some(service) = leaving.flatten() else {
            return;
        };
        self.note(|| format!("{process} stops"));
        let grace = millis(&mut self.draw(3), 0..=3_000);
        let (done, stopped) = oneshot::channel();
        let stop = async move {
            service.close();
            sleep(grace).await;
            // An error means that the turns are claimed when the lease has run out.
            let _ = service.hand_over().await;
            // The world may have given up waiting.
            let _ = done.send(());
        };
        self.executor.spawn(process.group, Box::pin(stop));
        // An error means that it crashed on its way out.
        let stopped = timeout(Duration::from_secs(60), stopped).await;
        let frozen = self.workers.frozen(process);
        self.check(
            "stops",
            stopped.is_ok() || frozen > Some(Duration::ZERO),
            || format!("{process} has not stopped after a minute"),
        );
        self.end_process(process);
        self.note(|| format!("{process} has stopped"));
    }

    /// A worker runs again, whatever befell it.
    pub fn heal_worker(self: &Arc<Self>, index: usize) {
        match self.workers.process(index) {
            Some(process) => self.executor.thaw(process.group),
            None => self.start(index),
        }
    }

    /// The groups of the processes that live.
    pub fn living(&self) -> Vec<Group> {
        let slots = self.workers.slots();
        let running = slots.iter().filter_map(|slot| slot.running.as_ref());
        running.map(|running| running.process.group).collect()
    }

    /// The worker ids of the processes that live.
    pub fn living_ids(&self) -> Vec<WorkerId> {
        let living = self.living();
        let names = self.workers.names();
        let theirs = names.iter().filter(|(_, group)| living.contains(group));
        theirs.map(|(worker, _)| *worker).collect()
    }

    /// Makes a request at a worker, or at the next one that is there, as a client that waits for
    /// the answer. `None`: no worker is there, the connection is lost, or the host drops the
    /// request.
    pub async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        worker: usize,
        request: impl FnOnce(Process, Arc<ChatService>) -> BoxFuture<'static, T>,
    ) -> Option<T> {
        let (process, service) = self.workers.open(worker)?;
        let (answer, answered) = oneshot::channel();
        let (world, request) = (Arc::clone(self), request(process, service));
        let mut random = self.draw(4);
        let is_dropped = chance(&mut random, self.conditions().drops());
        let patience = millis(&mut random, 0..=300);
        let begun = self.elapsed();
        let excused = self.workers.with(process, |running| {
            (running.frozen, running.frozen_until.saturating_sub(begun))
        });
        let (frozen, still_frozen) = excused.unwrap_or_default();
        let work = async move {
            let done = if is_dropped {
                timeout(patience, request).await.ok()
            } else {
                Some(request.await)
            };
            let frozen = world.workers.frozen(process).unwrap_or_default() - frozen;
            let took = world.elapsed() - begun;
            let longest = REQUEST_LIMIT + frozen + still_frozen;
            world.check("answered", took <= longest, || {
                format!("a request at {process} took {took:?}")
            });
            if let Some(done) = done {
                // The client may have left.
                let _ = answer.send(done);
            }
        };
        self.executor.spawn(process.group, work.boxed());
        let patience = Duration::from_secs(60);
        timeout(patience, answered).await.ok()?.ok()
    }

    /// Runs a task of a worker's host, such as that of a turn.
    pub fn host(&self, process: Process, task: TurnTask) {
        self.executor.spawn(process.group, task);
    }
}
