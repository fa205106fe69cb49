//! Runs a turn: does what [`plan`] says until it ends, and records each step before the next.

mod answer;
mod door;
mod persist;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, sleep_until};

use self::answer::Answer;
use super::plan::{self, Next};
use super::registry::{RunHandle, Stop};
use super::transcript::{self, Window};
use super::worker::Worker;
use crate::guards;
use crate::{
    AgentError, AgentErrorKind, CallError, ChatServiceConfig, Draft, EndedTurn, FailureKind,
    HeldTurn, Invocation, Item, ItemBody, LoggedTurn, MessageId, NewItem, StepEvent, StepRequest,
    Timestamp, ToolCall, ToolCallId, ToolError, ToolErrorKind, ToolExecutor, ToolOutcome,
    ToolResult, ToolSpec, TurnFailure, TurnLifecycleEvent, TurnOutcome, UnknownCause, Usage,
    without_nul,
};

/// Why a turn fails that the agent cannot read.
const TOO_LONG_ALONE: &str = "The message, with what was done for it, is longer than the agent can read, even without the turns before it.";

/// Runs a turn to its end; gives the next turn of the conversation, if one waits.
/// `None` also if the turn was let go of.
pub(crate) async fn run(
    deps: &ChatServiceConfig,
    worker: &Worker,
    held: HeldTurn,
    run: RunHandle,
) -> Option<HeldTurn> {
    let started = Instant::now();
    let signal = TurnLifecycleEvent::TurnStarted {
        turn: &held.turn,
        owner: &held.owner,
        lease: &held.lease,
        attempt: held.attempt,
    };
    deps.observer.observe(signal);
    let attempt = held.attempt;
    let mut runner = TurnRunner {
        deps,
        worker,
        deadline: started + deps.limits.turn.saturating_sub(held.spent),
        items: held.items.clone(),
        held,
        run,
        history: None,
        tools: Vec::new(),
        left_out: 0,
        recorded_here: HashSet::new(),
        usage: Usage::default(),
        refused: Vec::new(),
    };
    let ended = match if attempt > deps.limits.attempts {
        runner.give_up().await
    } else {
        runner.drive().await
    } {
        Err(Halt::StoreFault) => runner.end_after_fault().await,
        ended => ended,
    };
    match ended {
        Ok(ended) => {
            deps.observer.observe(TurnLifecycleEvent::TurnEnded {
                turn: &ended.turn,
                took: started.elapsed(),
            });
            ended.next
        }
        Err(Halt::Released | Halt::StoreFault) => {
            deps.observer.observe(TurnLifecycleEvent::TurnReleased {
                lease: &runner.run.lease,
            });
            None
        }
    }
}

/// Why a run stops without having ended its turn.
enum Halt {
    /// The lease was lost or released.
    Released,
    /// The store failed in a way that it would fail again.
    StoreFault,
}

/// What came of listening to the agent: whether it ended its answer, unless listening was broken
/// off.
type Heard = Result<Result<(), AgentError>, Interrupt>;

/// Why work was broken off.
enum Interrupt {
    Cancel,
    TimeLimit,
    Release,
}

struct TurnRunner<'a> {
    deps: &'a ChatServiceConfig,
    worker: &'a Worker,
    deadline: Instant,
    held: HeldTurn,
    run: RunHandle,
    /// What the log holds of the turn.
    items: Vec<Item>,
    /// The turns before this one, once they have been read.
    history: Option<Vec<LoggedTurn>>,
    /// The tools of the last step.
    tools: Vec<ToolSpec>,
    /// How many of the oldest turns the agent is not sent, because it refused to read more.
    left_out: usize,
    /// The calls that this attempt recorded: they cannot have run before it runs them.
    recorded_here: HashSet<ToolCallId>,
    usage: Usage,
    /// The items that the store has refused for good.
    refused: Vec<NewItem>,
}

impl TurnRunner<'_> {
    async fn drive(&mut self) -> Result<EndedTurn, Halt> {
        loop {
            let ended = match plan::next(&self.items, self.deps.limits.steps) {
                Next::CallAgent => self.step().await?,
                Next::CallTools(calls) => self.call_tools(calls).await?,
                Next::End(outcome) => Some(self.end(Vec::new(), outcome).await?),
            };
            if let Some(ended) = ended {
                return Ok(ended);
            }
        }
    }

    /// Ends a turn that was begun too often.
    async fn give_up(&mut self) -> Result<EndedTurn, Halt> {
        let unfinished = match plan::next(&self.items, usize::MAX) {
            Next::CallTools(calls) => calls,
            Next::CallAgent | Next::End(_) => Vec::new(),
        };
        let last = unfinished
            .iter()
            .map(|call| self.result(call.id, ToolOutcome::Unknown(UnknownCause::Interrupted)))
            .collect();
        let attempts = self.held.attempt - 1;
        let message = format!(
            "The turn was given up after {attempts} attempts, each of which was broken off."
        );
        self.end(last, failed(FailureKind::TooManyAttempts, message))
            .await
    }

    /// One answer of the agent. `Some` if the turn ended with it.
    async fn step(&mut self) -> Result<Option<EndedTurn>, Halt> {
        let (mut answer, heard) = match self.ask().await? {
            Ok(asked) => asked,
            Err(interrupt) => return self.interrupted(interrupt, Vec::new()).await.map(Some),
        };
        self.usage += answer
            .end
            .as_ref()
            .map_or(Usage::default(), |end| end.usage);
        match heard {
            Ok(Ok(())) => {
                if answer.calls.is_empty() {
                    return self
                        .end(answer.items(), TurnOutcome::Completed)
                        .await
                        .map(Some);
                }
                self.recorded_here
                    .extend(answer.calls.iter().map(|call| call.id));
                let unstored = if guards::STORES_CALLS_FIRST {
                    Vec::new()
                } else {
                    std::mem::take(&mut answer.calls)
                };
                for call in unstored {
                    let result = invoke(
                        self.deps,
                        self.worker,
                        self.invocation(&call),
                        Arc::default(),
                        Arc::default(),
                    )
                    .await;
                    answer.ran.push((call, result));
                }
                for result in &answer.refused {
                    let tool = answer
                        .calls
                        .iter()
                        .find(|call| call.id == result.call)
                        .map_or("", |call| call.tool.as_str());
                    self.called(tool, &result.outcome, result.took);
                }
                self.append(answer.items()).await.map(|()| None)
            }
            Ok(Err(error)) => {
                self.deps.observer.observe(TurnLifecycleEvent::StepFailed {
                    lease: &self.run.lease,
                    error: &error,
                });
                let outcome = failed(error.kind.into(), door::failure(error.message));
                self.end(answer.broken_off(), outcome).await.map(Some)
            }
            Err(interrupt) => self
                .interrupted(interrupt, answer.broken_off())
                .await
                .map(Some),
        }
    }

    /// Asks the agent until it accepts the length of the conversation, or refuses the current turn
    /// alone.
    async fn ask(&mut self) -> Result<Result<(Answer, Heard), Interrupt>, Halt> {
        let mut refusals = 0;
        loop {
            let (request, window) = match self.request().await? {
                Ok(request) => request,
                Err(interrupt) => return Ok(Err(interrupt)),
            };
            let message = MessageId(self.deps.environment.fresh_id());
            let mut answer = Answer::new(message, self.deps.environment.now(), window.left_out());
            let heard = self.unless_stopped(self.listen(request, &mut answer)).await;
            answer.at = self.deps.environment.now();
            let error = match heard {
                Ok(Err(error)) if answer.is_unsaid() => error,
                heard => return Ok(Ok((answer, heard))),
            };
            let AgentErrorKind::ContextTooLong { limit } = error.kind else {
                return Ok(Ok((answer, Ok(Err(error)))));
            };
            refusals += 1;
            // The tools are part of what the agent reads.
            let tools = transcript::tools_size(&self.tools);
            let limit = limit.map(|limit| {
                usize::try_from(limit)
                    .unwrap_or(usize::MAX)
                    .saturating_sub(tools)
            });
            let Some(turns_left_out) = window.shorter(refusals, limit) else {
                return Ok(Ok((
                    answer,
                    Ok(Err(AgentError {
                        message: TOO_LONG_ALONE.to_owned(),
                        ..error
                    })),
                )));
            };
            self.left_out = turns_left_out;
            self.deps
                .observer
                .observe(TurnLifecycleEvent::ContextShortened {
                    lease: &self.run.lease,
                    error: &error,
                    turns_left_out,
                });
        }
    }

    async fn request(&mut self) -> Result<Result<(StepRequest, Window), Interrupt>, Halt> {
        if self.history.is_none() {
            self.history = Some(self.read_history().await?);
        }
        let mut window = Window::new(self.history.as_deref().unwrap_or_default(), &self.items);
        if let Some(budget) = self.deps.limits.context_tokens {
            window.fit(budget);
        }
        window.leave_out(self.left_out);
        self.tools = match self
            .unless_stopped(self.deps.tools.specs(&self.held.owner))
            .await
        {
            Ok(tools) => tools,
            Err(interrupt) => return Ok(Err(interrupt)),
        };
        let request = StepRequest {
            owner: self.held.owner.clone(),
            conversation: self.held.turn.conversation,
            turn: self.held.turn.id,
            transcript: window.take_transcript(),
            tools: self.tools.clone(),
        };
        Ok(Ok((request, window)))
    }

    /// Listens to the agent, shows its text as it comes, and puts its answer together.
    async fn listen(&self, request: StepRequest, answer: &mut Answer) -> Result<(), AgentError> {
        let limits = &self.deps.limits;
        let mut stream = self.deps.agent.step(request).await?;
        while let Some(event) = stream.next().await {
            match event? {
                StepEvent::Text(delta) => {
                    let delta = without_nul(delta);
                    if answer.text.len() + delta.len() > limits.answer_bytes {
                        return Err(too_much(format!(
                            "The agent's answer is longer than {} bytes.",
                            limits.answer_bytes
                        )));
                    }
                    answer.text.push_str(&delta);
                    self.show(answer.message, &delta);
                }
                StepEvent::ToolCall {
                    tool,
                    arguments,
                    agent_data,
                } => {
                    let id = ToolCallId(self.deps.environment.fresh_id());
                    let arguments = door::arguments(arguments).unwrap_or_else(|(kept, error)| {
                        let (outcome, started_at) =
                            (ToolOutcome::Failed(error), self.deps.environment.now());
                        answer.refused.push(ToolResult {
                            call: id,
                            outcome,
                            started_at,
                            took: Duration::ZERO,
                        });
                        kept
                    });
                    let (message, tool) = (answer.message, door::name(tool));
                    answer.calls.push(ToolCall {
                        id,
                        message,
                        tool,
                        arguments,
                        executor: ToolExecutor::Server,
                        agent_data,
                    });
                }
                StepEvent::ExecutedTool {
                    tool,
                    arguments,
                    outcome,
                    took,
                } => {
                    let id = ToolCallId(self.deps.environment.fresh_id());
                    let arguments = door::arguments(arguments).unwrap_or_else(|(kept, _)| kept);
                    let (message, tool) = (answer.message, door::name(tool));
                    let call = ToolCall {
                        id,
                        message,
                        tool,
                        arguments,
                        executor: ToolExecutor::Agent,
                        agent_data: None,
                    };
                    let outcome = door::outcome(outcome, limits.tool_output_bytes);
                    let micros = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
                    let started_at =
                        Timestamp(self.deps.environment.now().0.saturating_sub(micros));
                    answer.ran.push((
                        call,
                        ToolResult {
                            call: id,
                            outcome,
                            started_at,
                            took,
                        },
                    ));
                }
                StepEvent::Done(end) => return answer.finish(end),
            }
            if answer.calls.len() + answer.ran.len() > limits.calls_per_step {
                return Err(too_much(format!(
                    "The agent asked for more than {} tool calls at once.",
                    limits.calls_per_step
                )));
            }
        }
        Err(AgentError::new(
            AgentErrorKind::Unavailable,
            "The agent's answer was cut off before its end.",
        ))
    }

    /// Shows text that is not an item yet.
    fn show(&self, message: MessageId, delta: &str) {
        self.run.update(|view| match &mut view.draft {
            Some(draft) if draft.message == message => draft.text.push_str(delta),
            draft => {
                *draft = Some(Draft {
                    message,
                    text: delta.to_owned(),
                })
            }
        });
    }

    /// Brings calls to their results. `Some` if the turn ended meanwhile.
    async fn call_tools(&mut self, calls: Vec<ToolCall>) -> Result<Option<EndedTurn>, Halt> {
        let (fresh, found): (Vec<_>, Vec<_>) = calls
            .into_iter()
            .partition(|call| self.recorded_here.contains(&call.id));
        let mut waiting = VecDeque::from(fresh);
        if !found.is_empty() {
            // Another attempt recorded these: they may have run.
            if self.tools.is_empty() {
                match self
                    .unless_stopped(self.deps.tools.specs(&self.held.owner))
                    .await
                {
                    Ok(tools) => self.tools = tools,
                    Err(interrupt) => {
                        let last = found
                            .iter()
                            .map(|call| {
                                self.result(
                                    call.id,
                                    ToolOutcome::Unknown(UnknownCause::Interrupted),
                                )
                            })
                            .collect();
                        return self.interrupted(interrupt, last).await.map(Some);
                    }
                }
            }
            let (again, unknown): (Vec<_>, Vec<_>) = found.into_iter().partition(|call| {
                call.executor == ToolExecutor::Server && self.is_repeatable(call)
            });
            let results: Vec<_> = unknown
                .iter()
                .map(|call| self.result(call.id, ToolOutcome::Unknown(UnknownCause::Interrupted)))
                .collect();
            for call in &unknown {
                self.called(
                    &call.tool,
                    &ToolOutcome::Unknown(UnknownCause::Interrupted),
                    Duration::ZERO,
                );
            }
            if !results.is_empty() {
                self.append(results).await?;
            }
            waiting.extend(again);
        }
        self.run_calls(waiting).await
    }

    /// Runs calls, some at a time, and records each result as it comes.
    async fn run_calls(
        &mut self,
        mut waiting: VecDeque<ToolCall>,
    ) -> Result<Option<EndedTurn>, Halt> {
        let (deps, worker, halt) = (self.deps, self.worker, Arc::new(AtomicBool::new(false)));
        let mut in_flight: Vec<InFlight> = Vec::new();
        let mut running: FuturesUnordered<BoxFuture<'_, ToolResult>> = FuturesUnordered::new();
        loop {
            while running.len() < deps.limits.calls_at_once {
                let Some(call) = waiting.pop_front() else {
                    break;
                };
                let sent = Arc::new(AtomicBool::new(false));
                running.push(Box::pin(invoke(
                    deps,
                    worker,
                    self.invocation(&call),
                    Arc::clone(&halt),
                    Arc::clone(&sent),
                )));
                in_flight.push(InFlight { call, sent });
            }
            let (mut results, interrupt) = match self.unless_stopped(running.next()).await {
                Ok(None) => return Ok(None),
                Ok(Some(first)) => (vec![first], None),
                Err(interrupt) => (Vec::new(), Some(interrupt)),
            };
            // From here on nothing more is sent if the turn is to stop, but what is known already
            // counts.
            halt.store(interrupt.is_some(), Ordering::Relaxed);
            while let Some(Some(another)) = running.next().now_or_never() {
                results.push(another);
            }
            let mut recorded = Vec::new();
            for mut result in results {
                result.outcome = door::outcome(result.outcome, deps.limits.tool_output_bytes);
                if let Some(at) = in_flight
                    .iter()
                    .position(|flight| flight.call.id == result.call)
                {
                    let call = in_flight.swap_remove(at).call;
                    result.outcome = self.judged(&call, result.outcome);
                    self.called(&call.tool, &result.outcome, result.took);
                }
                recorded.push(self.item(ItemBody::ToolResult(result)));
            }
            let Some(interrupt) = interrupt else {
                self.append(recorded).await?;
                continue;
            };
            drop(running);
            let cause = match interrupt {
                Interrupt::Cancel => UnknownCause::Stopped,
                Interrupt::TimeLimit => UnknownCause::TurnTimeLimit,
                Interrupt::Release => UnknownCause::Interrupted,
            };
            let unsent = waiting.into_iter().map(|call| InFlight {
                call,
                sent: Arc::default(),
            });
            for InFlight { call, sent } in in_flight.into_iter().chain(unsent) {
                let may_have_run =
                    sent.load(Ordering::Relaxed) || !self.recorded_here.contains(&call.id);
                let not_run = || {
                    ToolError::new(
                        ToolErrorKind::NotRun,
                        "Not run: the turn was stopped before.",
                    )
                };
                let outcome = if may_have_run {
                    ToolOutcome::Unknown(cause)
                } else {
                    ToolOutcome::Failed(not_run())
                };
                recorded.push(self.result(call.id, outcome));
            }
            return self.interrupted(interrupt, recorded).await.map(Some);
        }
    }

    fn is_repeatable(&self, call: &ToolCall) -> bool {
        self.tools
            .iter()
            .any(|tool| tool.name == call.tool && tool.repeatable)
    }

    /// What an outcome means for the agent: a tool that gave no answer in time may have done its
    /// work, or do it yet.
    fn judged(&self, call: &ToolCall, outcome: ToolOutcome) -> ToolOutcome {
        match outcome {
            ToolOutcome::Failed(ToolError {
                kind: ToolErrorKind::TimedOut,
                ..
            }) if !self.is_repeatable(call) => ToolOutcome::Unknown(UnknownCause::TimedOut),
            outcome => outcome,
        }
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

    fn called(&self, tool: &str, outcome: &ToolOutcome, took: Duration) {
        self.deps.observer.observe(TurnLifecycleEvent::ToolCalled {
            lease: &self.run.lease,
            tool,
            outcome,
            took,
        });
    }

    fn item(&self, body: ItemBody) -> NewItem {
        NewItem {
            at: self.deps.environment.now(),
            body,
        }
    }

    /// A result that was not measured.
    fn result(&self, call: ToolCallId, outcome: ToolOutcome) -> NewItem {
        let started_at = self.deps.environment.now();
        self.item(ItemBody::ToolResult(ToolResult {
            call,
            outcome,
            started_at,
            took: Duration::ZERO,
        }))
    }

    /// Does work that may be broken off. Never a write: those are always waited for.
    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, Interrupt> {
        tokio::select! {
            biased;
            stop = self.run.stopped() => Err(if stop == Stop::Cancel { Interrupt::Cancel } else { Interrupt::Release }),
            () = sleep_until(self.deadline) => Err(Interrupt::TimeLimit),
            done = work => Ok(done),
        }
    }

    /// Ends a turn whose work was broken off, unless it is let go of.
    async fn interrupted(
        &mut self,
        interrupt: Interrupt,
        last: Vec<NewItem>,
    ) -> Result<EndedTurn, Halt> {
        let outcome = match interrupt {
            Interrupt::Cancel => TurnOutcome::Cancelled,
            Interrupt::TimeLimit => {
                let message = format!(
                    "The turn was stopped after {} seconds, because more are not allowed.",
                    self.deps.limits.turn.as_secs()
                );
                failed(FailureKind::TimeLimit, message)
            }
            Interrupt::Release => return Err(Halt::Released),
        };
        self.end(last, outcome).await
    }
}

/// A call that is about to run, or runs.
struct InFlight {
    call: ToolCall,
    /// Whether the tool may have heard of it.
    sent: Arc<AtomicBool>,
}

/// Runs one tool; says in `sent` that it does, and does not begin any more once `halt` is set.
async fn invoke(
    deps: &ChatServiceConfig,
    worker: &Worker,
    invocation: Invocation,
    halt: Arc<AtomicBool>,
    sent: Arc<AtomicBool>,
) -> ToolResult {
    // A worker that lost its lease without knowing would run the call beside its successor.
    worker.lease_is_safe().await;
    if halt.load(Ordering::Relaxed) {
        return std::future::pending().await;
    }
    sent.store(true, Ordering::Relaxed);
    let call = invocation.call;
    let (started_at, started) = (deps.environment.now(), Instant::now());
    let outcome = match deps.tools.call(invocation).await {
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

fn failed(kind: FailureKind, message: String) -> TurnOutcome {
    TurnOutcome::Failed(TurnFailure { kind, message })
}

fn too_much(message: String) -> AgentError {
    AgentError::new(AgentErrorKind::Protocol, message)
}
