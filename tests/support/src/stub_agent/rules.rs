//! The rules by which an OpenAI endpoint rejects requests.
//!
//! They are those of the API reference
//! (<https://platform.openai.com/docs/api-reference/chat/create>) and of the endpoint's errors.
//! Some are stricter, as in other servers of the protocol: content is empty only where that is
//! necessary, and the last message must need an answer.

use std::collections::HashSet;
use std::fmt;

use serde_json::{Map, Value};

/// Longest id of a tool call, in characters.
const MAX_CALL_ID: usize = 40;
/// Longest name of a tool, in characters.
const MAX_TOOL_NAME: usize = 64;
/// Members that some servers expect back.
const PROVIDER_MEMBERS: &[&str] = &[
    "extra_content",
    "reasoning",
    "reasoning_content",
    "reasoning_details",
];
/// Most tools.
const MAX_TOOLS: usize = 128;

/// The reason why a request is rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Path of the rejected member, such as `messages[2].content`.
    pub at: String,
    /// The reason.
    pub reason: &'static str,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invalid '{}': {}", self.at, self.reason)
    }
}

/// Checks the body of a chat completions request.
///
/// # Errors
/// The first defect for which an OpenAI endpoint rejects the request.
pub fn check_request(body: &[u8]) -> Result<(), Rejection> {
    let body: Value = serde_json::from_slice(body).or(reject("body", "not JSON"))?;
    let body = object(&body, "body")?;
    check_members(
        body,
        "",
        &["model", "messages", "tools", "stream", "stream_options"],
    )?;
    string(body, "", "model").and_then(|model| require(!model.is_empty(), "model", "empty"))?;
    check_streaming(body)?;
    if let Some(tools) = body.get("tools") {
        check_tools(tools)?;
    }
    check_messages(body.get("messages").unwrap_or(&Value::Null))?;
    require(
        !holds_nul(&Value::Object(body.clone())),
        "body",
        "holds U+0000",
    )
}

fn check_streaming(body: &Map<String, Value>) -> Result<(), Rejection> {
    let stream = body.get("stream").unwrap_or(&Value::Bool(false));
    require(stream.is_boolean(), "stream", "not a boolean")?;
    let Some(options) = body.get("stream_options") else {
        return Ok(());
    };
    require(
        *stream == Value::Bool(true),
        "stream_options",
        "only allowed with stream",
    )?;
    let options = object(options, "stream_options")?;
    check_members(options, "stream_options.", &["include_usage"])?;
    require(
        options.get("include_usage").is_none_or(Value::is_boolean),
        "stream_options.include_usage",
        "not a boolean",
    )
}

fn check_tools(tools: &Value) -> Result<(), Rejection> {
    let tools = array(tools, "tools")?;
    require(
        (1..=MAX_TOOLS).contains(&tools.len()),
        "tools",
        "1 to 128 are allowed",
    )?;
    let mut names = HashSet::new();
    for (index, tool) in tools.iter().enumerate() {
        let at = format!("tools[{index}]");
        let tool = object(tool, &at)?;
        check_members(tool, &format!("{at}."), &["type", "function"])?;
        require(
            string(tool, &format!("{at}."), "type")? == "function",
            &at,
            "not a function",
        )?;
        let at = format!("{at}.function.");
        let function = object(tool.get("function").unwrap_or(&Value::Null), &at)?;
        check_members(
            function,
            &at,
            &["name", "description", "parameters", "strict"],
        )?;
        let name = string(function, &at, "name")?;
        require(
            is_tool_name(name),
            &format!("{at}name"),
            "does not match '^[a-zA-Z0-9_-]{1,64}$'",
        )?;
        require(names.insert(name), &format!("{at}name"), "duplicate")?;
        require(
            function.get("description").is_none_or(Value::is_string),
            &format!("{at}description"),
            "not a string",
        )?;
        if let Some(schema) = function.get("parameters") {
            let schema = object(schema, &format!("{at}parameters"))?;
            require(
                schema.get("type").is_none_or(|kind| kind == "object"),
                &format!("{at}parameters"),
                "not the schema of an object",
            )?;
        }
    }
    Ok(())
}

fn check_messages(messages: &Value) -> Result<(), Rejection> {
    let messages = array(messages, "messages")?;
    require(!messages.is_empty(), "messages", "empty")?;
    // The unanswered calls of the last assistant message, and all ids so far.
    let mut open: Vec<&str> = Vec::new();
    let mut seen = HashSet::new();
    for (index, message) in messages.iter().enumerate() {
        let at = format!("messages[{index}].");
        let message = object(message, &at)?;
        let role = string(message, &at, "role")?;
        if role != "tool" {
            require(
                open.is_empty(),
                &format!("{at}role"),
                "an assistant message with 'tool_calls' must be followed by all their answers",
            )?;
        }
        match role {
            "system" | "developer" | "user" => {
                check_members(message, &at, &["role", "content", "name"])?;
                check_content(message, &at)?;
            }
            "assistant" => {
                check_members(
                    message,
                    &at,
                    &[
                        &["role", "content", "name", "refusal", "tool_calls"],
                        PROVIDER_MEMBERS,
                    ]
                    .concat(),
                )?;
                match message.get("tool_calls") {
                    Some(calls) => open = check_calls(calls, &at, &mut seen)?,
                    None => check_content(message, &at)?,
                }
                if !open.is_empty()
                    && message
                        .get("content")
                        .is_some_and(|content| !content.is_null())
                {
                    match message.get("content") {
                        Some(Value::Array(_)) => check_content(message, &at)?,
                        _ => string(message, &at, "content").map(drop)?,
                    }
                }
            }
            "tool" => {
                check_members(message, &at, &["role", "content", "tool_call_id"])?;
                string(message, &at, "content")?;
                let id = string(message, &at, "tool_call_id")?;
                let place = open.iter().position(|call| *call == id);
                let Some(place) = place else {
                    return reject(
                        &format!("{at}tool_call_id"),
                        "answers no call of the preceding assistant message, or one a second time",
                    );
                };
                open.remove(place);
            }
            _ => return reject(&format!("{at}role"), "unknown"),
        }
    }
    require(
        open.is_empty(),
        "messages",
        "an assistant message with 'tool_calls' must be followed by all their answers",
    )?;
    let last = messages.last().and_then(|last| last.get("role"));
    require(
        last.is_some_and(|role| role == "user" || role == "tool"),
        "messages",
        "there is nothing to answer at the end",
    )
}

fn check_calls<'a>(
    calls: &'a Value,
    at: &str,
    seen: &mut HashSet<&'a str>,
) -> Result<Vec<&'a str>, Rejection> {
    let calls = array(calls, &format!("{at}tool_calls"))?;
    require(!calls.is_empty(), &format!("{at}tool_calls"), "empty")?;
    let mut ids = Vec::new();
    for (index, call) in calls.iter().enumerate() {
        let at = format!("{at}tool_calls[{index}].");
        let call = object(call, &at)?;
        check_members(
            call,
            &at,
            &[&["id", "type", "function"], PROVIDER_MEMBERS].concat(),
        )?;
        let id = string(call, &at, "id")?;
        require(
            (1..=MAX_CALL_ID).contains(&id.chars().count()),
            &format!("{at}id"),
            "1 to 40 characters are allowed",
        )?;
        require(seen.insert(id), &format!("{at}id"), "duplicate")?;
        ids.push(id);
        require(
            string(call, &at, "type")? == "function",
            &format!("{at}type"),
            "not a function",
        )?;
        let at = format!("{at}function.");
        let function = object(call.get("function").unwrap_or(&Value::Null), &at)?;
        check_members(function, &at, &["name", "arguments"])?;
        require(
            is_tool_name(string(function, &at, "name")?),
            &format!("{at}name"),
            "does not match '^[a-zA-Z0-9_-]{1,64}$'",
        )?;
        let arguments: Value =
            serde_json::from_str(string(function, &at, "arguments")?).unwrap_or_default();
        require(
            arguments.is_object(),
            &format!("{at}arguments"),
            "not the text of a JSON object",
        )?;
    }
    Ok(ids)
}

/// Checks required content: text, or parts with text.
fn check_content(message: &Map<String, Value>, at: &str) -> Result<(), Rejection> {
    let at = format!("{at}content");
    match message.get("content") {
        Some(Value::String(text)) => require(!text.is_empty(), &at, "empty"),
        Some(Value::Array(parts)) => {
            require(!parts.is_empty(), &at, "empty")?;
            parts.iter().try_for_each(|part| {
                let part = object(part, &at)?;
                match string(part, &at, "type")? {
                    "thinking" => Ok(()),
                    kind => require(
                        kind == "text" && !string(part, &at, "text")?.is_empty(),
                        &at,
                        "not a part with text",
                    ),
                }
            })
        }
        _ => reject(&at, "neither a string nor an array"),
    }
}

fn is_tool_name(name: &str) -> bool {
    (1..=MAX_TOOL_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(holds_nul),
        Value::Object(members) => members
            .iter()
            .any(|(name, value)| name.contains('\0') || holds_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn reject<T>(at: &str, reason: &'static str) -> Result<T, Rejection> {
    Err(Rejection {
        at: at.to_owned(),
        reason,
    })
}

fn require(met: bool, at: &str, reason: &'static str) -> Result<(), Rejection> {
    if met { Ok(()) } else { reject(at, reason) }
}

fn object<'a>(value: &'a Value, at: &str) -> Result<&'a Map<String, Value>, Rejection> {
    value
        .as_object()
        .map_or_else(|| reject(at, "not an object"), Ok)
}

fn array<'a>(value: &'a Value, at: &str) -> Result<&'a Vec<Value>, Rejection> {
    value
        .as_array()
        .map_or_else(|| reject(at, "not an array"), Ok)
}

fn string<'a>(
    object: &'a Map<String, Value>,
    at: &str,
    member: &str,
) -> Result<&'a str, Rejection> {
    object
        .get(member)
        .and_then(Value::as_str)
        .map_or_else(|| reject(&format!("{at}{member}"), "not a string"), Ok)
}

fn check_members(object: &Map<String, Value>, at: &str, members: &[&str]) -> Result<(), Rejection> {
    match object.keys().find(|name| !members.contains(&name.as_str())) {
        Some(name) => reject(&format!("{at}{name}"), "unknown member"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
