//! Converts the parsed chunks of an answer to step events.

use std::collections::VecDeque;

use chat_domain::{AgentError, FinishReason, StepEnd, StepEvent, Usage, without_nul};
use serde_json::value::RawValue;

use crate::agent_data::{DataCollector, call_data};
use crate::calls::{CallAssembler, CompleteCall};
use crate::chunk::{Choice, Chunk, TokensUsed};
use crate::failure::{agent_failed, protocol_error, refused_by_content_policy, truncated};
use crate::json::{Node, Object, Text, parse_values};
use crate::mask::Mask;
use crate::server_error::ServerError;
use crate::tool_names::ToolNames;

/// An answer while it is received.
#[derive(Debug)]
pub struct Answer {
    tools: ToolNames,
    /// Server and model that the answer comes from.
    source: String,
    mask: Mask,
    calls: CallAssembler,
    /// Text whose last code unit may be half of a surrogate pair; the next chunk may hold the other
    /// half.
    text: Text,
    collected: DataCollector,
    usage: TokensUsed,
    has_started: bool,
    /// Whether text came in deltas. A final whole message repeats it.
    has_deltas: bool,
    finish: Option<FinishReason>,
    /// Description of the first ignored part, for the error if no answer follows.
    ignored: Option<String>,
}

impl Answer {
    /// Creates an empty answer. Calls of renamed tools get their original names back.
    pub fn new(tools: ToolNames, source: String, mask: Mask) -> Self {
        Self {
            tools,
            source,
            mask,
            calls: CallAssembler::default(),
            text: Text::default(),
            collected: DataCollector::default(),
            usage: TokensUsed::default(),
            has_started: false,
            has_deltas: false,
            finish: None,
            ignored: None,
        }
    }

    /// Whether the server sent a finish reason. Only the usage may follow.
    pub fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// Records a part of the body that does not belong to an answer.
    pub fn ignore(&mut self, what: &str) {
        if self.ignored.is_none() {
            tracing::debug!(what, "part of the agent's answer ignored");
            self.ignored = Some(what.to_owned());
        }
    }

    /// Adds a chunk of the answer, or a whole answer, in JSON. Text becomes an event at once; tool
    /// calls become events when the answer is complete.
    ///
    /// # Errors
    /// The JSON is an error of the server, or its text or tool calls have an unknown form.
    pub fn add_json(
        &mut self,
        json: &str,
        is_document: bool,
        is_error: bool,
        events: &mut VecDeque<StepEvent>,
    ) -> Result<(), AgentError> {
        if is_error {
            return Err(ServerError::parse(json).into_error(None, &self.mask));
        }
        if !is_document && !json.trim_start().starts_with(['{', '[']) {
            // Some servers send words such as `ping` to keep the connection alive.
            self.ignore("an event that is not JSON");
            return Ok(());
        }
        let values =
            parse_values(json).map_err(|error| protocol_error(format!("invalid JSON: {error}")))?;
        values
            .iter()
            .try_for_each(|value| self.add_value(value, is_document, events))
    }

    fn add_value(
        &mut self,
        value: &RawValue,
        is_document: bool,
        events: &mut VecDeque<StepEvent>,
    ) -> Result<(), AgentError> {
        match Node::parse(value) {
            Node::Object(event) => self.add_object(value, &event, is_document, events),
            Node::List(values) => {
                values
                    .into_iter()
                    .try_for_each(|value| match Node::parse(value) {
                        Node::Object(event) => self.add_object(value, &event, is_document, events),
                        node => {
                            self.ignore(&format!("{} in an array", node.kind()));
                            Ok(())
                        }
                    })
            }
            node => {
                self.ignore(&format!("an event that is {}", node.kind()));
                Ok(())
            }
        }
    }

    fn add_object(
        &mut self,
        value: &RawValue,
        event: &Object<'_>,
        is_document: bool,
        events: &mut VecDeque<StepEvent>,
    ) -> Result<(), AgentError> {
        if let Some(server_error) = ServerError::in_stream(value.get(), event) {
            return Err(server_error.into_error(None, &self.mask));
        }
        let chunk =
            Chunk::read(event).map_err(|why| protocol_error(format!("unknown form: {why}")))?;
        self.usage = TokensUsed {
            input: chunk.usage.input.or(self.usage.input),
            output: chunk.usage.output.or(self.usage.output),
        };
        if chunk.choices.is_empty() && !event.has("choices") && !event.has("usage") {
            self.ignore("an object without choices");
        }
        chunk
            .choices
            .into_iter()
            .try_for_each(|choice| self.add_choice(choice, is_document, events))
    }

    fn add_choice(
        &mut self,
        choice: Choice<'_>,
        is_document: bool,
        events: &mut VecDeque<StepEvent>,
    ) -> Result<(), AgentError> {
        self.has_started = true;
        if let Some(error) = choice.error
            && !Node::parse(error).is_blank()
        {
            return Err(ServerError::parse(error.get()).into_error(None, &self.mask));
        }
        if !(choice.is_message && self.has_deltas) {
            self.text.push(&choice.text);
            let text = self.text.take_complete();
            if !text.is_empty() {
                self.has_deltas |= !choice.is_message;
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
            .extra_members
            .into_iter()
            .for_each(|(name, value)| self.collected.add_member(name, value));
        choice
            .reasoning_parts
            .into_iter()
            .for_each(|part| self.collected.add_reasoning_part(part));
        if let Some(reason) = choice.finish {
            self.finish = Some(finish_reason(&reason)?);
        } else if is_document && choice.is_message && self.finish.is_none() {
            self.finish = Some(FinishReason::Complete);
        }
        Ok(())
    }

    /// Ends an answer whose body ended without the end mark.
    ///
    /// # Errors
    /// Those of [`complete`](Self::complete); also, the answer was truncated.
    pub fn end(self, events: &mut VecDeque<StepEvent>) -> Result<(), AgentError> {
        match &self.ignored {
            Some(what) if !self.has_started => {
                Err(protocol_error(format!("no answer received, but {what}")))
            }
            _ if self.is_finished() => self.complete(events),
            _ => Err(truncated()),
        }
    }

    /// Ends the answer: adds its tool calls, then its finish reason and usage. The usage is zero if
    /// the server did not send one.
    ///
    /// # Errors
    /// There was no answer, a tool call has no name, or a content filter removed the whole answer.
    pub fn complete(mut self, events: &mut VecDeque<StepEvent>) -> Result<(), AgentError> {
        if !self.has_started {
            return Err(protocol_error(format!(
                "empty answer{}",
                self.ignored
                    .map_or_else(String::new, |what| format!(", but {what}"))
            )));
        }
        let rest = std::mem::take(&mut self.text).into_string();
        if !rest.is_empty() {
            self.has_deltas = true;
            events.push_back(StepEvent::Text(rest));
        }
        let finish = self.finish.unwrap_or(FinishReason::Complete);
        let calls = self.calls.finish(finish)?;
        if finish == FinishReason::ContentFilter && calls.is_empty() && !self.has_deltas {
            return Err(refused_by_content_policy());
        }
        for CompleteCall {
            id,
            tool,
            arguments,
            extra_members,
        } in calls
        {
            let agent_data = call_data(&self.source, id, extra_members);
            events.push_back(StepEvent::ToolCall {
                tool: self.tools.original_name(tool),
                arguments,
                agent_data,
            });
        }
        let usage = Usage {
            input_tokens: self.usage.input.unwrap_or(0),
            output_tokens: self.usage.output.unwrap_or(0),
        };
        events.push_back(StepEvent::Done(StepEnd {
            usage,
            finish,
            agent_data: self.collected.data(&self.source),
        }));
        Ok(())
    }
}

/// Maps a finish reason in lower case. The values are from the references of OpenAI, Mistral,
/// DeepSeek, GLM, Gemini, Anthropic and OpenRouter.
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
        | "aborted" => Err(agent_failed(format!("finish reason {reason}"))),
        "stop" | "tool_calls" | "tool_call" | "tool_use" | "function_call" | "end_turn" | "eos"
        | "eos_token" | "stop_sequence" | "complete" | "completed" => Ok(FinishReason::Complete),
        _ => {
            let reason: String = reason
                .chars()
                .filter(|char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-'))
                .take(40)
                .collect();
            tracing::info!(reason, "unknown finish reason, treated as complete");
            Ok(FinishReason::Complete)
        }
    }
}
