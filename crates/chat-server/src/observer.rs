//! Turn lifecycle events as log lines: ids, codes and times, never content.

use std::error::Error;
use std::time::Duration;

use chat_domain::{Observer, ToolOutcome, TurnLifecycleEvent, TurnOutcome, TurnStatus};
use tracing::{error, info, warn};

/// Writes a log line for each event.
#[derive(Clone, Copy, Debug)]
pub struct LogObserver;

impl Observer for LogObserver {
    fn observe(&self, event: TurnLifecycleEvent<'_>) {
        match event {
            TurnLifecycleEvent::TurnStarted {
                turn,
                owner,
                lease,
                attempt,
            } => info!(
                turn_id = %turn.id,
                conversation_id = %turn.conversation,
                user_id = %owner,
                worker_id = %lease.worker,
                epoch = lease.epoch,
                attempt,
                "turn started"
            ),
            TurnLifecycleEvent::TurnEnded { turn, took } => {
                macro_rules! turn_ended {
                    ($level:ident) => {
                        $level!(
                            turn_id = %turn.id,
                            conversation_id = %turn.conversation,
                            outcome = outcome(&turn.status),
                            elapsed_ms = millis(took),
                            input_tokens = turn.usage.input_tokens,
                            output_tokens = turn.usage.output_tokens,
                            "turn ended"
                        )
                    };
                }
                if has_failed(&turn.status) {
                    turn_ended!(warn)
                } else {
                    turn_ended!(info)
                }
            }
            TurnLifecycleEvent::TurnReleased { lease } => warn!(
                turn_id = %lease.turn,
                worker_id = %lease.worker,
                epoch = lease.epoch,
                "turn released"
            ),
            TurnLifecycleEvent::StepFailed { lease, error } => warn!(
                turn_id = %lease.turn,
                kind = ?error.kind,
                error = chain(error),
                "agent failed"
            ),
            TurnLifecycleEvent::ContextShortened {
                lease,
                error,
                turns_left_out,
            } => warn!(
                turn_id = %lease.turn,
                turns_left_out,
                error = chain(error),
                "conversation too long for the agent, retrying with fewer turns"
            ),
            TurnLifecycleEvent::ToolCalled {
                lease,
                call,
                tool,
                outcome,
                took,
            } => info!(
                turn_id = %lease.turn,
                tool_call_id = %call,
                tool,
                outcome = tool_outcome(outcome),
                elapsed_ms = millis(took),
                "tool called"
            ),
            TurnLifecycleEvent::StoreFailed { operation, error } => {
                error!(operation, error = chain(error), "store failed")
            }
            TurnLifecycleEvent::WorkerReplaced { old, new } => warn!(
                worker_id = %new,
                old_worker_id = %old,
                "lease lost; registered under a new worker id"
            ),
        }
    }
}

fn has_failed(status: &TurnStatus) -> bool {
    matches!(
        status,
        TurnStatus::Ended {
            outcome: TurnOutcome::Failed(_),
            ..
        }
    )
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
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

/// An error and its causes, in one line. A cause whose text the error repeats at its end is left
/// out.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
