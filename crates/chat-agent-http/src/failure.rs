//! What the user is told when a step fails: what happened. What to do about it, the server says for
//! each kind. No text here holds anything that came from outside.

use std::error::Error;

use chat_domain::{AgentError, AgentErrorKind};

/// What was too slow.
#[derive(Clone, Copy, Debug)]
pub enum Slow {
    FirstByte,
    Idle,
    Step,
}

pub fn too_slow(slow: Slow) -> AgentError {
    AgentError::new(
        AgentErrorKind::TimedOut,
        match slow {
            Slow::FirstByte => {
                "The agent did not begin to answer in time. A model may need a while to be loaded."
            }
            Slow::Idle => "The agent stopped in the middle of its answer.",
            Slow::Step => "The agent needed more time than allowed.",
        },
    )
}

pub fn unreachable(source: reqwest::Error) -> AgentError {
    // The address may be nobody's business, and the log has the host's configuration.
    AgentError::new(AgentErrorKind::Unavailable, "The agent cannot be reached.")
        .because(source.without_url())
}

pub fn broken(source: reqwest::Error) -> AgentError {
    AgentError::new(
        AgentErrorKind::Unavailable,
        "The connection to the agent broke.",
    )
    .because(source.without_url())
}

pub fn cut_off() -> AgentError {
    AgentError::new(
        AgentErrorKind::Unavailable,
        "The agent's answer was cut off.",
    )
}

/// An answer that is not understood; `why` is for the log.
pub fn nonsense(why: impl Into<Box<dyn Error + Send + Sync>>) -> AgentError {
    AgentError::new(
        AgentErrorKind::Protocol,
        "The agent's answer was not understood.",
    )
    .because(why)
}

/// The agent said itself that it failed; `why` is for the log.
pub fn failed(why: impl Into<Box<dyn Error + Send + Sync>>) -> AgentError {
    AgentError::new(AgentErrorKind::Unavailable, "The agent failed.").because(why)
}

pub fn refused_by_policy() -> AgentError {
    AgentError::new(
        AgentErrorKind::Refused,
        "The agent's content policy does not allow this.",
    )
}
