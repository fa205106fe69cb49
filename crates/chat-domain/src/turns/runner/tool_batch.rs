//! Tool calls: running them, and storing their results.

use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;
use tracing::{Instrument, info_span};

use super::{Abort, AbortReason, Progress, TurnRunner, bounds};
use crate::{
    CallError, ChatServiceConfig, Invocation, ItemBody, NewItem, ToolCall, ToolError,
    ToolErrorKind, ToolExecutor, ToolOutcome, ToolResult, UnknownCause,
};

/// The calls of one step, each with its state.
struct ToolBatch(Vec<(ToolCall, CallState)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallState {
    /// The tool has not received the call from this attempt.
    Waiting,
    /// The tool may have received the call.
    Sent,
    /// The call has its result.
    Done,
}

impl ToolBatch {
    fn count(&self, state: CallState) -> usize {
        let calls = self.0.iter();
        calls.filter(|(_, current)| *current == state).count()
    }

    /// Marks the first waiting call as sent.
    fn send_next(&mut self) -> Option<&ToolCall> {
        let mut calls = self.0.iter_mut();
        let (call, state) = calls.find(|(_, state)| *state == CallState::Waiting)?;
        *state = CallState::Sent;
        Some(call)
    }

    /// Marks the call of a result as done.
    fn finish(&mut self, result: &ToolResult) -> Option<&ToolCall> {
        let mut calls = self.0.iter_mut();
        let (call, state) = calls.find(|(call, _)| call.id == result.call)?;
        *state = CallState::Done;
        Some(call)
    }
}

impl TurnRunner<'_> {
    /// Brings stored calls to their results.
    pub(super) async fn run_tools(&mut self, calls: Vec<ToolCall>) -> Result<Progress, Abort> {
        let is_own = |call: &ToolCall| self.own_calls.contains(&call.id);
        let (mut runnable, found): (Vec<_>, Vec<_>) = calls.into_iter().partition(is_own);
        if !found.is_empty() {
            // An earlier attempt stored these calls: they may have run.
            if self.tools.is_empty()
                && let Err(reason) = self.read_tools().await
            {
                return Err(reason.with(self.unknown_results(&found)));
            }
            let may_repeat =
                |call: &ToolCall| call.executor == ToolExecutor::Server && self.is_repeatable(call);
            let (repeated, unknown): (Vec<_>, Vec<_>) = found.into_iter().partition(may_repeat);
            for call in &unknown {
                let outcome = ToolOutcome::Unknown(UnknownCause::Interrupted);
                self.observe_call(call.id, &call.tool, &outcome, Duration::ZERO);
            }
            if !unknown.is_empty() {
                self.append(self.unknown_results(&unknown)).await?;
            }
            runnable.extend(repeated);
        }
        let waiting = runnable.into_iter().map(|call| (call, CallState::Waiting));
        self.run_batch(ToolBatch(waiting.collect())).await
    }

    /// Runs calls, some at a time, and stores each result as it comes.
    async fn run_batch(&mut self, mut batch: ToolBatch) -> Result<Progress, Abort> {
        let (config, worker) = (self.config, self.worker);
        let mut running: FuturesUnordered<BoxFuture<'_, ToolResult>> = FuturesUnordered::new();
        loop {
            let has_room = batch.count(CallState::Sent) < config.limits.calls_at_once;
            let sends = has_room && batch.count(CallState::Waiting) > 0;
            if !sends && running.is_empty() {
                return Ok(Progress::Continue);
            }
            let first = self.unless_aborted(async {
                tokio::select! {
                    biased;
                    // A worker that lost its lease without knowing would run the call at the same
                    // time as its successor.
                    () = worker.wait_until_safe(), if sends => None,
                    Some(result) = running.next() => Some(result),
                }
            });
            let (first, abort) = match first.await {
                Ok(None) => {
                    if let Some(call) = batch.send_next() {
                        running.push(Box::pin(invoke(config, self.invocation(call))));
                    }
                    continue;
                }
                Ok(Some(first)) => (Some(first), None),
                Err(reason) => (None, Some(reason)),
            };
            // Every result that is known already counts, even if the turn stops.
            let mut results: Vec<_> = first.into_iter().collect();
            while let Some(Some(another)) = running.next().now_or_never() {
                results.push(another);
            }
            let results = results.into_iter();
            let mut items: Vec<_> = results
                .map(|result| self.finish_call(&mut batch, result))
                .collect();
            if let Some(reason) = abort {
                drop(running);
                items.extend(self.aborted_results(&batch, &reason));
                return Err(reason.with(items));
            }
            self.append(items).await?;
        }
    }

    fn finish_call(&self, batch: &mut ToolBatch, mut result: ToolResult) -> NewItem {
        let limit = self.config.limits.tool_output_bytes;
        result.outcome = bounds::outcome(result.outcome, limit);
        if let Some(call) = batch.finish(&result) {
            result.outcome = self.outcome_for_agent(call, result.outcome);
            self.observe_call(call.id, &call.tool, &result.outcome, result.took);
        }
        self.item(ItemBody::ToolResult(result))
    }

    /// Results for the calls of an aborted batch that have none.
    fn aborted_results(&self, batch: &ToolBatch, reason: &AbortReason) -> Vec<NewItem> {
        let cause = match reason {
            AbortReason::Cancelled => UnknownCause::Stopped,
            AbortReason::TimedOut => UnknownCause::TurnTimeLimit,
            AbortReason::LeaseLost | AbortReason::StoreFailed => UnknownCause::Interrupted,
        };
        let calls = batch.0.iter();
        let unfinished = calls.filter(|(_, state)| *state != CallState::Done);
        let result = |(call, state): &(ToolCall, CallState)| {
            let may_have_run = *state == CallState::Sent || !self.own_calls.contains(&call.id);
            let outcome = if may_have_run {
                ToolOutcome::Unknown(cause)
            } else {
                let message = "Not run: the turn was stopped before.";
                ToolOutcome::Failed(ToolError::new(ToolErrorKind::NotRun, message))
            };
            self.result(call.id, outcome)
        };
        unfinished.map(result).collect()
    }

    fn is_repeatable(&self, call: &ToolCall) -> bool {
        let mut tools = self.tools.iter();
        tools.any(|tool| tool.name == call.tool && tool.repeatable)
    }

    /// A tool that did not answer in time may have done its work, or may still do it.
    fn outcome_for_agent(&self, call: &ToolCall, outcome: ToolOutcome) -> ToolOutcome {
        match outcome {
            ToolOutcome::Failed(ToolError {
                kind: ToolErrorKind::TimedOut,
                ..
            }) if !self.is_repeatable(call) => ToolOutcome::Unknown(UnknownCause::TimedOut),
            outcome => outcome,
        }
    }

    /// Runs one call, once the worker's lease is safe.
    pub(super) async fn send(&self, call: &ToolCall) -> ToolResult {
        self.worker.wait_until_safe().await;
        invoke(self.config, self.invocation(call)).await
    }

    fn invocation(&self, call: &ToolCall) -> Invocation {
        Invocation {
            owner: self.held.owner.clone(),
            conversation: self.held.turn.conversation,
            turn: self.held.turn.id,
            call: call.id,
            tool: call.tool.clone(),
            arguments: call.arguments.clone(),
        }
    }
}

async fn invoke(config: &ChatServiceConfig, invocation: Invocation) -> ToolResult {
    let call = invocation.call;
    let (started_at, started) = (config.environment.now(), Instant::now());
    let span = info_span!(
        "tool_call",
        turn_id = %invocation.turn,
        tool_call_id = %call,
        tool = invocation.tool,
    );
    let outcome = match config.tools.call(invocation).instrument(span).await {
        Ok(output) => ToolOutcome::Succeeded(output),
        Err(CallError::Failed(error)) => ToolOutcome::Failed(error),
        Err(CallError::Unknown) => ToolOutcome::Unknown(UnknownCause::AnswerLost),
    };
    ToolResult {
        call,
        outcome,
        started_at,
        took: started.elapsed(),
    }
}
