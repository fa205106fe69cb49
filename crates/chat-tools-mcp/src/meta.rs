//! Keys of a `tools/call` request's `_meta`, which identify the caller.
//!
//! A tool server must take the user id from here, never from the arguments, because a model writes
//! those.

use chat_domain::Invocation;
use rmcp::model::{JsonObject, MetaObject, RequestMetaObject};

/// The user on whose data the tool works.
pub const USER_ID: &str = "chat/user_id";
/// The tool call, a UUID. A repeated call after a crash has the same id.
pub const CALL_ID: &str = "chat/call_id";
/// The turn of the call, a UUID.
pub const TURN_ID: &str = "chat/turn_id";
/// The conversation of the call, a UUID.
pub const CONVERSATION_ID: &str = "chat/conversation_id";

pub(crate) fn request_meta(invocation: &Invocation) -> RequestMetaObject {
    let entries = [
        (USER_ID, invocation.owner.to_string()),
        (CALL_ID, invocation.call.to_string()),
        (TURN_ID, invocation.turn.to_string()),
        (CONVERSATION_ID, invocation.conversation.to_string()),
    ];
    let object: JsonObject = entries
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.into()))
        .collect();
    RequestMetaObject(MetaObject(object))
}
