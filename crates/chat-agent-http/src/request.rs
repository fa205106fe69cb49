//! A step as a request of the protocol.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use chat_domain::transcript::{Call, Entry};
use chat_domain::{StepRequest, ToolCallId};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::agent_data::Kept;
use crate::habits::Habits;
use crate::json::is_object;
use crate::tool_names::{fnv1a, sent_as};
use crate::tools::{Tool, offered};

/// The body of a request. The messages come last, so that the body of a turn begins with the body
/// of the turn before.
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

/// Members of a message that its server wants back.
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
        kept: Members,
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
    /// Thoughts, then text, as Mistral has them.
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
    called: Called<'a>,
    #[serde(flatten)]
    kept: Members,
}

#[derive(Serialize)]
#[serde(tag = "type", content = "function", rename_all = "lowercase")]
enum Called<'a> {
    Function {
        name: Cow<'a, str>,
        arguments: &'a str,
    },
}

/// Who is asked, and how.
pub struct Asked<'a> {
    pub model: &'a str,
    pub instructions: Option<&'a str>,
    /// The server and model: data of another one is not sent.
    pub source: &'a str,
    pub habits: &'a Habits,
}

/// The body of the request for a step.
///
/// # Errors
/// None that is known of: serialising strings to memory cannot fail.
pub fn body(asked: &Asked<'_>, request: &StepRequest) -> serde_json::Result<Vec<u8>> {
    let instructions = asked
        .instructions
        .map(|content| Message::System { content });
    let mut ids = Ids::default();
    serde_json::to_vec(&Body {
        model: asked.model,
        stream: true,
        stream_options: StreamOptions {
            include_usage: true,
        },
        tools: offered(&request.tools, asked.habits),
        messages: instructions
            .into_iter()
            .chain(
                request
                    .transcript
                    .0
                    .iter()
                    .map(|entry| message(entry, asked.source, &mut ids)),
            )
            .collect(),
    })
}

fn message<'a>(entry: &'a Entry, source: &str, ids: &mut Ids) -> Message<'a> {
    match entry {
        Entry::User { text } => Message::User { content: text },
        Entry::Assistant {
            text,
            calls,
            agent_data,
        } => {
            let Kept {
                members, thoughts, ..
            } = Kept::read(agent_data.as_ref(), source).for_message(!calls.is_empty());
            Message::Assistant {
                content: content(text, thoughts, calls.is_empty()),
                tool_calls: calls
                    .iter()
                    .map(|call| tool_call(call, source, ids))
                    .collect(),
                kept: members,
            }
        }
        Entry::ToolResult { call, content } => Message::Tool {
            tool_call_id: ids.of(*call),
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

fn tool_call<'a>(call: &'a Call, source: &str, ids: &mut Ids) -> ToolCall<'a> {
    let arguments = call.arguments.as_str();
    // Servers parse this text and refuse the whole transcript if it is no object. Its result says
    // that it was refused.
    let arguments = if is_object(arguments) {
        arguments
    } else {
        "{}"
    };
    let Kept { id, members, .. } = Kept::read(call.agent_data.as_ref(), source);
    let id = ids.assign(call.id, id);
    ToolCall {
        id,
        called: Called::Function {
            name: sent_as(&call.tool),
            arguments,
        },
        kept: members,
    }
}

/// The ids that calls have in a request. Each is used once: some servers count their calls from 0
/// in each answer.
#[derive(Default)]
struct Ids {
    sent: HashMap<ToolCallId, String>,
    used: HashSet<String>,
}

impl Ids {
    /// The id of a call: the server's own, if no call before has it.
    fn assign(&mut self, call: ToolCallId, own: String) -> String {
        let made = (0..).map(|attempt| made_up(call, attempt));
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

    fn of(&self, call: ToolCallId) -> String {
        self.sent
            .get(&call)
            .cloned()
            .unwrap_or_else(|| made_up(call, 0))
    }
}

/// Nine letters and digits, which is all that Mistral takes; always the same for a call.
fn made_up(call: ToolCallId, attempt: u32) -> String {
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
            .and_then(|place| DIGITS.get(place))
            .copied()
            .unwrap_or(b'0');
        hash /= 62;
        char::from(digit)
    };
    (0..9).map(digit).collect()
}

/// The server and model, as they are noted with data.
pub fn source(address: &str, model: &str) -> String {
    format!("{:016x}", fnv1a(format!("{address}\n{model}").as_bytes()))
}
