//! Receives turn lifecycle events, for logs and metrics.

use std::time::Duration;

use crate::{AgentError, StoreError, ToolCallId, ToolOutcome, Turn, TurnLease, UserId, WorkerId};

/// Receives turn lifecycle events. Must not block.
pub trait Observer: Send + Sync {
    /// Receives one event.
    fn observe(&self, signal: TurnLifecycleEvent<'_>);
}

/// Ignores all events.
impl Observer for () {
    fn observe(&self, _: TurnLifecycleEvent<'_>) {}
}

/// An event in the life of a turn or worker. Has ids and causes, never content.
#[derive(Debug)]
pub enum TurnLifecycleEvent<'a> {
    /// A worker starts to run a turn.
    TurnStarted {
        /// The turn.
        turn: &'a Turn,
        /// Its owner.
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
        /// The call.
        call: ToolCallId,
        /// The tool's name.
        tool: &'a str,
        /// The outcome.
        outcome: &'a ToolOutcome,
        /// How long it took.
        took: Duration,
    },
    /// A call of the store failed. It is retried if the error is transient.
    StoreFailed {
        /// The operation that failed.
        operation: &'static str,
        /// Why it failed.
        error: &'a StoreError,
    },
    /// A worker's lease was lost; it registered under a new id.
    WorkerReplaced {
        /// The id it had.
        old: WorkerId,
        /// The id it has now.
        new: WorkerId,
    },
}
