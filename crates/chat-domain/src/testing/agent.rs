use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt};

use crate::testing::Gate;
use crate::{
    Agent, AgentError, AgentErrorKind, FinishReason, RawJson, StepEnd, StepEvent, StepRequest,
    StepStream, Usage,
};

/// An act of a scripted agent in a step.
#[derive(Clone, Debug)]
pub enum Script {
    /// Says this.
    Say(StepEvent),
    /// Waits until the test opens the gate.
    Wait(Gate),
    /// Fails.
    Fail(AgentErrorKind),
    /// Is cut off in the middle of its answer.
    Cut,
}

impl Script {
    /// Text.
    pub fn text(text: &str) -> Self {
        Self::Say(StepEvent::Text(text.to_owned()))
    }

    /// A tool call.
    pub fn call(tool: &str, arguments: &str) -> Self {
        Self::Say(StepEvent::ToolCall {
            tool: tool.to_owned(),
            arguments: RawJson::from_valid(arguments),
            agent_data: None,
        })
    }

    /// The end of a step, with 10 tokens read and 5 written.
    pub fn done(finish: FinishReason) -> Self {
        let usage = Usage {
            input_tokens: 10,
            output_tokens: 5,
        };
        Self::Say(StepEvent::Done(StepEnd {
            usage,
            finish,
            agent_data: None,
        }))
    }
}

type Answer = Box<dyn Fn(&StepRequest) -> Vec<Script> + Send + Sync>;

/// An agent that does what the test wrote down, and remembers what it was asked.
///
/// A step that is not cut or failed ends with `Done` by itself.
pub struct ScriptedAgent {
    steps: Mutex<VecDeque<Vec<Script>>>,
    otherwise: Answer,
    requests: Mutex<Vec<StepRequest>>,
}

impl ScriptedAgent {
    /// Does these steps, one after another, and then says "Nothing is scripted."
    pub fn new(steps: impl IntoIterator<Item = Vec<Script>>) -> Self {
        Self {
            steps: Mutex::new(steps.into_iter().collect()),
            ..Self::answering(|_| vec![Script::text("Nothing is scripted.")])
        }
    }

    /// Answers each request so.
    pub fn answering(answer: impl Fn(&StepRequest) -> Vec<Script> + Send + Sync + 'static) -> Self {
        Self {
            steps: Mutex::default(),
            otherwise: Box::new(answer),
            requests: Mutex::default(),
        }
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<StepRequest> {
        locked(&self.requests).clone()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Agent for ScriptedAgent {
    async fn step(&self, request: StepRequest) -> Result<StepStream, AgentError> {
        let scripted = locked(&self.steps).pop_front();
        let mut script = scripted.unwrap_or_else(|| (self.otherwise)(&request));
        locked(&self.requests).push(request);
        if !matches!(
            script.last(),
            Some(Script::Cut | Script::Fail(_) | Script::Say(StepEvent::Done(_)))
        ) {
            script.push(Script::done(FinishReason::Complete));
        }
        Ok(stream::iter(script)
            .filter_map(|script| async move {
                match script {
                    Script::Say(event) => Some(Ok(event)),
                    Script::Fail(kind) => Some(Err(AgentError::new(kind, "The script failed."))),
                    Script::Wait(gate) => {
                        gate.pass().await;
                        None
                    }
                    Script::Cut => Some(Err(AgentError::new(
                        AgentErrorKind::Unavailable,
                        "The answer was cut off.",
                    ))),
                }
            })
            .boxed())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::testing::agent_contract::AgentUnderTest;

    struct Scripted;

    #[async_trait]
    impl AgentUnderTest for Scripted {
        async fn agent(&self, script: Vec<Script>) -> Arc<dyn Agent> {
            Arc::new(ScriptedAgent::new([script]))
        }

        fn kinds(&self) -> Vec<AgentErrorKind> {
            vec![
                AgentErrorKind::TimedOut,
                AgentErrorKind::Overloaded {
                    retry_after: Some(Duration::from_secs(3)),
                },
            ]
        }
    }

    crate::agent_contract! { async { Scripted } }
}
