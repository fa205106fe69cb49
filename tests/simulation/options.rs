//! The options that a seed draws: the size of the world, and what may happen in it.

use std::fmt;
use std::time::Duration;

use chat_domain::TurnLimits;

use crate::random::{Random, chance, choose, stream};

/// An enum of things that can be switched on, with their names on the command line.
macro_rules! switches {
    (
        $(#[$doc:meta])*
        $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

switches! {
    /// The kinds of faults.
    FaultKind {
        /// A worker's process dies, and starts again after a while.
        Crash = "crash",
        /// A worker's process stops for a while, as after SIGSTOP.
        Freeze = "freeze",
        /// A worker stops gracefully, and starts again after a while.
        Stop = "stop",
        /// A worker does not reach the store.
        CutOff = "cut-off",
        /// A worker's link to the store is bad: most heartbeats are lost, and all answers are slow.
        BadLink = "bad-link",
        /// A worker's wall clock jumps.
        WorkerClock = "worker-clock",
        /// Nobody reaches the store.
        Outage = "outage",
        /// The store can only be read.
        ReadOnly = "read-only",
        /// The store's disk is full.
        Full = "full",
        /// The store is slow.
        Slow = "slow",
        /// The store fails now and then, before or after it has done what it was asked.
        Flaky = "flaky",
        /// The store's own clock jumps.
        StoreClock = "store-clock",
        /// The store deletes the rows of all workers.
        Forget = "forget",
        /// One call of the store loses its answer, hangs, fails, or its worker dies or freezes.
        AtCall = "at-call",
        /// The store permanently refuses one kind of call.
        Refuse = "refuse",
        /// The store permanently refuses all writes of one turn but its forced end.
        Poison = "poison",
        /// The store permanently refuses a text that the agent says.
        Value = "value",
        /// Requests are dropped by the host at any await point.
        Drop = "drop",
        /// The agent is away.
        AgentAway = "agent-away",
        /// The tools are away.
        ToolsAway = "tools-away",
    }
}

switches! {
    /// The operations of clients.
    OperationKind {
        /// Sends a message, and reads the answer.
        Send = "send",
        /// Sends several messages to one conversation at once.
        Burst = "burst",
        /// Cancels a turn.
        Cancel = "cancel",
        /// Retries a turn.
        Retry = "retry",
        /// Reads a turn from a cursor.
        Read = "read",
        /// Reads conversations, turns and tool calls.
        Browse = "browse",
        /// Renames a conversation.
        Rename = "rename",
        /// Deletes a conversation.
        Delete = "delete",
        /// Releases the idempotency key of a turn.
        ReleaseKey = "release-key",
        /// Tries to reach what belongs to another user.
        Trespass = "trespass",
    }
}

switches! {
    /// The behaviour of an agent in a step.
    AgentKind {
        Answer = "answer",
        Tools = "tools",
        OwnTools = "own-tools",
        Odd = "odd",
        Slow = "slow",
        Silent = "silent",
        CutOff = "cut-off",
        Fail = "fail",
        Endless = "endless",
        TooLong = "too-long",
    }
}

switches! {
    /// The behaviour of a tool in a call.
    ToolKind {
        Succeed = "succeed",
        Slow = "slow",
        Hang = "hang",
        TimeOut = "time-out",
        Fail = "fail",
        Unavailable = "unavailable",
        DieBefore = "die-before",
        DieAfter = "die-after",
        Odd = "odd",
    }
}

/// The options of a world.
#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    pub workers: usize,
    pub users: usize,
    pub conversations: usize,
    pub operations: usize,
    /// How many faults are planned.
    pub faults: usize,
    pub fault_kinds: Vec<(FaultKind, u32)>,
    pub operation_kinds: Vec<(OperationKind, u32)>,
    pub agent_kinds: Vec<(AgentKind, u32)>,
    pub tool_kinds: Vec<(ToolKind, u32)>,
    /// How long the store takes for half a call at most, in milliseconds.
    pub latency: u64,
    /// The longest pause between two operations, in milliseconds.
    pub pause: u64,
    /// How much faster the store's clock is, in thousandths.
    pub drift: i64,
    pub limits: TurnLimits,
}

impl Options {
    /// Draws the options of a seed. Faults are drawn from `allowed`.
    pub fn draw(seed: u64, allowed: &[FaultKind]) -> Self {
        let random = &mut stream(seed, &[1]);
        let faults = if allowed.is_empty() || chance(random, 8) {
            0
        } else {
            1 + random.usize(..=3) + random.usize(..=4)
        };
        Self {
            seed,
            workers: 1 + random.usize(..=1) + random.usize(..=1),
            users: 1 + random.usize(..=1),
            conversations: 1 + random.usize(..=2),
            operations: 2 + random.usize(..=4) + random.usize(..=8),
            faults,
            fault_kinds: some_of(random, allowed, 4),
            operation_kinds: with(OperationKind::Send, 10, random, OperationKind::ALL),
            agent_kinds: with(AgentKind::Answer, 5, random, AgentKind::ALL),
            tool_kinds: with(ToolKind::Succeed, 5, random, ToolKind::ALL),
            latency: pick(random, &[0, 2, 5, 20, 100, 400]),
            pause: pick(random, &[50, 300, 1_000, 4_000]),
            drift: pick(random, &[0, 0, 0, -40, 40]),
            limits: limits(random),
        }
    }
}

/// Limits: the product's own, or short ones that are met often.
fn limits(random: &mut Random) -> TurnLimits {
    let seconds = |random: &mut Random, all: &[u64]| Duration::from_secs(pick(random, all));
    let is_quick = chance(random, 50);
    let (lease, heartbeat, sweep) = if is_quick {
        (2_000, 400, 500)
    } else {
        (10_000, 1_000, 2_000)
    };
    TurnLimits {
        message_chars: 200,
        queue: pick(random, &[0, 1, 2, 8, 256]),
        steps: pick(random, &[1, 2, 3, 4, 6]),
        calls_per_step: pick(random, &[2, 3, 8]),
        calls_at_once: pick(random, &[1, 1, 2, 4]),
        answer_bytes: 2_000,
        tool_output_bytes: 500,
        attempts: pick(random, &[1, 2, 3, 3]),
        turn: seconds(random, &[5, 20, 60, 120]),
        context_tokens: pick(random, &[None, None, None, Some(60), Some(200)]),
        lease: Duration::from_millis(lease),
        heartbeat: Duration::from_millis(heartbeat),
        sweep: Duration::from_millis(sweep),
        poll: Duration::from_millis(pick(random, &[250, 1_000])),
    }
}

fn pick<T: Copy + Default>(random: &mut Random, all: &[T]) -> T {
    choose(random, all).copied().unwrap_or_default()
}

/// Up to so many of these, with weights.
fn some_of<T: Copy>(random: &mut Random, all: &[T], most: usize) -> Vec<(T, u32)> {
    let mut all = all.to_vec();
    random.shuffle(&mut all);
    all.truncate(1 + random.usize(..most));
    all.into_iter()
        .map(|kind| (kind, random.u32(1..=5)))
        .collect()
}

/// The first with its weight, and some others.
fn with<T: Copy + PartialEq>(
    first: T,
    weight: u32,
    random: &mut Random,
    all: &[T],
) -> Vec<(T, u32)> {
    let mut drawn = some_of(random, all, all.len());
    drawn.retain(|(kind, _)| *kind != first);
    drawn.insert(0, (first, weight));
    drawn
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list<T: Copy>(kinds: &[(T, u32)], name: impl Fn(T) -> &'static str) -> String {
            let kinds = kinds.iter();
            let kinds = kinds.map(|(kind, weight)| format!("{}×{weight}", name(*kind)));
            kinds.collect::<Vec<_>>().join(" ")
        }
        let limits = &self.limits;
        writeln!(
            f,
            "seed {}: {} workers, {} users, {} conversations, {} operations, {} faults",
            self.seed, self.workers, self.users, self.conversations, self.operations, self.faults
        )?;
        writeln!(f, "  faults: {}", list(&self.fault_kinds, FaultKind::name))?;
        let operations = list(&self.operation_kinds, OperationKind::name);
        writeln!(f, "  operations: {operations}")?;
        writeln!(f, "  agent: {}", list(&self.agent_kinds, AgentKind::name))?;
        writeln!(f, "  tools: {}", list(&self.tool_kinds, ToolKind::name))?;
        writeln!(
            f,
            "  store: latency up to 2×{} ms, clock {:+} ‰; pauses up to {} ms",
            self.latency, self.drift, self.pause
        )?;
        write!(
            f,
            "  limits: lease {:?}, turn {:?}, attempts {}, steps {}, queue {}, calls {}/{}, \
             context {:?}",
            limits.lease,
            limits.turn,
            limits.attempts,
            limits.steps,
            limits.queue,
            limits.calls_at_once,
            limits.calls_per_step,
            limits.context_tokens
        )
    }
}
