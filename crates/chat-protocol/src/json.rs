//! Strict parsing of JSON from clients: UTF-8, one value, no duplicate keys, bounded depth, no
//! unpaired surrogates.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

use crate::problem::{Code, Problem};

/// The deepest nesting of arrays and objects.
pub const MAX_DEPTH: usize = 64;

/// The longest key in an error, in characters.
const MAX_KEY_CHARS: usize = 64;

/// Parses one JSON text.
///
/// # Errors
/// `invalid_json` with line and column; `invalid_text` if a string holds a lone surrogate.
pub fn read(body: &[u8]) -> Result<Value, Problem> {
    let text = std::str::from_utf8(body)
        .map_err(|error| invalid(body, error.valid_up_to(), "The body is not UTF-8"))?;
    // First the grammar alone, so that the second pass can only fail for the rules of this module.
    serde_json::from_str::<&RawValue>(text).map_err(|error| syntax(text, &error))?;
    if let Some(offset) = lone_surrogate(body) {
        let mut problem = Problem::new(Code::InvalidText, "The text has an unpaired surrogate");
        set_place(&mut problem, body, offset);
        return Err(problem);
    }
    let mut json = serde_json::Deserializer::from_str(text);
    Strict { depth: 0 }
        .deserialize(&mut json)
        .map_err(|error| syntax(text, &error))
}

fn syntax(text: &str, error: &serde_json::Error) -> Problem {
    let (line, column) = (error.line(), error.column());
    let message = error.to_string();
    let what = message
        .strip_suffix(&format!(" at line {line} column {column}"))
        .unwrap_or(&message);
    // Column 0 is the line break before the line.
    let end_of_line_before = || {
        text.split('\n')
            .nth(line.checked_sub(2)?)
            .map(|before| (line - 1, before.len() + 1))
    };
    let (line, column) = if column == 0 {
        end_of_line_before().unwrap_or((line, 1))
    } else {
        (line, column)
    };
    let mut problem = Problem::new(
        Code::InvalidJson,
        format!("The body is invalid at line {line}, column {column}: {what}"),
    );
    problem.members.line = Some(line);
    problem.members.column = Some(column);
    problem
}

fn invalid(body: &[u8], offset: usize, what: &str) -> Problem {
    let mut problem = Problem::new(Code::InvalidJson, what);
    set_place(&mut problem, body, offset);
    problem
}

fn set_place(problem: &mut Problem, body: &[u8], offset: usize) {
    let before = body.get(..offset).unwrap_or(body);
    let line_start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |newline| newline + 1);
    problem.members.line = Some(1 + before.iter().filter(|byte| **byte == b'\n').count());
    problem.members.column = Some(1 + before.len() - line_start);
}

/// The offset of an escaped unpaired surrogate, in valid JSON: there, backslashes are only in
/// strings.
fn lone_surrogate(json: &[u8]) -> Option<usize> {
    let unit = |at: usize| {
        let digits = json.get(at..at + 6)?.strip_prefix(br"\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut at = 0;
    while let Some(step) = json.get(at..)?.iter().position(|byte| *byte == b'\\') {
        at += step;
        at += match unit(at) {
            None => 2,
            Some(0xD800..=0xDBFF) if matches!(unit(at + 6), Some(0xDC00..=0xDFFF)) => 12,
            Some(0xD800..=0xDFFF) => return Some(at),
            Some(_) => 6,
        };
    }
    None
}

/// Parses a value at a depth.
struct Strict {
    depth: usize,
}

impl Strict {
    fn nested<E: serde::de::Error>(&self) -> Result<Self, E> {
        if self.depth < MAX_DEPTH {
            Ok(Self {
                depth: self.depth + 1,
            })
        } else {
            Err(E::custom(format_args!("more than {MAX_DEPTH} levels deep")))
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self.nested()?)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let nested = self.nested()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(A::Error::custom(format_args!(
                    "duplicate key {}",
                    Quoted(&name)
                )));
            }
            let value = members.next_value_seed(Self {
                depth: nested.depth,
            })?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

/// A name from the client between quotes, cut after [`MAX_KEY_CHARS`] characters.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self
            .0
            .char_indices()
            .nth(MAX_KEY_CHARS)
            .and_then(|(end, _)| self.0.get(..end))
        {
            Some(start) => write!(f, "{start:?}…"),
            None => write!(f, "{:?}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: impl AsRef<[u8]>) -> (Code, usize, usize) {
        let problem = read(body.as_ref()).unwrap_err();
        (
            problem.code,
            problem.members.line.unwrap(),
            problem.members.column.unwrap(),
        )
    }

    #[test]
    fn json_is_parsed() {
        let value =
            read(br#" {"a": [1, -2, 2.5, true, null, "x\ud83d\ude00\\u0041"], "b": {}} "#).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"a": [1, -2, 2.5, true, null, "x😀\\u0041"], "b": {}})
        );
    }

    #[test]
    fn invalid_json_is_rejected_with_its_place() {
        for body in [
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\":1",
            "nul",
            "{} x",
            "{}{}",
            "'a'",
            "{a:1}",
            "\u{feff}{}",
            "\"\u{1}\"",
            "[01]",
            "NaN",
        ] {
            assert_eq!(
                read(body.as_bytes()).unwrap_err().code,
                Code::InvalidJson,
                "{body:?}"
            );
        }
        assert_eq!(refused("{\n  \"a\": tru\n}"), (Code::InvalidJson, 2, 11));
        assert_eq!(refused(b"{\"a\":\n \"\xff\"}"), (Code::InvalidJson, 2, 3));
        assert_eq!(refused("{\"a\": 1,\n\"a\": 2}"), (Code::InvalidJson, 2, 3));
        assert_eq!(refused("1e400"), (Code::InvalidJson, 1, 5));
    }

    #[test]
    fn depth_is_bounded_and_keys_are_compared_unescaped() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(read(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(refused(nested(MAX_DEPTH + 1)).0, Code::InvalidJson);
        assert_eq!(refused(nested(100_000)).0, Code::InvalidJson);
        assert_eq!(refused(r#"{"a": 1, "\u0061": 2}"#).0, Code::InvalidJson);
        assert!(read(br#"{"a": {"a": 1}, "b": {"a": 2}}"#).is_ok());
    }

    #[test]
    fn a_long_key_is_cut_in_the_error() {
        let detail = |name: &str| {
            read(format!(r#"{{"{name}": 1, "{name}": 2}}"#).as_bytes())
                .unwrap_err()
                .detail()
        };
        let (fits, long) = ("é".repeat(64), "é".repeat(65));
        assert!(
            detail(&fits).contains(&format!("duplicate key \"{fits}\".")),
            "{}",
            detail(&fits)
        );
        assert!(
            detail(&long).contains(&format!("duplicate key \"{fits}\"….")),
            "{}",
            detail(&long)
        );
    }

    #[test]
    fn unpaired_surrogates_are_rejected_as_text() {
        assert_eq!(refused(r#"["\ud800"]"#), (Code::InvalidText, 1, 3));
        assert_eq!(refused("[\n\"x\\udc00\"]"), (Code::InvalidText, 2, 3));
        assert_eq!(refused(r#""\uD800A""#).0, Code::InvalidText);
        assert_eq!(refused(r#""\ud800\ud800\udc00""#).0, Code::InvalidText);
        assert_eq!(refused(r#""\ude00\ud83d""#).0, Code::InvalidText);
        assert!(read(br#""\\ud800 \\\\ud800""#).is_ok());
    }
}
