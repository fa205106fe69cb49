//! The offline agent: rules instead of a model.

mod intent;
mod memory;
mod plan;
mod reference;
mod wording;
mod words;

use std::time::Duration;

use async_trait::async_trait;
use chat_domain::transcript::{Entry, estimate_tokens};
use chat_domain::{Agent, AgentError, FinishReason, RawJson, StepEnd, StepEvent, StepRequest, StepStream, ToolSpec, Usage};
use futures_util::{StreamExt, stream};

use plan::Next;

/// An agent of rules that keeps a task list: it needs no model, no key and no network.
///
/// It understands simple English, uses the tools of [`tasks`](crate::tasks) if it is offered them, and says what it can do
/// otherwise. All that it remembers stands in the transcript: "the first one" is of the list it showed last, "it" is the task
/// spoken of last, and what comes after its own question may be the answer. It streams word by word.
#[derive(Clone, Debug)]
pub struct DemoAgent {
    word_delay: Duration,
}

impl DemoAgent {
    /// An agent that waits so long before each word.
    pub fn new(word_delay: Duration) -> Self {
        Self { word_delay }
    }
}

impl Default for DemoAgent {
    /// Waits 15 ms before each word: quick reading.
    fn default() -> Self {
        Self::new(Duration::from_millis(15))
    }
}

#[async_trait]
impl Agent for DemoAgent {
    async fn step(&self, request: StepRequest) -> Result<StepStream, AgentError> {
        let next = plan::next(&memory::turns(&request.transcript));
        let input_tokens = request.transcript.0.iter().map(size).sum();
        let events = match next {
            Next::Call(tool, arguments) if offered(&request.tools, tool) => {
                let arguments = arguments.to_string();
                let usage = Usage { input_tokens, output_tokens: tokens(&arguments) };
                vec![StepEvent::Call { tool: tool.to_owned(), arguments: RawJson::from_valid(arguments), agent_data: None }, done(usage)]
            }
            Next::Call(..) => words(wording::AWAY, input_tokens),
            Next::Ask(question) => words(&wording::asked(&question), input_tokens),
            Next::Say(text) => words(&text, input_tokens),
        };
        let delay = self.word_delay;
        let in_time = move |event: StepEvent| async move {
            if matches!(event, StepEvent::Text(_)) && !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            Ok(event)
        };
        Ok(stream::iter(events).then(in_time).boxed())
    }
}

fn offered(tools: &[ToolSpec], name: &str) -> bool {
    tools.iter().any(|tool| tool.name == name)
}

/// The words, each with the white space after it, and the end.
fn words(text: &str, input_tokens: u64) -> Vec<StepEvent> {
    let words = text.split_inclusive(char::is_whitespace).map(|word| StepEvent::Text(word.to_owned()));
    words.chain([done(Usage { input_tokens, output_tokens: tokens(text) })]).collect()
}

fn done(usage: Usage) -> StepEvent {
    StepEvent::Done(StepEnd { usage, finish: FinishReason::Complete, agent_data: None })
}

fn size(entry: &Entry) -> u64 {
    match entry {
        Entry::User { text } => tokens(text),
        Entry::Assistant { text, calls, .. } => tokens(text) + calls.iter().map(|call| tokens(call.arguments.as_str())).sum::<u64>(),
        Entry::ToolResult { content, .. } => tokens(content),
    }
}

fn tokens(text: &str) -> u64 {
    u64::try_from(estimate_tokens(text)).unwrap_or(u64::MAX)
}
