//! The actions of clients and workers, and the faults: `service.rs` and `turns/lease.rs`.

use super::run::Step;
use super::world::{
    Claim, Client, OwnedTurn, Run, Stage, Status, Stop, Turn, WorkerId, WorkerState, World,
};
use super::{Protocol, Response};

/// An action. Faults and requests to cancel are limited by [`Faults`](super::world::Faults).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A client sends a message to a worker, and the store begins the turn or not.
    Begin {
        message: u8,
        worker: u8,
        response: Response,
    },
    /// The worker receives its turn, and the client the acknowledgement.
    DeliverBegin { message: u8 },
    /// A run takes a step.
    Run {
        turn: u8,
        worker_id: WorkerId,
        epoch: u8,
        step: Step,
    },
    /// A worker renews its lease and receives cancellations, or learns that it was deregistered and
    /// takes a new id.
    Heartbeat(u8),
    /// A worker registers its new id.
    Register(u8, Response),
    /// Claims abandoned turns.
    Claim(u8, Response),
    /// An uncertain worker records the turns that it runs, to claim the others that it owns.
    StartReconcile(u8),
    /// The store executes the claim of an uncertain worker.
    Reconcile(u8, Response),
    /// A worker receives its claimed turns.
    DeliverClaim(u8),
    /// A worker that has released all turns deregisters.
    Deregister(u8),
    /// An abandoned begin is executed after all.
    ExecuteDelayedBegin,
    /// A request to cancel a turn.
    Cancel(u8),
    /// Fault: the store rejects all further answers of a turn.
    RejectAnswers(u8),
    /// Fault: a turn reaches its time limit.
    Expire(u8),
    /// A worker releases all turns and shuts down.
    ShutDown(u8),
    /// Fault: a process dies.
    Crash(u8),
    /// Fault: a process freezes for longer than its lease. It continues with its next step.
    Freeze(u8),
    /// Fault: heartbeats fail for longer than the lease, and the worker knows it.
    LoseHeartbeats(u8),
    /// Fault: a lease expires while the worker's clock shows it as safe.
    SkewClock(u8),
}

impl Action {
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Begin { response, .. }
            | Self::Register(_, response)
            | Self::Claim(_, response)
            | Self::Reconcile(_, response) => *response != Response::Received,
            Self::Run { step, .. } => step.is_fault(),
            Self::Cancel(_)
            | Self::RejectAnswers(_)
            | Self::Expire(_)
            | Self::ShutDown(_)
            | Self::Crash(_)
            | Self::Freeze(_)
            | Self::LoseHeartbeats(_)
            | Self::SkewClock(_) => true,
            _ => false,
        }
    }
}

/// Returns the turns that are registered in a process.
fn running(world: &World, worker: u8) -> Vec<u8> {
    let mut running: Vec<_> = world
        .runs
        .iter()
        .filter(|run| run.registered && run.lease.worker_id.worker == worker)
        .map(|run| run.lease.turn)
        .collect();
    running.sort_unstable();
    running
}

/// Returns the turns whose runs the next heartbeat would cancel.
fn turns_to_cancel(world: &World, worker_id: WorkerId) -> Vec<u8> {
    let wanted = |turn: u8| {
        let row = world.turn(turn);
        row.status == Status::Running && row.holder == Some(worker_id) && row.cancel
    };
    let is_unaware = |run: &&Run| {
        run.registered && run.lease.worker_id.worker == worker_id.worker && run.stop == Stop::Not
    };
    world
        .runs
        .iter()
        .filter(is_unaware)
        .map(|run| run.lease.turn)
        .filter(|turn| wanted(*turn))
        .collect()
}

impl Protocol {
    /// Adds all possible actions.
    pub fn possible_actions(&self, world: &World, actions: &mut Vec<Action>) {
        let losses = world.faults.losses > 0;
        let answers = || {
            [Response::Received]
                .into_iter()
                .chain(losses.then_some(Response::Lost))
        };
        for (message, client) in (0..).zip(&world.clients) {
            // Messages arrive in order. The order of first requests does not matter.
            let is_next =
                message == 0 || world.turns.iter().any(|turn| turn.message == message - 1);
            match client {
                Client::Idle | Client::Unanswered if is_next => {
                    for (worker, _) in (0..)
                        .zip(&world.workers)
                        .filter(|(_, worker)| worker.state == WorkerState::Running)
                    {
                        let answers = answers().chain(losses.then_some(Response::NotExecuted));
                        actions.extend(answers.map(|response| Action::Begin {
                            message,
                            worker,
                            response,
                        }));
                    }
                }
                Client::Waiting(..) => actions.push(Action::DeliverBegin { message }),
                _ => {}
            }
        }
        for run in &world.runs {
            let (turn, worker_id, epoch) = (run.lease.turn, run.lease.worker_id, run.lease.epoch);
            actions.extend(self.steps(world, run).into_iter().map(|step| Action::Run {
                turn,
                worker_id,
                epoch,
                step,
            }));
        }
        if world.delayed_begin.is_some() {
            actions.push(Action::ExecuteDelayedBegin);
        }
        for (id, worker) in (0..)
            .zip(&world.workers)
            .filter(|(_, worker)| worker.state <= WorkerState::ShuttingDown)
        {
            if worker.registering {
                actions.extend(answers().map(|response| Action::Register(id, response)));
            } else if !worker.known
                || worker.lapsed
                || !worker.safe
                || !turns_to_cancel(world, worker.id).is_empty()
            {
                actions.push(Action::Heartbeat(id));
            }
            if worker.state == WorkerState::ShuttingDown {
                if !world
                    .runs
                    .iter()
                    .any(|run| run.lease.worker_id.worker == id)
                {
                    actions.push(Action::Deregister(id));
                }
                continue;
            }
            match worker.claim {
                Claim::None if worker.uncertain => actions.push(Action::StartReconcile(id)),
                Claim::None if world.abandoned(worker.id, None).is_empty() => {}
                Claim::None => {
                    actions.extend(answers().map(|response| Action::Claim(id, response)))
                }
                Claim::Requested(..) => {
                    actions.extend(answers().map(|response| Action::Reconcile(id, response)))
                }
                Claim::Granted(_) => actions.push(Action::DeliverClaim(id)),
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
        if faults.rejections > 0 && world.rejecting.is_none() {
            actions.extend(running().map(|(turn, _)| Action::RejectAnswers(turn)));
        }
        if faults.timeouts > 0 {
            // Only a running turn uses time.
            let runs = |id: u8| {
                world
                    .runs
                    .iter()
                    .any(|run| run.registered && run.lease.turn == id)
            };
            actions.extend(
                running()
                    .filter(|(id, turn)| !turn.expired && runs(*id))
                    .map(|(turn, _)| Action::Expire(turn)),
            );
        }
        for (id, worker) in (0..)
            .zip(&world.workers)
            .filter(|(_, worker)| worker.state <= WorkerState::ShuttingDown)
        {
            if faults.deaths > 0 {
                actions.push(Action::Crash(id));
                if worker.state == WorkerState::Running {
                    actions.push(Action::ShutDown(id));
                }
            }
            if !worker.known || worker.lapsed {
                continue;
            }
            if faults.freezes > 0 {
                actions.push(Action::Freeze(id));
            }
            if faults.silences > 0 && !self.is_about_to_send(world, id) {
                actions.push(Action::LoseHeartbeats(id));
            }
            if faults.skews > 0 {
                actions.push(Action::SkewClock(id));
            }
        }
    }

    fn is_about_to_send(&self, world: &World, worker: u8) -> bool {
        let looked = |run: &Run| {
            run.calls
                .iter()
                .any(|(_, stage)| matches!(stage, Stage::LeaseChecked(_)))
        };
        world
            .runs
            .iter()
            .any(|run| run.lease.worker_id.worker == worker && looked(run))
    }

    /// Returns the world after an action.
    pub fn apply(&self, world: &World, action: Action) -> World {
        let mut next = world.clone();
        self.apply_action(&mut next, action);
        next.runs.sort_unstable();
        next
    }

    fn apply_action(&self, world: &mut World, action: Action) {
        match action {
            Action::Begin {
                message,
                worker,
                response,
            } => self.begin(world, message, worker, response),
            Action::DeliverBegin { message } => {
                let client = std::mem::replace(
                    &mut world.clients[usize::from(message)],
                    Client::Acknowledged,
                );
                if let Client::Waiting(_, owned) = client {
                    self.register(world, owned);
                }
            }
            Action::Run {
                turn,
                worker_id,
                epoch,
                step,
            } => {
                let is_it = |run: &Run| {
                    run.lease.turn == turn
                        && run.lease.worker_id == worker_id
                        && run.lease.epoch == epoch
                };
                if let Some(at) = world.runs.iter().position(is_it) {
                    self.step(world, at, step);
                }
            }
            Action::ExecuteDelayedBegin => {
                if let Some((message, worker_id)) = world.delayed_begin.take() {
                    world.begin_turn(self.guards, message, worker_id);
                }
            }
            Action::Heartbeat(id) => Self::heartbeat(world, id),
            Action::Register(id, response) => {
                let worker = world.worker_mut(id);
                let done = response == Response::Received;
                worker.registering = false;
                (worker.known, worker.lapsed, worker.safe) = (done, false, worker.safe || done);
                world.faults.losses -= u8::from(!done);
            }
            Action::Claim(id, response) => {
                let worker_id = world.worker(id).id;
                let owned = world.claim(self.guards, worker_id, None);
                self.granted(world, id, owned, response);
            }
            Action::StartReconcile(id) => {
                let running = running(world, id);
                let worker = world.worker_mut(id);
                worker.uncertain = false;
                worker.claim = Claim::Requested(worker.id, running);
            }
            Action::Reconcile(id, response) => {
                if let Claim::Requested(worker_id, holding) = world.worker(id).claim.clone() {
                    let owned = world.claim(self.guards, worker_id, Some(&holding));
                    self.granted(world, id, owned, response);
                }
            }
            Action::DeliverClaim(id) => {
                if let Claim::Granted(owned) =
                    std::mem::replace(&mut world.worker_mut(id).claim, Claim::None)
                {
                    owned
                        .into_iter()
                        .for_each(|owned| self.register(world, owned));
                }
            }
            Action::Deregister(id) => {
                let worker_id = world.worker(id).id;
                world.deregister(worker_id);
                let worker = world.worker_mut(id);
                (
                    worker.state,
                    worker.safe,
                    worker.uncertain,
                    worker.registering,
                ) = (WorkerState::Deregistered, false, false, false);
            }
            Action::Cancel(turn) => {
                world.faults.cancels -= 1;
                world.request_cancel(turn);
            }
            _ => Self::apply_fault(world, action),
        }
    }

    fn apply_fault(world: &mut World, action: Action) {
        match action {
            Action::RejectAnswers(turn) => {
                world.faults.rejections -= 1;
                world.rejecting = Some(turn);
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
            Action::ShutDown(id) => {
                world.faults.deaths -= 1;
                let worker = world.worker_mut(id);
                (worker.state, worker.claim) = (WorkerState::ShuttingDown, Claim::None);
                Self::release_all(world, id);
            }
            Action::Crash(id) => {
                world.faults.deaths -= 1;
                let worker = world.worker_mut(id);
                worker.state = WorkerState::Crashed;
                (
                    worker.lapsed,
                    worker.safe,
                    worker.uncertain,
                    worker.registering,
                    worker.claim,
                ) = (true, false, false, false, Claim::None);
                world.runs.retain(|run| run.lease.worker_id.worker != id);
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
                Self::expire_lease(world, id, false);
            }
            Action::LoseHeartbeats(id) => {
                world.faults.silences -= 1;
                Self::expire_lease(world, id, false);
            }
            Action::SkewClock(id) => {
                world.faults.skews -= 1;
                Self::expire_lease(world, id, true);
            }
            _ => {}
        }
    }

    fn begin(&self, world: &mut World, message: u8, worker: u8, response: Response) {
        let worker_id = world.worker(worker).id;
        let client = match response {
            Response::NotExecuted => {
                world.delayed_begin = (!self.guards.command_order).then_some((message, worker_id));
                Client::Unanswered
            }
            // A response without a turn changes nothing here, so a lost one is like a received one.
            _ => match world.begin_turn(self.guards, message, worker_id) {
                Some(owned) => Client::Waiting(worker, owned),
                None => Client::Acknowledged,
            },
        };
        let is_received = response == Response::Received;
        world.clients[usize::from(message)] = if is_received {
            client
        } else {
            Client::Unanswered
        };
        if !is_received {
            world.faults.losses -= 1;
            world.worker_mut(worker).uncertain |= self.guards.uncertain;
        }
    }

    fn granted(&self, world: &mut World, id: u8, owned: Vec<OwnedTurn>, response: Response) {
        let worker = world.worker_mut(id);
        if response == Response::Lost {
            worker.uncertain |= self.guards.uncertain;
            worker.claim = Claim::None;
            world.faults.losses -= 1;
        } else {
            worker.claim = if owned.is_empty() {
                Claim::None
            } else {
                Claim::Granted(owned)
            };
        }
    }

    fn heartbeat(world: &mut World, id: u8) {
        let worker = world.worker_mut(id);
        if worker.known {
            (worker.lapsed, worker.safe) = (false, true);
            let worker_id = worker.id;
            for turn in turns_to_cancel(world, worker_id) {
                Self::stop(world, Stop::Cancel, |run| {
                    run.lease.worker_id.worker == id && run.lease.turn == turn
                });
            }
        } else {
            worker.id.generation += 1;
            worker.registering = true;
            Self::release_all(world, id);
        }
    }

    fn release_all(world: &mut World, id: u8) {
        Self::stop(world, Stop::Release, |run| run.lease.worker_id.worker == id);
    }

    fn stop(world: &mut World, stop: Stop, wanted: impl Fn(&Run) -> bool) {
        for run in world
            .runs
            .iter_mut()
            .filter(|run| run.registered && wanted(run) && run.stop != Stop::Release)
        {
            run.stop = stop;
        }
    }

    /// Expires a worker's lease in the store. A lease check before a pending call is out of date.
    fn expire_lease(world: &mut World, id: u8, believes: bool) {
        let worker = world.worker_mut(id);
        (worker.lapsed, worker.safe) = (true, worker.safe && believes);
        for run in world
            .runs
            .iter_mut()
            .filter(|run| run.lease.worker_id.worker == id)
        {
            for (_, stage) in &mut run.calls {
                if let Stage::LeaseChecked(is_mere_belief) = stage {
                    *is_mere_belief = true;
                }
            }
        }
    }
}
