//! What is known of a server by its refusals: which parts of a request it does not take.
//!
//! A request is written in full, then the parts are left out. What a server takes can change only
//! with a restart here: it is kept in memory, for each agent.

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

/// Members of a request that it cannot do without.
const REQUIRED: &[&str] = &["model", "messages", "tools"];
/// The most tools whose names are kept.
const MAX_TOOLS: usize = 1_024;

/// Which parts a server does not take. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Habits(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    refused: BTreeSet<Lesson>,
    /// Tools whose absence was logged.
    missed: BTreeSet<String>,
}

/// A part of a request that a server does not take.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lesson {
    /// A member of the request.
    Member(String),
    /// A member of its messages, or of the calls in them.
    MessageMember(&'static str),
    /// A tool, by the name that is sent.
    Tool(String),
}

impl fmt::Display for Lesson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(name) => write!(f, "the member {name}"),
            Self::MessageMember(name) => write!(f, "the member {name} of messages"),
            Self::Tool(name) => write!(f, "the tool {name}"),
        }
    }
}

impl Lesson {
    /// The part of the request that a refusal names: by the path of a member, or in words.
    pub fn of((param, message): (&str, &str), request: &[u8]) -> Option<Self> {
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
        // Longer names hold shorter ones.
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

/// Whether a text holds a name as a word of its own.
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

/// `tools[3]`, `tools.3.function`, `tools/3`; Gemini's endpoint counts in
/// `function_declarations[3]`.
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

/// In quotation marks; or as a word, where the text is about tools and the name is no common word.
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
    let own = |name: &str| {
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
    let mut candidates: Vec<&String> = tools.iter().filter(|name| own(name)).collect();
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

impl Habits {
    /// Keeps a lesson; false if it is known or there are too many.
    pub fn learn(&self, lesson: &Lesson) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.refused.len() < MAX_TOOLS && known.refused.insert(lesson.clone())
    }

    /// Whether the absence of a tool is to be logged: once for each.
    pub fn is_first_miss(&self, tool: &str) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.missed.len() < MAX_TOOLS && known.missed.insert(tool.to_owned())
    }

    /// Whether the server refuses this tool, by the name that is sent.
    pub fn refuses_tool(&self, sent: &str) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.refused.contains(&Lesson::Tool(sent.to_owned()))
    }

    /// The request without the parts that the server does not take.
    pub fn apply(&self, body: Vec<u8>) -> Bytes {
        let refused = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .refused
            .clone();
        if refused.is_empty() {
            return body.into();
        }
        match without(&body, &refused) {
            Ok(changed) => changed.into(),
            Err(error) => {
                tracing::warn!(%error, "a request to the agent cannot be changed");
                body.into()
            }
        }
    }
}

fn without(body: &[u8], refused: &BTreeSet<Lesson>) -> serde_json::Result<Vec<u8>> {
    let mut body: Members<'_> = serde_json::from_slice(body)?;
    let has_message_members = refused
        .iter()
        .any(|lesson| matches!(lesson, Lesson::MessageMember(_)));
    let without_stream = refused.contains(&Lesson::Member("stream".to_owned()));
    let is_left_out = |name: &str| {
        refused.contains(&Lesson::Member(name.to_owned()))
            || (without_stream && name == "stream_options")
    };
    body.0.retain(|(name, _)| !is_left_out(name));
    for (name, value) in &mut body.0 {
        match name.as_ref() {
            "tools" => {
                let tools: Vec<&RawValue> = serde_json::from_str(value.get())?;
                let taken = |tool: &&RawValue| !refused.contains(&Lesson::Tool(tool_name(tool)));
                *value = Cow::Owned(to_raw_value(
                    &tools.into_iter().filter(taken).collect::<Vec<_>>(),
                )?);
            }
            "messages" if has_message_members => {
                let mut messages: Vec<Members<'_>> = serde_json::from_str(value.get())?;
                messages
                    .iter_mut()
                    .try_for_each(|message| message.leave_out(refused))?;
                *value = Cow::Owned(to_raw_value(&messages)?);
            }
            _ => {}
        }
    }
    body.0
        .retain(|(name, value)| name != "tools" || value.get() != "[]");
    serde_json::to_vec(&body)
}

/// The members of an object in their order.
struct Members<'a>(Vec<(Cow<'a, str>, Cow<'a, RawValue>)>);

impl Members<'_> {
    fn tool_names(&self) -> Vec<String> {
        let tools = self.0.iter().find(|(name, _)| name == "tools");
        let tools = tools
            .and_then(|(_, tools)| serde_json::from_str::<Vec<&RawValue>>(tools.get()).ok())
            .unwrap_or_default();
        tools.into_iter().map(tool_name).collect()
    }

    fn leave_out(&mut self, refused: &BTreeSet<Lesson>) -> serde_json::Result<()> {
        let taken = |name: &str| {
            !refused
                .iter()
                .any(|lesson| matches!(lesson, Lesson::MessageMember(refused) if *refused == name))
        };
        self.0.retain(|(name, _)| taken(name));
        for (_, calls) in self.0.iter_mut().filter(|(name, _)| name == "tool_calls") {
            let mut list: Vec<Members<'_>> = serde_json::from_str(calls.get())?;
            list.iter_mut()
                .for_each(|call| call.0.retain(|(name, _)| taken(name)));
            *calls = Cow::Owned(to_raw_value(&list)?);
        }
        Ok(())
    }
}

fn tool_name(tool: &RawValue) -> String {
    let Node::Object(tool) = Node::of(tool) else {
        return String::new();
    };
    match tool.get("function") {
        Node::Object(function) => Object::word(&function, "name"),
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
        let tool = |name: &str| json!({ "type": "function", "function": { "name": name, "parameters": {} } });
        let call = json!({ "id": "1", "extra_content": { "google": {} }, "function": { "name": "f", "arguments": "{}" } });
        let body = json!({
            "model": "m", "stream": true, "stream_options": { "include_usage": true }, "tools": [tool("search"), tool("add_task"), tool("add")],
            "messages": [{ "role": "assistant", "content": null, "reasoning_content": "hm", "reasoning": "hm", "tool_calls": [call] }],
        });
        body.to_string().into_bytes()
    }

    fn learnt(param: &str, message: &str) -> Option<Lesson> {
        Lesson::of((param, message), &request())
    }

    #[test]
    fn a_refusal_names_the_part_that_is_refused() {
        let tool = |name: &str| Some(Lesson::Tool(name.to_owned()));
        assert_eq!(
            learnt("tools[1].function.parameters", "Invalid schema"),
            tool("add_task")
        );
        assert_eq!(
            learnt("body.tools.2.function.name", "Field required"),
            tool("add")
        );
        assert_eq!(
            learnt(
                "",
                "Invalid 'tools[0].function.description': string too long"
            ),
            tool("search")
        );
        assert_eq!(
            learnt(
                "",
                "tools[0].function_declarations[2].parameters.properties: should be non-empty"
            ),
            tool("add")
        );
        assert_eq!(
            learnt(
                "",
                "Invalid schema for function 'search': object schema missing properties"
            ),
            tool("search")
        );
        assert_eq!(
            learnt("", "the tool add_task has a bad schema"),
            tool("add_task")
        );
        assert_eq!(learnt("tools[7]", "Invalid"), None);
        let options = Some(Lesson::Member("stream_options".to_owned()));
        assert_eq!(
            learnt("", "Unrecognized request argument supplied: stream_options"),
            options
        );
        assert_eq!(
            learnt(
                "body.stream_options",
                "Extra inputs are not permitted (extra_forbidden)"
            ),
            options
        );
        assert_eq!(learnt("", "include_usage is unknown"), options);
        assert_eq!(
            learnt("stream", "Unsupported value"),
            Some(Lesson::Member("stream".to_owned()))
        );
        assert_eq!(
            learnt("", "property 'reasoning_content' is unsupported"),
            Some(Lesson::MessageMember("reasoning_content"))
        );
        assert_eq!(
            learnt("messages.0.tool_calls.0.extra_content", "no"),
            Some(Lesson::MessageMember("extra_content"))
        );
        for about_nothing in [
            "please search the stream of messages",
            "model is required",
            "",
            "signature",
        ] {
            assert_eq!(learnt("", about_nothing), None, "{about_nothing}");
        }
    }

    #[test]
    fn what_is_refused_is_left_out_and_the_rest_stays_as_it_is() {
        let habits = Habits::default();
        assert_eq!(habits.apply(request()), request());
        let lessons = [
            Lesson::Member("stream_options".to_owned()),
            Lesson::Tool("add_task".to_owned()),
            Lesson::MessageMember("reasoning_content"),
            Lesson::MessageMember("extra_content"),
        ];
        assert!(lessons.iter().all(|lesson| habits.learn(lesson)) && !habits.learn(&lessons[0]));
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
            serde_json::from_slice::<Value>(&habits.apply(request())).expect("JSON"),
            expected
        );
        for name in ["search", "add"] {
            habits.learn(&Lesson::Tool(name.to_owned()));
        }
        let changed: Value = serde_json::from_slice(&habits.apply(request())).expect("JSON");
        assert_eq!(changed.get("tools"), None);
    }
}
