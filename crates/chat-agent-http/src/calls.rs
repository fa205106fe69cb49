//! Tool calls put together from fragments.

use chat_domain::{AgentError, FinishReason, RawJson, without_nul};
use serde_json::value::RawValue;

use crate::chunk::Fragment;
use crate::failure::nonsense;
use crate::json::{Text, is_object, without_halves};

/// The most that the calls of one step may take, in bytes: a server could go on forever.
const MAX_BYTES: usize = 1 << 20;
/// What a call is counted as, beside its text. So there are at most about a thousand.
const CALL_BYTES: usize = 1 << 10;

/// The calls of one answer so far.
///
/// Fragments belong together by index. Servers differ, though: some leave the index out, some send
/// each call whole and number all of them 0, some repeat id and name in each fragment, some have no
/// ids or the same one for all. See [`begins_another`].
#[derive(Debug, Default)]
pub struct Calls {
    calls: Vec<Partial>,
    bytes: usize,
}

#[derive(Debug)]
struct Partial {
    index: Option<u64>,
    id: String,
    tool: String,
    arguments: Text,
    kept: Vec<(&'static str, Box<RawValue>)>,
}

/// A finished call.
#[derive(Debug)]
pub struct WholeCall {
    /// The server's own id; empty if there is none that is of this call alone.
    pub id: String,
    /// The name it was called by.
    pub tool: String,
    /// A JSON object, or text as a JSON string.
    pub arguments: RawJson,
    /// Members that the server wants back.
    pub kept: Vec<(&'static str, Box<RawValue>)>,
}

impl Calls {
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Takes the next fragment.
    ///
    /// # Errors
    /// There is more of it than allowed.
    pub fn add(&mut self, fragment: Fragment) -> Result<(), AgentError> {
        let Fragment {
            index,
            id,
            tool,
            arguments,
            kept,
        } = fragment;
        let next = Partial {
            index,
            id,
            tool: tool.into_string(),
            arguments,
            kept,
        };
        self.bytes += next.id.len() + next.tool.len() + next.arguments.len();
        self.bytes += next
            .kept
            .iter()
            .map(|(_, value)| value.get().len())
            .sum::<usize>();
        match self
            .calls
            .iter_mut()
            .rev()
            .find(|call| call.may_go_on_with(&next))
        {
            Some(call) if !begins_another(call, &next) => call.go_on(next),
            _ => {
                self.bytes += CALL_BYTES;
                self.calls.push(next);
            }
        }
        if self.bytes > MAX_BYTES {
            Err(nonsense("its tool calls are longer than allowed"))
        } else {
            Ok(())
        }
    }

    /// Returns the calls, in the order of their indices.
    ///
    /// If the answer was cut off, its last call may be: without a name the call is dropped, and
    /// without arguments it is not a call without parameters, but one whose arguments are the empty
    /// text.
    ///
    /// # Errors
    /// A call names no tool.
    pub fn finish(mut self, reason: FinishReason) -> Result<Vec<WholeCall>, AgentError> {
        if self.calls.iter().all(|call| call.index.is_some()) {
            self.calls.sort_by_key(|call| call.index);
        }
        let is_cut_off = reason != FinishReason::Complete;
        let is_nameless_dropped = is_cut_off
            && self
                .calls
                .pop_if(|last| last.tool.trim().is_empty())
                .is_some();
        let is_last_cut = is_cut_off
            && !is_nameless_dropped
            && self
                .calls
                .last()
                .is_some_and(|last| last.arguments.is_empty());
        let ids: Vec<String> = self.calls.iter().map(|call| call.id.clone()).collect();
        let mut calls = self
            .calls
            .into_iter()
            .map(Partial::finish)
            .collect::<Result<Vec<_>, _>>()?;
        for (place, call) in calls.iter_mut().enumerate() {
            if ids.iter().take(place).any(|id| *id == call.id) {
                call.id.clear();
            }
        }
        if let Some(last) = calls.last_mut().filter(|_| is_last_cut) {
            last.arguments = RawJson::from_valid("\"\"");
        }
        Ok(calls)
    }
}

impl Partial {
    /// Whether a fragment is addressed to this call: by index, else by id, else as the last one.
    fn may_go_on_with(&self, next: &Self) -> bool {
        match next.index {
            Some(index) => self.index == Some(index),
            None => next.id.is_empty() || self.id == next.id,
        }
    }

    fn go_on(&mut self, next: Self) {
        if self.id.is_empty() {
            self.id = next.id;
        }
        if self.tool != next.tool {
            self.tool.push_str(&next.tool);
        }
        self.arguments.push(&next.arguments);
        for (name, value) in next.kept {
            self.kept.retain(|(known, _)| *known != name);
            self.kept.push((name, value));
        }
    }

    fn finish(self) -> Result<WholeCall, AgentError> {
        if self.tool.trim().is_empty() {
            return Err(nonsense("a tool call without a name"));
        }
        let arguments = RawJson::from_valid(object_or_string(self.arguments.into_string()));
        Ok(WholeCall {
            id: without_nul(self.id),
            tool: without_nul(self.tool),
            arguments,
            kept: self.kept,
        })
    }
}

/// Arguments as an object, if they are one or the JSON text of one; else the text as a JSON string.
fn object_or_string(text: String) -> String {
    if text.trim().is_empty() {
        return "{}".to_owned();
    }
    if is_object(&text) {
        return without_halves(&text).into_owned();
    }
    let encoded = text
        .trim_start()
        .starts_with('"')
        .then(|| serde_json::from_str::<Text>(&text).ok())
        .flatten()
        .map(Text::into_string);
    match encoded.filter(|object| is_object(object)) {
        Some(object) => without_halves(&object).into_owned(),
        None => serde_json::Value::String(without_nul(text)).to_string(),
    }
}

/// Whether a fragment that is addressed to a call is another call nevertheless: it names a tool,
/// though the call has a name and is whole already.
fn begins_another(call: &Partial, next: &Partial) -> bool {
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

    /// Puts fragments together, written as index, id, name and arguments; `null` is left out.
    fn together(fragments: Value) -> Vec<(String, String)> {
        together_until(FinishReason::Complete, fragments)
    }

    fn together_until(reason: FinishReason, fragments: Value) -> Vec<(String, String)> {
        let mut calls = Calls::default();
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
                kept: Vec::new(),
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
    fn a_call_that_was_cut_off_before_its_arguments_has_none_that_a_tool_takes() {
        let cut = json!([[0, "x", "f", ""], [1, "y", "g", ""]]);
        assert_eq!(together(cut.clone()), pairs(&[("f", "{}"), ("g", "{}")]));
        for reason in [FinishReason::Length, FinishReason::ContentFilter] {
            assert_eq!(
                together_until(reason, cut.clone()),
                pairs(&[("f", "{}"), ("g", "\"\"")])
            );
        }
        let nameless = json!([[0, "x", "f", ""], [1, "y", "", ""]]);
        assert_eq!(
            together_until(FinishReason::Length, nameless),
            pairs(&[("f", "{}")])
        );
    }

    const TWO: &[(&str, &str)] = &[("f", r#"{"a":1}"#), ("g", r#"{"b":2}"#)];

    #[test]
    fn fragments_belong_together_by_index() {
        let interleaved = json!([
            [0, "x", "f", ""],
            [1, "y", "g", "{\"b\""],
            [0, null, null, "{\"a\""],
            [1, null, null, ":2}"],
            [0, null, null, ":1}"],
        ]);
        assert_eq!(together(interleaved), pairs(TWO));
        let backwards = json!([[7, "y", "g", "{\"b\":2}"], [3, "x", "f", "{\"a\":1}"]]);
        assert_eq!(together(backwards), pairs(TWO));
    }

    #[test]
    fn ids_may_be_missing_empty_repeated_or_new_in_each_fragment() {
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
            assert_eq!(together(fragments), pairs(TWO), "{ids:?}");
            let named = json!([
                [0, ids[0], "f", "{\"a\""],
                [0, ids[1], "f", ":1}"],
                [1, ids[0], "g", "{\"b\""],
                [1, ids[1], "g", ":2}"]
            ]);
            assert_eq!(together(named), pairs(TWO), "name repeated, {ids:?}");
        }
    }

    #[test]
    fn without_an_index_a_call_goes_on_until_another_is_named() {
        assert_eq!(
            together(json!([
                [null, "x", "f", "{\"a\":1}"],
                [null, "y", "g", "{\"b\":2}"]
            ])),
            pairs(TWO)
        );
        assert_eq!(
            together(json!([
                [null, "x", "f", "{\"a\":1}"],
                [null, "x", "g", "{\"b\":2}"]
            ])),
            pairs(TWO)
        );
        assert_eq!(
            together(json!([
                [null, null, "f", "{\"a\":1}"],
                [null, null, "g", "{\"b\":2}"]
            ])),
            pairs(TWO)
        );
        assert_eq!(
            together(json!([
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
        assert_eq!(together(by_id), pairs(TWO));
        assert_eq!(
            together(json!([[null, null, "f", ""], [null, null, "g", ""]])),
            pairs(&[("f", "{}"), ("g", "{}")])
        );
    }

    #[test]
    fn whole_calls_may_all_have_the_index_0() {
        assert_eq!(
            together(json!([
                [0, "x", "f", "{\"a\":1}"],
                [0, "y", "g", "{\"b\":2}"]
            ])),
            pairs(TWO)
        );
        assert_eq!(
            together(json!([
                [0, "x", "f", "{\"a\":1}"],
                [0, "x", "g", "{\"b\":2}"]
            ])),
            pairs(TWO)
        );
        assert_eq!(
            together(json!([[0, "x", "f", "{}"], [0, "y", "f", "{}"]])),
            pairs(&[("f", "{}"), ("f", "{}")])
        );
        assert_eq!(
            together(json!([[0, "x", "f", ""], [0, "y", "f", ""]])),
            pairs(&[("f", "{}"), ("f", "{}")])
        );
    }

    #[test]
    fn a_last_fragment_that_only_repeats_adds_nothing() {
        assert_eq!(
            together(json!([
                [0, "x", "f", "{}"],
                [0, "x", "f", ""],
                [0, null, null, null]
            ])),
            pairs(&[("f", "{}")])
        );
    }

    #[test]
    fn arguments_stay_byte_for_byte_if_they_are_an_object() {
        let odd = "{ \"b\": 1e400, \"a\":\t\"\\u00e9\\u0000\", \"a\": 12345678901234567890123 }\n";
        assert_eq!(together(json!([[0, "x", "f", odd]])), pairs(&[("f", odd)]));
    }

    #[test]
    fn other_arguments_become_an_empty_object_or_a_string() {
        let sent = |arguments: &str| together(json!([[0, "x", "f", arguments]])).remove(0).1;
        assert_eq!(sent(""), "{}");
        assert_eq!(sent(" \n"), "{}");
        assert_eq!(sent("[1]"), r#""[1]""#);
        assert_eq!(sent("null"), r#""null""#);
        assert_eq!(sent("{\"a\":"), r#""{\"a\":""#);
        assert_eq!(sent("{} {}"), r#""{} {}""#);
        assert_eq!(sent("milk \0 \"fresh\""), "\"milk \u{FFFD} \\\"fresh\\\"\"");
    }

    #[test]
    fn arguments_that_were_encoded_twice_are_decoded_once() {
        let sent = |arguments: &str| together(json!([[0, "x", "f", arguments]])).remove(0).1;
        assert_eq!(sent(r#""{\"a\": 1}""#), r#"{"a": 1}"#);
        assert_eq!(sent(r#""\"{}\"""#), r#""\"\\\"{}\\\"\"""#);
        assert_eq!(sent(r#""milk""#), r#""\"milk\"""#);
    }

    #[test]
    fn half_a_character_in_arguments_is_replaced_and_depth_is_bounded() {
        let sent = |arguments: &str| together(json!([[0, "x", "f", arguments]])).remove(0).1;
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
    fn an_id_that_two_calls_have_is_of_the_first_alone() {
        let mut calls = Calls::default();
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
    fn a_call_of_nothing_is_not_understood() {
        let mut calls = Calls::default();
        calls.add(Fragment::default()).expect("not too long");
        calls.finish(FinishReason::Complete).expect_err("no name");
    }

    #[test]
    fn endless_calls_are_given_up() {
        let mut calls = Calls::default();
        let begun = (0..=MAX_BYTES / CALL_BYTES).map(|index| {
            calls.add(Fragment {
                index: Some(index as u64),
                ..Fragment::default()
            })
        });
        assert!(begun.last().expect("many").is_err());
        let mut calls = Calls::default();
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
