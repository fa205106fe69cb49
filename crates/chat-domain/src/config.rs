//! The ports and limits that the use case works with.

use std::sync::Arc;

use crate::{Agent, ConversationStore, Environment, Observer, Toolset, TurnLimits};

/// The ports and limits of a [`ChatService`](crate::ChatService).
#[derive(Clone)]
pub struct ChatServiceConfig {
    /// The store of conversations.
    pub store: Arc<dyn ConversationStore>,
    /// The agent that answers.
    pub agent: Arc<dyn Agent>,
    /// The tools that the agent may call.
    pub tools: Arc<dyn Toolset>,
    /// Clock and id generation.
    pub environment: Arc<dyn Environment>,
    /// The receiver of lifecycle events.
    pub observer: Arc<dyn Observer>,
    /// Limits of turns and workers.
    pub limits: TurnLimits,
}
