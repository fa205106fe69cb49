//! An answer of the agent, as far as it has arrived.

use std::time::Duration;

use crate::{
    AgentError, AgentErrorKind, FinishReason, ItemBody, Message, MessageId, NewItem, StepEnd,
    Timestamp, ToolCall, ToolError, ToolErrorKind, ToolOutcome, ToolResult,
};

/// The content of an answer so far.
pub(super) struct Answer {
    pub(super) message: MessageId,
    pub(super) at: Timestamp,
    pub(super) text: String,
    /// How many of the oldest turns the agent did not read for it.
    pub(super) turns_left_out: usize,
    /// How the agent ended it, once it has.
    pub(super) end: Option<StepEnd>,
    /// Calls for the server to run.
    pub(super) calls: Vec<ToolCall>,
    /// The results of the calls that are not acceptable.
    pub(super) refused: Vec<ToolResult>,
    /// Calls that the agent ran itself, with their results.
    pub(super) executed: Vec<(ToolCall, ToolResult)>,
}

impl Answer {
    /// An empty answer.
    pub(super) fn new(message: MessageId, at: Timestamp, turns_left_out: usize) -> Self {
        let (calls, refused, executed) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            message,
            at,
            text: String::new(),
            turns_left_out,
            end: None,
            calls,
            refused,
            executed,
        }
    }

    /// Whether nothing of the answer was shown or done yet, so that the agent can be asked again.
    pub(super) fn is_unsaid(&self) -> bool {
        self.text.is_empty() && self.executed.is_empty()
    }

    /// Takes the end of the answer.
    ///
    /// # Errors
    /// The answer has neither text nor calls.
    pub(super) fn finish(&mut self, end: StepEnd) -> Result<(), AgentError> {
        let finish = end.finish;
        self.end = Some(end);
        if self.text.trim().is_empty() && self.calls.is_empty() && self.executed.is_empty() {
            return Err(empty(finish));
        }
        if finish != FinishReason::Complete {
            self.refuse_broken_calls(finish);
        }
        Ok(())
    }

    /// Refuses the calls whose arguments are not whole, because the answer was cut off. The agent
    /// gets the reason as their result.
    fn refuse_broken_calls(&mut self, finish: FinishReason) {
        let cut_off = if finish == FinishReason::Length {
            "at the limit of tokens for an answer"
        } else {
            "by a content filter"
        };
        for call in &self.calls {
            let is_known = self.refused.iter().any(|result| result.call == call.id);
            if !is_known && !call.arguments.as_str().trim_start().starts_with('{') {
                let message = format!(
                    "The arguments are incomplete: your answer was cut off {cut_off}. The tool was not run."
                );
                let outcome =
                    ToolOutcome::Failed(ToolError::new(ToolErrorKind::InvalidArguments, message));
                self.refused.push(ToolResult {
                    call: call.id,
                    outcome,
                    started_at: self.at,
                    took: Duration::ZERO,
                });
            }
        }
    }

    pub(super) fn into_items(self) -> Vec<NewItem> {
        let Self {
            message,
            at,
            text,
            turns_left_out,
            end,
            calls,
            refused,
            executed,
        } = self;
        let (finish, agent_data) =
            end.map_or((None, None), |end| (Some(end.finish), end.agent_data));
        let turns_left_out = u64::try_from(turns_left_out).unwrap_or(u64::MAX);
        let message = Message {
            finish,
            turns_left_out,
            agent_data,
            ..Message::assistant(message, text)
        };
        let mut bodies = vec![ItemBody::Message(message)];
        for (call, result) in executed {
            bodies.extend([ItemBody::ToolCall(call), ItemBody::ToolResult(result)]);
        }
        bodies.extend(calls.into_iter().map(ItemBody::ToolCall));
        bodies.extend(refused.into_iter().map(ItemBody::ToolResult));
        bodies
            .into_iter()
            .map(|body| NewItem { at, body })
            .collect()
    }

    /// The items to store of an incomplete answer. Its calls are left out: they were never stored,
    /// so they never ran.
    pub(super) fn into_partial_items(mut self) -> Vec<NewItem> {
        self.calls.clear();
        self.refused.clear();
        if self.text.trim().is_empty() && self.executed.is_empty() {
            Vec::new()
        } else {
            self.into_items()
        }
    }
}

/// The error of an answer without text and calls.
fn empty(finish: FinishReason) -> AgentError {
    let (kind, message) = match finish {
        FinishReason::Complete => (
            AgentErrorKind::EmptyAnswer,
            "The agent ended its answer without text and without tool calls.",
        ),
        FinishReason::Length => (
            AgentErrorKind::EmptyAnswer,
            "The agent reached its token limit before it wrote any text.",
        ),
        FinishReason::ContentFilter => (
            AgentErrorKind::Refused,
            "The agent's content filter withheld the whole answer.",
        ),
    };
    AgentError::new(kind, message)
}
