//! The ports: what the domain needs from the world, each with the contract its adapters keep.

mod agent;
mod environment;
mod observer;
mod store;
mod toolset;

#[cfg(feature = "testing")]
pub use agent::MockAgent;
pub use agent::{Agent, AgentError, AgentErrorKind, StepEnd, StepEvent, StepRequest, StepStream};
pub use environment::{Environment, SystemEnvironment};
pub use observer::{Observer, Signal};
#[cfg(feature = "testing")]
pub use store::MockConversationStore;
pub use store::{
    BeginTurn, Begun, BegunPage, BusyPolicy, Claim, ConversationPage, ConversationStore, EndedTurn,
    Heartbeat, IdempotencyKey, StoreError, Target, ToolCallPage, ToolCallRecord, TurnMark,
    TurnPage, Unavailability,
};
#[cfg(feature = "testing")]
pub use toolset::MockToolset;
pub use toolset::{CallError, Invocation, ToolSpec, Toolset};
