//! The state of the model: store, workers, runs, clients and tools.

use std::fmt;

/// A worker's id in the store. A deregistered worker continues with the next generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId {
    pub worker: u8,
    pub generation: u8,
}

impl fmt::Debug for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {}", self.worker)?;
        if self.generation > 0 {
            write!(f, ", generation {}", self.generation + 1)
        } else {
            Ok(())
        }
    }
}

/// The right to write a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease {
    pub turn: u8,
    pub worker_id: WorkerId,
    pub epoch: u8,
}

/// A running turn that a worker owns. [`World::known`] has the items that it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OwnedTurn {
    pub lease: Lease,
    pub attempt: u8,
    pub cancel: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    Completed,
    Cancelled,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    Queued,
    Running,
    Ended(Outcome),
}

/// A turn in the store. Its index is its ordinal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Turn {
    pub message: u8,
    pub status: Status,
    pub holder: Option<WorkerId>,
    pub epoch: u8,
    pub attempt: u8,
    pub cancel: bool,
    /// Whether it has reached its time limit.
    pub expired: bool,
    /// The turn that this one's end started.
    pub next: Option<u8>,
}

/// The id of a tool call. An attempt that calls a tool again creates a new id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    pub turn: u8,
    pub epoch: u8,
    /// Index of the tool in its turn.
    pub tool: u8,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call {} of epoch {}", self.tool, self.epoch)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ToolOutcome {
    Answered,
    NotRun,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Body {
    User,
    /// The agent's answer in a step, counted from 0.
    Answer(u8),
    Call(Call),
    Result(Call, ToolOutcome),
}

/// An item of the log. Its index is its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Item {
    pub turn: u8,
    /// The epoch that wrote the item; 0 for the user's message.
    pub epoch: u8,
    pub body: Body,
}

impl Item {
    /// Whether both have the same id.
    pub fn is_known_as(&self, other: &Self) -> bool {
        match (self.body, other.body) {
            (Body::Result(a, _), Body::Result(b, _)) => a == b,
            _ => self == other,
        }
    }
}

/// A write: items, and the end if it is the last.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Write {
    pub items: Vec<Body>,
    pub end: Option<Outcome>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stop {
    Not,
    Cancel,
    Release,
}

/// The stage of a started call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// The lease was checked and seemed safe. `true` if that is wrong, because of a clock or a
    /// later freeze.
    LeaseChecked(bool),
    /// The tool received the call.
    Sent,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RunState {
    Working,
    /// The response of a write was lost, and the write is retried.
    Repeating(Write),
    /// The store rejected a write, because the lease is not current.
    LeaseLost,
    /// The store rejected a write permanently, and the turn ends without it.
    Failing,
    /// The turn has ended, and the response is on its way.
    Ended(Option<OwnedTurn>),
}

/// One attempt at a turn in one process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Run {
    pub lease: Lease,
    pub attempt: u8,
    /// Whether it is registered in its process.
    pub registered: bool,
    pub stop: Stop,
    /// Whether its deadline has passed.
    pub expired: bool,
    /// Whether this attempt recorded the calls of its turn.
    pub recorded: bool,
    pub calls: Vec<(Call, Stage)>,
    pub state: RunState,
}

/// A worker's claim of abandoned turns.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Claim {
    None,
    /// A claim of an uncertain worker, with the turns that it runs. The store has not executed it
    /// yet.
    Requested(WorkerId, Vec<u8>),
    /// The response is on its way.
    Granted(Vec<OwnedTurn>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkerState {
    Running,
    ShuttingDown,
    Deregistered,
    Crashed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Worker {
    pub state: WorkerState,
    pub id: WorkerId,
    /// In the store: whether the id is registered.
    pub known: bool,
    /// In the store: whether the lease has expired.
    pub lapsed: bool,
    /// In the process: whether the worker believes that its lease is valid.
    pub safe: bool,
    /// The worker learned that it was deregistered, and is about to register.
    pub registering: bool,
    /// The store may have assigned a turn to the worker without its knowledge.
    pub uncertain: bool,
    pub claim: Claim,
}

/// A client with one message. It repeats its request, under the same key, until it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Client {
    Idle,
    /// The turn started, and the response is on its way.
    Waiting(u8, OwnedTurn),
    Unanswered,
    Acknowledged,
}

/// How many faults may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Faults {
    /// Processes that crash or shut down.
    pub deaths: u8,
    /// Processes that freeze for longer than their lease, at any point.
    pub freezes: u8,
    /// Leases that expire while the worker's clock shows them as safe.
    pub skews: u8,
    /// Workers whose heartbeats fail for longer than their lease.
    pub silences: u8,
    /// Lost responses, and writes that are abandoned because the store stays unavailable.
    pub losses: u8,
    /// Requests to cancel a turn.
    pub cancels: u8,
    /// Turns whose further answers the store rejects permanently.
    pub rejections: u8,
    /// Turns that reach their time limit.
    pub timeouts: u8,
}

impl Faults {
    /// Returns the number of faults.
    pub fn count(self) -> u8 {
        let Self {
            deaths,
            freezes,
            skews,
            silences,
            losses,
            cancels,
            rejections,
            timeouts,
        } = self;
        deaths + freezes + skews + silences + losses + cancels + rejections + timeouts
    }
}

/// Steps that must never happen. See [`super::properties`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Violations {
    pub written_without_lease: bool,
    pub changed_after_end: bool,
    pub sent_before_stored: bool,
    pub sent_without_lease: bool,
    pub run_after_end: bool,
    pub answered_after_deadline: bool,
    pub no_progress: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct World {
    pub turns: Vec<Turn>,
    pub log: Vec<Item>,
    /// How often tools received each call.
    pub sent: Vec<(Call, u8)>,
    pub clients: Vec<Client>,
    pub workers: Vec<Worker>,
    /// Sorted, so that equal sets of runs are equal states.
    pub runs: Vec<Run>,
    /// An abandoned begin that may still be executed. Only without
    /// [`super::Guards::command_order`].
    pub delayed_begin: Option<(u8, WorkerId)>,
    /// The turn whose answers the store rejects.
    pub rejecting: Option<u8>,
    pub faults: Faults,
    pub violations: Violations,
}

impl World {
    pub fn new(workers: u8, messages: u8, faults: Faults) -> Self {
        let worker = |worker| Worker {
            state: WorkerState::Running,
            id: WorkerId {
                worker,
                generation: 0,
            },
            known: true,
            lapsed: false,
            safe: true,
            registering: false,
            uncertain: false,
            claim: Claim::None,
        };
        Self {
            turns: Vec::new(),
            log: Vec::new(),
            sent: Vec::new(),
            clients: (0..messages).map(|_| Client::Idle).collect(),
            workers: (0..workers).map(worker).collect(),
            runs: Vec::new(),
            delayed_begin: None,
            rejecting: None,
            faults,
            violations: Violations::default(),
        }
    }

    pub fn turn(&self, turn: u8) -> &Turn {
        &self.turns[usize::from(turn)]
    }

    pub fn turn_mut(&mut self, turn: u8) -> &mut Turn {
        &mut self.turns[usize::from(turn)]
    }

    pub fn worker(&self, worker: u8) -> &Worker {
        &self.workers[usize::from(worker)]
    }

    pub fn worker_mut(&mut self, worker: u8) -> &mut Worker {
        &mut self.workers[usize::from(worker)]
    }

    /// Returns the items of a turn that the run with this lease knows. Only that run writes items
    /// after it has received the turn.
    pub fn known(&self, lease: Lease) -> impl Iterator<Item = Body> + Clone {
        self.log
            .iter()
            .filter(move |item| item.turn == lease.turn && item.epoch <= lease.epoch)
            .map(|item| item.body)
    }

    /// Whether the lease is current in the store.
    pub fn is_current(&self, lease: Lease) -> bool {
        let turn = self.turn(lease.turn);
        turn.status == Status::Running
            && turn.holder == Some(lease.worker_id)
            && turn.epoch == lease.epoch
    }

    /// Whether a command of this run would overtake a claim of its worker that is not executed yet:
    /// a run that the claim does not list started after the claim. It is of a new turn, so its
    /// first step is a write.
    pub fn is_overtaking(&self, run: &Run) -> bool {
        let claim = &self.worker(run.lease.worker_id.worker).claim;
        let Claim::Requested(_, holding) = claim else {
            return false;
        };
        run.registered && !holding.contains(&run.lease.turn)
    }

    pub fn times_sent(&self, call: Call) -> u8 {
        self.sent
            .iter()
            .find(|(sent, _)| *sent == call)
            .map_or(0, |(_, times)| *times)
    }

    pub fn record_sent(&mut self, call: Call) {
        match self.sent.iter_mut().find(|(sent, _)| *sent == call) {
            Some((_, times)) => *times = 2,
            None => {
                self.sent.push((call, 1));
                self.sent.sort_unstable();
            }
        }
    }

    /// Returns the same world with the workers in reverse order.
    fn mirrored(&self) -> Self {
        let last = self.workers.len() as u8 - 1;
        let mirror = |worker_id: &mut WorkerId| worker_id.worker = last - worker_id.worker;
        let mut world = self.clone();
        world.workers.reverse();
        for worker in &mut world.workers {
            mirror(&mut worker.id);
            match &mut worker.claim {
                Claim::None => {}
                Claim::Requested(worker_id, _) => mirror(worker_id),
                Claim::Granted(owned) => owned
                    .iter_mut()
                    .for_each(|owned| mirror(&mut owned.lease.worker_id)),
            }
        }
        world
            .turns
            .iter_mut()
            .filter_map(|turn| turn.holder.as_mut())
            .for_each(mirror);
        for client in &mut world.clients {
            if let Client::Waiting(worker, owned) = client {
                *worker = last - *worker;
                mirror(&mut owned.lease.worker_id);
            }
        }
        for run in &mut world.runs {
            mirror(&mut run.lease.worker_id);
            if let RunState::Ended(Some(next)) = &mut run.state {
                mirror(&mut next.lease.worker_id);
            }
        }
        world.runs.sort_unstable();
        world
            .delayed_begin
            .iter_mut()
            .for_each(|(_, worker_id)| mirror(worker_id));
        world
    }

    /// Returns one representative of the worlds that differ only by the numbers of the workers.
    /// There are at most two workers.
    pub fn representative(&self) -> Self {
        self.mirrored().min(self.clone())
    }
}
