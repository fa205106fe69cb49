//! One step: a request to the agent, and its answer.

use std::time::Duration;

use futures_util::stream::StreamExt;

use super::answer::Answer;
use super::{Abort, AbortReason, Progress, TurnRunner, bounds, failed};
use crate::guards;
use crate::turns::transcript::{self, Window};
use crate::{
    AgentError, AgentErrorKind, Draft, MessageId, StepEvent, StepRequest, ToolCall, ToolCallId,
    ToolExecutor, ToolOutcome, ToolResult, TurnLifecycleEvent, TurnOutcome, without_nul,
};

/// The failure of a turn whose own items are longer than the agent can read.
const TOO_LONG_ALONE: &str = "The message and the work on it are longer than the agent can read, \
    even without the earlier turns.";

impl TurnRunner<'_> {
    pub(super) async fn step(&mut self) -> Result<Progress, Abort> {
        let (mut answer, received) = self.ask().await?;
        let end = answer.end.as_ref();
        self.usage += end.map(|end| end.usage).unwrap_or_default();
        if let Err(error) = received {
            self.observe(TurnLifecycleEvent::StepFailed {
                lease: &self.run.lease,
                error: &error,
            });
            let outcome = failed(error.kind.into(), bounds::failure(error.message));
            let ended = self.end(answer.into_partial_items(), outcome).await?;
            return Ok(ended.into());
        }
        if answer.calls.is_empty() {
            let ended = self
                .end(answer.into_items(), TurnOutcome::Completed)
                .await?;
            return Ok(ended.into());
        }
        let calls = answer.calls.iter();
        self.own_calls.extend(calls.map(|call| call.id));
        if !guards::STORES_CALLS_FIRST {
            for call in std::mem::take(&mut answer.calls) {
                let result = self.send(&call).await;
                answer.executed.push((call, result));
            }
        }
        for result in &answer.refused {
            let mut calls = answer.calls.iter();
            let call = calls.find(|call| call.id == result.call);
            let tool = call.map_or("", |call| call.tool.as_str());
            self.observe_call(result.call, tool, &result.outcome, result.took);
        }
        self.append(answer.into_items()).await?;
        Ok(Progress::Continue)
    }

    /// Asks the agent until it accepts the length of the conversation, or refuses the current turn
    /// alone. Returns the answer, and whether it is complete.
    async fn ask(&mut self) -> Result<(Answer, Result<(), AgentError>), Abort> {
        let mut refusals = 0;
        loop {
            let (request, window) = self.request().await?;
            let message = MessageId(self.config.environment.fresh_id());
            let now = self.config.environment.now();
            let mut answer = Answer::new(message, now, window.left_out());
            let received = self
                .unless_aborted(self.receive(request, &mut answer))
                .await;
            answer.at = self.config.environment.now();
            let received = match received {
                Ok(received) => received,
                Err(reason) => return Err(reason.with(answer.into_partial_items())),
            };
            let error = match received {
                Err(error) if answer.is_unsaid() => error,
                received => return Ok((answer, received)),
            };
            let AgentErrorKind::ContextTooLong { limit } = error.kind else {
                return Ok((answer, Err(error)));
            };
            refusals += 1;
            // The tools are part of what the agent reads.
            let tools = transcript::tools_size(&self.tools);
            let limit = limit.map(|limit| {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                limit.saturating_sub(tools)
            });
            let Some(turns_left_out) = window.shorter(refusals, limit) else {
                let message = TOO_LONG_ALONE.to_owned();
                return Ok((answer, Err(AgentError { message, ..error })));
            };
            self.left_out = turns_left_out;
            self.observe(TurnLifecycleEvent::ContextShortened {
                lease: &self.run.lease,
                error: &error,
                turns_left_out,
            });
        }
    }

    async fn request(&mut self) -> Result<(StepRequest, Window), Abort> {
        if self.history.is_none() {
            self.history = Some(self.read_history().await?);
        }
        let history = self.history.as_deref().unwrap_or_default();
        let mut window = Window::new(history, &self.items);
        if let Some(budget) = self.config.limits.context_tokens {
            window.fit(budget);
        }
        window.leave_out(self.left_out);
        self.read_tools().await?;
        let request = StepRequest {
            owner: self.held.owner.clone(),
            conversation: self.held.turn.conversation,
            turn: self.held.turn.id,
            transcript: window.take_transcript(),
            tools: self.tools.clone(),
        };
        Ok((request, window))
    }

    pub(super) async fn read_tools(&mut self) -> Result<(), AbortReason> {
        let specs = self.config.tools.specs(&self.held.owner);
        self.tools = self.unless_aborted(specs).await?;
        Ok(())
    }

    /// Receives the agent's answer, and shows its text as it comes.
    async fn receive(&self, request: StepRequest, answer: &mut Answer) -> Result<(), AgentError> {
        let limits = &self.config.limits;
        let mut stream = self.config.agent.step(request).await?;
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
                    let id = ToolCallId(self.config.environment.fresh_id());
                    let arguments = bounds::arguments(arguments).unwrap_or_else(|(kept, error)| {
                        answer.refused.push(ToolResult {
                            call: id,
                            outcome: ToolOutcome::Failed(error),
                            started_at: self.config.environment.now(),
                            took: Duration::ZERO,
                        });
                        kept
                    });
                    answer.calls.push(ToolCall {
                        id,
                        message: answer.message,
                        tool: bounds::name(tool),
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
                    let id = ToolCallId(self.config.environment.fresh_id());
                    let call = ToolCall {
                        id,
                        message: answer.message,
                        tool: bounds::name(tool),
                        arguments: bounds::arguments(arguments).unwrap_or_else(|(kept, _)| kept),
                        executor: ToolExecutor::Agent,
                        agent_data: None,
                    };
                    let result = ToolResult {
                        call: id,
                        outcome: bounds::outcome(outcome, limits.tool_output_bytes),
                        started_at: self.config.environment.now().before(took),
                        took,
                    };
                    answer.executed.push((call, result));
                }
                StepEvent::Done(end) => return answer.finish(end),
            }
            if answer.calls.len() + answer.executed.len() > limits.calls_per_step {
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
                let text = delta.to_owned();
                *draft = Some(Draft { message, text });
            }
        });
    }
}

fn too_much(message: String) -> AgentError {
    AgentError::new(AgentErrorKind::Protocol, message)
}
