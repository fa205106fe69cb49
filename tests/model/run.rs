//! What one attempt at a turn does: `turns/run.rs`, step by step.

use super::store::Refusal;
use super::world::{
    Body, Call, Doing, Held, Life, Outcome, Run, Stage, Status, Stop, ToolOutcome, World, Write,
};
use super::{Answer, Protocol};

/// A step of a run. Between two steps anything else may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Writes what comes next: the agent's answer, what cannot be known any more, the end.
    Write(Answer),
    /// Records what a tool answered.
    Result(Call, Answer),
    /// Looks at the lease before it sends a call.
    Look(Call),
    /// Sends a call to its tool.
    Send(Call),
    /// Makes a write again that was not answered.
    Repeat,
    /// Gives a write up, because the store stays away.
    GiveUp,
    /// Hears that the turn has ended, and goes on with the next.
    HearEnd,
    /// Lets go of the turn.
    Drop,
}

impl Step {
    pub fn is_fault(self) -> bool {
        matches!(
            self,
            Self::Write(Answer::Lost) | Self::Result(_, Answer::Lost) | Self::GiveUp
        )
    }
}

impl Protocol {
    fn is_repeatable(&self, world: &World, call: Call) -> bool {
        self.tools_of(world, call.turn)[usize::from(call.tool)].repeatable
    }

    /// The calls that a run has to bring to a result.
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
        if !self.guards.stored_first && self.steps_done(world, run) == 0 {
            pending.extend(self.fresh_calls(world, run));
        }
        pending
    }

    fn fresh_calls(&self, world: &World, run: &Run) -> impl Iterator<Item = Call> + use<> {
        let (turn, epoch) = (run.lease.turn, run.lease.epoch);
        (0..self.tools_of(world, turn).len() as u8).map(move |tool| Call { turn, epoch, tool })
    }

    fn steps_done(&self, world: &World, run: &Run) -> u8 {
        world
            .known(run.lease)
            .filter(|body| matches!(body, Body::Said(_)))
            .count() as u8
    }

    fn unknown(calls: impl IntoIterator<Item = Call>) -> Vec<Body> {
        calls
            .into_iter()
            .map(|call| Body::Result(call, ToolOutcome::Unknown))
            .collect()
    }

    /// The write that comes next, unless tools are waited for.
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
        if run.doing == Doing::Failing {
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
        let fresh: Vec<_> = self.fresh_calls(world, run).collect();
        let ran_early = !self.guards.stored_first && steps == 0 && !pending.is_empty();
        if ran_early && fresh.iter().any(|call| stage(*call).is_none()) {
            return None;
        }
        if pending.is_empty() || ran_early {
            // The agent answers: first it asks for the turn's tools, if it has any, then it is
            // done.
            let asks = steps == 0 && !fresh.is_empty();
            let calls = fresh.into_iter().filter(|_| asks).map(Body::Call);
            let items = [Body::Said(steps)].into_iter().chain(calls).collect();
            return Some(Write {
                items,
                end: (!asks).then_some(Outcome::Completed),
            });
        }
        // Calls that another attempt recorded may have run.
        let lost = pending.into_iter().filter(|call| {
            !run.recorded && self.guards.unknown && !self.is_repeatable(world, *call)
        });
        let items = Self::unknown(lost);
        (!items.is_empty()).then_some(Write { items, end: None })
    }

    /// The steps that a run may take now, faults among them.
    pub fn steps(&self, world: &World, run: &Run) -> Vec<Step> {
        let losses = world.faults.losses > 0;
        let answers = || {
            [Answer::Heard]
                .into_iter()
                .chain(losses.then_some(Answer::Lost))
        };
        match run.doing {
            Doing::Refused => return vec![Step::Drop],
            Doing::Ended(_) => return vec![Step::HearEnd],
            Doing::Repeating(_) if run.stop == Stop::Release => {
                return vec![Step::Repeat, Step::Drop];
            }
            Doing::Repeating(_) => return vec![Step::Repeat, Step::GiveUp],
            Doing::Working | Doing::Failing => {}
        }
        if self.guards.order && world.is_overtaking(run) {
            return Vec::new();
        }
        // Nothing comes between the look and the sending but a frozen process.
        if let Some((call, _)) = run
            .calls
            .iter()
            .find(|(_, stage)| matches!(stage, Stage::Looked(_)))
        {
            return vec![Step::Send(*call)];
        }
        if run.stop == Stop::Release && run.attempt <= self.attempts {
            return vec![Step::Drop];
        }
        let mut steps = Vec::new();
        if self.next_write(world, run).is_some() {
            steps.extend(answers().map(Step::Write));
        } else {
            let may_send = world.worker(run.lease.name.worker).safe || !self.guards.look;
            for call in self.pending(world, run) {
                match run.calls.iter().find(|(of, _)| *of == call) {
                    None if may_send => steps.push(Step::Look(call)),
                    None => {}
                    Some(_) => steps.extend(answers().map(|answer| Step::Result(call, answer))),
                }
            }
        }
        steps.extend(losses.then_some(Step::GiveUp));
        steps
    }

    /// Takes a step of the run at `at`.
    pub fn step(&self, world: &mut World, at: usize, step: Step) {
        let run = world.runs.remove(at);
        match step {
            Step::Write(answer) => {
                if let Some(write) = self.next_write(world, &run) {
                    self.write(world, run, write, answer);
                }
            }
            Step::Result(call, answer) => {
                let items = vec![Body::Result(call, ToolOutcome::Answered)];
                self.write(world, run, Write { items, end: None }, answer);
            }
            Step::Repeat => {
                if let Doing::Repeating(write) = run.doing.clone() {
                    self.write(world, run, write, Answer::Heard);
                }
            }
            Step::Look(call) => {
                let worker = world.worker(run.lease.name.worker);
                let is_mere_belief = worker.safe && (worker.lapsed || !worker.known);
                let mut run = run;
                run.calls.push((call, Stage::Looked(is_mere_belief)));
                run.calls.sort_unstable();
                world.runs.push(run);
            }
            Step::Send(call) => Self::send(world, run, call),
            Step::GiveUp => {
                world.faults.losses -= u8::from(run.doing == Doing::Working);
                self.let_go(world, &run);
            }
            Step::Drop => self.let_go(world, &run),
            Step::HearEnd => {
                if let Doing::Ended(Some(next)) = run.doing {
                    self.seat(world, next);
                }
            }
        }
    }

    fn write(&self, world: &mut World, mut run: Run, write: Write, answer: Answer) {
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
        run.doing = match (answer, done, write.end) {
            (Answer::Lost, ..) => {
                world.faults.losses -= 1;
                Doing::Repeating(write)
            }
            (_, Err(Refusal::LeaseLost), _) => Doing::Refused,
            (_, Err(Refusal::Permanent), _) if self.guards.ends_on_refusal => Doing::Failing,
            (_, Err(Refusal::Permanent), _) => return self.let_go(world, &run),
            (_, Ok(next), Some(_)) => Doing::Ended(next),
            (_, Ok(_), None) => Doing::Working,
        };
        world.runs.push(run);
    }

    fn send(world: &mut World, mut run: Run, call: Call) {
        let stored = world.log.iter().any(|item| item.body == Body::Call(call));
        world.broken.sent_before_stored |= !stored;
        let is_excused = run.calls.contains(&(call, Stage::Looked(true)));
        world.broken.sent_without_lease |= !world.is_current(run.lease) && !is_excused;
        world.note_sent(call);
        run.calls
            .iter_mut()
            .filter(|(of, _)| *of == call)
            .for_each(|(_, stage)| *stage = Stage::Sent);
        world.runs.push(run);
    }

    /// `Run::drop`: what is released before its end may still be in the store under our name.
    fn let_go(&self, world: &mut World, run: &Run) {
        if run.seated && self.guards.doubt {
            world.worker_mut(run.lease.name.worker).doubt = true;
        }
    }

    /// `ChatService::seat`: a turn that the store has given to this process runs, unless a newer
    /// lease has the seat or it is not ours any more.
    pub fn seat(&self, world: &mut World, held: Held) {
        let id = held.lease.name.worker;
        let mine = |run: &&mut Run| {
            run.seated && run.lease.name.worker == id && run.lease.turn == held.lease.turn
        };
        if let Some(seated) = world.runs.iter_mut().find(mine) {
            if seated.lease.epoch >= held.lease.epoch {
                return;
            }
            (seated.seated, seated.stop) = (false, Stop::Release);
        }
        let Held {
            lease,
            attempt,
            cancel,
        } = held;
        let stop = if cancel { Stop::Cancel } else { Stop::Not };
        let (worker, turn) = (world.worker(id), world.turn(lease.turn));
        let expired = turn.expired && self.guards.deadline;
        let run = Run {
            lease,
            attempt,
            seated: true,
            stop,
            expired,
            recorded: false,
            calls: Vec::new(),
            doing: Doing::Working,
        };
        if worker.name == lease.name && worker.life == Life::Up {
            // Under an older lease it would be refused all it writes.
            let is_over = matches!(turn.status, Status::Ended(_))
                && turn.holder == Some(lease.name)
                && turn.epoch == lease.epoch;
            world.broken.run_after_end |= is_over;
            world.runs.push(run);
        } else {
            self.let_go(world, &run);
        }
    }
}
