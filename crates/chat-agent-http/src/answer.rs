//! What an answer says, told as the events of a step.

use std::collections::VecDeque;

use chat_domain::{AgentError, FinishReason, StepEnd, StepEvent, Usage, without_nul};

use crate::calls::Calls;
use crate::chunk::{Chunk, Delta};
use crate::failure::{nonsense, refused_by_policy};
use crate::refusal::Refusal;
use crate::tool_names::Renamed;

/// An answer as far as it is known.
#[derive(Debug)]
pub struct Answer {
    renamed: Renamed,
    calls: Calls,
    usage: Usage,
    begun: bool,
    finished: bool,
}

impl Answer {
    /// An answer of which nothing is known. Calls of renamed tools get their own names back.
    pub fn new(renamed: Renamed) -> Self {
        Self { renamed, calls: Calls::default(), usage: Usage::default(), begun: false, finished: false }
    }

    /// Whether the server has said why the answer ends. Only the usage may follow.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Takes the next piece of the answer, or a whole answer, in JSON. Text is an event at once; calls wait for the end.
    ///
    /// # Errors
    /// It is an error of the server, or nothing that is understood, or the content was refused.
    pub fn hear(&mut self, json: &str, events: &mut VecDeque<StepEvent>) -> Result<(), AgentError> {
        let chunk = match serde_json::from_str::<Chunk>(json) {
            Ok(chunk) if chunk.error.is_none() && chunk.object.as_deref() != Some("error") => chunk,
            _ => {
                let refusal = serde_json::from_str(json).ok().and_then(|data| Refusal::in_stream(&data));
                return Err(refusal.map_or_else(|| nonsense("it is not of the form of an answer"), |refusal| refusal.into_error(None)));
            }
        };
        if let Some(used) = chunk.usage {
            self.usage = Usage { input_tokens: used.prompt_tokens, output_tokens: used.completion_tokens };
        }
        for choice in chunk.choices.unwrap_or_default() {
            if choice.index.unwrap_or(0) != 0 {
                continue;
            }
            self.begun = true;
            self.take(choice.delta.unwrap_or_default(), events)?;
            match choice.finish_reason.as_deref() {
                None => {}
                Some("content_filter") => return Err(refused_by_policy()),
                Some(_) => self.finished = true,
            }
        }
        Ok(())
    }

    fn take(&mut self, delta: Delta, events: &mut VecDeque<StepEvent>) -> Result<(), AgentError> {
        let text = [delta.content, delta.refusal].into_iter().flatten().filter(|text| !text.is_empty());
        events.extend(text.map(|text| StepEvent::Text(without_nul(text))));
        delta.tool_calls.unwrap_or_default().into_iter().try_for_each(|fragment| self.calls.add(fragment))
    }

    /// The answer is complete: its calls, then the usage, zero if the server did not say.
    ///
    /// # Errors
    /// There was no answer, or a call in it names no tool.
    pub fn complete(self, events: &mut VecDeque<StepEvent>) -> Result<(), AgentError> {
        if !self.begun {
            return Err(nonsense("it says nothing"));
        }
        let call = |call: crate::calls::WholeCall| StepEvent::Call {
            tool: self.renamed.own(call.tool),
            arguments: call.arguments,
            agent_data: None,
        };
        events.extend(self.calls.finish()?.into_iter().map(call));
        events.push_back(StepEvent::Done(StepEnd { usage: self.usage, finish: FinishReason::Complete, agent_data: None }));
        Ok(())
    }
}
