//! The agent contract suite.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chat_agent_http::ChatCompletionsAgent;
use chat_domain::testing::agent_contract::AgentUnderTest;
use chat_domain::testing::{Gate, Script};
use chat_domain::{
    Agent, AgentError, AgentErrorKind, FinishReason, StepEvent, StepRequest, StepStream,
};
use chat_test_support::stub_agent::{Answer, StubAgent, chunk};

use crate::support::settings;

/// The adapter and its stub server.
struct Served {
    agent: ChatCompletionsAgent,
    _stub: StubAgent,
}

#[async_trait]
impl Agent for Served {
    async fn step(&self, request: StepRequest) -> Result<StepStream, AgentError> {
        self.agent.step(request).await
    }
}

struct ChatCompletions;

#[async_trait]
impl AgentUnderTest for ChatCompletions {
    async fn agent(&self, script: Vec<Script>) -> Arc<dyn Agent> {
        let answer = answer(&script);
        let stub = StubAgent::start(move |_| answer.clone());
        let mut settings = settings(&stub.base_url());
        if matches!(script[..], [Script::Fail(AgentErrorKind::TimedOut)]) {
            settings.timeouts.first_byte = Duration::from_millis(100);
        }
        let agent = ChatCompletionsAgent::new(settings).expect("usable settings");
        Arc::new(Served { agent, _stub: stub })
    }

    fn kinds(&self) -> Vec<AgentErrorKind> {
        vec![
            AgentErrorKind::Misconfigured,
            AgentErrorKind::Overloaded { retry_after: None },
            AgentErrorKind::Overloaded {
                retry_after: Some(Duration::from_secs(120)),
            },
            AgentErrorKind::ContextTooLong { limit: None },
            AgentErrorKind::Refused,
            AgentErrorKind::TimedOut,
            AgentErrorKind::Unavailable,
            AgentErrorKind::Protocol,
        ]
    }
}

/// Returns the server's answer that makes the agent follow the script.
fn answer(script: &[Script]) -> Answer {
    let mut body = String::new();
    let mut held: Option<(usize, Gate)> = None;
    let mut calls = 0..;
    for act in script {
        let event = match act {
            Script::Say(StepEvent::Text(text)) => chunk::text(text),
            Script::Say(StepEvent::ToolCall {
                tool, arguments, ..
            }) => chunk::call(
                calls.next().expect("a number"),
                "",
                tool,
                arguments.as_str(),
            ),
            Script::Say(StepEvent::Done(end)) => chunk::finish(match end.finish {
                FinishReason::Complete => "stop",
                FinishReason::Length => "length",
                FinishReason::ContentFilter => "content_filter",
            }),
            Script::Say(other) => panic!("no server can answer {other:?}"),
            Script::Wait(gate) => {
                held = Some((body.len(), gate.clone()));
                continue;
            }
            Script::Fail(kind) => return failure(*kind),
            Script::Cut => return Answer::sse(body.clone() + "data: {").cut_after(body.len() + 3),
        };
        body += &format!("data: {event}\n\n");
    }
    let answer = Answer::sse(body + "data: [DONE]\n\n");
    held.iter().fold(answer, |answer, (bytes, gate)| {
        answer.held_after(*bytes, gate)
    })
}

fn failure(kind: AgentErrorKind) -> Answer {
    match kind {
        AgentErrorKind::Misconfigured => Answer::error(401, "invalid_api_key", "no"),
        AgentErrorKind::Overloaded { retry_after: None } => Answer::error(503, "", "later"),
        AgentErrorKind::Overloaded {
            retry_after: Some(after),
        } => Answer::error(429, "", "later").header("retry-after", &after.as_secs().to_string()),
        AgentErrorKind::ContextTooLong { .. } => {
            Answer::error(400, "context_length_exceeded", "too long")
        }
        AgentErrorKind::Refused => Answer::error(400, "content_policy_violation", "no"),
        AgentErrorKind::TimedOut => Answer::hanging(),
        AgentErrorKind::Unavailable => Answer::error(500, "", "boom"),
        AgentErrorKind::Protocol => Answer::raw(200, "text/html", "<html>"),
        AgentErrorKind::EmptyAnswer => Answer::text([""]),
    }
}

chat_domain::agent_contract! { async { ChatCompletions } }
