//! The adapter itself.

use async_trait::async_trait;
use chat_domain::{Agent, AgentError, StepRequest, StepStream};

use crate::answer::Answer;
use crate::clock::StepClock;
use crate::events;
use crate::failure::nonsense;
use crate::post::Endpoint;
use crate::request::{self, Asked};
use crate::settings::{ChatCompletionsSettings, InvalidSettings, Timeouts};
use crate::tool_names::ToolNames;

/// An agent behind an OpenAI-compatible chat completions endpoint. Clones share their connections.
///
/// It connects to the configured address only: redirects are not followed, and the proxies of the
/// environment are not used. Dropping a step's stream closes its connection. See the [crate's
/// documentation](crate) for what becomes of bad answers.
#[derive(Clone, Debug)]
pub struct ChatCompletionsAgent {
    endpoint: Endpoint,
    model: String,
    instructions: Option<String>,
    timeouts: Timeouts,
    /// The server and model, as they are noted with data that they want back.
    source: String,
}

impl ChatCompletionsAgent {
    /// An agent with these settings. Nothing is sent before the first step.
    ///
    /// # Errors
    /// The address, the key or the model's name is not usable, or there is no HTTP client.
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
        let asked = Asked {
            model: &self.model,
            instructions: self.instructions.as_deref(),
            source: &self.source,
            habits: self.endpoint.habits(),
        };
        let body = request::body(&asked, &request);
        let body =
            body.map_err(|error| nonsense(format!("the request cannot be written: {error}")))?;
        let tools = ToolNames::of(request.tools.iter().map(|tool| tool.name.as_str()));
        let answer = Answer::new(tools, self.source.clone(), self.endpoint.mask().clone());
        // It is as large as the body, and the agent may be silent for long.
        drop(request);
        let opened = self.endpoint.post(body, clock).await?;
        Ok(events::read(
            opened.response,
            opened.first_byte_by,
            clock,
            answer,
        ))
    }
}
