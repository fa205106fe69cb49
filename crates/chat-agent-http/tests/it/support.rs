//! Helpers of the tests.

use std::time::Duration;

use chat_agent_http::{ChatCompletionsAgent, ChatCompletionsSettings, RetryPolicy};
use chat_domain::RawJson;
use chat_domain::transcript::{Entry, Transcript};
use chat_domain::{
    Agent, AgentError, AgentErrorKind, ConversationId, FinishReason, StepEnd, StepEvent,
    StepRequest, StepStream, ToolSpec, TurnId, Usage, UserId,
};
use futures_util::StreamExt;
use uuid::Uuid;

/// Settings for a stub server, with backoffs that are too short to slow tests down.
pub fn settings(base_url: &str) -> ChatCompletionsSettings {
    let mut settings = ChatCompletionsSettings::new(base_url, "stub-model");
    settings.retries = RetryPolicy {
        max_attempts: 3,
        initial_backoff: Duration::from_millis(1),
        max_backoff: Duration::from_millis(2),
    };
    settings
}

pub fn agent(base_url: &str) -> ChatCompletionsAgent {
    ChatCompletionsAgent::new(settings(base_url)).expect("usable settings")
}

pub fn says(text: &str) -> Entry {
    Entry::User {
        text: text.to_owned(),
    }
}

pub fn tool(name: &str, input_schema: &str) -> ToolSpec {
    let description = format!("Does {name}.");
    ToolSpec {
        name: name.to_owned(),
        description,
        input_schema: RawJson::from_valid(input_schema),
        repeatable: false,
    }
}

pub fn request(entries: impl IntoIterator<Item = Entry>) -> StepRequest {
    StepRequest {
        owner: UserId::new("ada").expect("a name"),
        conversation: ConversationId(Uuid::from_u128(1)),
        turn: TurnId(Uuid::from_u128(2)),
        transcript: Transcript(entries.into_iter().collect()),
        tools: Vec::new(),
    }
}

pub fn hello() -> StepRequest {
    request([says("Hello")])
}

pub type Events = Vec<Result<StepEvent, AgentErrorKind>>;

/// Returns the kind of an error after checking its message.
fn kind(error: &AgentError) -> AgentErrorKind {
    assert!(
        error.message.ends_with('.'),
        "a sentence for the user: {}",
        error.message
    );
    assert!(
        !error.message.contains("127.0.0.1"),
        "no address for the user: {}",
        error.message
    );
    error.kind
}

pub async fn rest(stream: StepStream) -> Events {
    stream
        .map(|event| event.map(without_data).map_err(|error| kind(&error)))
        .collect()
        .await
}

/// Removes the agent data from an event.
fn without_data(event: StepEvent) -> StepEvent {
    match event {
        StepEvent::ToolCall {
            tool, arguments, ..
        } => StepEvent::ToolCall {
            tool,
            arguments,
            agent_data: None,
        },
        StepEvent::Done(end) => StepEvent::Done(StepEnd {
            agent_data: None,
            ..end
        }),
        other => other,
    }
}

/// Collects all events of a step, including an error before the first event.
pub async fn events(agent: &impl Agent, request: StepRequest) -> Events {
    match agent.step(request).await {
        Ok(stream) => rest(stream).await,
        Err(error) => vec![Err(kind(&error))],
    }
}

pub fn text(text: &str) -> Result<StepEvent, AgentErrorKind> {
    Ok(StepEvent::Text(text.to_owned()))
}

pub fn call(tool: &str, arguments: &str) -> Result<StepEvent, AgentErrorKind> {
    Ok(StepEvent::ToolCall {
        tool: tool.to_owned(),
        arguments: RawJson::from_valid(arguments),
        agent_data: None,
    })
}

pub fn done(input_tokens: u64, output_tokens: u64) -> Result<StepEvent, AgentErrorKind> {
    ended(FinishReason::Complete, input_tokens, output_tokens)
}

pub fn ended(
    finish: FinishReason,
    input_tokens: u64,
    output_tokens: u64,
) -> Result<StepEvent, AgentErrorKind> {
    let usage = Usage {
        input_tokens,
        output_tokens,
    };
    Ok(StepEvent::Done(StepEnd {
        usage,
        finish,
        agent_data: None,
    }))
}
