//! Lenient JSON reading, member by member.
//!
//! Only the members that are asked for are decoded, so no other member can make reading fail.
//! Strings may contain lone surrogates, because the two halves of a pair may arrive in two events.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, Visitor};
use serde_json::value::RawValue;

/// Deepest nesting of arguments and stored data. The same limit applies to client requests.
const MAX_DEPTH: usize = 64;

/// A decoded string in WTF-8 (<https://simonsapin.github.io/wtf-8/>): UTF-8 in which a lone
/// surrogate takes three bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Text(Vec<u8>);

impl Text {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn push(&mut self, more: &Self) {
        self.0.extend_from_slice(&more.0);
    }

    /// Removes and returns the text, except for a high surrogate at its end whose low surrogate may
    /// follow.
    pub fn take_complete(&mut self) -> String {
        let cut = match self.0.as_slice() {
            [.., 0xED, 0xA0..=0xAF, _] => self.0.len() - 3,
            _ => self.0.len(),
        };
        let rest = self.0.split_off(cut);
        std::mem::replace(self, Self(rest)).into_string()
    }

    /// Returns the text with surrogate pairs joined. A lone surrogate becomes U+FFFD.
    pub fn into_string(self) -> String {
        match String::from_utf8(self.0) {
            Ok(text) => text,
            Err(error) => decode_wtf8(error.as_bytes()),
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

fn decode_wtf8(mut rest: &[u8]) -> String {
    let half = |second: u8, third: u8| {
        0xD000 | (u32::from(second) & 0x3F) << 6 | (u32::from(third) & 0x3F)
    };
    let mut text = String::with_capacity(rest.len());
    while !rest.is_empty() {
        rest = match rest {
            [
                0xED,
                a @ 0xA0..=0xAF,
                b,
                0xED,
                c @ 0xB0..=0xBF,
                d,
                rest @ ..,
            ] => {
                let code = 0x1_0000 + ((half(*a, *b) - 0xD800) << 10) + (half(*c, *d) - 0xDC00);
                text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                rest
            }
            [0xED, 0xA0..=0xBF, _, rest @ ..] => {
                text.push(char::REPLACEMENT_CHARACTER);
                rest
            }
            _ => {
                let next = rest
                    .windows(2)
                    .skip(1)
                    .position(|pair| matches!(pair, [0xED, 0xA0..=0xBF]))
                    .map_or(rest.len(), |at| at + 1);
                let (plain, rest) = rest.split_at(next);
                text.push_str(&String::from_utf8_lossy(plain));
                rest
            }
        };
    }
    text
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Text, E> {
                Ok(Text(bytes.to_vec()))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text::from(text))
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

/// A JSON value, decoded one level deep.
#[derive(Debug)]
pub enum Node<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    Text(Text),
    List(Vec<&'a RawValue>),
    Object(Object<'a>),
}

impl<'a> Node<'a> {
    pub fn parse(raw: &'a RawValue) -> Self {
        let json = raw.get();
        let node = match json.bytes().next() {
            Some(b'"') => serde_json::from_str(json).map(Self::Text),
            Some(b'[') => serde_json::from_str(json).map(Self::List),
            Some(b'{') => serde_json::from_str(json).map(|members| Self::Object(Object(members))),
            Some(b't') => Ok(Self::Bool(true)),
            Some(b'f') => Ok(Self::Bool(false)),
            Some(b'n') | None => Ok(Self::Null),
            Some(_) => Ok(Self::Number(json)),
        };
        node.unwrap_or(Self::Null)
    }

    /// The kind of the value with an article, for error messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// Whether the value is `null`, `false`, `0`, `""`, `[]` or `{}`, or an object or array of such
    /// values only.
    pub fn is_blank(&self) -> bool {
        self.is_blank_within(4)
    }

    fn is_blank_within(&self, depth: usize) -> bool {
        match self {
            Self::Null | Self::Bool(false) => true,
            Self::Bool(true) => false,
            Self::Number(number) => number.parse() == Ok(0.0),
            Self::Text(text) => text.clone().into_string().trim().is_empty(),
            Self::List(values) => {
                depth > 0
                    && values
                        .iter()
                        .all(|value| Self::parse(value).is_blank_within(depth - 1))
            }
            Self::Object(members) => {
                depth > 0
                    && members
                        .0
                        .values()
                        .all(|value| Self::parse(value).is_blank_within(depth - 1))
            }
        }
    }

    /// The number, written as a number or as text. Fractions are truncated; negative numbers are
    /// `None`.
    pub fn to_u64(&self) -> Option<u64> {
        let text = match self {
            Self::Number(number) => (*number).to_owned(),
            Self::Text(text) => text.clone().into_string().trim().to_owned(),
            _ => return None,
        };
        let float = || {
            text.parse::<f64>()
                .ok()
                .filter(|number| (0.0..=1e15).contains(number))
                .map(|number| number as u64)
        };
        text.parse().ok().or_else(float)
    }
}

/// The members of an object. The last of several members with the same name wins.
#[derive(Debug, Default)]
pub struct Object<'a>(HashMap<Text, &'a RawValue>);

impl<'a> Object<'a> {
    /// The member, or null.
    pub fn get(&self, name: &str) -> Node<'a> {
        self.raw(name).map_or(Node::Null, Node::parse)
    }

    /// The member's JSON.
    pub fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(&Text::from(name)).copied()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn has(&self, name: &str) -> bool {
        self.raw(name).is_some_and(|value| value.get() != "null")
    }

    /// The string member without surrounding white space. Empty if it is missing or not a string.
    pub fn trimmed_text(&self, name: &str) -> String {
        match self.get(name) {
            Node::Text(text) => text.into_string().trim().to_owned(),
            _ => String::new(),
        }
    }
}

/// Parses all values of a text. Invalid JSON that some servers write is repaired: `NaN`,
/// `Infinity`, and control characters in strings.
///
/// # Errors
/// The text cannot be repaired. The error contains nothing of the text.
pub fn parse_values(text: &str) -> Result<Vec<Box<RawValue>>, serde_json::Error> {
    let read = |text: &str| {
        serde_json::Deserializer::from_str(text)
            .into_iter::<Box<RawValue>>()
            .collect::<Result<Vec<_>, _>>()
    };
    read(text).or_else(|error| read(&repair(text)).map_err(|_| error))
}

fn repair(text: &str) -> String {
    let mut repaired = String::with_capacity(text.len() + 16);
    let (mut in_string, mut escaped) = (false, false);
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        if !in_string {
            let word = ["NaN", "-Infinity", "Infinity", "-NaN"]
                .into_iter()
                .find(|word| rest.starts_with(word));
            if let Some(after) = word.and_then(|word| rest.strip_prefix(word)) {
                repaired.push_str("null");
                rest = after;
                continue;
            }
        }
        match char {
            char if in_string && char < ' ' => {
                repaired.push_str(&format!("\\u{:04x}", u32::from(char)))
            }
            char => repaired.push(char),
        }
        in_string = if char == '"' && !escaped {
            !in_string
        } else {
            in_string
        };
        escaped = in_string && char == '\\' && !escaped;
        rest = rest.get(char.len_utf8()..).unwrap_or_default();
    }
    repaired
}

/// Replaces lone surrogate escapes in JSON by U+FFFD, because strict parsers reject them.
pub fn replace_lone_surrogates(json: &str) -> Cow<'_, str> {
    let code = |escape: &[u8]| match escape {
        [b'\\', b'u', digits @ ..] => std::str::from_utf8(digits.get(..4)?)
            .ok()
            .and_then(|digits| u16::from_str_radix(digits, 16).ok()),
        _ => None,
    };
    let mut halves = Vec::new();
    let bytes = json.as_bytes();
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        at += match (code(rest), rest.get(6..).and_then(code)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                halves.push(at);
                6
            }
            _ if rest.starts_with(b"\\") => 2,
            _ => 1,
        };
    }
    if halves.is_empty() {
        return Cow::Borrowed(json);
    }
    let mut json = json.to_owned();
    halves
        .into_iter()
        .for_each(|at| json.replace_range(at..at + 6, "\\ufffd"));
    Cow::Owned(json)
}

/// Whether the text is one JSON object that is not nested too deeply.
pub fn is_object(text: &str) -> bool {
    text.trim_start().starts_with('{')
        && serde_json::from_str::<IgnoredAny>(text).is_ok()
        && is_shallow(text)
}

/// Whether the JSON is not nested too deeply.
pub fn is_shallow(json: &str) -> bool {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            b'"' if !escaped => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        escaped = in_string && byte == b'\\' && !escaped;
        deepest = deepest.max(depth);
    }
    deepest <= MAX_DEPTH
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(json: &str) -> Text {
        serde_json::from_str(json).expect("a string")
    }

    #[test]
    fn surrogate_pairs_are_joined() {
        let mut text = decoded(r#""a\ud83e""#);
        assert_eq!(text.take_complete(), "a");
        text.push(&decoded(r#""\udd80b\ud83e""#));
        assert_eq!(text.take_complete(), "🦀b");
        text.push(&decoded(r#""\ud83e\udd80 \udd80c日\ud83e""#));
        assert_eq!(text.take_complete(), "\u{FFFD}🦀 \u{FFFD}c日");
        assert_eq!(text.into_string(), "\u{FFFD}");
    }

    #[test]
    fn lone_surrogates_are_replaced_in_json() {
        for whole in [
            r#"{"a":"\\ud83d"}"#,
            r#""\ud83e\udd80""#,
            "{}",
            r#"{"a":"\u00e9\n"}"#,
        ] {
            assert!(
                matches!(replace_lone_surrogates(whole), Cow::Borrowed(_)),
                "{whole}"
            );
        }
        assert_eq!(
            replace_lone_surrogates(r#"{"\ud83d":"\udd80x\\\ud83d\ud83e\udd80"}"#),
            r#"{"\ufffd":"\ufffdx\\\ufffd\ud83e\udd80"}"#
        );
        assert_eq!(replace_lone_surrogates(r#""\ud83"#), r#""\ud83"#);
    }

    #[test]
    fn invalid_json_of_known_servers_is_repaired() {
        let repaired_values = |text: &str| {
            parse_values(text)
                .expect("values")
                .iter()
                .map(|value| value.get().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            repaired_values("{\"a\":NaN,\"b\":-Infinity} {\"c\":\"NaN\tx\"}"),
            [r#"{"a":null,"b":null}"#, r#"{"c":"NaN\u0009x"}"#]
        );
        assert_eq!(repaired_values(""), [""; 0]);
        assert!(parse_values("{\"a\":}").is_err());
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| {
            format!(
                "{}{}",
                "{\"a\":".repeat(depth),
                "1".to_owned() + &"}".repeat(depth)
            )
        };
        assert!(is_object(&nested(64)) && !is_object(&nested(65)) && !is_object(&nested(20_000)));
        assert!(is_object(r#"{"a":"[[[[{{{{\"[["}"#));
    }
}
