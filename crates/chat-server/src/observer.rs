//! Turn lifecycle events as log lines: ids, codes and times, never content.

use std::error::Error;

use chat_domain::{Observer, ToolOutcome, TurnLifecycleEvent, TurnOutcome, TurnStatus};
use tracing::{error, info, warn};

/// Writes a log line for each signal.
#[derive(Clone, Copy, Debug)]
pub struct LogObserver;

impl Observer for LogObserver {
    fn observe(&self, signal: TurnLifecycleEvent<'_>) {
        match signal {
            TurnLifecycleEvent::TurnStarted {
                turn,
                owner,
                lease,
                attempt,
            } => info!(
                turn = %turn.id, conversation = %turn.conversation, user = %owner, worker = %lease.worker, epoch = lease.epoch, attempt,
                "turn started"
            ),
            TurnLifecycleEvent::TurnEnded { turn, took } => info!(
                turn = %turn.id, conversation = %turn.conversation, outcome = outcome(&turn.status), ms = millis(took),
                input_tokens = turn.usage.input_tokens, output_tokens = turn.usage.output_tokens,
                "turn ended"
            ),
            TurnLifecycleEvent::TurnReleased { lease } => {
                warn!(turn = %lease.turn, worker = %lease.worker, epoch = lease.epoch, "turn released")
            }
            TurnLifecycleEvent::StepFailed { lease, error } => {
                warn!(turn = %lease.turn, kind = ?error.kind, error = chain(error), "the agent failed");
            }
            TurnLifecycleEvent::ContextShortened {
                lease,
                error,
                turns_left_out,
            } => {
                warn!(turn_id = %lease.turn, turns_left_out, error = chain(error), "conversation too long for the agent, retrying with fewer turns");
            }
            TurnLifecycleEvent::ToolCalled {
                lease,
                tool,
                outcome,
                took,
            } => {
                info!(turn = %lease.turn, tool, outcome = tool_outcome(outcome), ms = millis(took), "tool called");
            }
            TurnLifecycleEvent::StoreFailed { doing, error } => {
                error!(doing, error = chain(error), "the store failed")
            }
            TurnLifecycleEvent::WorkerReplaced { old, new } => {
                warn!(%old, %new, "this worker was given up for dead and goes on under another name")
            }
        }
    }
}

fn millis(took: std::time::Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

fn outcome(status: &TurnStatus) -> &'static str {
    match status {
        TurnStatus::Queued => "queued",
        TurnStatus::Running => "running",
        TurnStatus::Ended {
            outcome: TurnOutcome::Completed,
            ..
        } => "completed",
        TurnStatus::Ended {
            outcome: TurnOutcome::Cancelled,
            ..
        } => "cancelled",
        TurnStatus::Ended {
            outcome: TurnOutcome::Failed(failure),
            ..
        } => failure.kind.code(),
    }
}

fn tool_outcome(outcome: &ToolOutcome) -> &'static str {
    match outcome {
        ToolOutcome::Succeeded(_) => "succeeded",
        ToolOutcome::Failed(error) => error.kind.code(),
        ToolOutcome::Unknown(_) => "unknown",
    }
}

/// An error with all that lies behind it, in one line. A cause that only repeats the end of what
/// was said is not told again.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let told = cause.to_string();
        if !text.ends_with(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Layered {
        #[error("the disk is full")]
        Cause,
        #[error("cannot write: {0}")]
        Quoting(#[source] Box<Self>),
        #[error("the store failed")]
        Plain(#[source] Box<Self>),
    }

    #[test]
    fn a_cause_is_told_once() {
        use Layered::{Cause, Plain, Quoting};
        let quoting = || Quoting(Box::new(Cause));
        assert_eq!(chain(&Cause), "the disk is full");
        assert_eq!(chain(&quoting()), "cannot write: the disk is full");
        assert_eq!(
            chain(&Plain(Box::new(quoting()))),
            "the store failed: cannot write: the disk is full"
        );
        assert_eq!(
            chain(&Plain(Box::new(Plain(Box::new(Cause))))),
            "the store failed: the disk is full"
        );
    }
}
