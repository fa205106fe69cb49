//! The offline agent. [`plan`] decides the next step; this module streams it.

mod history;
mod intents;
mod plan;
mod reference;

use std::time::Duration;

use async_trait::async_trait;
use chat_domain::transcript::{Entry, estimate_tokens};
use chat_domain::{Agent, AgentError, RawJson, StepEnd, StepEvent, StepRequest, StepStream, Usage};
use futures_util::{StreamExt, stream};

use plan::Next;

/// An agent that keeps a task list by a table of intents instead of a model.
///
/// It understands a few English phrases ("What can you do?" lists them) and calls the tools of
/// [`tasks`](crate::tasks) if they are offered. It writes word by word.
#[derive(Clone, Debug)]
pub struct DemoAgent {
    word_delay: Duration,
}

impl DemoAgent {
    /// Creates an agent that waits for `word_delay` before each word.
    pub fn new(word_delay: Duration) -> Self {
        Self { word_delay }
    }
}

#[async_trait]
impl Agent for DemoAgent {
    async fn step(&self, request: StepRequest) -> Result<StepStream, AgentError> {
        let is_offered = |name: &str| request.tools.iter().any(|tool| tool.name == name);
        let (output, mut events) = match plan::next(&request.transcript) {
            Next::Call { tool, arguments } if is_offered(tool) => {
                let call = StepEvent::ToolCall {
                    tool: tool.to_owned(),
                    arguments: RawJson::from_valid(arguments.as_str()),
                    agent_data: None,
                };
                (arguments, vec![call])
            }
            Next::Call { .. } => (history::UNAVAILABLE.to_owned(), words(history::UNAVAILABLE)),
            Next::Say(text) => {
                let words = words(&text);
                (text, words)
            }
        };
        let usage = Usage {
            input_tokens: request.transcript.0.iter().map(entry_tokens).sum(),
            output_tokens: tokens(&output),
        };
        let end = StepEnd::complete(usage);
        events.push(StepEvent::Done(end));
        let delay = self.word_delay;
        let delayed = move |event: StepEvent| async move {
            if matches!(event, StepEvent::Text(_)) && !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            Ok(event)
        };
        Ok(stream::iter(events).then(delayed).boxed())
    }
}

/// Splits a text into words, each with the white space after it.
fn words(text: &str) -> Vec<StepEvent> {
    text.split_inclusive(char::is_whitespace)
        .map(|word| StepEvent::Text(word.to_owned()))
        .collect()
}

fn entry_tokens(entry: &Entry) -> u64 {
    match entry {
        Entry::User { text } => tokens(text),
        Entry::Assistant { text, calls, .. } => {
            let arguments = calls.iter().map(|call| tokens(call.arguments.as_str()));
            tokens(text) + arguments.sum::<u64>()
        }
        Entry::ToolResult { content, .. } => tokens(content),
    }
}

fn tokens(text: &str) -> u64 {
    u64::try_from(estimate_tokens(text)).unwrap_or(u64::MAX)
}
