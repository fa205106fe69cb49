//! What a server wants back: kept as data of the agent with a call or a message, and sent back to
//! the same server and model.
//!
//! Mistral wants its call ids, Gemini the signatures of its thoughts, DeepSeek and others the
//! thoughts themselves: without them they refuse each later request of the conversation.

use std::collections::BTreeMap;

use chat_domain::AgentData;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use crate::json::{Node, Text, is_shallow, without_halves};

/// Members of a tool call that are sent back.
pub const CALL_MEMBERS: &[&str] = &[
    "extra_content",
    "provider_specific_fields",
    "thought_signature",
    "signature",
];
/// Members of a message that are sent back.
pub const MESSAGE_MEMBERS: &[&str] = &[
    "extra_content",
    "provider_specific_fields",
    "reasoning",
    "reasoning_content",
    "reasoning_details",
    "reasoning_signature",
    "signature",
    "thinking_blocks",
    "thought_signature",
];
/// Those that servers want back with calls only. Some refuse them elsewhere, and they are long.
const WITH_CALLS_ONLY: &[&str] = &["reasoning", "reasoning_content"];
/// The longest id that is kept, in bytes.
const MAX_ID: usize = 256;
/// The longest text of thoughts that is kept, in bytes. What is longer is cut: some servers only
/// want that there is some.
const MAX_THOUGHTS: usize = 32 << 10;
/// The most that is gathered for a message.
const MAX_KEPT: usize = 48 << 10;

/// Whether a part of the content of this type is a thought of the model.
pub fn is_reasoning_part(kind: &str) -> bool {
    ["thinking", "reasoning", "thought"]
        .iter()
        .any(|word| kind.contains(word))
}

/// Data as it is stored.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Kept {
    /// The server and model that gave it.
    from: String,
    /// The call's id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Members.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub members: BTreeMap<String, Box<RawValue>>,
    /// Parts of the content.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thoughts: Vec<Box<RawValue>>,
}

impl Kept {
    /// What was kept, if it is of this server and model.
    pub fn read(data: Option<&AgentData>, source: &str) -> Self {
        let kept = data.and_then(|data| serde_json::from_str::<Self>(data.as_str()).ok());
        kept.filter(|kept| kept.from == source).unwrap_or_default()
    }

    /// What of it is sent with a message.
    pub fn for_message(mut self, has_calls: bool) -> Self {
        if !has_calls {
            self.members
                .retain(|name, _| !WITH_CALLS_ONLY.contains(&name.as_str()));
            self.thoughts.retain(
                |part| matches!(Node::of(part), Node::Object(part) if part.has("signature")),
            );
        }
        self
    }

    fn data(self) -> Option<AgentData> {
        if self.id.is_empty() && self.members.is_empty() && self.thoughts.is_empty() {
            return None;
        }
        let data = serde_json::to_string(&self).map(AgentData::new);
        match data {
            Ok(Ok(data)) => Some(data),
            Ok(Err(error)) => lost(&error),
            Err(error) => lost(&error),
        }
    }
}

fn lost(error: &dyn std::error::Error) -> Option<AgentData> {
    tracing::warn!(%error, "what the agent wants back is left out");
    None
}

/// The data of a call.
pub fn of_call(
    source: &str,
    id: String,
    members: Vec<(&'static str, Box<RawValue>)>,
) -> Option<AgentData> {
    let id = if id.len() <= MAX_ID {
        id
    } else {
        String::new()
    };
    let members = members
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), kept(&value)?)))
        .collect();
    Kept {
        from: source.to_owned(),
        id,
        members,
        thoughts: Vec::new(),
    }
    .data()
}

/// A value that is stored: readable for everybody, and bounded.
fn kept(value: &RawValue) -> Option<Box<RawValue>> {
    let json = value.get();
    let bounded = json.len() <= MAX_KEPT && is_shallow(json);
    if !bounded {
        tracing::warn!(
            bytes = json.len(),
            "a value that the agent wants back is left out: it is larger than allowed"
        );
    }
    bounded
        .then(|| RawValue::from_string(without_halves(json).replace('\0', "")).ok())
        .flatten()
}

/// What belongs to the message of an answer, as far as it came.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Texts come in pieces.
    texts: BTreeMap<&'static str, Text>,
    /// Lists come in pieces too.
    lists: BTreeMap<&'static str, Vec<Value>>,
    /// Of others the last counts.
    values: BTreeMap<&'static str, Box<RawValue>>,
    thoughts: Vec<Value>,
    bytes: usize,
}

impl Gathered {
    pub fn add_member(&mut self, name: &'static str, value: &RawValue) {
        match Node::of(value) {
            Node::Text(text) => {
                let gathered = self.texts.entry(name).or_default();
                if gathered.len() < MAX_THOUGHTS {
                    gathered.push(&text);
                }
            }
            Node::List(parts) => {
                for part in parts {
                    if self.has_room(part) {
                        add_part(self.lists.entry(name).or_default(), part);
                    }
                }
            }
            _ => {
                if let Some(value) = kept(value) {
                    self.values.insert(name, value);
                }
            }
        }
    }

    pub fn add_thought(&mut self, part: &RawValue) {
        if self.has_room(part) {
            add_part(&mut self.thoughts, part);
        }
    }

    fn has_room(&mut self, part: &RawValue) -> bool {
        let had = self.bytes <= MAX_KEPT;
        self.bytes = self.bytes.saturating_add(part.get().len());
        if had && self.bytes > MAX_KEPT {
            tracing::warn!(
                "what the agent wants back with its message is longer than allowed, and is left out"
            );
        }
        self.bytes <= MAX_KEPT
    }

    /// The data of the message.
    pub fn data(self, source: &str) -> Option<AgentData> {
        let mut members = BTreeMap::new();
        for (name, text) in self.texts {
            members.extend(
                to_raw_value(&shortened(text.into_string())).map(|value| (name.to_owned(), value)),
            );
        }
        // Half of a signed list is worse than none.
        let is_whole = self.bytes <= MAX_KEPT;
        for (name, list) in self.lists.into_iter().filter(|_| is_whole) {
            members.extend(to_raw_value(&list).map(|value| (name.to_owned(), value)));
        }
        members.extend(
            self.values
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value)),
        );
        let thoughts = self
            .thoughts
            .iter()
            .filter(|_| is_whole)
            .filter_map(|part| to_raw_value(part).ok())
            .collect();
        Kept {
            from: source.to_owned(),
            id: String::new(),
            members,
            thoughts,
        }
        .data()
    }
}

/// Without U+0000, which no database stores, and cut to the longest that is kept.
fn shortened(text: String) -> String {
    let mut text = text.replace('\0', "");
    text.truncate(text.floor_char_boundary(MAX_THOUGHTS));
    text
}

/// Adds a part of a list. One that goes on with the last part is joined to it.
fn add_part(parts: &mut Vec<Value>, part: &RawValue) {
    let Some(part) = kept(part).and_then(|part| serde_json::from_str::<Value>(part.get()).ok())
    else {
        return;
    };
    match (parts.last_mut(), part) {
        (Some(Value::Object(last)), Value::Object(part)) if goes_on(last, &part) => {
            join(last, part)
        }
        (_, part) => parts.push(part),
    }
}

fn goes_on(last: &Map<String, Value>, part: &Map<String, Value>) -> bool {
    ["type", "index", "id"]
        .into_iter()
        .all(|name| match (last.get(name), part.get(name)) {
            (Some(last), Some(part)) => last.is_null() || part.is_null() || last == part,
            (None, None) => true,
            _ => name == "id",
        })
}

/// Texts become longer, lists too; of other members the last that says something counts.
fn join(last: &mut Map<String, Value>, part: Map<String, Value>) {
    for (name, value) in part {
        match (last.get_mut(&name), value) {
            (Some(Value::String(text)), Value::String(more))
                if matches!(name.as_str(), "text" | "summary" | "data" | "thinking") =>
            {
                text.push_str(&more);
            }
            (Some(Value::Array(values)), Value::Array(more)) => {
                for value in more {
                    match (values.last_mut(), value) {
                        (Some(Value::Object(last)), Value::Object(part))
                            if goes_on(last, &part) =>
                        {
                            join(last, part)
                        }
                        (_, value) => values.push(value),
                    }
                }
            }
            (Some(_), Value::Null) => {}
            (_, value) => {
                last.insert(name, value);
            }
        }
    }
}
