//! The steps of one attempt at a turn: `turns/runner.rs`.

use super::store::Rejection;
use super::world::{
    Body, Call, Outcome, OwnedTurn, Run, RunState, Stage, Status, Stop, ToolOutcome, WorkerState,
    World, Write,
};
use super::{Protocol, Response};

/// A step of a run. Other actions may happen between two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Writes the next items: the agent's answer, unknown results, or the end.
    Write(Response),
    /// Records the result of a tool.
    Result(Call, Response),
    /// Checks the lease before a call is sent.
    CheckLease(Call),
    /// Sends a call to its tool.
    SendCall(Call),
    /// Retries a write whose response was lost.
    RetryWrite,
    /// Abandons a write, because the store stays unavailable.
    AbandonWrite,
    /// Receives the end of the turn, and starts the next one.
    DeliverEnd,
    /// Releases the turn.
    ReleaseTurn,
}

impl Step {
    pub fn is_fault(self) -> bool {
        matches!(
            self,
            Self::Write(Response::Lost) | Self::Result(_, Response::Lost) | Self::AbandonWrite
        )
    }
}

impl Protocol {
    fn is_repeatable(&self, world: &World, call: Call) -> bool {
        self.tools_of(world, call.turn)[usize::from(call.tool)].repeatable
    }

    /// Returns the calls without a result.
    fn pending(&self, world: &World, run: &Run) -> Vec<Call> {
        let known = world.known(run.lease);
        let has_result = |call: Call| {
            known
                .clone()
                .any(|body| matches!(body, Body::Result(of, _) if of == call))
        };
        let calls = known.clone().filter_map(|body| {
            if let Body::Call(call) = body {
                Some(call)
            } else {
                None
            }
        });
        let mut pending: Vec<_> = calls.filter(|call| !has_result(*call)).collect();
        if !self.guards.store_before_send && self.steps_done(world, run) == 0 {
            pending.extend(self.new_calls(world, run));
        }
        pending
    }

    fn new_calls(&self, world: &World, run: &Run) -> impl Iterator<Item = Call> + use<> {
        let (turn, epoch) = (run.lease.turn, run.lease.epoch);
        (0..self.tools_of(world, turn).len() as u8).map(move |tool| Call { turn, epoch, tool })
    }

    fn steps_done(&self, world: &World, run: &Run) -> u8 {
        world
            .known(run.lease)
            .filter(|body| matches!(body, Body::Answer(_)))
            .count() as u8
    }

    fn unknown(calls: impl IntoIterator<Item = Call>) -> Vec<Body> {
        calls
            .into_iter()
            .map(|call| Body::Result(call, ToolOutcome::Unknown))
            .collect()
    }

    /// Returns the next write, unless the run waits for tools.
    fn next_write(&self, world: &World, run: &Run) -> Option<Write> {
        let pending = self.pending(world, run);
        if run.attempt > self.attempts {
            return Some(Write {
                items: Self::unknown(pending),
                end: Some(Outcome::Failed),
            });
        }
        let stage = |call: Call| {
            run.calls
                .iter()
                .find(|(of, _)| *of == call)
                .map(|(_, stage)| *stage)
        };
        if run.state == RunState::Failing {
            return Some(Write {
                items: Self::unknown(pending),
                end: Some(Outcome::Failed),
            });
        }
        if run.stop == Stop::Cancel || run.expired {
            let result = |call: Call| {
                let may_have_run = stage(call).is_some() || !run.recorded;
                Body::Result(
                    call,
                    if may_have_run {
                        ToolOutcome::Unknown
                    } else {
                        ToolOutcome::NotRun
                    },
                )
            };
            let end = if run.stop == Stop::Cancel {
                Outcome::Cancelled
            } else {
                Outcome::Failed
            };
            return Some(Write {
                items: pending.into_iter().map(result).collect(),
                end: Some(end),
            });
        }
        let steps = self.steps_done(world, run);
        let new_calls: Vec<_> = self.new_calls(world, run).collect();
        let ran_early = !self.guards.store_before_send && steps == 0 && !pending.is_empty();
        if ran_early && new_calls.iter().any(|call| stage(*call).is_none()) {
            return None;
        }
        if pending.is_empty() || ran_early {
            // The agent first calls the turn's tools, if it has any, and then completes.
            let calls_tools = steps == 0 && !new_calls.is_empty();
            let calls = new_calls
                .into_iter()
                .filter(|_| calls_tools)
                .map(Body::Call);
            let items = [Body::Answer(steps)].into_iter().chain(calls).collect();
            return Some(Write {
                items,
                end: (!calls_tools).then_some(Outcome::Completed),
            });
        }
        // Calls that another attempt recorded may have run.
        let lost = pending.into_iter().filter(|call| {
            !run.recorded && self.guards.unknown && !self.is_repeatable(world, *call)
        });
        let items = Self::unknown(lost);
        (!items.is_empty()).then_some(Write { items, end: None })
    }

    /// Returns the possible steps of a run, including faults.
    pub fn steps(&self, world: &World, run: &Run) -> Vec<Step> {
        let losses = world.faults.losses > 0;
        let answers = || {
            [Response::Received]
                .into_iter()
                .chain(losses.then_some(Response::Lost))
        };
        match run.state {
            RunState::LeaseLost => return vec![Step::ReleaseTurn],
            RunState::Ended(_) => return vec![Step::DeliverEnd],
            RunState::Repeating(_) if run.stop == Stop::Release => {
                return vec![Step::RetryWrite, Step::ReleaseTurn];
            }
            RunState::Repeating(_) => return vec![Step::RetryWrite, Step::AbandonWrite],
            RunState::Working | RunState::Failing => {}
        }
        if self.guards.command_order && world.is_overtaking(run) {
            return Vec::new();
        }
        // Only a freeze can happen between the check and the sending.
        if let Some((call, _)) = run
            .calls
            .iter()
            .find(|(_, stage)| matches!(stage, Stage::LeaseChecked(_)))
        {
            return vec![Step::SendCall(*call)];
        }
        if run.stop == Stop::Release && run.attempt <= self.attempts {
            return vec![Step::ReleaseTurn];
        }
        let mut steps = Vec::new();
        if self.next_write(world, run).is_some() {
            steps.extend(answers().map(Step::Write));
        } else {
            let may_send =
                world.worker(run.lease.worker_id.worker).safe || !self.guards.lease_check;
            for call in self.pending(world, run) {
                match run.calls.iter().find(|(of, _)| *of == call) {
                    None if may_send => steps.push(Step::CheckLease(call)),
                    None => {}
                    Some(_) => steps.extend(answers().map(|response| Step::Result(call, response))),
                }
            }
        }
        steps.extend(losses.then_some(Step::AbandonWrite));
        steps
    }

    /// Applies a step of the run at `at`.
    pub fn step(&self, world: &mut World, at: usize, step: Step) {
        let run = world.runs.remove(at);
        match step {
            Step::Write(response) => {
                if let Some(write) = self.next_write(world, &run) {
                    self.write(world, run, write, response);
                }
            }
            Step::Result(call, response) => {
                let items = vec![Body::Result(call, ToolOutcome::Answered)];
                self.write(world, run, Write { items, end: None }, response);
            }
            Step::RetryWrite => {
                if let RunState::Repeating(write) = run.state.clone() {
                    self.write(world, run, write, Response::Received);
                }
            }
            Step::CheckLease(call) => {
                let worker = world.worker(run.lease.worker_id.worker);
                let is_wrong = worker.safe && (worker.lapsed || !worker.known);
                let mut run = run;
                run.calls.push((call, Stage::LeaseChecked(is_wrong)));
                run.calls.sort_unstable();
                world.runs.push(run);
            }
            Step::SendCall(call) => Self::send(world, run, call),
            Step::AbandonWrite => {
                world.faults.losses -= u8::from(run.state == RunState::Working);
                self.release(world, &run);
            }
            Step::ReleaseTurn => self.release(world, &run),
            Step::DeliverEnd => {
                if let RunState::Ended(Some(next)) = run.state {
                    self.register(world, next);
                }
            }
        }
    }

    fn write(&self, world: &mut World, mut run: Run, write: Write, response: Response) {
        let done = world.write(self.guards, run.lease, &write);
        let records = write.items.iter().any(|body| matches!(body, Body::Call(_)));
        run.recorded |= records;
        let results = write.items.iter().filter_map(|body| {
            if let Body::Result(call, _) = body {
                Some(*call)
            } else {
                None
            }
        });
        results.for_each(|call| run.calls.retain(|(of, _)| *of != call));
        run.state = match (response, done, write.end) {
            (Response::Lost, ..) => {
                world.faults.losses -= 1;
                RunState::Repeating(write)
            }
            (_, Err(Rejection::LeaseLost), _) => RunState::LeaseLost,
            (_, Err(Rejection::Permanent), _) if self.guards.end_on_rejection => RunState::Failing,
            (_, Err(Rejection::Permanent), _) => return self.release(world, &run),
            (_, Ok(next), Some(_)) => RunState::Ended(next),
            (_, Ok(_), None) => RunState::Working,
        };
        world.runs.push(run);
    }

    fn send(world: &mut World, mut run: Run, call: Call) {
        let stored = world.log.iter().any(|item| item.body == Body::Call(call));
        world.violations.sent_before_stored |= !stored;
        let is_excused = run.calls.contains(&(call, Stage::LeaseChecked(true)));
        world.violations.sent_without_lease |= !world.is_current(run.lease) && !is_excused;
        world.record_sent(call);
        run.calls
            .iter_mut()
            .filter(|(of, _)| *of == call)
            .for_each(|(_, stage)| *stage = Stage::Sent);
        world.runs.push(run);
    }

    /// Releases a run. The store may still assign the turn to this worker.
    fn release(&self, world: &mut World, run: &Run) {
        if run.registered && self.guards.uncertain {
            world.worker_mut(run.lease.worker_id.worker).uncertain = true;
        }
    }

    /// Registers a turn that the store assigned to this process and starts its run, unless a newer
    /// lease of the turn is registered or the process no longer owns it.
    pub fn register(&self, world: &mut World, owned: OwnedTurn) {
        let id = owned.lease.worker_id.worker;
        let mine = |run: &&mut Run| {
            run.registered && run.lease.worker_id.worker == id && run.lease.turn == owned.lease.turn
        };
        if let Some(registered) = world.runs.iter_mut().find(mine) {
            if registered.lease.epoch >= owned.lease.epoch {
                return;
            }
            (registered.registered, registered.stop) = (false, Stop::Release);
        }
        let OwnedTurn {
            lease,
            attempt,
            cancel,
        } = owned;
        let stop = if cancel { Stop::Cancel } else { Stop::Not };
        let (worker, turn) = (world.worker(id), world.turn(lease.turn));
        let expired = turn.expired && self.guards.deadline;
        let run = Run {
            lease,
            attempt,
            registered: true,
            stop,
            expired,
            recorded: false,
            calls: Vec::new(),
            state: RunState::Working,
        };
        if worker.id == lease.worker_id && worker.state == WorkerState::Running {
            // All writes under an older lease are rejected.
            let is_over = matches!(turn.status, Status::Ended(_))
                && turn.holder == Some(lease.worker_id)
                && turn.epoch == lease.epoch;
            world.violations.run_after_end |= is_over;
            world.runs.push(run);
        } else {
            self.release(world, &run);
        }
    }
}
