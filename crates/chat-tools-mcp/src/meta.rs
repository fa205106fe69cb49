//! Who asks, and for what: the keys of a `tools/call` request's `_meta`.
//!
//! A tool server must take the user from here and never from the arguments, which a model wrote.

use chat_domain::Invocation;
use rmcp::model::{JsonObject, MetaObject, RequestMetaObject};

/// The user whose data the tool works on.
pub const USER_ID: &str = "chat/user_id";
/// The call, a UUID: the same when the call is repeated after a crash.
pub const CALL_ID: &str = "chat/call_id";
/// The turn the call is made in, a UUID.
pub const TURN_ID: &str = "chat/turn_id";
/// The conversation the call is made in, a UUID.
pub const CONVERSATION_ID: &str = "chat/conversation_id";

pub(crate) fn of(invocation: &Invocation) -> RequestMetaObject {
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
