//! A step as a request of the protocol.

use std::borrow::Cow;

use chat_domain::transcript::{Call, Entry};
use chat_domain::{StepRequest, ToolCallId, ToolSpec};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::calls::is_json_object;
use crate::tool_names::sent_as;

/// The body of a request. The messages come last, so that the body of a turn begins with the body of the turn before.
#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    stream: bool,
    stream_options: StreamOptions,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    messages: Vec<Message<'a>>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
#[serde(tag = "type", content = "function", rename_all = "lowercase")]
enum Tool<'a> {
    Function { name: Cow<'a, str>, description: &'a str, parameters: &'a RawValue },
}

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
enum Message<'a> {
    System {
        content: &'a str,
    },
    User {
        content: &'a str,
    },
    Assistant {
        content: Option<&'a str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ToolCall<'a>>,
    },
    Tool {
        tool_call_id: String,
        content: &'a str,
    },
}

#[derive(Serialize)]
struct ToolCall<'a> {
    id: String,
    #[serde(flatten)]
    called: Called<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type", content = "function", rename_all = "lowercase")]
enum Called<'a> {
    Function { name: Cow<'a, str>, arguments: &'a str },
}

/// The body of the request for a step.
///
/// # Errors
/// None that is known of: serialising strings to memory cannot fail.
pub fn body(model: &str, instructions: Option<&str>, request: &StepRequest) -> serde_json::Result<Vec<u8>> {
    let instructions = instructions.map(|content| Message::System { content });
    serde_json::to_vec(&Body {
        model,
        stream: true,
        stream_options: StreamOptions { include_usage: true },
        tools: request.tools.iter().filter_map(tool).collect(),
        messages: instructions.into_iter().chain(request.transcript.0.iter().map(message)).collect(),
    })
}

/// A tool whose schema is no object is left out: the server would refuse the whole request, and with it every turn.
fn tool(spec: &ToolSpec) -> Option<Tool<'_>> {
    let schema = spec.input_schema.as_str();
    let Some(parameters) = is_json_object(schema).then(|| serde_json::from_str(schema).ok()).flatten() else {
        tracing::warn!(tool = spec.name, "a tool is left out: the schema of its arguments is not a JSON object");
        return None;
    };
    Some(Tool::Function { name: sent_as(&spec.name), description: &spec.description, parameters })
}

fn message(entry: &Entry) -> Message<'_> {
    match entry {
        Entry::User { text } => Message::User { content: text },
        Entry::Assistant { text, calls, .. } => Message::Assistant {
            content: (calls.is_empty() || !text.is_empty()).then_some(text),
            tool_calls: calls.iter().map(tool_call).collect(),
        },
        Entry::ToolResult { call, content } => Message::Tool { tool_call_id: call_id(*call), content },
    }
}

fn tool_call(call: &Call) -> ToolCall<'_> {
    let arguments = call.arguments.as_str();
    // Servers parse this text and refuse the whole transcript if it is no object. Its result says that it was refused.
    let arguments = if is_json_object(arguments) { arguments } else { "{}" };
    ToolCall { id: call_id(call.id), called: Called::Function { name: sent_as(&call.tool), arguments } }
}

/// 37 characters; OpenAI allows 40.
fn call_id(call: ToolCallId) -> String {
    format!("call_{}", call.0.simple())
}
