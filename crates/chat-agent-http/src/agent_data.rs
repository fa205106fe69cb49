//! Provider data that a server expects back: stored with a tool call or message, and sent only to
//! the same server and model.
//!
//! Mistral expects its call ids, Gemini its thought signatures, DeepSeek and others the reasoning
//! text. Without them these servers reject every later request of the conversation.

use std::collections::BTreeMap;

use chat_domain::AgentData;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use crate::json::{Node, Text, is_shallow, replace_lone_surrogates};

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
/// Message members that are sent back only with tool calls: some servers reject them elsewhere, and
/// they are long.
const ONLY_WITH_CALLS: &[&str] = &["reasoning", "reasoning_content"];
/// Longest call id that is stored, in bytes.
const MAX_ID_BYTES: usize = 256;
/// Longest reasoning text that is stored, in bytes. Longer text is truncated: some servers only
/// check that the member is present.
const MAX_REASONING_BYTES: usize = 32 << 10;
/// Most data that is collected for one message, in bytes.
const MAX_STORED_BYTES: usize = 48 << 10;

/// Whether a content part of this type holds the model's reasoning.
pub fn is_reasoning_type(kind: &str) -> bool {
    ["thinking", "reasoning", "thought"]
        .iter()
        .any(|word| kind.contains(word))
}

/// Provider data in its stored form.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct StoredData {
    /// Server and model that the data came from.
    from: String,
    /// The server's id of the call.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Members of the call or message.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub members: BTreeMap<String, Box<RawValue>>,
    /// Content parts that hold reasoning.
    #[serde(default, rename = "thoughts", skip_serializing_if = "Vec::is_empty")]
    pub reasoning_parts: Vec<Box<RawValue>>,
}

impl StoredData {
    /// Parses stored data. Returns empty data if it came from another server or model.
    pub fn parse(data: Option<&AgentData>, source: &str) -> Self {
        let stored = data.and_then(|data| serde_json::from_str::<Self>(data.as_str()).ok());
        stored
            .filter(|stored| stored.from == source)
            .unwrap_or_default()
    }

    /// Removes the members that must not be sent with this message.
    pub fn for_message(mut self, has_calls: bool) -> Self {
        if !has_calls {
            self.members
                .retain(|name, _| !ONLY_WITH_CALLS.contains(&name.as_str()));
            self.reasoning_parts.retain(
                |part| matches!(Node::parse(part), Node::Object(part) if part.has("signature")),
            );
        }
        self
    }

    fn data(self) -> Option<AgentData> {
        if self.id.is_empty() && self.members.is_empty() && self.reasoning_parts.is_empty() {
            return None;
        }
        let data = serde_json::to_string(&self).map(AgentData::new);
        match data {
            Ok(Ok(data)) => Some(data),
            Ok(Err(error)) => log_dropped(&error),
            Err(error) => log_dropped(&error),
        }
    }
}

fn log_dropped(error: &dyn std::error::Error) -> Option<AgentData> {
    tracing::warn!(%error, "agent data cannot be serialized, dropped");
    None
}

/// Builds the agent data of a tool call. An id that is too long is dropped.
pub fn call_data(
    source: &str,
    id: String,
    members: Vec<(&'static str, Box<RawValue>)>,
) -> Option<AgentData> {
    let id = if id.len() <= MAX_ID_BYTES {
        id
    } else {
        String::new()
    };
    let members = members
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), bounded_value(&value)?)))
        .collect();
    StoredData {
        from: source.to_owned(),
        id,
        members,
        reasoning_parts: Vec::new(),
    }
    .data()
}

/// Returns a value that is safe to store: bounded in size and depth, valid Unicode, without U+0000.
fn bounded_value(value: &RawValue) -> Option<Box<RawValue>> {
    let json = value.get();
    let is_bounded = json.len() <= MAX_STORED_BYTES && is_shallow(json);
    if !is_bounded {
        tracing::warn!(
            bytes = json.len(),
            "agent data exceeds the size limit, dropped"
        );
    }
    is_bounded
        .then(|| RawValue::from_string(replace_lone_surrogates(json).replace('\0', "")).ok())
        .flatten()
}

/// Collects the agent data of one message from the events of its stream.
#[derive(Debug, Default)]
pub struct DataCollector {
    /// String members, concatenated over events.
    texts: BTreeMap<&'static str, Text>,
    /// Array members, concatenated over events.
    lists: BTreeMap<&'static str, Vec<Value>>,
    /// Other members. The last value wins.
    values: BTreeMap<&'static str, Box<RawValue>>,
    reasoning_parts: Vec<Value>,
    bytes: usize,
}

impl DataCollector {
    pub fn add_member(&mut self, name: &'static str, value: &RawValue) {
        match Node::parse(value) {
            Node::Text(text) => {
                let gathered = self.texts.entry(name).or_default();
                if gathered.len() < MAX_REASONING_BYTES {
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
                if let Some(value) = bounded_value(value) {
                    self.values.insert(name, value);
                }
            }
        }
    }

    pub fn add_reasoning_part(&mut self, part: &RawValue) {
        if self.has_room(part) {
            add_part(&mut self.reasoning_parts, part);
        }
    }

    fn has_room(&mut self, part: &RawValue) -> bool {
        let had = self.bytes <= MAX_STORED_BYTES;
        self.bytes = self.bytes.saturating_add(part.get().len());
        if had && self.bytes > MAX_STORED_BYTES {
            tracing::warn!("agent data of a message exceeds the size limit, dropped");
        }
        self.bytes <= MAX_STORED_BYTES
    }

    /// Builds the data of the message.
    pub fn data(self, source: &str) -> Option<AgentData> {
        let mut members = BTreeMap::new();
        for (name, text) in self.texts {
            members.extend(
                to_raw_value(&shortened(text.into_string())).map(|value| (name.to_owned(), value)),
            );
        }
        // A server rejects part of a signed list, so an incomplete list is dropped.
        let is_whole = self.bytes <= MAX_STORED_BYTES;
        for (name, list) in self.lists.into_iter().filter(|_| is_whole) {
            members.extend(to_raw_value(&list).map(|value| (name.to_owned(), value)));
        }
        members.extend(
            self.values
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value)),
        );
        let reasoning_parts = self
            .reasoning_parts
            .iter()
            .filter(|_| is_whole)
            .filter_map(|part| to_raw_value(part).ok())
            .collect();
        StoredData {
            from: source.to_owned(),
            id: String::new(),
            members,
            reasoning_parts,
        }
        .data()
    }
}

/// Removes U+0000, which databases cannot store, and truncates to the limit.
fn shortened(text: String) -> String {
    let mut text = text.replace('\0', "");
    text.truncate(text.floor_char_boundary(MAX_REASONING_BYTES));
    text
}

/// Adds an element to a list, or merges it with the last element if it continues that one.
fn add_part(parts: &mut Vec<Value>, part: &RawValue) {
    let Some(part) =
        bounded_value(part).and_then(|part| serde_json::from_str::<Value>(part.get()).ok())
    else {
        return;
    };
    match (parts.last_mut(), part) {
        (Some(Value::Object(last)), Value::Object(part)) if continues(last, &part) => {
            merge(last, part)
        }
        (_, part) => parts.push(part),
    }
}

fn continues(last: &Map<String, Value>, part: &Map<String, Value>) -> bool {
    ["type", "index", "id"]
        .into_iter()
        .all(|name| match (last.get(name), part.get(name)) {
            (Some(last), Some(part)) => last.is_null() || part.is_null() || last == part,
            (None, None) => true,
            _ => name == "id",
        })
}

/// Merges `part` into `last`: strings and arrays are concatenated, other members are replaced
/// unless they are blank.
fn merge(last: &mut Map<String, Value>, part: Map<String, Value>) {
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
                            if continues(last, &part) =>
                        {
                            merge(last, part)
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
