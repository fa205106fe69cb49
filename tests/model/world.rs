//! What there is: the store, the workers, the runs, the clients and the tools, at one moment.

use std::fmt;

/// A worker's name in the store. A worker that was forgotten goes on under its next one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    pub worker: u8,
    pub life: u8,
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {}", self.worker)?;
        if self.life > 0 {
            write!(f, " under its name {}", self.life + 1)
        } else {
            Ok(())
        }
    }
}

/// The right to write a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease {
    pub turn: u8,
    pub name: Name,
    pub epoch: u8,
}

/// A running turn in the hands of a worker. What its log holds is not copied: see [`World::known`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Held {
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

/// A turn as the store has it. Its place among the turns is its ordinal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Turn {
    pub message: u8,
    pub status: Status,
    pub holder: Option<Name>,
    pub epoch: u8,
    pub attempt: u8,
    pub cancel: bool,
    /// Whether it has run as long as it may.
    pub expired: bool,
    /// The turn that this one's end began.
    pub next: Option<u8>,
}

/// A tool call's id. An attempt that asks again makes a new one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    pub turn: u8,
    pub epoch: u8,
    /// Which of its turn's tools.
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
    /// What the agent said in a step, from 0.
    Said(u8),
    Call(Call),
    Result(Call, ToolOutcome),
}

/// An item of the log, at the position that is its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Item {
    pub turn: u8,
    /// The epoch that wrote it; 0 for the user's message.
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

/// A unit of work for the store: items, and the end if it is the last.
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

/// Where a call is that a run has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// The lease was looked at and seemed safe. `true` if that was no more than a belief: a clock
    /// is wrong, or the process was frozen since.
    Looked(bool),
    /// The tool has heard of it.
    Sent,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Doing {
    Working,
    /// A write was not answered: it is made again, the same.
    Repeating(Write),
    /// The store has refused a write, because the lease is not the current one.
    Refused,
    /// The store has refused a write for good: the turn is to end without it.
    Failing,
    /// The turn has ended; the answer that says so is on its way.
    Ended(Option<Held>),
}

/// One attempt at a turn in one process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Run {
    pub lease: Lease,
    pub attempt: u8,
    /// Whether it is the one that the process shows and counts as running.
    pub seated: bool,
    pub stop: Stop,
    /// Whether its deadline is past.
    pub expired: bool,
    /// Whether this attempt recorded the calls of its turn.
    pub recorded: bool,
    pub calls: Vec<(Call, Stage)>,
    pub doing: Doing,
}

/// A worker's look for turns that nobody holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Claim {
    None,
    /// In doubt, with the turns that it knows it runs. The store has not heard of it yet.
    Asked(Name, Vec<u8>),
    /// The answer is on its way.
    Granted(Vec<Held>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Life {
    Up,
    Leaving,
    Left,
    Crashed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Worker {
    pub life: Life,
    pub name: Name,
    /// In the store: whether it knows the name.
    pub known: bool,
    /// In the store: whether its lease has run out.
    pub lapsed: bool,
    /// In the process: whether it believes that nobody can have taken its turns.
    pub safe: bool,
    /// It was told that it is forgotten, and is about to enroll again.
    pub enrolling: bool,
    /// The store may have given it a turn that it does not know of.
    pub doubt: bool,
    pub claim: Claim,
}

/// A client with one message. It repeats its request, under the same key, until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Client {
    Quiet,
    /// The turn is to be run, and the answer that says so is on its way.
    Waiting(u8, Held),
    Unanswered,
    Acknowledged,
}

/// How many faults may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Faults {
    /// Processes that crash or leave.
    pub deaths: u8,
    /// Processes that are frozen for longer than their lease, at any point.
    pub freezes: u8,
    /// Leases that run out in the store while their worker's clock says that they are safe.
    pub skews: u8,
    /// Workers whose heartbeats do not arrive for longer than their lease.
    pub silences: u8,
    /// Answers that are lost, and writes that are given up because the store stays away.
    pub losses: u8,
    /// Wishes to cancel a turn.
    pub cancels: u8,
    /// Turns whose answers the store refuses for good from then on.
    pub refusals: u8,
    /// Turns that run as long as they may.
    pub timeouts: u8,
}

impl Faults {
    /// How many they are.
    pub fn count(self) -> u8 {
        let Self {
            deaths,
            freezes,
            skews,
            silences,
            losses,
            cancels,
            refusals,
            timeouts,
        } = self;
        deaths + freezes + skews + silences + losses + cancels + refusals + timeouts
    }
}

/// What must never happen in a step, noted where it does. See [`super::properties`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Broken {
    pub written_without_lease: bool,
    pub changed_after_end: bool,
    pub sent_before_stored: bool,
    pub sent_without_lease: bool,
    pub run_after_end: bool,
    pub said_after_time: bool,
    pub no_nearer_to_the_end: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct World {
    pub turns: Vec<Turn>,
    pub log: Vec<Item>,
    /// How often tools heard of each call: once, or more than once.
    pub sent: Vec<(Call, u8)>,
    pub clients: Vec<Client>,
    pub workers: Vec<Worker>,
    /// In order, so that the same runs are the same state.
    pub runs: Vec<Run>,
    /// A begin that was given up and may be done yet. Only where [`super::Guards::order`] is out.
    pub late: Option<(u8, Name)>,
    /// The turn whose answers the store refuses.
    pub refused: Option<u8>,
    pub faults: Faults,
    pub broken: Broken,
}

impl World {
    pub fn new(workers: u8, messages: u8, faults: Faults) -> Self {
        let worker = |worker| Worker {
            life: Life::Up,
            name: Name { worker, life: 0 },
            known: true,
            lapsed: false,
            safe: true,
            enrolling: false,
            doubt: false,
            claim: Claim::None,
        };
        Self {
            turns: Vec::new(),
            log: Vec::new(),
            sent: Vec::new(),
            clients: (0..messages).map(|_| Client::Quiet).collect(),
            workers: (0..workers).map(worker).collect(),
            runs: Vec::new(),
            late: None,
            refused: None,
            faults,
            broken: Broken::default(),
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

    /// What the log holds of a turn, as far as the run with this lease knows: nobody wrote after it
    /// was given the turn but itself.
    pub fn known(&self, lease: Lease) -> impl Iterator<Item = Body> + Clone {
        self.log
            .iter()
            .filter(move |item| item.turn == lease.turn && item.epoch <= lease.epoch)
            .map(|item| item.body)
    }

    /// Whether the lease is the one that the store has.
    pub fn is_current(&self, lease: Lease) -> bool {
        let turn = self.turn(lease.turn);
        turn.status == Status::Running
            && turn.holder == Some(lease.name)
            && turn.epoch == lease.epoch
    }

    /// Whether what this run asks of the store was asked after a claim of its worker that is not
    /// done yet: a run that the claim does not name began after it. It is of a new turn, so its
    /// first step is a write.
    pub fn is_overtaking(&self, run: &Run) -> bool {
        let claim = &self.worker(run.lease.name.worker).claim;
        matches!(claim, Claim::Asked(_, holding) if run.seated && !holding.contains(&run.lease.turn))
    }

    pub fn times_sent(&self, call: Call) -> u8 {
        self.sent
            .iter()
            .find(|(sent, _)| *sent == call)
            .map_or(0, |(_, times)| *times)
    }

    pub fn note_sent(&mut self, call: Call) {
        match self.sent.iter_mut().find(|(sent, _)| *sent == call) {
            Some((_, times)) => *times = 2,
            None => {
                self.sent.push((call, 1));
                self.sent.sort_unstable();
            }
        }
    }

    /// The same world with the workers numbered the other way round. They are all alike.
    fn mirrored(&self) -> Self {
        let last = self.workers.len() as u8 - 1;
        let mirror = |name: &mut Name| name.worker = last - name.worker;
        let mut world = self.clone();
        world.workers.reverse();
        for worker in &mut world.workers {
            mirror(&mut worker.name);
            match &mut worker.claim {
                Claim::None => {}
                Claim::Asked(name, _) => mirror(name),
                Claim::Granted(held) => held
                    .iter_mut()
                    .for_each(|held| mirror(&mut held.lease.name)),
            }
        }
        world
            .turns
            .iter_mut()
            .filter_map(|turn| turn.holder.as_mut())
            .for_each(mirror);
        for client in &mut world.clients {
            if let Client::Waiting(worker, held) = client {
                *worker = last - *worker;
                mirror(&mut held.lease.name);
            }
        }
        for run in &mut world.runs {
            mirror(&mut run.lease.name);
            if let Doing::Ended(Some(next)) = &mut run.doing {
                mirror(&mut next.lease.name);
            }
        }
        world.runs.sort_unstable();
        world.late.iter_mut().for_each(|(_, name)| mirror(name));
        world
    }

    /// One of the worlds that differ by the numbers of the workers alone. There are two workers at
    /// most.
    pub fn representative(&self) -> Self {
        self.mirrored().min(self.clone())
    }
}
