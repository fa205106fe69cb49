//! Invariants, reachable states, and the proof of termination.

use stateright::Property;

use super::Protocol;
use super::world::{
    Body, Call, Claim, Client, Outcome, RunState, Stage, Status, Stop, ToolOutcome, Worker,
    WorkerState, World,
};

type Check = fn(&Protocol, &World) -> bool;

pub const ONE_RUNNING_TURN: &str = "at most one turn runs";
pub const IN_ORDER: &str = "turns are in the log one after another, in order of arrival";
pub const CURRENT_WRITES: &str = "only the current epoch writes";
pub const ENDS_ONCE: &str = "an ended turn does not change";
pub const STORED_BEFORE_SENT: &str = "a call is stored before it is sent";
pub const SENT_ONCE: &str = "a call that is not repeatable is sent at most once";
pub const SENT_UNDER_LEASE: &str =
    "a call is sent under the current epoch, unless its process was frozen or its clock is wrong";
pub const NOT_RUN: &str = "a call recorded as not run was never sent";
pub const ONE_RESULT: &str = "a call has at most one result, after it and in its turn";
pub const ALL_RESULTS: &str = "each call of an ended turn has a result";
pub const MESSAGE_ONCE: &str = "an acknowledged message is stored, and no message twice";
pub const ITEM_ONCE: &str = "an item is stored once";
pub const LEASE_ONCE: &str = "a lease has one run at a time, and none after its turn has ended";
pub const STARTS_BOUNDED: &str = "attempts and faults bound how often a turn starts";
pub const TIME_BOUNDED: &str = "no answer is stored after a turn's time limit";
pub const NO_DEADLOCK: &str = "there is a next step until every turn has ended";
pub const PROGRESS: &str = "each step of the protocol is progress";

const INVARIANTS: &[(&str, Check)] = &[
    (ONE_RUNNING_TURN, |_, world| {
        world
            .turns
            .iter()
            .filter(|turn| turn.status == Status::Running)
            .count()
            <= 1
    }),
    (IN_ORDER, |_, world| {
        let begins = world
            .log
            .iter()
            .filter(|item| item.body == Body::User)
            .map(|item| item.turn);
        world.log.is_sorted_by_key(|item| item.turn)
            && begins.eq(0..world.log.last().map_or(0, |item| item.turn + 1))
    }),
    (CURRENT_WRITES, |_, world| {
        !world.violations.written_without_lease
    }),
    (ENDS_ONCE, |_, world| !world.violations.changed_after_end),
    (STORED_BEFORE_SENT, |_, world| {
        !world.violations.sent_before_stored
    }),
    (SENT_ONCE, |protocol, world| {
        world.sent.iter().all(|(call, times)| {
            *times <= 1 || protocol.tools_of(world, call.turn)[usize::from(call.tool)].repeatable
        })
    }),
    (SENT_UNDER_LEASE, |_, world| {
        !world.violations.sent_without_lease
    }),
    (NOT_RUN, |_, world| {
        results(world)
            .all(|(_, call, outcome)| outcome != ToolOutcome::NotRun || world.times_sent(call) == 0)
    }),
    (ONE_RESULT, |_, world| {
        results(world).all(|(at, call, _)| {
            let called = world.log[..at]
                .iter()
                .any(|item| item.body == Body::Call(call) && item.turn == world.log[at].turn);
            called && results(world).filter(|(_, of, _)| *of == call).count() == 1
        })
    }),
    (ALL_RESULTS, |_, world| {
        world.log.iter().all(|item| match item.body {
            Body::Call(call) if world.turn(item.turn).status != Status::Running => {
                results(world).any(|(_, of, _)| of == call)
            }
            _ => true,
        })
    }),
    (MESSAGE_ONCE, |_, world| {
        (0..).zip(&world.clients).all(|(message, client)| {
            let stored = world
                .turns
                .iter()
                .filter(|turn| turn.message == message)
                .count();
            stored == 1 || stored == 0 && *client != Client::Acknowledged
        })
    }),
    (ITEM_ONCE, |_, world| {
        world
            .log
            .iter()
            .enumerate()
            .all(|(at, item)| !world.log[..at].iter().any(|other| other.is_known_as(item)))
    }),
    (LEASE_ONCE, |_, world| {
        !world.violations.run_after_end
            && world
                .runs
                .windows(2)
                .all(|pair| pair[0].lease != pair[1].lease)
    }),
    (STARTS_BOUNDED, |protocol, world| {
        let faults = protocol.faults.count() - world.faults.count();
        world
            .turns
            .iter()
            .all(|turn| turn.epoch <= protocol.attempts + 1 + faults)
    }),
    (TIME_BOUNDED, |_, world| {
        !world.violations.answered_after_deadline
    }),
    (NO_DEADLOCK, |protocol, world| {
        let mut actions = Vec::new();
        protocol.possible_actions(world, &mut actions);
        actions.iter().any(|action| !action.is_fault()) || world.is_done()
    }),
    (PROGRESS, |_, world| !world.violations.no_progress),
];

const REACHABLE: &[(&str, Check)] = &[
    ("everything is done", |_, world| world.is_done()),
    ("a claimed turn is completed", |_, world| {
        world
            .turns
            .iter()
            .any(|turn| turn.attempt > 1 && turn.status == Status::Ended(Outcome::Completed))
    }),
    ("a result is unknown", |_, world| {
        results(world).any(|(_, _, outcome)| outcome == ToolOutcome::Unknown)
    }),
    ("a repeatable call is sent again", |_, world| {
        world.sent.iter().any(|(_, times)| *times > 1)
    }),
    ("a running turn is cancelled", |_, world| {
        world
            .turns
            .iter()
            .any(|turn| turn.epoch > 0 && turn.status == Status::Ended(Outcome::Cancelled))
    }),
    ("a queued turn is cancelled", |_, world| {
        world
            .turns
            .iter()
            .any(|turn| turn.epoch == 0 && turn.status == Status::Ended(Outcome::Cancelled))
    }),
    ("a call is recorded as not run", |_, world| {
        results(world).any(|(_, _, outcome)| outcome == ToolOutcome::NotRun)
    }),
    ("a stale write is rejected", |_, world| {
        world
            .runs
            .iter()
            .any(|run| run.state == RunState::LeaseLost)
    }),
    ("a turn has too many attempts", |_, world| {
        world
            .turns
            .iter()
            .any(|turn| turn.status == Status::Ended(Outcome::Failed))
    }),
    ("the store rejects a write permanently", |_, world| {
        world.runs.iter().any(|run| run.state == RunState::Failing)
    }),
    ("a turn after its time limit is claimed", |_, world| {
        world
            .runs
            .iter()
            .any(|run| run.expired && run.lease.epoch > 1)
    }),
    (
        "a deregistered worker registers under a new id",
        |_, world| {
            world
                .workers
                .iter()
                .any(|worker| worker.id.generation > 0 && worker.known)
        },
    ),
    ("a handed over attempt does not count", |_, world| {
        world.turns.iter().any(|turn| {
            turn.epoch == 2 && turn.attempt == 1 && turn.status == Status::Ended(Outcome::Completed)
        })
    }),
    (
        "a worker claims a turn that it owns without knowing",
        |_, world| {
            let from_itself = |worker: &Worker| match &worker.claim {
                Claim::Requested(worker_id, holding) => {
                    (0..).zip(&world.turns).any(|(id, turn)| {
                        turn.status == Status::Running
                            && turn.holder == Some(*worker_id)
                            && !holding.contains(&id)
                    })
                }
                _ => false,
            };
            world.workers.iter().any(from_itself)
        },
    ),
    (
        "an uncertain worker claims a turn that it runs itself",
        |_, world| {
            world.runs.iter().any(|run| {
                let turn = world.turn(run.lease.turn);
                run.registered
                    && turn.status == Status::Running
                    && turn.holder == Some(run.lease.worker_id)
                    && turn.epoch > run.lease.epoch
            })
        },
    ),
    (
        "a frozen process is about to send a call of a lost turn",
        |_, world| {
            let is_checked = |stage: &Stage| matches!(stage, Stage::LeaseChecked(_));
            world.runs.iter().any(|run| {
                run.calls.iter().any(|(_, stage)| is_checked(stage)) && !world.is_current(run.lease)
            })
        },
    ),
];

/// Returns the results in the log, with their positions.
fn results(world: &World) -> impl Iterator<Item = (usize, Call, ToolOutcome)> {
    world
        .log
        .iter()
        .enumerate()
        .filter_map(|(at, item)| match item.body {
            Body::Result(call, outcome) => Some((at, call, outcome)),
            _ => None,
        })
}

pub fn all() -> Vec<Property<Protocol>> {
    let always = INVARIANTS
        .iter()
        .map(|(name, check)| Property::always(name, *check));
    always
        .chain(
            REACHABLE
                .iter()
                .map(|(name, check)| Property::sometimes(name, *check)),
        )
        .collect()
}

impl World {
    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.clients
            .iter()
            .all(|client| *client == Client::Acknowledged)
            && self
                .turns
                .iter()
                .all(|turn| matches!(turn.status, Status::Ended(_)))
            && self.runs.is_empty()
            && self.delayed_begin.is_none()
            && self
                .workers
                .iter()
                .all(|worker| worker.claim == Claim::None)
    }

    /// A measure of progress, compared lexicographically. Each step that is not a fault increases
    /// it, and it is bounded, so no behaviour with finitely many faults is infinite.
    pub fn progress(&self) -> [i32; 9] {
        let sum = |all: &mut dyn Iterator<Item = i32>| all.sum::<i32>();
        let turns = sum(&mut self.turns.iter().map(|turn| {
            let status = match turn.status {
                Status::Queued => 1,
                Status::Running => 2,
                Status::Ended(_) => 3,
            };
            status + i32::from(turn.epoch)
        }));
        let clients = sum(&mut self.clients.iter().map(|client| match client {
            Client::Idle | Client::Unanswered => 0,
            Client::Waiting(..) => 1,
            Client::Acknowledged => 2,
        }));
        let names = sum(&mut self
            .workers
            .iter()
            .map(|worker| i32::from(worker.id.generation)));
        let left = sum(&mut self
            .workers
            .iter()
            .map(|worker| i32::from(worker.state >= WorkerState::Deregistered)));
        // A turn that is on its way to a process weighs more than one that has arrived, because its
        // arrival is progress.
        let granted = sum(&mut self.workers.iter().map(|worker| match &worker.claim {
            Claim::Granted(owned) => 4 * owned.len() as i32,
            _ => 0,
        }));
        let runs = sum(&mut self.runs.iter().map(|run| match run.state {
            RunState::Repeating(_) => 5,
            RunState::Ended(_) => 4,
            RunState::Working => 3,
            RunState::Failing => 2,
            RunState::LeaseLost => 1,
        }));
        let steady = sum(&mut self.workers.iter().map(|worker| {
            i32::from(worker.known) + i32::from(!worker.lapsed) + i32::from(worker.safe)
        }));
        let stages = sum(&mut self.runs.iter().map(|run| {
            let calls: i32 = run
                .calls
                .iter()
                .map(|(_, stage)| if *stage == Stage::Sent { 2 } else { 1 })
                .sum();
            calls + i32::from(run.stop != Stop::Not)
        }));
        let doubts = sum(&mut self.workers.iter().map(|worker| {
            i32::from(matches!(worker.claim, Claim::Requested(..)))
                + 2 * i32::from(worker.uncertain)
        }));
        [
            turns,
            self.log.len() as i32,
            clients,
            names + i32::from(self.delayed_begin.is_none()),
            left,
            -(granted + runs),
            steady,
            stages,
            -doubts,
        ]
    }
}

impl Protocol {
    /// Records a step without progress.
    pub fn record_progress(before: &World, apply: &mut World) {
        apply.violations.no_progress |= apply.progress() <= before.progress();
    }
}
