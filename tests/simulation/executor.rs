//! The scheduler: polls one task at a time, and draws which one from the seed.
//!
//! Tasks belong to a [`Group`]: a process of the world. A group can be killed (all its tasks are
//! dropped between two polls) and frozen (none of its tasks is polled, as after SIGSTOP). Timers are
//! tokio's, on a paused clock that moves on when no task is ready.
//!
//! Which task is next never depends on the order of wake-ups, because tokio's channels wake their
//! receivers in an order of their own. All tasks that are ready are candidates, by their number.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::future::BoxFuture;

/// A process of the world. Each start of a worker is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group(pub u32);

type TaskId = u32;

/// How often tasks may be polled before the world counts as spinning.
const MAX_POLLS: u64 = 3_000_000;

/// Runs the tasks of a world.
pub struct Executor {
    state: Mutex<State>,
}

struct State {
    random: fastrand::Rng,
    tasks: BTreeMap<TaskId, Task>,
    /// Tasks that were woken and may be polled, sorted.
    ready: Vec<TaskId>,
    frozen: BTreeSet<Group>,
    next: TaskId,
    polls: u64,
    /// The task that is polled now, and whether its group was killed since.
    current: Option<(Group, bool)>,
    /// The waker of the whole, while no task is ready.
    parked: Option<Waker>,
    is_halted: bool,
}

struct Task {
    group: Group,
    /// Away while it is polled.
    future: Option<BoxFuture<'static, ()>>,
    waker: Waker,
    is_woken: bool,
}

struct TaskWaker {
    task: TaskId,
    executor: Arc<Executor>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.executor.lock().wake(self.task);
    }
}

impl State {
    fn wake(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        task.is_woken = true;
        if self.frozen.contains(&task.group) {
            return;
        }
        if let Err(place) = self.ready.binary_search(&id) {
            self.ready.insert(place, id);
        }
        if let Some(waker) = self.parked.take() {
            waker.wake();
        }
    }
}

/// Why the tasks were not polled any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The awaited task has ended.
    Done,
    /// The tasks were polled too often.
    Spinning,
    /// A task asked for it.
    Halted,
}

impl Executor {
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                random: fastrand::Rng::with_seed(seed),
                tasks: BTreeMap::new(),
                ready: Vec::new(),
                frozen: BTreeSet::new(),
                next: 0,
                polls: 0,
                current: None,
                parked: None,
                is_halted: false,
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a task to a group.
    pub fn spawn(self: &Arc<Self>, group: Group, future: BoxFuture<'static, ()>) {
        self.add(group, future);
    }

    fn add(self: &Arc<Self>, group: Group, future: BoxFuture<'static, ()>) -> TaskId {
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        let waker = Waker::from(Arc::new(TaskWaker {
            task: id,
            executor: Arc::clone(self),
        }));
        let task = Task {
            group,
            future: Some(future),
            waker,
            is_woken: false,
        };
        state.tasks.insert(id, task);
        state.wake(id);
        id
    }

    /// Drops all tasks of a group, at the latest when the current poll ends.
    pub fn kill(&self, group: Group) {
        let mut dropped = Vec::new();
        {
            let mut state = self.lock();
            state.frozen.remove(&group);
            if let Some((current, is_killed)) = &mut state.current
                && *current == group
            {
                *is_killed = true;
            }
            let theirs = state.tasks.iter().filter(|(_, task)| task.group == group);
            let ids: Vec<TaskId> = theirs.map(|(id, _)| *id).collect();
            state.ready.retain(|id| !ids.contains(id));
            for id in ids {
                dropped.extend(state.tasks.remove(&id));
            }
        }
        // Destructors wake tasks: the state must not be locked.
        drop(dropped);
    }

    /// Stops polling the tasks of a group.
    pub fn freeze(&self, group: Group) {
        let state = &mut *self.lock();
        state.frozen.insert(group);
        let tasks = &state.tasks;
        let is_theirs = |id: &TaskId| tasks.get(id).is_some_and(|task| task.group == group);
        state.ready.retain(|id| !is_theirs(id));
    }

    /// Polls the tasks of a group again.
    pub fn thaw(&self, group: Group) {
        let mut state = self.lock();
        state.frozen.remove(&group);
        let woken = state.tasks.iter();
        let woken = woken.filter(|(_, task)| task.group == group && task.is_woken);
        let woken: Vec<TaskId> = woken.map(|(id, _)| *id).collect();
        woken.into_iter().for_each(|id| state.wake(id));
    }

    /// Polls tasks until this one has ended. The others are left as they are.
    pub fn run(self: &Arc<Self>, main: BoxFuture<'static, ()>) -> Run {
        let main = self.add(Group(0), main);
        Run {
            executor: Arc::clone(self),
            main,
        }
    }

    /// Ends the run when the current poll is over.
    pub fn halt(&self) {
        self.lock().is_halted = true;
    }

    /// Drops all tasks.
    pub fn clear(&self) {
        loop {
            let tasks = std::mem::take(&mut self.lock().tasks);
            if tasks.is_empty() {
                return;
            }
            drop(tasks);
        }
    }

    /// Takes the next task to poll.
    fn take(&self, cx: &Context<'_>) -> Result<(TaskId, BoxFuture<'static, ()>, Waker), Idle> {
        let mut state = self.lock();
        if state.is_halted {
            return Err(Idle::Halted);
        }
        if state.ready.is_empty() {
            state.parked = Some(cx.waker().clone());
            return Err(Idle::Parked);
        }
        state.polls += 1;
        if state.polls > MAX_POLLS {
            return Err(Idle::Spinning);
        }
        let count = state.ready.len();
        let place = state.random.usize(..count);
        let id = state.ready.remove(place);
        let Some(task) = state.tasks.get_mut(&id) else {
            return Err(Idle::Gone);
        };
        task.is_woken = false;
        let Some(future) = task.future.take() else {
            return Err(Idle::Gone);
        };
        let (group, waker) = (task.group, task.waker.clone());
        state.current = Some((group, false));
        Ok((id, future, waker))
    }
}

enum Idle {
    Parked,
    Spinning,
    Halted,
    /// The task is not there any more.
    Gone,
}

/// The scheduler at work. Its output says why it stopped.
pub struct Run {
    executor: Arc<Executor>,
    main: TaskId,
}

impl Future for Run {
    type Output = Stopped;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Stopped> {
        loop {
            let (id, mut future, waker) = match self.executor.take(cx) {
                Ok(taken) => taken,
                Err(Idle::Gone) => continue,
                Err(Idle::Parked) => return Poll::Pending,
                Err(Idle::Halted) => return Poll::Ready(Stopped::Halted),
                Err(Idle::Spinning) => return Poll::Ready(Stopped::Spinning),
            };
            let is_ready = future
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_ready();
            let mut state = self.executor.lock();
            let is_killed = state.current.take().is_some_and(|(_, killed)| killed);
            let is_over = is_ready || is_killed;
            if is_over {
                state.tasks.remove(&id);
                state.ready.retain(|ready| *ready != id);
            } else if let Some(task) = state.tasks.get_mut(&id) {
                task.future = Some(future);
                continue;
            }
            drop(state);
            // Destructors wake tasks: the state must not be locked.
            drop(future);
            if is_ready && id == self.main {
                return Poll::Ready(Stopped::Done);
            }
        }
    }
}
