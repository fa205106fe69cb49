//! Who hears what turns do: logs and metrics.

use std::time::Duration;

use crate::{AgentError, StoreError, ToolOutcome, Turn, TurnLease, UserId, WorkerId};

/// Hears what turns do. Must not block.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn observe(&self, signal: TurnLifecycleEvent<'_>);
}

/// Hears nothing.
impl Observer for () {
    fn observe(&self, _: TurnLifecycleEvent<'_>) {}
}

/// What can be heard. Ids and causes only: never what was said.
#[derive(Debug)]
pub enum TurnLifecycleEvent<'a> {
    /// A worker starts to run a turn.
    TurnStarted {
        /// The turn.
        turn: &'a Turn,
        /// Whose it is.
        owner: &'a UserId,
        /// The right to write it.
        lease: &'a TurnLease,
        /// Which attempt, from 1.
        attempt: u32,
    },
    /// A turn ended, durably.
    TurnEnded {
        /// The turn, ended.
        turn: &'a Turn,
        /// How long this attempt took.
        took: Duration,
    },
    /// A worker stopped running a turn without ending it: its lease is lost or handed over.
    TurnReleased {
        /// The right that it had.
        lease: &'a TurnLease,
    },
    /// A step of the agent failed; the turn ends for it.
    StepFailed {
        /// The turn.
        lease: &'a TurnLease,
        /// Why.
        error: &'a AgentError,
    },
    /// The agent refused to read so long a conversation; it is asked again with fewer turns.
    ContextShortened {
        /// The turn.
        lease: &'a TurnLease,
        /// The refusal.
        error: &'a AgentError,
        /// How many of the oldest turns are left out now.
        turns_left_out: usize,
    },
    /// A tool call came to its result.
    ToolCalled {
        /// The turn.
        lease: &'a TurnLease,
        /// The tool's name.
        tool: &'a str,
        /// What came of it.
        outcome: &'a ToolOutcome,
        /// How long it took.
        took: Duration,
    },
    /// The store failed where no caller hears of it; it will be tried again.
    StoreFailed {
        /// What was to be done.
        doing: &'static str,
        /// Why it failed.
        error: &'a StoreError,
    },
    /// A worker was not known any more, and goes on under another name.
    WorkerReplaced {
        /// The name it had.
        old: WorkerId,
        /// The name it has.
        new: WorkerId,
    },
}
