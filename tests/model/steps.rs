//! What clients and workers do, and what befalls them: `service.rs` and `turns/worker.rs`, step by
//! step.

use super::run::Step;
use super::world::{Claim, Client, Held, Life, Name, Run, Stage, Status, Stop, Turn, World};
use super::{Answer, Protocol};

/// One step of somebody. Those that are faults or wishes happen no more often than
/// [`Faults`](super::world::Faults) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A client asks a worker to begin a turn, and the store does it, or not.
    Begin {
        message: u8,
        worker: u8,
        answer: Answer,
    },
    /// The worker hears that it has a turn to run, and the client that its message is stored.
    HearBegin { message: u8 },
    /// A run takes a step.
    Run {
        turn: u8,
        name: Name,
        epoch: u8,
        step: Step,
    },
    /// A worker renews its lease and hears of cancels; or hears that it is forgotten, and takes
    /// another name.
    Heartbeat(u8),
    /// A worker makes its new name known.
    Enroll(u8, Answer),
    /// Takes over what nobody holds.
    Sweep(u8, Answer),
    /// A worker in doubt notes which turns it runs, to have those that it does not know of.
    AskInDoubt(u8),
    /// The store does what was asked in doubt.
    Grant(u8, Answer),
    /// A worker hears which turns it has taken over.
    HearClaim(u8),
    /// A worker that has released all turns leaves.
    Retire(u8),
    /// A begin that was given up is done after all.
    BeginLate,
    /// Fault or wish: somebody wants a turn to be cancelled.
    Cancel(u8),
    /// Fault: the store refuses all answers in a turn from now on.
    Refuse(u8),
    /// Fault: a turn has run as long as it may.
    Expire(u8),
    /// Fault or wish: a worker releases all turns, to leave.
    Leave(u8),
    /// Fault: a process dies.
    Crash(u8),
    /// Fault: a process is frozen for longer than its lease. It wakes with its next step.
    Freeze(u8),
    /// Fault: heartbeats do not arrive for longer than the lease, and the worker knows.
    Silence(u8),
    /// Fault: a lease runs out while its worker's clock says that it is safe.
    Skew(u8),
}

impl Action {
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Begin { answer, .. }
            | Self::Enroll(_, answer)
            | Self::Sweep(_, answer)
            | Self::Grant(_, answer) => *answer != Answer::Heard,
            Self::Run { step, .. } => step.is_fault(),
            Self::Cancel(_)
            | Self::Refuse(_)
            | Self::Expire(_)
            | Self::Leave(_)
            | Self::Crash(_)
            | Self::Freeze(_)
            | Self::Silence(_)
            | Self::Skew(_) => true,
            _ => false,
        }
    }
}

/// The turns that a process shows and counts as running.
fn running(world: &World, worker: u8) -> Vec<u8> {
    let mut running: Vec<_> = world
        .runs
        .iter()
        .filter(|run| run.seated && run.lease.name.worker == worker)
        .map(|run| run.lease.turn)
        .collect();
    running.sort_unstable();
    running
}

/// The turns whose run would hear of a cancel by the next heartbeat.
fn to_cancel(world: &World, name: Name) -> Vec<u8> {
    let wanted = |turn: u8| {
        let row = world.turn(turn);
        row.status == Status::Running && row.holder == Some(name) && row.cancel
    };
    let deaf =
        |run: &&Run| run.seated && run.lease.name.worker == name.worker && run.stop == Stop::Not;
    world
        .runs
        .iter()
        .filter(deaf)
        .map(|run| run.lease.turn)
        .filter(|turn| wanted(*turn))
        .collect()
}

impl Protocol {
    /// All that can happen next.
    pub fn possible(&self, world: &World, actions: &mut Vec<Action>) {
        let losses = world.faults.losses > 0;
        let answers = || {
            [Answer::Heard]
                .into_iter()
                .chain(losses.then_some(Answer::Lost))
        };
        for (message, client) in (0..).zip(&world.clients) {
            // Messages arrive in their order; which of them asks first is no matter.
            let is_next =
                message == 0 || world.turns.iter().any(|turn| turn.message == message - 1);
            match client {
                Client::Quiet | Client::Unanswered if is_next => {
                    for (worker, _) in (0..)
                        .zip(&world.workers)
                        .filter(|(_, worker)| worker.life == Life::Up)
                    {
                        let answers = answers().chain(losses.then_some(Answer::Never));
                        actions.extend(answers.map(|answer| Action::Begin {
                            message,
                            worker,
                            answer,
                        }));
                    }
                }
                Client::Waiting(..) => actions.push(Action::HearBegin { message }),
                _ => {}
            }
        }
        for run in &world.runs {
            let (turn, name, epoch) = (run.lease.turn, run.lease.name, run.lease.epoch);
            actions.extend(self.steps(world, run).into_iter().map(|step| Action::Run {
                turn,
                name,
                epoch,
                step,
            }));
        }
        if world.late.is_some() {
            actions.push(Action::BeginLate);
        }
        for (id, worker) in (0..)
            .zip(&world.workers)
            .filter(|(_, worker)| worker.life <= Life::Leaving)
        {
            if worker.enrolling {
                actions.extend(answers().map(|answer| Action::Enroll(id, answer)));
            } else if !worker.known
                || worker.lapsed
                || !worker.safe
                || !to_cancel(world, worker.name).is_empty()
            {
                actions.push(Action::Heartbeat(id));
            }
            if worker.life == Life::Leaving {
                if !world.runs.iter().any(|run| run.lease.name.worker == id) {
                    actions.push(Action::Retire(id));
                }
                continue;
            }
            match worker.claim {
                Claim::None if worker.doubt => actions.push(Action::AskInDoubt(id)),
                Claim::None if world.abandoned(worker.name, None).is_empty() => {}
                Claim::None => actions.extend(answers().map(|answer| Action::Sweep(id, answer))),
                Claim::Asked(..) => {
                    actions.extend(answers().map(|answer| Action::Grant(id, answer)))
                }
                Claim::Granted(_) => actions.push(Action::HearClaim(id)),
            }
        }
        self.possible_faults(world, actions);
    }

    fn possible_faults(&self, world: &World, actions: &mut Vec<Action>) {
        let faults = world.faults;
        if world.is_done() {
            return;
        }
        if faults.cancels > 0 {
            let open =
                |(_, turn): &(u8, &Turn)| !matches!(turn.status, Status::Ended(_)) && !turn.cancel;
            actions.extend(
                (0..)
                    .zip(&world.turns)
                    .filter(open)
                    .map(|(turn, _)| Action::Cancel(turn)),
            );
        }
        let running = || {
            (0..)
                .zip(&world.turns)
                .filter(|(_, turn)| turn.status == Status::Running)
        };
        if faults.refusals > 0 && world.refused.is_none() {
            actions.extend(running().map(|(turn, _)| Action::Refuse(turn)));
        }
        if faults.timeouts > 0 {
            // Only a run takes time.
            let runs = |id: u8| {
                world
                    .runs
                    .iter()
                    .any(|run| run.seated && run.lease.turn == id)
            };
            actions.extend(
                running()
                    .filter(|(id, turn)| !turn.expired && runs(*id))
                    .map(|(turn, _)| Action::Expire(turn)),
            );
        }
        for (id, worker) in (0..)
            .zip(&world.workers)
            .filter(|(_, worker)| worker.life <= Life::Leaving)
        {
            if faults.deaths > 0 {
                actions.push(Action::Crash(id));
                if worker.life == Life::Up {
                    actions.push(Action::Leave(id));
                }
            }
            if !worker.known || worker.lapsed {
                continue;
            }
            if faults.freezes > 0 {
                actions.push(Action::Freeze(id));
            }
            if faults.silences > 0 && !self.is_about_to_send(world, id) {
                actions.push(Action::Silence(id));
            }
            if faults.skews > 0 {
                actions.push(Action::Skew(id));
            }
        }
    }

    fn is_about_to_send(&self, world: &World, worker: u8) -> bool {
        let looked = |run: &Run| {
            run.calls
                .iter()
                .any(|(_, stage)| matches!(stage, Stage::Looked(_)))
        };
        world
            .runs
            .iter()
            .any(|run| run.lease.name.worker == worker && looked(run))
    }

    /// What has become of the world after an action.
    pub fn after(&self, world: &World, action: Action) -> World {
        let mut next = world.clone();
        self.act(&mut next, action);
        next.runs.sort_unstable();
        next
    }

    fn act(&self, world: &mut World, action: Action) {
        match action {
            Action::Begin {
                message,
                worker,
                answer,
            } => self.begin(world, message, worker, answer),
            Action::HearBegin { message } => {
                let client = std::mem::replace(
                    &mut world.clients[usize::from(message)],
                    Client::Acknowledged,
                );
                if let Client::Waiting(_, held) = client {
                    self.seat(world, held);
                }
            }
            Action::Run {
                turn,
                name,
                epoch,
                step,
            } => {
                let is_it = |run: &Run| {
                    run.lease.turn == turn && run.lease.name == name && run.lease.epoch == epoch
                };
                if let Some(at) = world.runs.iter().position(is_it) {
                    self.step(world, at, step);
                }
            }
            Action::BeginLate => {
                if let Some((message, name)) = world.late.take() {
                    world.begin_turn(self.guards, message, name);
                }
            }
            Action::Heartbeat(id) => Self::heartbeat(world, id),
            Action::Enroll(id, answer) => {
                let worker = world.worker_mut(id);
                let done = answer == Answer::Heard;
                worker.enrolling = false;
                (worker.known, worker.lapsed, worker.safe) = (done, false, worker.safe || done);
                world.faults.losses -= u8::from(!done);
            }
            Action::Sweep(id, answer) => {
                let name = world.worker(id).name;
                let held = world.claim(self.guards, name, None);
                self.granted(world, id, held, answer);
            }
            Action::AskInDoubt(id) => {
                let running = running(world, id);
                let worker = world.worker_mut(id);
                worker.doubt = false;
                worker.claim = Claim::Asked(worker.name, running);
            }
            Action::Grant(id, answer) => {
                if let Claim::Asked(name, holding) = world.worker(id).claim.clone() {
                    let held = world.claim(self.guards, name, Some(&holding));
                    self.granted(world, id, held, answer);
                }
            }
            Action::HearClaim(id) => {
                if let Claim::Granted(held) =
                    std::mem::replace(&mut world.worker_mut(id).claim, Claim::None)
                {
                    held.into_iter().for_each(|held| self.seat(world, held));
                }
            }
            Action::Retire(id) => {
                let name = world.worker(id).name;
                world.retire(name);
                let worker = world.worker_mut(id);
                (worker.life, worker.safe, worker.doubt, worker.enrolling) =
                    (Life::Left, false, false, false);
            }
            Action::Cancel(turn) => {
                world.faults.cancels -= 1;
                world.request_cancel(turn);
            }
            _ => Self::befall(world, action),
        }
    }

    fn befall(world: &mut World, action: Action) {
        match action {
            Action::Refuse(turn) => {
                world.faults.refusals -= 1;
                world.refused = Some(turn);
            }
            Action::Expire(turn) => {
                world.faults.timeouts -= 1;
                world.turn_mut(turn).expired = true;
                world
                    .runs
                    .iter_mut()
                    .filter(|run| run.lease.turn == turn)
                    .for_each(|run| run.expired = true);
            }
            Action::Leave(id) => {
                world.faults.deaths -= 1;
                let worker = world.worker_mut(id);
                (worker.life, worker.claim) = (Life::Leaving, Claim::None);
                Self::release_all(world, id);
            }
            Action::Crash(id) => {
                world.faults.deaths -= 1;
                let worker = world.worker_mut(id);
                worker.life = Life::Crashed;
                (
                    worker.lapsed,
                    worker.safe,
                    worker.doubt,
                    worker.enrolling,
                    worker.claim,
                ) = (true, false, false, false, Claim::None);
                world.runs.retain(|run| run.lease.name.worker != id);
                let waits =
                    |client: &&mut Client| matches!(client, Client::Waiting(on, _) if *on == id);
                world
                    .clients
                    .iter_mut()
                    .filter(waits)
                    .for_each(|client| *client = Client::Unanswered);
            }
            Action::Freeze(id) => {
                world.faults.freezes -= 1;
                Self::lapse(world, id, false);
            }
            Action::Silence(id) => {
                world.faults.silences -= 1;
                Self::lapse(world, id, false);
            }
            Action::Skew(id) => {
                world.faults.skews -= 1;
                Self::lapse(world, id, true);
            }
            _ => {}
        }
    }

    fn begin(&self, world: &mut World, message: u8, worker: u8, answer: Answer) {
        let name = world.worker(worker).name;
        let client = match answer {
            Answer::Never => {
                world.late = (!self.guards.order).then_some((message, name));
                Client::Unanswered
            }
            // That a turn waits, or is known already, changes nothing here: the answer is as good
            // as heard.
            _ => match world.begin_turn(self.guards, message, name) {
                Some(held) => Client::Waiting(worker, held),
                None => Client::Acknowledged,
            },
        };
        let heard = answer == Answer::Heard;
        world.clients[usize::from(message)] = if heard { client } else { Client::Unanswered };
        if !heard {
            world.faults.losses -= 1;
            world.worker_mut(worker).doubt |= self.guards.doubt;
        }
    }

    fn granted(&self, world: &mut World, id: u8, held: Vec<Held>, answer: Answer) {
        let worker = world.worker_mut(id);
        if answer == Answer::Lost {
            worker.doubt |= self.guards.doubt;
            worker.claim = Claim::None;
            world.faults.losses -= 1;
        } else {
            worker.claim = if held.is_empty() {
                Claim::None
            } else {
                Claim::Granted(held)
            };
        }
    }

    fn heartbeat(world: &mut World, id: u8) {
        let worker = world.worker_mut(id);
        if worker.known {
            (worker.lapsed, worker.safe) = (false, true);
            let name = worker.name;
            for turn in to_cancel(world, name) {
                Self::stop(world, Stop::Cancel, |run| {
                    run.lease.name.worker == id && run.lease.turn == turn
                });
            }
        } else {
            worker.name.life += 1;
            worker.enrolling = true;
            Self::release_all(world, id);
        }
    }

    fn release_all(world: &mut World, id: u8) {
        Self::stop(world, Stop::Release, |run| run.lease.name.worker == id);
    }

    fn stop(world: &mut World, stop: Stop, wanted: impl Fn(&Run) -> bool) {
        for run in world
            .runs
            .iter_mut()
            .filter(|run| run.seated && wanted(run) && run.stop != Stop::Release)
        {
            run.stop = stop;
        }
    }

    /// A worker's lease runs out in the store. A call that it is about to send was looked at too
    /// early.
    fn lapse(world: &mut World, id: u8, believes: bool) {
        let worker = world.worker_mut(id);
        (worker.lapsed, worker.safe) = (true, worker.safe && believes);
        for run in world
            .runs
            .iter_mut()
            .filter(|run| run.lease.name.worker == id)
        {
            for (_, stage) in &mut run.calls {
                if let Stage::Looked(is_mere_belief) = stage {
                    *is_mere_belief = true;
                }
            }
        }
    }
}
