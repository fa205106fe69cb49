#![doc = include_str!("../README.md")]

mod config;
mod conversation;
mod error;
mod feedback;
mod guards;
mod item;
mod json;
mod limits;
pub mod log;
mod ports;
mod service;
#[cfg(feature = "testing")]
pub mod testing;
mod turn;
mod turns;
mod values;
mod view;

pub use config::ChatServiceConfig;
pub use conversation::{Conversation, Title};
pub use error::{ChatError, InvalidInput};
pub use feedback::Feedback;
pub use item::{
    FinishReason, Item, ItemBody, Message, NewItem, Role, ToolCall, ToolError, ToolErrorKind,
    ToolExecutor, ToolOutcome, ToolOutput, ToolResult, UnknownCause,
};
pub use json::MAX_JSON_DEPTH;
pub use limits::TurnLimits;
pub use log::{
    AppendItems, BeginOutcome, BeginTurn, BusyPolicy, EndTurn, EndedTurn, IdempotencyKey, Ledger,
    Refusal, RetryOf, Target, TurnRow,
};
pub use ports::*;
pub use service::{ChatService, RetryTurn, StartTurn, StartedTurn, TurnTask};
pub use turn::{
    Draft, FailureKind, HeldTurn, LoggedTurn, OriginalMessage, Turn, TurnFailure, TurnLease,
    TurnOutcome, TurnStatus, Usage,
};
pub use turns::reader::TurnStream;
pub use turns::{plan, transcript};
pub use values::{
    AgentData, AgentDataError, ConversationId, MessageId, Ordinal, Position, RawJson, Timestamp,
    ToolCallId, TurnId, UserId, WorkerId, without_nul,
};
pub use view::{Cursor, CursorMismatch, SeenText, TurnEvent, TurnView};
