#![doc = include_str!("../README.md")]

mod conversation;
mod error;
mod feedback;
mod item;
mod json;
mod limits;
mod ports;
mod service;
#[cfg(feature = "testing")]
pub mod testing;
mod turn;
mod turns;
mod values;
mod view;

pub use conversation::{Conversation, Title};
pub use error::{ChatError, InvalidInput};
pub use feedback::Feedback;
pub use item::{
    FinishReason, Item, ItemBody, Message, NewItem, RanBy, Role, ToolCall, ToolError,
    ToolErrorKind, ToolOutcome, ToolOutput, ToolResult, UnknownCause,
};
pub use json::MAX_JSON_DEPTH;
pub use limits::TurnLimits;
pub use ports::*;
pub use service::{ChatService, Deps, RetryTurn, StartTurn, StartedTurn, TurnStream, TurnTask};
pub use turn::{
    Draft, FailureKind, HeldTurn, Turn, TurnFailure, TurnLease, TurnLog, TurnOutcome, TurnStatus,
    Usage,
};
pub use turns::{plan, transcript};
pub use values::{
    AgentData, AgentDataError, ConversationId, MessageId, Ordinal, Position, RawJson, Timestamp,
    ToolCallId, TurnId, UserId, WorkerId, without_nul,
};
pub use view::{Cursor, CursorMismatch, SeenText, TurnEvent, TurnView};
