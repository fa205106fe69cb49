//! What an answer says, told as the events of a step.

use std::collections::VecDeque;

use chat_domain::{AgentError, FinishReason, StepEnd, StepEvent, Usage, without_nul};
use serde_json::value::RawValue;

use crate::agent_data::{Gathered, of_call};
use crate::calls::{Calls, WholeCall};
use crate::chunk::{Choice, Chunk, TokensUsed};
use crate::failure::{cut_off, failed, nonsense, refused_by_policy};
use crate::json::{Node, Object, Text, values};
use crate::mask::Mask;
use crate::refusal::Refusal;
use crate::tool_names::ToolNames;

/// An answer as far as it is known.
#[derive(Debug)]
pub struct Answer {
    tools: ToolNames,
    /// The server and model that the answer comes from.
    source: String,
    mask: Mask,
    calls: Calls,
    /// Half a character, whose other half may follow.
    text: Text,
    kept: Gathered,
    used: TokensUsed,
    has_begun: bool,
    /// Whether text came in pieces, which a whole message at the end repeats.
    has_pieces: bool,
    finish: Option<FinishReason>,
    /// The first part that was not understood and may have been none of the answer.
    unknown: Option<String>,
}

impl Answer {
    /// An answer of which nothing is known. Calls of renamed tools get their own names back.
    pub fn new(tools: ToolNames, source: String, mask: Mask) -> Self {
        Self {
            tools,
            source,
            mask,
            calls: Calls::default(),
            text: Text::default(),
            kept: Gathered::default(),
            used: TokensUsed::default(),
            has_begun: false,
            has_pieces: false,
            finish: None,
            unknown: None,
        }
    }

    /// Whether the server has said why the answer ends. Only the usage may follow.
    pub fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// Notes a part of the body that is no part of an answer.
    pub fn pass_over(&mut self, what: &str) {
        if self.unknown.is_none() {
            tracing::debug!(what, "a part of the agent's answer is passed over");
            self.unknown = Some(what.to_owned());
        }
    }

    /// Takes the next piece of the answer, or a whole answer, in JSON. Text is an event at once;
    /// calls wait for the end.
    ///
    /// # Errors
    /// It is an error of the server, or text or calls in a form that is not understood.
    pub fn hear(
        &mut self,
        json: &str,
        is_whole: bool,
        is_error: bool,
        events: &mut VecDeque<StepEvent>,
    ) -> Result<(), AgentError> {
        if is_error {
            return Err(Refusal::of_event(json).into_error(None, &self.mask));
        }
        if !is_whole && !json.trim_start().starts_with(['{', '[']) {
            // Some servers write words such as `ping` to keep the connection.
            self.pass_over("an event that is no JSON");
            return Ok(());
        }
        let values = values(json).map_err(|error| nonsense(format!("it is not JSON: {error}")))?;
        values
            .iter()
            .try_for_each(|value| self.hear_value(value, is_whole, events))
    }

    fn hear_value(
        &mut self,
        value: &RawValue,
        is_whole: bool,
        events: &mut VecDeque<StepEvent>,
    ) -> Result<(), AgentError> {
        match Node::of(value) {
            Node::Object(event) => self.hear_object(value, &event, is_whole, events),
            Node::List(values) => values
                .into_iter()
                .try_for_each(|value| match Node::of(value) {
                    Node::Object(event) => self.hear_object(value, &event, is_whole, events),
                    node => {
                        self.pass_over(&format!("{} in an array", node.kind()));
                        Ok(())
                    }
                }),
            node => {
                self.pass_over(&format!("an event that is {}", node.kind()));
                Ok(())
            }
        }
    }

    fn hear_object(
        &mut self,
        value: &RawValue,
        event: &Object<'_>,
        is_whole: bool,
        events: &mut VecDeque<StepEvent>,
    ) -> Result<(), AgentError> {
        if let Some(refusal) = Refusal::in_stream(value.get(), event) {
            return Err(refusal.into_error(None, &self.mask));
        }
        let chunk = Chunk::read(event).map_err(|why| nonsense(format!("its member {why}")))?;
        self.used = TokensUsed {
            input: chunk.usage.input.or(self.used.input),
            output: chunk.usage.output.or(self.used.output),
        };
        if chunk.choices.is_empty() && !event.has("choices") && !event.has("usage") {
            self.pass_over("an object without choices");
        }
        chunk
            .choices
            .into_iter()
            .try_for_each(|choice| self.take(choice, is_whole, events))
    }

    fn take(
        &mut self,
        choice: Choice<'_>,
        is_whole: bool,
        events: &mut VecDeque<StepEvent>,
    ) -> Result<(), AgentError> {
        self.has_begun = true;
        if let Some(error) = choice.error
            && !Node::of(error).is_blank()
        {
            return Err(Refusal::of_event(error.get()).into_error(None, &self.mask));
        }
        if !(choice.is_message && self.has_pieces) {
            self.text.push(&choice.text);
            let text = self.text.take_whole();
            if !text.is_empty() {
                self.has_pieces |= !choice.is_message;
                events.push_back(StepEvent::Text(without_nul(text)));
            }
        }
        if !choice.is_message || self.calls.is_empty() {
            let calls = if choice.calls.is_empty() {
                choice.function_call.into_iter().collect()
            } else {
                choice.calls
            };
            calls
                .into_iter()
                .try_for_each(|fragment| self.calls.add(fragment))?;
        }
        choice
            .kept
            .into_iter()
            .for_each(|(name, value)| self.kept.add_member(name, value));
        choice
            .thoughts
            .into_iter()
            .for_each(|part| self.kept.add_thought(part));
        if let Some(reason) = choice.finish {
            self.finish = Some(finish_reason(&reason)?);
        } else if is_whole && choice.is_message && self.finish.is_none() {
            self.finish = Some(FinishReason::Complete);
        }
        Ok(())
    }

    /// The body is over, without the mark of the end.
    ///
    /// # Errors
    /// See [`complete`](Self::complete); also, the answer was cut off.
    pub fn end(self, events: &mut VecDeque<StepEvent>) -> Result<(), AgentError> {
        match &self.unknown {
            Some(what) if !self.has_begun => {
                Err(nonsense(format!("nothing in it is an answer, but {what}")))
            }
            _ if self.is_finished() => self.complete(events),
            _ => Err(cut_off()),
        }
    }

    /// The answer is complete: its calls, then why it ended and the usage, zero if the server did
    /// not say.
    ///
    /// # Errors
    /// There was no answer, or a call in it names no tool, or nothing is left of it by a content
    /// filter.
    pub fn complete(mut self, events: &mut VecDeque<StepEvent>) -> Result<(), AgentError> {
        if !self.has_begun {
            return Err(nonsense(format!(
                "it says nothing{}",
                self.unknown
                    .map_or_else(String::new, |what| format!(", but {what}"))
            )));
        }
        let rest = std::mem::take(&mut self.text).into_string();
        if !rest.is_empty() {
            self.has_pieces = true;
            events.push_back(StepEvent::Text(rest));
        }
        let finish = self.finish.unwrap_or(FinishReason::Complete);
        let calls = self.calls.finish(finish)?;
        if finish == FinishReason::ContentFilter && calls.is_empty() && !self.has_pieces {
            return Err(refused_by_policy());
        }
        for WholeCall {
            id,
            tool,
            arguments,
            kept,
        } in calls
        {
            let agent_data = of_call(&self.source, id, kept);
            events.push_back(StepEvent::ToolCall {
                tool: self.tools.own(tool),
                arguments,
                agent_data,
            });
        }
        let usage = Usage {
            input_tokens: self.used.input.unwrap_or(0),
            output_tokens: self.used.output.unwrap_or(0),
        };
        events.push_back(StepEvent::Done(StepEnd {
            usage,
            finish,
            agent_data: self.kept.data(&self.source),
        }));
        Ok(())
    }
}

/// What a reason means; it is in lower case. From the references of OpenAI, Mistral, DeepSeek, GLM,
/// Gemini, Anthropic and OpenRouter.
fn finish_reason(reason: &str) -> Result<FinishReason, AgentError> {
    match reason {
        "length"
        | "max_tokens"
        | "max_output_tokens"
        | "max_length"
        | "model_length"
        | "max_new_tokens"
        | "token_limit"
        | "model_context_window_exceeded" => Ok(FinishReason::Length),
        "content_filter"
        | "content_filtered"
        | "safety"
        | "recitation"
        | "blocklist"
        | "prohibited_content"
        | "spii"
        | "image_safety"
        | "sensitive"
        | "language"
        | "guardrail_intervened" => Ok(FinishReason::ContentFilter),
        "error"
        | "failed"
        | "network_error"
        | "insufficient_system_resource"
        | "malformed_function_call"
        | "malformed_response"
        | "unexpected_tool_call"
        | "abort"
        | "aborted" => Err(failed(format!(
            "its answer ended with the finish reason {reason}"
        ))),
        "stop" | "tool_calls" | "tool_call" | "tool_use" | "function_call" | "end_turn" | "eos"
        | "eos_token" | "stop_sequence" | "complete" | "completed" => Ok(FinishReason::Complete),
        _ => {
            let reason: String = reason
                .chars()
                .filter(|char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-'))
                .take(40)
                .collect();
            tracing::info!(
                reason,
                "unknown finish reason of the agent, taken as complete"
            );
            Ok(FinishReason::Complete)
        }
    }
}
