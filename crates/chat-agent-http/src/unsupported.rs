//! The parts of a request that a server rejected before, which are left out of later requests.
//!
//! The first request contains everything. A server's abilities are assumed not to change while this
//! process runs, so they are kept in memory, per agent.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use crate::agent_data::{CALL_MEMBERS, MESSAGE_MEMBERS};
use crate::json::{Node, Object};

/// Members that no request can do without.
const REQUIRED: &[&str] = &["model", "messages", "tools"];
/// Most parts that are remembered, and most tools whose omission is logged.
const MAX_PARTS: usize = 1_024;

/// The parts that a server does not support. Clones share their state.
#[derive(Clone, Debug, Default)]
pub struct UnsupportedParts(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    unsupported: BTreeSet<RequestPart>,
    /// Tools whose omission was logged.
    logged_tools: BTreeSet<String>,
}

/// A part of a request that a server does not support.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestPart {
    /// A member of the request.
    Member(String),
    /// A member of the messages or of the tool calls in them.
    MessageMember(&'static str),
    /// A tool, by its wire name.
    Tool(String),
}

impl fmt::Display for RequestPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(name) => write!(f, "member {name}"),
            Self::MessageMember(name) => write!(f, "message member {name}"),
            Self::Tool(name) => write!(f, "tool {name}"),
        }
    }
}

impl RequestPart {
    /// Finds the part of a request that a server's error names by path or in its text.
    pub fn named_in((param, message): (&str, &str), request: &[u8]) -> Option<Self> {
        let request = std::str::from_utf8(request).ok()?;
        let body: Members<'_> = serde_json::from_str(request).ok()?;
        let tools = body.tool_names();
        let paths = format!("{param} {message}");
        if let Some(tool) = tool_by_index(&paths, &tools).or_else(|| tool_by_name(&paths, &tools)) {
            return Some(Self::Tool(tool));
        }
        let is_named = |name: &str| mentions(&paths, name);
        if let Some(member) = body.0.iter().map(|(name, _)| name.as_ref()).find(|name| {
            let is_word_of_texts = *name == "stream" && !mentions(param, name);
            !REQUIRED.contains(name) && !is_word_of_texts && is_named(name)
        }) {
            return Some(Self::Member(member.to_owned()));
        }
        if body.0.iter().any(|(name, _)| name == "stream_options") && is_named("include_usage") {
            return Some(Self::Member("stream_options".to_owned()));
        }
        let sent = |name: &str| request.contains(&format!("\"{name}\":"));
        // A longer name may contain a shorter one.
        let mut optional: Vec<&'static str> = MESSAGE_MEMBERS
            .iter()
            .chain(CALL_MEMBERS)
            .copied()
            .collect();
        optional.sort_by_key(|name| std::cmp::Reverse(name.len()));
        optional
            .into_iter()
            .find(|name| is_named(name) && sent(name))
            .map(Self::MessageMember)
    }
}

/// Whether a text contains a name as a whole word.
fn mentions(text: &str, name: &str) -> bool {
    let is_part = |char: Option<char>| {
        char.is_some_and(|char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-'))
    };
    text.match_indices(name).any(|(at, _)| {
        let (before, after) = (
            text.get(..at).unwrap_or_default(),
            text.get(at + name.len()..).unwrap_or_default(),
        );
        !is_part(before.chars().next_back()) && !is_part(after.chars().next())
    })
}

/// Finds a tool by its index: `tools[3]`, `tools.3.function`, `tools/3`, or
/// `function_declarations[3]`, which Gemini's endpoint uses.
fn tool_by_index(text: &str, tools: &[String]) -> Option<String> {
    let index = |list: &str| {
        text.match_indices(list).find_map(|(at, _)| {
            let rest = text.get(at + list.len()..)?.strip_prefix(['[', '.', '/'])?;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<usize>().ok()
        })
    };
    let index = index("function_declarations")
        .or_else(|| index("functionDeclarations"))
        .or_else(|| index("tools"))?;
    tools.get(index).cloned()
}

/// Finds a tool whose name is quoted, or is a word of a text about tools and not a common word.
fn tool_by_name(text: &str, tools: &[String]) -> Option<String> {
    let quoted = |name: &str| {
        [('\'', '\''), ('"', '"'), ('`', '`'), ('“', '”')]
            .iter()
            .any(|(open, close)| text.contains(&format!("{open}{name}{close}")))
    };
    let lower = text.to_lowercase();
    let is_about_tools = ["tool", "function", "schema", "parameters"]
        .iter()
        .any(|word| lower.contains(word));
    let is_word =
        |name: &str| name.contains(['_', '-']) || name.bytes().any(|byte| byte.is_ascii_digit());
    let is_uncommon = |name: &str| {
        ![
            "tools",
            "function",
            "functions",
            "parameters",
            "type",
            "messages",
            "model",
            "stream",
        ]
        .contains(&name)
    };
    let mut candidates: Vec<&String> = tools.iter().filter(|name| is_uncommon(name)).collect();
    candidates.sort_by_key(|name| std::cmp::Reverse(name.len()));
    let found = candidates
        .iter()
        .find(|name| is_about_tools && quoted(name));
    found
        .or_else(|| {
            candidates
                .iter()
                .find(|name| is_about_tools && is_word(name) && mentions(text, name))
        })
        .map(|name| (*name).clone())
}

impl UnsupportedParts {
    /// Records an unsupported part. Returns false if the part is known already or the limit is
    /// reached.
    pub fn record(&self, part: &RequestPart) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.unsupported.len() < MAX_PARTS && state.unsupported.insert(part.clone())
    }

    /// Whether to log that a tool is left out: true once for each tool.
    pub fn should_log_omission(&self, tool: &str) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.logged_tools.len() < MAX_PARTS && state.logged_tools.insert(tool.to_owned())
    }

    /// Whether the server rejected the tool with this wire name.
    pub fn is_tool_unsupported(&self, sent: &str) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state
            .unsupported
            .contains(&RequestPart::Tool(sent.to_owned()))
    }

    /// Removes the unsupported parts from a request.
    pub fn apply(&self, body: Vec<u8>) -> Bytes {
        let unsupported = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .unsupported
            .clone();
        if unsupported.is_empty() {
            return body.into();
        }
        match remove_parts(&body, &unsupported) {
            Ok(changed) => changed.into(),
            Err(error) => {
                tracing::warn!(%error, "unsupported parts cannot be removed from the request");
                body.into()
            }
        }
    }
}

fn remove_parts(body: &[u8], unsupported: &BTreeSet<RequestPart>) -> serde_json::Result<Vec<u8>> {
    let mut body: Members<'_> = serde_json::from_slice(body)?;
    let has_message_members = unsupported
        .iter()
        .any(|part| matches!(part, RequestPart::MessageMember(_)));
    let without_stream = unsupported.contains(&RequestPart::Member("stream".to_owned()));
    let is_removed = |name: &str| {
        unsupported.contains(&RequestPart::Member(name.to_owned()))
            || (without_stream && name == "stream_options")
    };
    body.0.retain(|(name, _)| !is_removed(name));
    for (name, value) in &mut body.0 {
        match name.as_ref() {
            "tools" => {
                let tools: Vec<&RawValue> = serde_json::from_str(value.get())?;
                let is_supported =
                    |tool: &&RawValue| !unsupported.contains(&RequestPart::Tool(tool_name(tool)));
                *value = Cow::Owned(to_raw_value(
                    &tools.into_iter().filter(is_supported).collect::<Vec<_>>(),
                )?);
            }
            "messages" if has_message_members => {
                let mut messages: Vec<Members<'_>> = serde_json::from_str(value.get())?;
                messages
                    .iter_mut()
                    .try_for_each(|message| message.remove(unsupported))?;
                *value = Cow::Owned(to_raw_value(&messages)?);
            }
            _ => {}
        }
    }
    body.0
        .retain(|(name, value)| name != "tools" || value.get() != "[]");
    serde_json::to_vec(&body)
}

/// The members of an object in their original order.
struct Members<'a>(Vec<(Cow<'a, str>, Cow<'a, RawValue>)>);

impl Members<'_> {
    fn tool_names(&self) -> Vec<String> {
        let tools = self.0.iter().find(|(name, _)| name == "tools");
        let tools = tools
            .and_then(|(_, tools)| serde_json::from_str::<Vec<&RawValue>>(tools.get()).ok())
            .unwrap_or_default();
        tools.into_iter().map(tool_name).collect()
    }

    fn remove(&mut self, unsupported: &BTreeSet<RequestPart>) -> serde_json::Result<()> {
        let is_supported = |name: &str| {
            !unsupported.iter().any(|unsupported_part| {
                matches!(
                    unsupported_part,
                    RequestPart::MessageMember(unsupported) if *unsupported == name,
                )
            })
        };
        self.0.retain(|(name, _)| is_supported(name));
        for (_, calls) in self.0.iter_mut().filter(|(name, _)| name == "tool_calls") {
            let mut list: Vec<Members<'_>> = serde_json::from_str(calls.get())?;
            list.iter_mut()
                .for_each(|call| call.0.retain(|(name, _)| is_supported(name)));
            *calls = Cow::Owned(to_raw_value(&list)?);
        }
        Ok(())
    }
}

fn tool_name(tool: &RawValue) -> String {
    let Node::Object(tool) = Node::parse(tool) else {
        return String::new();
    };
    match tool.get("function") {
        Node::Object(function) => Object::trimmed_text(&function, "name"),
        _ => String::new(),
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<Cow<'de, str>, &'de RawValue>()? {
                    members.push((name, Cow::Borrowed(value)));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn request() -> Vec<u8> {
        let tool = |name: &str| {
            json!({
                "type": "function", "function": { "name": name, "parameters": {} },
            })
        };
        let call = json!({
            "id": "1", "extra_content": { "google": {} },
            "function": { "name": "f", "arguments": "{}" },
        });
        let body = json!({
            "model": "m", "stream": true, "stream_options": { "include_usage": true }, "tools": [
                tool("search"), tool("add_task"), tool("add"),
            ],
            "messages": [{
                "role": "assistant", "content": null, "reasoning_content": "hm", "reasoning": "hm",
                "tool_calls": [call],
            }],
        });
        body.to_string().into_bytes()
    }

    fn named_part(param: &str, message: &str) -> Option<RequestPart> {
        RequestPart::named_in((param, message), &request())
    }

    #[test]
    fn an_error_names_the_unsupported_part() {
        let tool = |name: &str| Some(RequestPart::Tool(name.to_owned()));
        assert_eq!(
            named_part("tools[1].function.parameters", "Invalid schema"),
            tool("add_task")
        );
        assert_eq!(
            named_part("body.tools.2.function.name", "Field required"),
            tool("add")
        );
        assert_eq!(
            named_part(
                "",
                "Invalid 'tools[0].function.description': string too long"
            ),
            tool("search")
        );
        assert_eq!(
            named_part(
                "",
                "tools[0].function_declarations[2].parameters.properties: should be non-empty"
            ),
            tool("add")
        );
        assert_eq!(
            named_part(
                "",
                "Invalid schema for function 'search': object schema missing properties"
            ),
            tool("search")
        );
        assert_eq!(
            named_part("", "the tool add_task has a bad schema"),
            tool("add_task")
        );
        assert_eq!(named_part("tools[7]", "Invalid"), None);
        let options = Some(RequestPart::Member("stream_options".to_owned()));
        assert_eq!(
            named_part("", "Unrecognized request argument supplied: stream_options"),
            options
        );
        assert_eq!(
            named_part(
                "body.stream_options",
                "Extra inputs are not permitted (extra_forbidden)"
            ),
            options
        );
        assert_eq!(named_part("", "include_usage is unknown"), options);
        assert_eq!(
            named_part("stream", "Unsupported value"),
            Some(RequestPart::Member("stream".to_owned()))
        );
        assert_eq!(
            named_part("", "property 'reasoning_content' is unsupported"),
            Some(RequestPart::MessageMember("reasoning_content"))
        );
        assert_eq!(
            named_part("messages.0.tool_calls.0.extra_content", "no"),
            Some(RequestPart::MessageMember("extra_content"))
        );
        for about_nothing in [
            "please search the stream of messages",
            "model is required",
            "",
            "signature",
        ] {
            assert_eq!(named_part("", about_nothing), None, "{about_nothing}");
        }
    }

    #[test]
    fn unsupported_parts_are_removed_and_the_rest_is_unchanged() {
        let unsupported = UnsupportedParts::default();
        assert_eq!(unsupported.apply(request()), request());
        let parts = [
            RequestPart::Member("stream_options".to_owned()),
            RequestPart::Tool("add_task".to_owned()),
            RequestPart::MessageMember("reasoning_content"),
            RequestPart::MessageMember("extra_content"),
        ];
        assert!(
            parts.iter().all(|part| unsupported.record(part)) && !unsupported.record(&parts[0])
        );
        let mut expected: Value = serde_json::from_slice(&request()).expect("JSON");
        expected
            .as_object_mut()
            .expect("an object")
            .remove("stream_options");
        expected["tools"].as_array_mut().expect("tools").remove(1);
        expected["messages"][0]
            .as_object_mut()
            .expect("a message")
            .remove("reasoning_content");
        expected["messages"][0]["tool_calls"][0]
            .as_object_mut()
            .expect("a call")
            .remove("extra_content");
        assert_eq!(
            serde_json::from_slice::<Value>(&unsupported.apply(request())).expect("JSON"),
            expected
        );
        for name in ["search", "add"] {
            unsupported.record(&RequestPart::Tool(name.to_owned()));
        }
        let changed: Value = serde_json::from_slice(&unsupported.apply(request())).expect("JSON");
        assert_eq!(changed.get("tools"), None);
    }
}
