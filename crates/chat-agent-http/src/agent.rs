//! The chat completions adapter.

use async_trait::async_trait;
use chat_domain::{Agent, AgentError, StepRequest, StepStream};

use crate::answer::Answer;
use crate::clock::StepClock;
use crate::endpoint::Endpoint;
use crate::events;
use crate::failure::protocol_error;
use crate::request::{self, RequestContext};
use crate::settings::{ChatCompletionsSettings, InvalidSettings, Timeouts};
use crate::tool_names::ToolNames;

/// An agent behind an OpenAI-compatible chat completions endpoint. Clones share their connections.
///
/// The agent connects to the configured address only: redirects are not followed, and proxy
/// settings in the environment are ignored. Dropping a step's stream closes its connection. The
/// [crate's documentation](crate) lists how bad answers are handled.
#[derive(Clone, Debug)]
pub struct ChatCompletionsAgent {
    endpoint: Endpoint,
    model: String,
    instructions: Option<String>,
    timeouts: Timeouts,
    /// Identifies the server and model. Agent data is sent back only to the source it came from.
    source: String,
}

impl ChatCompletionsAgent {
    /// Creates an agent. Nothing is sent before the first step.
    ///
    /// # Errors
    /// The address, the API key or the model name is not usable, or the HTTP client cannot be
    /// built.
    pub fn new(settings: ChatCompletionsSettings) -> Result<Self, InvalidSettings> {
        if settings.model.is_empty() {
            return Err(InvalidSettings::Model);
        }
        let endpoint = Endpoint::new(&settings)?;
        let source = request::source(endpoint.address(), &settings.model);
        Ok(Self {
            endpoint,
            source,
            model: settings.model,
            instructions: settings.instructions,
            timeouts: settings.timeouts,
        })
    }
}

#[async_trait]
impl Agent for ChatCompletionsAgent {
    async fn step(&self, request: StepRequest) -> Result<StepStream, AgentError> {
        let clock = StepClock::start(self.timeouts);
        let context = RequestContext {
            model: &self.model,
            instructions: self.instructions.as_deref(),
            source: &self.source,
            unsupported: self.endpoint.unsupported(),
        };
        let body = request::body(&context, &request);
        let body = body.map_err(|error| {
            protocol_error(format!("the request cannot be serialized: {error}"))
        })?;
        let tools = ToolNames::new(request.tools.iter().map(|tool| tool.name.as_str()));
        let answer = Answer::new(tools, self.source.clone(), self.endpoint.mask().clone());
        // The transcript is as large as the body and is not needed while the agent answers.
        drop(request);
        let opened = self.endpoint.post(body, clock).await?;
        Ok(events::read(
            opened.response,
            opened.first_byte_deadline,
            clock,
            answer,
        ))
    }
}
