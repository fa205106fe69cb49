//! Assembles tool calls from the fragments of a stream.

use chat_domain::{AgentError, FinishReason, RawJson, without_nul};
use serde_json::value::RawValue;

use crate::chunk::Fragment;
use crate::failure::protocol_error;
use crate::json::{Text, is_object, replace_lone_surrogates};

/// Most bytes that the tool calls of one step may take. Without a limit, a server could fill the
/// memory.
const MAX_BYTES: usize = 1 << 20;
/// Bytes that each call is counted as besides its text, which limits a step to about a thousand
/// calls.
const CALL_OVERHEAD_BYTES: usize = 1 << 10;

/// The tool calls of one answer so far.
///
/// Fragments with the same index belong together. Some servers differ: they leave the index out,
/// send each call whole with index 0, repeat id and name in each fragment, or use no ids or the
/// same id for all calls. See [`starts_new_call`].
#[derive(Debug, Default)]
pub struct CallAssembler {
    calls: Vec<PartialCall>,
    bytes: usize,
}

#[derive(Debug)]
struct PartialCall {
    index: Option<u64>,
    id: String,
    tool: String,
    arguments: Text,
    extra_members: Vec<(&'static str, Box<RawValue>)>,
}

/// A tool call after the end of its answer.
#[derive(Debug)]
pub struct CompleteCall {
    /// The server's id. Empty if the server sent none or used the same id for an earlier call.
    pub id: String,
    /// Name that the model used.
    pub tool: String,
    /// A JSON object, or a JSON string with text that is not an object.
    pub arguments: RawJson,
    /// Members that the server expects back.
    pub extra_members: Vec<(&'static str, Box<RawValue>)>,
}

impl CallAssembler {
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Adds the next fragment.
    ///
    /// # Errors
    /// The calls are larger than allowed.
    pub fn add(&mut self, fragment: Fragment) -> Result<(), AgentError> {
        let Fragment {
            index,
            id,
            tool,
            arguments,
            extra_members,
        } = fragment;
        let next = PartialCall {
            index,
            id,
            tool: tool.into_string(),
            arguments,
            extra_members,
        };
        self.bytes += next.id.len() + next.tool.len() + next.arguments.len();
        self.bytes += next
            .extra_members
            .iter()
            .map(|(_, value)| value.get().len())
            .sum::<usize>();
        match self
            .calls
            .iter_mut()
            .rev()
            .find(|call| call.is_addressed_by(&next))
        {
            Some(call) if !starts_new_call(call, &next) => call.append(next),
            _ => {
                self.bytes += CALL_OVERHEAD_BYTES;
                self.calls.push(next);
            }
        }
        if self.bytes > MAX_BYTES {
            Err(protocol_error("the tool calls exceed the size limit"))
        } else {
            Ok(())
        }
    }

    /// Returns the calls, in the order of their indices.
    ///
    /// If the answer was truncated, its last call may be incomplete. A call without a name is
    /// dropped. A call without arguments gets the empty string as its arguments, because a call
    /// without parameters would have an object.
    ///
    /// # Errors
    /// A call has no tool name.
    pub fn finish(mut self, reason: FinishReason) -> Result<Vec<CompleteCall>, AgentError> {
        if self.calls.iter().all(|call| call.index.is_some()) {
            self.calls.sort_by_key(|call| call.index);
        }
        let is_truncated = reason != FinishReason::Complete;
        let is_nameless_dropped = is_truncated
            && self
                .calls
                .pop_if(|last| last.tool.trim().is_empty())
                .is_some();
        let is_last_truncated = is_truncated
            && !is_nameless_dropped
            && self
                .calls
                .last()
                .is_some_and(|last| last.arguments.is_empty());
        let ids: Vec<String> = self.calls.iter().map(|call| call.id.clone()).collect();
        let mut calls = self
            .calls
            .into_iter()
            .map(PartialCall::finish)
            .collect::<Result<Vec<_>, _>>()?;
        for (position, call) in calls.iter_mut().enumerate() {
            if ids.iter().take(position).any(|id| *id == call.id) {
                call.id.clear();
            }
        }
        if let Some(last) = calls.last_mut().filter(|_| is_last_truncated) {
            last.arguments = RawJson::from_valid("\"\"");
        }
        Ok(calls)
    }
}

impl PartialCall {
    /// Whether a fragment is addressed to this call: by index, else by id, else by being the last
    /// call.
    fn is_addressed_by(&self, next: &Self) -> bool {
        match next.index {
            Some(index) => self.index == Some(index),
            None => next.id.is_empty() || self.id == next.id,
        }
    }

    fn append(&mut self, next: Self) {
        if self.id.is_empty() {
            self.id = next.id;
        }
        if self.tool != next.tool {
            self.tool.push_str(&next.tool);
        }
        self.arguments.push(&next.arguments);
        for (name, value) in next.extra_members {
            self.extra_members.retain(|(known, _)| *known != name);
            self.extra_members.push((name, value));
        }
    }

    fn finish(self) -> Result<CompleteCall, AgentError> {
        if self.tool.trim().is_empty() {
            return Err(protocol_error("a tool call has no name"));
        }
        let arguments = RawJson::from_valid(normalize_arguments(self.arguments.into_string()));
        Ok(CompleteCall {
            id: without_nul(self.id),
            tool: without_nul(self.tool),
            arguments,
            extra_members: self.extra_members,
        })
    }
}

/// Returns arguments that are an object, or the JSON text of an object, as that object, and any
/// other text as a JSON string.
fn normalize_arguments(text: String) -> String {
    if text.trim().is_empty() {
        return "{}".to_owned();
    }
    if is_object(&text) {
        return replace_lone_surrogates(&text).into_owned();
    }
    let encoded = text
        .trim_start()
        .starts_with('"')
        .then(|| serde_json::from_str::<Text>(&text).ok())
        .flatten()
        .map(Text::into_string);
    match encoded.filter(|object| is_object(object)) {
        Some(object) => replace_lone_surrogates(&object).into_owned(),
        None => serde_json::Value::String(without_nul(text)).to_string(),
    }
}

/// Whether a fragment that is addressed to a call starts another one: it has a tool name although
/// the call has a name and complete arguments.
fn starts_new_call(call: &PartialCall, next: &PartialCall) -> bool {
    if next.tool.is_empty() || call.tool.is_empty() {
        return false;
    }
    let other_id = !next.id.is_empty() && !call.id.is_empty() && next.id != call.id;
    let other_tool = next.index.is_none() && next.tool != call.tool;
    if call.arguments.is_empty() {
        other_id || other_tool
    } else {
        (other_id || !next.arguments.is_empty() || other_tool)
            && is_object(&call.arguments.clone().into_string())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Assembles fragments, each written as index, id, name and arguments; `null` leaves one out.
    fn assemble(fragments: Value) -> Vec<(String, String)> {
        assemble_until(FinishReason::Complete, fragments)
    }

    fn assemble_until(reason: FinishReason, fragments: Value) -> Vec<(String, String)> {
        let mut calls = CallAssembler::default();
        for fragment in fragments.as_array().expect("fragments") {
            let [index, id, name, arguments] = fragment.as_array().expect("a fragment").as_slice()
            else {
                panic!("four members")
            };
            let text = |value: &Value| Text::from(value.as_str().unwrap_or_default());
            let id = id.as_str().unwrap_or_default().to_owned();
            let fragment = Fragment {
                index: index.as_u64(),
                id,
                tool: text(name),
                arguments: text(arguments),
                extra_members: Vec::new(),
            };
            calls.add(fragment).expect("not too long");
        }
        let calls = calls.finish(reason).expect("whole calls");
        calls
            .into_iter()
            .map(|call| (call.tool, call.arguments.as_str().to_owned()))
            .collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected
            .iter()
            .map(|(tool, arguments)| ((*tool).to_owned(), (*arguments).to_owned()))
            .collect()
    }

    #[test]
    fn a_call_truncated_before_its_arguments_gets_invalid_arguments() {
        let cut = json!([[0, "x", "f", ""], [1, "y", "g", ""]]);
        assert_eq!(assemble(cut.clone()), pairs(&[("f", "{}"), ("g", "{}")]));
        for reason in [FinishReason::Length, FinishReason::ContentFilter] {
            assert_eq!(
                assemble_until(reason, cut.clone()),
                pairs(&[("f", "{}"), ("g", "\"\"")])
            );
        }
        let nameless = json!([[0, "x", "f", ""], [1, "y", "", ""]]);
        assert_eq!(
            assemble_until(FinishReason::Length, nameless),
            pairs(&[("f", "{}")])
        );
    }

    const TWO: &[(&str, &str)] = &[("f", r#"{"a":1}"#), ("g", r#"{"b":2}"#)];

    #[test]
    fn fragments_are_joined_by_index() {
        let interleaved = json!([
            [0, "x", "f", ""],
            [1, "y", "g", "{\"b\""],
            [0, null, null, "{\"a\""],
            [1, null, null, ":2}"],
            [0, null, null, ":1}"],
        ]);
        assert_eq!(assemble(interleaved), pairs(TWO));
        let backwards = json!([[7, "y", "g", "{\"b\":2}"], [3, "x", "f", "{\"a\":1}"]]);
        assert_eq!(assemble(backwards), pairs(TWO));
    }

    #[test]
    fn ids_may_be_missing_empty_repeated_or_changing() {
        for ids in [
            [Value::Null, Value::Null],
            [json!(""), json!("")],
            [json!("x"), json!("x")],
            [json!("x"), json!("y")],
        ] {
            let fragments = json!([
                [0, ids[0], "f", "{\"a\""],
                [0, ids[1], null, ":1}"],
                [1, ids[0], "g", "{\"b\""],
                [1, ids[1], null, ":2}"]
            ]);
            assert_eq!(assemble(fragments), pairs(TWO), "{ids:?}");
            let named = json!([
                [0, ids[0], "f", "{\"a\""],
                [0, ids[1], "f", ":1}"],
                [1, ids[0], "g", "{\"b\""],
                [1, ids[1], "g", ":2}"]
            ]);
            assert_eq!(assemble(named), pairs(TWO), "name repeated, {ids:?}");
        }
    }

    #[test]
    fn without_an_index_a_new_name_starts_a_new_call() {
        assert_eq!(
            assemble(json!([
                [null, "x", "f", "{\"a\":1}"],
                [null, "y", "g", "{\"b\":2}"]
            ])),
            pairs(TWO)
        );
        assert_eq!(
            assemble(json!([
                [null, "x", "f", "{\"a\":1}"],
                [null, "x", "g", "{\"b\":2}"]
            ])),
            pairs(TWO)
        );
        assert_eq!(
            assemble(json!([
                [null, null, "f", "{\"a\":1}"],
                [null, null, "g", "{\"b\":2}"]
            ])),
            pairs(TWO)
        );
        assert_eq!(
            assemble(json!([
                [null, "x", "f", ""],
                [null, null, null, "{\"a\":1}"],
                [null, "y", "g", "{\"b\":2}"]
            ])),
            pairs(TWO)
        );
        let by_id = json!([
            [null, "x", "f", "{"],
            [null, "y", "g", "{"],
            [null, "x", null, "\"a\":1}"],
            [null, "y", null, "\"b\":2}"]
        ]);
        assert_eq!(assemble(by_id), pairs(TWO));
        assert_eq!(
            assemble(json!([[null, null, "f", ""], [null, null, "g", ""]])),
            pairs(&[("f", "{}"), ("g", "{}")])
        );
    }

    #[test]
    fn whole_calls_may_all_have_index_0() {
        assert_eq!(
            assemble(json!([
                [0, "x", "f", "{\"a\":1}"],
                [0, "y", "g", "{\"b\":2}"]
            ])),
            pairs(TWO)
        );
        assert_eq!(
            assemble(json!([
                [0, "x", "f", "{\"a\":1}"],
                [0, "x", "g", "{\"b\":2}"]
            ])),
            pairs(TWO)
        );
        assert_eq!(
            assemble(json!([[0, "x", "f", "{}"], [0, "y", "f", "{}"]])),
            pairs(&[("f", "{}"), ("f", "{}")])
        );
        assert_eq!(
            assemble(json!([[0, "x", "f", ""], [0, "y", "f", ""]])),
            pairs(&[("f", "{}"), ("f", "{}")])
        );
    }

    #[test]
    fn a_repeated_last_fragment_adds_nothing() {
        assert_eq!(
            assemble(json!([
                [0, "x", "f", "{}"],
                [0, "x", "f", ""],
                [0, null, null, null]
            ])),
            pairs(&[("f", "{}")])
        );
    }

    #[test]
    fn object_arguments_are_kept_byte_for_byte() {
        let odd = "{ \"b\": 1e400, \"a\":\t\"\\u00e9\\u0000\", \"a\": 12345678901234567890123 }\n";
        assert_eq!(assemble(json!([[0, "x", "f", odd]])), pairs(&[("f", odd)]));
    }

    #[test]
    fn other_arguments_become_an_empty_object_or_a_string() {
        let sent = |arguments: &str| assemble(json!([[0, "x", "f", arguments]])).remove(0).1;
        assert_eq!(sent(""), "{}");
        assert_eq!(sent(" \n"), "{}");
        assert_eq!(sent("[1]"), r#""[1]""#);
        assert_eq!(sent("null"), r#""null""#);
        assert_eq!(sent("{\"a\":"), r#""{\"a\":""#);
        assert_eq!(sent("{} {}"), r#""{} {}""#);
        assert_eq!(sent("milk \0 \"fresh\""), "\"milk \u{FFFD} \\\"fresh\\\"\"");
    }

    #[test]
    fn doubly_encoded_arguments_are_decoded_once() {
        let sent = |arguments: &str| assemble(json!([[0, "x", "f", arguments]])).remove(0).1;
        assert_eq!(sent(r#""{\"a\": 1}""#), r#"{"a": 1}"#);
        assert_eq!(sent(r#""\"{}\"""#), r#""\"\\\"{}\\\"\"""#);
        assert_eq!(sent(r#""milk""#), r#""\"milk\"""#);
    }

    #[test]
    fn lone_surrogates_are_replaced_and_depth_is_bounded() {
        let sent = |arguments: &str| assemble(json!([[0, "x", "f", arguments]])).remove(0).1;
        assert_eq!(
            sent(r#"{"a":"\ud83d","\udd80":"\ud83e\udd80"}"#),
            r#"{"a":"\ufffd","\ufffd":"\ud83e\udd80"}"#
        );
        let deep = format!(
            "{}{}",
            "{\"a\":".repeat(20_000),
            "{}".to_owned() + &"}".repeat(20_000)
        );
        assert!(sent(&deep).starts_with('"'));
    }

    #[test]
    fn a_duplicate_id_belongs_to_the_first_call_only() {
        let mut calls = CallAssembler::default();
        for index in 0..2 {
            let fragment = Fragment {
                index: Some(index),
                id: "x".to_owned(),
                tool: Text::from("f"),
                ..Fragment::default()
            };
            calls.add(fragment).expect("not too long");
        }
        let ids: Vec<_> = calls
            .finish(FinishReason::Complete)
            .expect("whole calls")
            .into_iter()
            .map(|call| call.id)
            .collect();
        assert_eq!(ids, ["x", ""]);
    }

    #[test]
    fn a_call_without_a_name_is_rejected() {
        let mut calls = CallAssembler::default();
        calls.add(Fragment::default()).expect("not too long");
        calls.finish(FinishReason::Complete).expect_err("no name");
    }

    #[test]
    fn calls_over_the_size_limit_are_rejected() {
        let mut calls = CallAssembler::default();
        let results = (0..=MAX_BYTES / CALL_OVERHEAD_BYTES).map(|index| {
            calls.add(Fragment {
                index: Some(index as u64),
                ..Fragment::default()
            })
        });
        assert!(results.last().expect("many").is_err());
        let mut calls = CallAssembler::default();
        let arguments = Text::from("x".repeat(1 << 16).as_str());
        let mut added = (0..17).map(|_| {
            calls.add(Fragment {
                index: Some(0),
                arguments: arguments.clone(),
                ..Fragment::default()
            })
        });
        assert!(added.any(|added| added.is_err()));
    }
}
