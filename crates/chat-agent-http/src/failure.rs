//! The errors of a step. A message says what happened; the server adds what to do about each kind.
//! No message contains text from outside.

use std::error::Error;

use chat_domain::{AgentError, AgentErrorKind};

/// The timeout that expired.
#[derive(Clone, Copy, Debug)]
pub enum TimeoutKind {
    FirstByte,
    Idle,
    Step,
}

pub fn timeout_error(kind: TimeoutKind) -> AgentError {
    AgentError::new(
        AgentErrorKind::TimedOut,
        match kind {
            TimeoutKind::FirstByte => {
                "The agent did not start to answer in time. Loading a model can take a while."
            }
            TimeoutKind::Idle => "The agent stopped in the middle of its answer.",
            TimeoutKind::Step => "The agent did not finish its answer in time.",
        },
    )
}

pub fn unreachable(source: reqwest::Error) -> AgentError {
    // The URL may be confidential, and operators find it in the configuration.
    AgentError::new(AgentErrorKind::Unavailable, "The agent cannot be reached.")
        .because(source.without_url())
}

pub fn connection_lost(source: reqwest::Error) -> AgentError {
    AgentError::new(
        AgentErrorKind::Unavailable,
        "The connection to the agent was lost.",
    )
    .because(source.without_url())
}

pub fn truncated() -> AgentError {
    AgentError::new(
        AgentErrorKind::Unavailable,
        "The agent's answer was truncated.",
    )
}

/// Returns the error for an answer that does not follow the protocol. `why` is logged only.
pub fn protocol_error(why: impl Into<Box<dyn Error + Send + Sync>>) -> AgentError {
    AgentError::new(
        AgentErrorKind::Protocol,
        "The agent's answer was not understood.",
    )
    .because(why)
}

/// Returns the error for a failure that the agent reported. `why` is logged only.
pub fn agent_failed(why: impl Into<Box<dyn Error + Send + Sync>>) -> AgentError {
    AgentError::new(AgentErrorKind::Unavailable, "The agent failed.").because(why)
}

pub fn refused_by_content_policy() -> AgentError {
    AgentError::new(
        AgentErrorKind::Refused,
        "The agent's content policy does not allow this.",
    )
}
