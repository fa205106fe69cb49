//! The ports: what the domain needs from the world, each with the contract its adapters keep.

mod agent;
mod environment;
mod observer;
mod store;
mod toolset;

pub use agent::{Agent, AgentError, AgentErrorKind, StepEnd, StepEvent, StepRequest, StepStream};
pub use environment::{Environment, SystemEnvironment};
pub use observer::{Observer, TurnLifecycleEvent};
pub use store::{
    Claim, ConversationCursor, ConversationOrder, ConversationPage, ConversationStore,
    Conversations, DraftUpdate, Heartbeat, PageOrder, StoreError, StoreResult, ToolCallPage,
    ToolCallRecord, TurnLog, TurnPage, TurnRef, TurnVersion, Unavailability, WorkerLeases,
};
pub use toolset::{CallError, Invocation, ToolSpec, Toolset};
