//! What must always be so, what must be possible, and why everything comes to an end.

use stateright::Property;

use super::Protocol;
use super::world::{
    Body, Call, Claim, Client, Doing, Life, Outcome, Stage, Status, Stop, ToolOutcome, Worker,
    World,
};

type Check = fn(&Protocol, &World) -> bool;

pub const ONE_RUNS: &str = "at most one turn runs";
pub const IN_ORDER: &str = "turns follow one another in the log, in the order of their arrival";
pub const CURRENT_WRITES: &str = "only the current epoch writes";
pub const ENDS_ONCE: &str = "a turn that has ended does not change";
pub const STORED_FIRST: &str = "a call is stored before it is sent";
pub const SENT_ONCE: &str = "a call that cannot be repeated is sent at most once";
pub const SENT_UNDER_LEASE: &str =
    "a call is sent under the current epoch, unless its process was frozen or its clock is wrong";
pub const NOT_RUN: &str = "a call that is recorded as not run was never sent";
pub const ONE_RESULT: &str = "a call has at most one result, after it, in its turn";
pub const ALL_RESULTS: &str = "each call of a turn that has ended has a result";
pub const MESSAGE_ONCE: &str = "an acknowledged message is stored once, and none twice";
pub const ITEM_ONCE: &str = "an item is stored once";
pub const LEASE_ONCE: &str = "a lease is not run twice at once, nor after its turn has ended";
pub const STARTS_BOUNDED: &str =
    "a turn starts no more often than its attempts and the faults allow";
pub const TIME_BOUNDED: &str = "nothing is said in a turn that has run as long as it may";
pub const NO_DEAD_END: &str = "somebody can go on until every turn has ended";
pub const NEARER: &str = "each step of the protocol brings the end nearer";

const ALWAYS: &[(&str, Check)] = &[
    (ONE_RUNS, |_, world| {
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
        !world.broken.written_without_lease
    }),
    (ENDS_ONCE, |_, world| !world.broken.changed_after_end),
    (STORED_FIRST, |_, world| !world.broken.sent_before_stored),
    (SENT_ONCE, |protocol, world| {
        world.sent.iter().all(|(call, times)| {
            *times <= 1 || protocol.tools_of(world, call.turn)[usize::from(call.tool)].repeatable
        })
    }),
    (SENT_UNDER_LEASE, |_, world| {
        !world.broken.sent_without_lease
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
        !world.broken.run_after_end
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
    (TIME_BOUNDED, |_, world| !world.broken.said_after_time),
    (NO_DEAD_END, |protocol, world| {
        let mut actions = Vec::new();
        protocol.possible(world, &mut actions);
        actions.iter().any(|action| !action.is_fault()) || world.is_done()
    }),
    (NEARER, |_, world| !world.broken.no_nearer_to_the_end),
];

const SOMETIMES: &[(&str, Check)] = &[
    ("all is done", |_, world| world.is_done()),
    ("a turn that was taken over is completed", |_, world| {
        world
            .turns
            .iter()
            .any(|turn| turn.attempt > 1 && turn.status == Status::Ended(Outcome::Completed))
    }),
    ("a result is unknown", |_, world| {
        results(world).any(|(_, _, outcome)| outcome == ToolOutcome::Unknown)
    }),
    ("a call that can be repeated is sent again", |_, world| {
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
    ("a stale write is refused", |_, world| {
        world.runs.iter().any(|run| run.doing == Doing::Refused)
    }),
    ("a turn has too many attempts", |_, world| {
        world
            .turns
            .iter()
            .any(|turn| turn.status == Status::Ended(Outcome::Failed))
    }),
    ("the store refuses a write for good", |_, world| {
        world.runs.iter().any(|run| run.doing == Doing::Failing)
    }),
    (
        "a turn that has run as long as it may is taken over",
        |_, world| {
            world
                .runs
                .iter()
                .any(|run| run.expired && run.lease.epoch > 1)
        },
    ),
    (
        "a forgotten worker goes on under another name",
        |_, world| {
            world
                .workers
                .iter()
                .any(|worker| worker.name.life > 0 && worker.known)
        },
    ),
    (
        "an attempt that was handed over does not count",
        |_, world| {
            world.turns.iter().any(|turn| {
                turn.epoch == 2
                    && turn.attempt == 1
                    && turn.status == Status::Ended(Outcome::Completed)
            })
        },
    ),
    (
        "a worker takes back a turn that it does not know of",
        |_, world| {
            let from_itself = |worker: &Worker| match &worker.claim {
                Claim::Asked(name, holding) => (0..).zip(&world.turns).any(|(id, turn)| {
                    turn.status == Status::Running
                        && turn.holder == Some(*name)
                        && !holding.contains(&id)
                }),
                _ => false,
            };
            world.workers.iter().any(from_itself)
        },
    ),
    (
        "a worker in doubt takes a turn from itself that it runs",
        |_, world| {
            world.runs.iter().any(|run| {
                let turn = world.turn(run.lease.turn);
                run.seated
                    && turn.status == Status::Running
                    && turn.holder == Some(run.lease.name)
                    && turn.epoch > run.lease.epoch
            })
        },
    ),
    (
        "a frozen process is about to send a call of a turn that it has lost",
        |_, world| {
            let looked = |stage: &Stage| matches!(stage, Stage::Looked(_));
            world.runs.iter().any(|run| {
                run.calls.iter().any(|(_, stage)| looked(stage)) && !world.is_current(run.lease)
            })
        },
    ),
];

/// The results in the log, with their positions.
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
    let always = ALWAYS
        .iter()
        .map(|(name, check)| Property::always(name, *check));
    always
        .chain(
            SOMETIMES
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
            && self.late.is_none()
            && self
                .workers
                .iter()
                .all(|worker| worker.claim == Claim::None)
    }

    /// How near the end is: greater is nearer, what comes first counts first. Each step of the
    /// protocol that is not a fault makes it greater, and it is bounded; so no behaviour with a
    /// bounded number of faults goes on forever.
    pub fn nearness(&self) -> [i32; 9] {
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
            Client::Quiet | Client::Unanswered => 0,
            Client::Waiting(..) => 1,
            Client::Acknowledged => 2,
        }));
        let names = sum(&mut self
            .workers
            .iter()
            .map(|worker| i32::from(worker.name.life)));
        let left = sum(&mut self
            .workers
            .iter()
            .map(|worker| i32::from(worker.life >= Life::Left)));
        // A turn that is on its way to a process weighs more than one that has come there, for it
        // comes nearer its end by that.
        let granted = sum(&mut self.workers.iter().map(|worker| match &worker.claim {
            Claim::Granted(held) => 4 * held.len() as i32,
            _ => 0,
        }));
        let runs = sum(&mut self.runs.iter().map(|run| match run.doing {
            Doing::Repeating(_) => 5,
            Doing::Ended(_) => 4,
            Doing::Working => 3,
            Doing::Failing => 2,
            Doing::Refused => 1,
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
            i32::from(matches!(worker.claim, Claim::Asked(..))) + 2 * i32::from(worker.doubt)
        }));
        [
            turns,
            self.log.len() as i32,
            clients,
            names + i32::from(self.late.is_none()),
            left,
            -(granted + runs),
            steady,
            stages,
            -doubts,
        ]
    }
}

impl Protocol {
    /// Notes a step that brings the end no nearer.
    pub fn note_progress(before: &World, after: &mut World) {
        after.broken.no_nearer_to_the_end |= after.nearness() <= before.nearness();
    }
}
