//! Runs a turn: does what [`plan`] says until the turn ends, and stores each step before the next.

mod answer;
mod bounds;
mod persist;
mod step;
mod tool_batch;

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::{Instrument, Span, info_span};

use super::lease::WorkerLease;
use super::plan::{self, Next};
use super::registry::{RunHandle, Stop};
use crate::{
    ChatServiceConfig, EndedTurn, FailureKind, HeldTurn, Item, ItemBody, LoggedTurn, NewItem,
    ToolCall, ToolCallId, ToolOutcome, ToolResult, ToolSpec, TurnFailure, TurnLifecycleEvent,
    TurnOutcome, UnknownCause, Usage,
};

/// The end of an attempt before its turn ended, with the items that are not stored yet.
struct Abort {
    reason: AbortReason,
    items: Vec<NewItem>,
}

enum AbortReason {
    /// The user, or a newer message, cancelled the turn.
    Cancelled,
    /// The turn reached its time limit.
    TimedOut,
    /// The attempt must leave the turn to another one: the lease was lost or released, the turn has
    /// ended or is deleted, or the store stayed away for too long.
    LeaseLost,
    /// The store failed permanently.
    StoreFailed,
}

impl AbortReason {
    /// Adds the items that are left of the aborted work.
    fn with(self, items: Vec<NewItem>) -> Abort {
        Abort {
            reason: self,
            items,
        }
    }
}

impl From<AbortReason> for Abort {
    fn from(reason: AbortReason) -> Self {
        reason.with(Vec::new())
    }
}

/// The outcome of one act of an attempt.
enum Progress {
    Continue,
    Ended(Box<EndedTurn>),
}

impl From<EndedTurn> for Progress {
    fn from(ended: EndedTurn) -> Self {
        Self::Ended(Box::new(ended))
    }
}

/// One attempt at a turn.
pub(crate) struct TurnRunner<'a> {
    config: &'a ChatServiceConfig,
    worker: &'a WorkerLease,
    run: RunHandle,
    held: HeldTurn,
    started: Instant,
    deadline: Instant,
    /// The stored items of the turn.
    items: Vec<Item>,
    /// The turns before this one, once they are read.
    history: Option<Vec<LoggedTurn>>,
    /// The tools of the last step.
    tools: Vec<ToolSpec>,
    /// How many of the oldest turns are not sent to the agent, because it refused to read more.
    left_out: usize,
    /// The calls that this attempt stored: they cannot have run before this attempt runs them.
    own_calls: HashSet<ToolCallId>,
    usage: Usage,
}

impl<'a> TurnRunner<'a> {
    pub(crate) fn new(
        config: &'a ChatServiceConfig,
        worker: &'a WorkerLease,
        held: HeldTurn,
        run: RunHandle,
    ) -> Self {
        let started = Instant::now();
        Self {
            config,
            worker,
            run,
            started,
            deadline: started + config.limits.turn.saturating_sub(held.spent),
            items: held.items.clone(),
            held,
            history: None,
            tools: Vec::new(),
            left_out: 0,
            own_calls: HashSet::new(),
            usage: Usage::default(),
        }
    }

    /// Runs the turn to its end; returns the next turn of the conversation, if one is queued. Also
    /// `None` if the turn was released.
    ///
    /// Its log lines are in the span `turn`.
    pub(crate) async fn run(self) -> Option<HeldTurn> {
        let span = self.span();
        self.attempt().instrument(span).await
    }

    fn span(&self) -> Span {
        let (turn, lease) = (&self.held.turn, &self.held.lease);
        info_span!(
            "turn",
            turn_id = %turn.id,
            conversation_id = %turn.conversation,
            user_id = %self.held.owner,
            worker_id = %lease.worker,
            attempt = self.held.attempt,
        )
    }

    /// The only place where an [`Abort`] becomes an outcome of the turn.
    async fn attempt(mut self) -> Option<HeldTurn> {
        self.observe(TurnLifecycleEvent::TurnStarted {
            turn: &self.held.turn,
            owner: &self.held.owner,
            lease: &self.held.lease,
            attempt: self.held.attempt,
        });
        let mut progress = if self.held.attempt > self.config.limits.attempts {
            self.give_up().await
        } else {
            self.drive().await
        };
        if let Err(Abort { reason, items }) = progress {
            progress = match reason {
                AbortReason::Cancelled => self.end(items, TurnOutcome::Cancelled).await,
                AbortReason::TimedOut => self.end(items, self.time_limit()).await,
                reason => Err(reason.with(items)),
            };
        }
        if let Err(Abort {
            reason: AbortReason::StoreFailed,
            items,
        }) = progress
        {
            progress = self.end_after_store_failure(items).await;
        }
        let Ok(ended) = progress else {
            self.observe(TurnLifecycleEvent::TurnReleased {
                lease: &self.run.lease,
            });
            self.run.release();
            return None;
        };
        self.observe(TurnLifecycleEvent::TurnEnded {
            turn: &ended.turn,
            took: self.started.elapsed(),
        });
        ended.next
    }

    async fn drive(&mut self) -> Result<EndedTurn, Abort> {
        loop {
            let progress = match plan::next(&self.items, self.config.limits.steps) {
                Next::CallAgent => {
                    let span = info_span!("step", turn_id = %self.held.turn.id);
                    self.step().instrument(span).await?
                }
                Next::CallTools(calls) => self.run_tools(calls).await?,
                Next::End(outcome) => self.end(Vec::new(), outcome).await?.into(),
            };
            if let Progress::Ended(ended) = progress {
                return Ok(*ended);
            }
        }
    }

    /// Ends a turn that was started too often.
    async fn give_up(&mut self) -> Result<EndedTurn, Abort> {
        let unfinished = self.unfinished_calls_as_unknown();
        let attempts = self.held.attempt - 1;
        let message = format!(
            "The turn was given up after {attempts} attempts, each of which was interrupted."
        );
        let outcome = failed(FailureKind::TooManyAttempts, message);
        self.end(unfinished, outcome).await
    }

    /// Results for the stored calls that have none.
    fn unfinished_calls_as_unknown(&self) -> Vec<NewItem> {
        let calls = match plan::next(&self.items, usize::MAX) {
            Next::CallTools(calls) => calls,
            Next::CallAgent | Next::End(_) => Vec::new(),
        };
        self.unknown_results(&calls)
    }

    fn unknown_results(&self, calls: &[ToolCall]) -> Vec<NewItem> {
        let unknown = || ToolOutcome::Unknown(UnknownCause::Interrupted);
        let calls = calls.iter();
        calls.map(|call| self.result(call.id, unknown())).collect()
    }

    fn time_limit(&self) -> TurnOutcome {
        let message = format!(
            "The turn was stopped at its limit of {} seconds.",
            self.config.limits.turn.as_secs()
        );
        failed(FailureKind::TimeLimit, message)
    }

    /// Does work that may be aborted. Never a write: writes are always awaited to their end.
    async fn unless_aborted<T>(&self, work: impl Future<Output = T>) -> Result<T, AbortReason> {
        tokio::select! {
            biased;
            stop = self.run.wait_for_stop() => Err(match stop {
                Stop::Cancel => AbortReason::Cancelled,
                Stop::Release | Stop::None => AbortReason::LeaseLost,
            }),
            () = sleep_until(self.deadline) => Err(AbortReason::TimedOut),
            done = work => Ok(done),
        }
    }

    fn observe(&self, event: TurnLifecycleEvent<'_>) {
        self.config.observer.observe(event);
    }

    fn observe_call(&self, call: ToolCallId, tool: &str, outcome: &ToolOutcome, took: Duration) {
        self.observe(TurnLifecycleEvent::ToolCalled {
            lease: &self.run.lease,
            call,
            tool,
            outcome,
            took,
        });
    }

    fn item(&self, body: ItemBody) -> NewItem {
        NewItem {
            at: self.config.environment.now(),
            body,
        }
    }

    /// A result that was not measured.
    fn result(&self, call: ToolCallId, outcome: ToolOutcome) -> NewItem {
        let started_at = self.config.environment.now();
        self.item(ItemBody::ToolResult(ToolResult {
            call,
            outcome,
            started_at,
            took: Duration::ZERO,
        }))
    }
}

fn failed(kind: FailureKind, message: String) -> TurnOutcome {
    TurnOutcome::Failed(TurnFailure { kind, message })
}
