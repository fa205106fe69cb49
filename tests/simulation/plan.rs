//! The plan of a world: every operation of a client and every fault, with its time. It is drawn
//! from the options before the world begins, and shrinks by leaving things out.

use std::fmt;
use std::time::Duration;

use crate::options::{FaultKind, OperationKind, Options};
use crate::random::{Random, chance, choose, millis, stream, weighted};

/// A method of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    List,
    Get,
    Rename,
    Delete,
    Histories,
    Turn,
    ToolCalls,
    Cancel,
    ReleaseKey,
    Begin,
    Append,
    End,
    ForceEnd,
    Register,
    Heartbeat,
    Claim,
    Deregister,
    Versions,
    Ping,
}

impl Call {
    /// Whether it changes the store.
    pub fn writes(self) -> bool {
        !matches!(
            self,
            Self::List
                | Self::Get
                | Self::Histories
                | Self::Turn
                | Self::ToolCalls
                | Self::Versions
                | Self::Ping
        )
    }
}

/// The calls that a planned fault hits.
const HIT: &[Call] = &[
    Call::Begin,
    Call::Begin,
    Call::Append,
    Call::Append,
    Call::Append,
    Call::End,
    Call::End,
    Call::End,
    Call::Histories,
    Call::ForceEnd,
    Call::Register,
    Call::Heartbeat,
    Call::Claim,
    Call::Claim,
    Call::Deregister,
    Call::Cancel,
    Call::Turn,
];

/// The calls that the store may refuse permanently.
const REFUSED: &[Call] = &[
    Call::Append,
    Call::End,
    Call::Histories,
    Call::Heartbeat,
    Call::Begin,
];

/// The fault of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is done, and the answer is lost.
    LoseAnswer,
    /// It is not done, and the caller cannot tell.
    LoseRequest,
    /// It is done or not, and the answer does not come within the limit.
    Hang { is_done: bool },
    /// It is done, the answer is lost, and the next of its kind fails permanently.
    LoseAnswerThenRefuse,
    /// It fails permanently.
    Refuse,
    /// It fails permanently, and so does the next end of a turn.
    RefuseWithEnd,
    /// It takes long, before it is done.
    Delay(Duration),
    /// It takes long, after it is done.
    DelayAnswer(Duration),
    /// The worker dies before it is done.
    CrashBefore,
    /// The worker dies after it is done.
    CrashAfter,
    /// The worker freezes before it is done.
    FreezeBefore(Duration),
    /// The worker freezes after it is done.
    FreezeAfter(Duration),
}

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Crash(usize),
    Freeze(usize),
    Stop(usize),
    CutOff(usize),
    BadLink(usize),
    WorkerClock(usize, i64),
    Outage {
        hangs: bool,
    },
    ReadOnly,
    Full,
    Slow(u64),
    Flaky(u32),
    StoreClock(i64),
    Forget,
    /// The n-th call of this kind from now on, by any worker.
    AtCall(Call, u32, Effect),
    Refuse(Call),
    /// The n-th turn from now on that the store begins.
    Poison(u32),
    Value,
    Drop(u32),
    AgentAway,
    ToolsAway,
}

/// A fault with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedFault {
    pub at: Duration,
    pub lasts: Duration,
    pub fault: Fault,
}

/// An operation of a client with its time. Its details are drawn from `choice` when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedOperation {
    pub number: u64,
    pub at: Duration,
    pub user: usize,
    pub kind: OperationKind,
    pub choice: u64,
}

/// Everything that will be done to a world.
#[derive(Clone, Debug)]
pub struct Plan {
    pub options: Options,
    pub operations: Vec<PlannedOperation>,
    pub faults: Vec<PlannedFault>,
}

impl Plan {
    /// Draws the plan of a world.
    pub fn draw(options: Options) -> Self {
        let operations = operations(&options);
        let end = operations.last().map_or(Duration::ZERO, |last| last.at);
        let random = &mut stream(options.seed, &[3]);
        let mut faults: Vec<_> = (0..options.faults)
            .map(|_| planned_fault(random, &options, end))
            .collect();
        faults.sort_by_key(|planned| planned.at);
        Self {
            options,
            operations,
            faults,
        }
    }

    /// When the world heals: all operations have begun, and all faults have had their time.
    pub fn heals_at(&self) -> Duration {
        let faults = self.faults.iter().map(|fault| fault.at + fault.lasts);
        let operations = self.operations.iter().map(|operation| operation.at);
        let last = faults.chain(operations).max().unwrap_or_default();
        last + Duration::from_millis(500)
    }
}

fn operations(options: &Options) -> Vec<PlannedOperation> {
    let random = &mut stream(options.seed, &[2]);
    let mut at = Duration::ZERO;
    let numbers = 0..u64::try_from(options.operations).unwrap_or(0);
    let mut planned: Vec<_> = numbers
        .map(|number| {
            if !chance(random, 30) {
                at += millis(random, 0..=options.pause);
            }
            PlannedOperation {
                number,
                at,
                user: random.usize(..options.users),
                kind: weighted(random, &options.operation_kinds, OperationKind::Send),
                choice: random.u64(..),
            }
        })
        .collect();
    if let Some(first) = planned.first_mut() {
        first.kind = OperationKind::Send;
    }
    planned
}

fn planned_fault(random: &mut Random, options: &Options, end: Duration) -> PlannedFault {
    let lease = u64::try_from(options.limits.lease.as_millis()).unwrap_or(u64::MAX);
    let end = u64::try_from(end.as_millis()).unwrap_or(u64::MAX) + 1_000;
    let kind = weighted(random, &options.fault_kinds, FaultKind::Crash);
    let lasts = match random.u32(..3) {
        0 => millis(random, 50..=1_000),
        1 => millis(random, lease / 4..=lease),
        _ => millis(random, lease..=2 * lease),
    };
    let worker = random.usize(..options.workers);
    let jump = |random: &mut Random, most: u64| {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        random.i64(-most..=most)
    };
    let fault = match kind {
        FaultKind::Crash => Fault::Crash(worker),
        FaultKind::Freeze => Fault::Freeze(worker),
        FaultKind::Stop => Fault::Stop(worker),
        FaultKind::CutOff => Fault::CutOff(worker),
        FaultKind::BadLink => Fault::BadLink(worker),
        FaultKind::WorkerClock => Fault::WorkerClock(worker, jump(random, 100_000)),
        FaultKind::Outage => Fault::Outage {
            hangs: random.bool(),
        },
        FaultKind::ReadOnly => Fault::ReadOnly,
        FaultKind::Full => Fault::Full,
        FaultKind::Slow => Fault::Slow(random.u64(100..=4_000)),
        FaultKind::Flaky => Fault::Flaky(random.u32(5..=60)),
        FaultKind::StoreClock => Fault::StoreClock(jump(random, 2 * lease)),
        FaultKind::Forget => Fault::Forget,
        FaultKind::AtCall => {
            let call = choose(random, HIT).copied().unwrap_or(Call::End);
            Fault::AtCall(call, random.u32(..6), effect(random, lease))
        }
        FaultKind::Refuse => Fault::Refuse(choose(random, REFUSED).copied().unwrap_or(Call::End)),
        FaultKind::Poison => Fault::Poison(random.u32(..4)),
        FaultKind::Value => Fault::Value,
        FaultKind::Drop => Fault::Drop(random.u32(10..=80)),
        FaultKind::AgentAway => Fault::AgentAway,
        FaultKind::ToolsAway => Fault::ToolsAway,
    };
    PlannedFault {
        at: millis(random, 0..=end),
        lasts,
        fault,
    }
}

fn effect(random: &mut Random, lease: u64) -> Effect {
    match random.u32(..12) {
        0 => Effect::LoseAnswer,
        1 => Effect::LoseAnswerThenRefuse,
        10 => Effect::RefuseWithEnd,
        2 => Effect::LoseRequest,
        3 => Effect::Hang {
            is_done: random.bool(),
        },
        4 => Effect::Refuse,
        5 => Effect::Delay(millis(random, 100..=4_000)),
        6 => Effect::DelayAnswer(millis(random, 100..=4_000)),
        7 => Effect::CrashBefore,
        8 => Effect::CrashAfter,
        _ => {
            let pause = millis(random, lease / 2..=2 * lease);
            if random.bool() {
                Effect::FreezeBefore(pause)
            } else {
                Effect::FreezeAfter(pause)
            }
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.options)?;
        for operation in &self.operations {
            writeln!(
                f,
                "  {:>9.3} operation {} of user {}: {}",
                operation.at.as_secs_f64(),
                operation.number,
                operation.user,
                operation.kind.name()
            )?;
        }
        for planned in &self.faults {
            writeln!(
                f,
                "  {:>9.3} fault for {:.3} s: {:?}",
                planned.at.as_secs_f64(),
                planned.lasts.as_secs_f64(),
                planned.fault
            )?;
        }
        Ok(())
    }
}
