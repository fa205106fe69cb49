//! The native protocol of this server.

pub mod events;
mod messages;
mod names;
mod pages;
mod query;
pub mod reply;
pub mod request;
mod tool_calls;
mod turn_detail;
mod turns;

pub use messages::{MessageObject, MessagePart, RoleName, messages};
pub use pages::{
    ConversationList, ConversationPageRequest, MessageList, MessagePageRequest, ToolCallList,
    ToolCallPageRequest,
};
pub use query::{Query, ReplyScope};
pub use tool_calls::{CallState, OutcomeObject, RecordedToolCall, ToolCallObject, ToolErrorObject};
pub use turn_detail::{DraftObject, TurnDetailObject};
pub use turns::{
    ContextObject, ConversationObject, FinishReasonName, TurnErrorObject, TurnObject, TurnState,
    UsageObject,
};
