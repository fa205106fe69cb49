//! Converts a step to a request of the chat completions protocol.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use chat_domain::transcript::{Call, Entry};
use chat_domain::{StepRequest, ToolCallId};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::agent_data::StoredData;
use crate::json::is_object;
use crate::tool_names::{fnv1a, wire_name};
use crate::tools::{Tool, request_tools};
use crate::unsupported::UnsupportedParts;

/// The body of a request. The messages are the last member, so that consecutive requests of a
/// conversation share a long prefix, which servers can cache.
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

/// Members of a message that its server expects back.
type Members = BTreeMap<String, Box<RawValue>>;

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
        content: Option<Content<'a>>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ToolCall<'a>>,
        #[serde(flatten)]
        extra_members: Members,
    },
    Tool {
        tool_call_id: String,
        content: &'a str,
    },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(&'a str),
    /// Reasoning parts, then text: Mistral's form.
    Parts(Vec<Box<RawValue>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Part<'a> {
    Text { text: &'a str },
}

#[derive(Serialize)]
struct ToolCall<'a> {
    id: String,
    #[serde(flatten)]
    function: Function<'a>,
    #[serde(flatten)]
    extra_members: Members,
}

#[derive(Serialize)]
#[serde(tag = "type", content = "function", rename_all = "lowercase")]
enum Function<'a> {
    Function {
        name: Cow<'a, str>,
        arguments: &'a str,
    },
}

/// The configuration that determines a request.
pub struct RequestContext<'a> {
    pub model: &'a str,
    pub instructions: Option<&'a str>,
    /// Server and model. Data from another source is not sent.
    pub source: &'a str,
    pub unsupported: &'a UnsupportedParts,
}

/// Serializes the request for a step.
///
/// # Errors
/// No known ones: serializing strings to memory does not fail.
pub fn body(context: &RequestContext<'_>, request: &StepRequest) -> serde_json::Result<Vec<u8>> {
    let instructions = context
        .instructions
        .map(|content| Message::System { content });
    let mut ids = CallIds::default();
    serde_json::to_vec(&Body {
        model: context.model,
        stream: true,
        stream_options: StreamOptions {
            include_usage: true,
        },
        tools: request_tools(&request.tools, context.unsupported),
        messages: instructions
            .into_iter()
            .chain(
                request
                    .transcript
                    .0
                    .iter()
                    .map(|entry| message(entry, context.source, &mut ids)),
            )
            .collect(),
    })
}

fn message<'a>(entry: &'a Entry, source: &str, ids: &mut CallIds) -> Message<'a> {
    match entry {
        Entry::User { text } => Message::User { content: text },
        Entry::Assistant {
            text,
            calls,
            agent_data,
        } => {
            let StoredData {
                members,
                reasoning_parts,
                ..
            } = StoredData::parse(agent_data.as_ref(), source).for_message(!calls.is_empty());
            Message::Assistant {
                content: content(text, reasoning_parts, calls.is_empty()),
                tool_calls: calls
                    .iter()
                    .map(|call| tool_call(call, source, ids))
                    .collect(),
                extra_members: members,
            }
        }
        Entry::ToolResult { call, content } => Message::Tool {
            tool_call_id: ids.get(*call),
            content,
        },
    }
}

fn content(text: &str, mut parts: Vec<Box<RawValue>>, is_needed: bool) -> Option<Content<'_>> {
    if parts.is_empty() {
        return (is_needed || !text.is_empty()).then_some(Content::Text(text));
    }
    if !text.is_empty() {
        parts.extend(to_raw_value(&Part::Text { text }));
    }
    Some(Content::Parts(parts))
}

fn tool_call<'a>(call: &'a Call, source: &str, ids: &mut CallIds) -> ToolCall<'a> {
    let arguments = call.arguments.as_str();
    // Servers parse this text and reject the whole transcript if it is not an object. The call's
    // result says that the arguments were rejected.
    let arguments = if is_object(arguments) {
        arguments
    } else {
        "{}"
    };
    let StoredData { id, members, .. } = StoredData::parse(call.agent_data.as_ref(), source);
    let id = ids.assign(call.id, id);
    ToolCall {
        id,
        function: Function::Function {
            name: wire_name(&call.tool),
            arguments,
        },
        extra_members: members,
    }
}

/// The ids of tool calls in a request. Each id is used once, because some servers number the calls
/// of each answer from 0.
#[derive(Default)]
struct CallIds {
    sent: HashMap<ToolCallId, String>,
    used: HashSet<String>,
}

impl CallIds {
    /// Assigns an id to a call: the server's own unless an earlier call has it.
    fn assign(&mut self, call: ToolCallId, own: String) -> String {
        let made = (0..).map(|attempt| generate_id(call, attempt));
        let is_own = !own.is_empty() && self.used.insert(own.clone());
        let id = if is_own {
            Some(own)
        } else {
            made.into_iter().find(|id| self.used.insert(id.clone()))
        };
        let id = id.unwrap_or_default();
        self.sent.insert(call, id.clone());
        id
    }

    fn get(&self, call: ToolCallId) -> String {
        self.sent
            .get(&call)
            .cloned()
            .unwrap_or_else(|| generate_id(call, 0))
    }
}

/// Generates an id of nine letters and digits, the only form that Mistral accepts. The same call
/// always gets the same id.
fn generate_id(call: ToolCallId, attempt: u32) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut seed = call.0.as_bytes().to_vec();
    seed.extend(
        (attempt > 0)
            .then_some(attempt.to_be_bytes())
            .into_iter()
            .flatten(),
    );
    let mut hash = fnv1a(&seed);
    let digit = |_| {
        let digit = usize::try_from(hash % 62)
            .ok()
            .and_then(|index| DIGITS.get(index))
            .copied()
            .unwrap_or(b'0');
        hash /= 62;
        char::from(digit)
    };
    (0..9).map(digit).collect()
}

/// Returns a hash that identifies a server and model.
pub fn source(address: &str, model: &str) -> String {
    format!("{:016x}", fnv1a(format!("{address}\n{model}").as_bytes()))
}
