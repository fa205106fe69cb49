//! A world: the store, the workers, the agent, the tools and the clients of one seed, from the
//! first operation to the last check.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chat_domain::Timestamp;
use chat_domain::testing::KeyValueStore;
use tokio::time::{Instant, sleep, sleep_until};

use crate::clients;
use crate::clock::Clock;
use crate::conditions::Conditions;
use crate::database::{Backing, Database};
use crate::executor::{Executor, Group, Stopped};
use crate::invariants::{Cause, Checker, Violation};
use crate::plan::{Fault, Plan};
use crate::random;
use crate::trace::Trace;
use crate::witness::Witness;
use crate::workers::Workers;

/// Everything that the parts of a world share.
pub struct World {
    pub plan: Plan,
    pub executor: Arc<Executor>,
    pub trace: Trace,
    pub clock: Clock,
    pub ids: Arc<AtomicU64>,
    pub database: Database,
    pub workers: Workers,
    /// How many operations of clients have not ended.
    pub busy_clients: AtomicUsize,
    is_healed: AtomicBool,
    draws: AtomicU64,
    conditions: Mutex<Conditions>,
    checker: Mutex<Checker>,
    witness: Mutex<Witness>,
    violation: Mutex<Option<Violation>>,
}

/// The outcome of a world.
pub struct Report {
    pub turns: u64,
    /// How often workers have called the store.
    pub calls: u64,
    pub lived: Duration,
    pub violation: Option<Violation>,
    pub trace: String,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a world over this store to its end.
pub fn run(plan: &Plan, store: &Backing, is_traced: bool) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return Report::broken(format!("no runtime: {error}")),
    };
    // One poll of the whole polls many tasks: tokio's budget for one task must not end it.
    let living = World::live(plan.clone(), store, is_traced);
    runtime.block_on(tokio::task::unconstrained(living))
}

impl Report {
    fn broken(text: String) -> Self {
        Self {
            turns: 0,
            calls: 0,
            lived: Duration::ZERO,
            violation: Some(Violation::new("simulator", text)),
            trace: String::new(),
        }
    }
}

impl World {
    async fn live(plan: Plan, store: &Backing, is_traced: bool) -> Report {
        let seed = plan.options.seed;
        let clock = Clock::new(plan.options.drift);
        let store_clock = clock.clone();
        let memory = KeyValueStore::with_clock(move || Timestamp(store_clock.store()));
        let database = match Database::new(memory, store) {
            Ok(database) => database,
            Err(error) => return Report::broken(format!("no store: {error}")),
        };
        let world = Arc::new(Self {
            executor: Executor::new(seed),
            trace: Trace::new(is_traced),
            database,
            workers: Workers::new(plan.options.workers),
            ids: Arc::default(),
            busy_clients: AtomicUsize::new(0),
            is_healed: AtomicBool::new(false),
            draws: AtomicU64::new(0),
            conditions: Mutex::default(),
            checker: Mutex::new(Checker::new(&plan)),
            witness: Mutex::default(),
            violation: Mutex::default(),
            clock,
            plan,
        });
        let story = Arc::clone(&world);
        let run = world
            .executor
            .run(Box::pin(async move { story.tell().await }));
        let stopped = run.await;
        if stopped == Stopped::Spinning {
            world.violated("spinning", "the tasks are polled without end".to_owned());
        }
        // Services hold the world that holds them.
        world.workers.clear();
        world.executor.clear();
        // It would never be freed, and a real store not closed.
        let holders = Arc::strong_count(&world) - 1;
        world.check("simulator", holders == 0, || {
            format!("{holders} references to the world are left after its end")
        });
        let violation = lock(&world.violation).take();
        Report {
            turns: lock(&world.checker).turns(),
            calls: world.workers.calls(),
            lived: world.elapsed(),
            violation,
            trace: world.trace.text(),
        }
    }

    /// The two phases: faults at random; then the world heals, and everything must end.
    async fn tell(self: &Arc<Self>) {
        for worker in 0..self.plan.options.workers {
            self.start(worker);
        }
        for planned in self.plan.operations.clone() {
            let world = Arc::clone(self);
            self.busy_clients.fetch_add(1, Ordering::Relaxed);
            self.spawn(async move {
                sleep_until(world.at(planned.at)).await;
                clients::operate(&world, planned).await;
                world.busy_clients.fetch_sub(1, Ordering::Relaxed);
            });
        }
        for planned in self.plan.faults.clone() {
            let world = Arc::clone(self);
            self.spawn(async move {
                sleep_until(world.at(planned.at)).await;
                world.befall(planned.fault, planned.lasts).await;
            });
        }
        sleep_until(self.at(self.plan.heals_at())).await;
        self.heal();
        self.rest().await;
    }

    /// Adds a task that belongs to no worker.
    pub fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        self.executor.spawn(Group(0), Box::pin(task));
    }

    fn at(&self, time: Duration) -> Instant {
        Instant::now() + time.saturating_sub(self.elapsed())
    }

    pub fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    pub fn note(&self, line: impl FnOnce() -> String) {
        self.trace.note(self.elapsed(), line);
    }

    /// Records the first violation, and ends the world.
    pub fn violated(&self, property: &'static str, text: String) {
        self.note(|| format!("VIOLATED {property}: {text}"));
        lock(&self.violation).get_or_insert(Violation { property, text });
        self.executor.halt();
    }

    pub fn check(&self, property: &'static str, holds: bool, text: impl FnOnce() -> String) {
        if !holds {
            self.violated(property, text());
        }
    }

    pub fn conditions(&self) -> MutexGuard<'_, Conditions> {
        lock(&self.conditions)
    }

    pub fn witness(&self) -> MutexGuard<'_, Witness> {
        lock(&self.witness)
    }

    pub fn checker(&self) -> MutexGuard<'_, Checker> {
        lock(&self.checker)
    }

    /// Whether the faults are over.
    pub fn is_healed(&self) -> bool {
        self.is_healed.load(Ordering::Relaxed)
    }

    /// A stream of decisions that are made once, in the order of the schedule.
    pub fn draw(&self, purpose: u64) -> random::Random {
        let number = self.draws.fetch_add(1, Ordering::Relaxed);
        random::stream(self.plan.options.seed, &[4, purpose, number])
    }

    /// Checks what a command has changed in the store.
    pub fn check_step(&self, cause: &Cause<'_>) {
        self.check_rows();
        let found = {
            let (mut checker, witness) = (self.checker(), self.witness());
            let now = self.clock.store();
            let look = |documents: &_| checker.check_step(documents, cause, &witness, now);
            self.inspect(look)
        };
        if let Err(Violation { property, text }) = found {
            self.violated(property, text);
        }
    }

    /// A fault happens, and is over after a while.
    async fn befall(self: &Arc<Self>, fault: Fault, lasts: Duration) {
        self.note(|| format!("fault: {fault:?}"));
        match fault {
            Fault::Crash(worker) => self.crash_worker(worker, lasts),
            Fault::Freeze(worker) => self.freeze_worker(worker, lasts),
            Fault::Stop(worker) => self.stop_worker(worker, lasts).await,
            Fault::WorkerClock(worker, millis) => self.workers.jump(worker, millis),
            Fault::StoreClock(millis) => {
                self.checker().clock_jumped(millis);
                self.clock.jump(millis);
            }
            Fault::Forget => {
                self.delete_workers();
                self.checker().forget_workers();
            }
            lasting => {
                self.conditions().begin(lasting);
                sleep(lasts).await;
                self.conditions().end(lasting);
            }
        }
    }

    fn heal(self: &Arc<Self>) {
        self.note(|| "the world heals".to_owned());
        self.is_healed.store(true, Ordering::Relaxed);
        self.conditions().heal();
        for worker in 0..self.plan.options.workers {
            self.heal_worker(worker);
        }
    }

    /// Waits until everything has ended, and checks that it does in time.
    async fn rest(self: &Arc<Self>) {
        let limits = &self.plan.options.limits;
        let healed = self.elapsed();
        let (open, jumps) = {
            let checker = self.checker();
            (checker.open_turns(), checker.clock_jumps())
        };
        let open = u32::try_from(open).unwrap_or(u32::MAX);
        // Leases run out, by a clock that may have been put back; then each worker claims.
        let claimed = limits.lease * 2 + limits.sweep * 2 + jumps + Duration::from_secs(10);
        let ended = claimed + limits.turn + Duration::from_secs(20) * open;
        let read = ended + Duration::from_secs(60);
        let cancelled = self.checker().cancelled_turns();
        let calls = self.workers.calls();
        let mut is_claimed = false;
        loop {
            sleep(Duration::from_millis(250)).await;
            let waited = self.elapsed() - healed;
            let open = self.checker().open_turns();
            let clients = self.busy_clients.load(Ordering::Relaxed);
            if open == 0 && clients == 0 {
                break;
            }
            if !is_claimed && waited > claimed {
                is_claimed = true;
                let dead = self.checker().turns_of_the_dead(&self.living_ids());
                self.check("abandoned", dead.is_empty(), || {
                    format!("after {waited:?} nobody has taken over {}", dead.join(", "))
                });
                let mut running = self.checker().cancelled_turns();
                running.retain(|turn| cancelled.contains(turn));
                self.check("cancels", running.is_empty(), || {
                    format!("{} cancelled turns go on after {waited:?}", running.len())
                });
            }
            self.check("ends", open == 0 || waited <= ended, || {
                format!("{open} turns have not ended {waited:?} after the world healed")
            });
            self.check("answered", open > 0 || waited <= read, || {
                format!("{clients} clients still wait {waited:?} after the world healed")
            });
            if waited > read * 2 {
                return;
            }
        }
        self.note(|| "everything has ended".to_owned());
        self.check_calls(calls, self.elapsed() - healed, open);
        for worker in 0..self.plan.options.workers {
            self.leave(worker).await;
        }
        let found = self.checker().check_end(&self.witness());
        if let Err(Violation { property, text }) = found {
            self.violated(property, text);
        }
    }

    /// The way to the end takes a bounded number of calls of the store: so many a second by each
    /// worker and each reader, and so many for each turn and each operation.
    fn check_calls(&self, before: u64, took: Duration, open: u32) {
        let calls = self.workers.calls() - before;
        let options = &self.plan.options;
        let parts = u64::try_from(options.workers + options.operations * 5).unwrap_or(u64::MAX);
        let most = (took.as_secs() + 5) * parts * 12 + u64::from(open) * 200;
        self.check("bounded", calls <= most, || {
            format!("{calls} calls of the store after the world healed, in {took:?}")
        });
    }
}
