//! Checks and repairs JSON text from agents and tools without a JSON library.

use std::fmt::Write;

use crate::RawJson;

/// How deep arrays and objects may be nested in what agents and tools send: as deep as in what
/// clients send.
pub const MAX_JSON_DEPTH: usize = 64;

impl RawJson {
    /// How deep arrays and objects are nested: 0 for a plain value.
    pub fn depth(&self) -> usize {
        let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
        for byte in self.as_str().bytes() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = !in_string,
                _ if in_string => {}
                b'[' | b'{' => {
                    depth += 1;
                    deepest = deepest.max(depth);
                }
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        deepest
    }

    /// The same, with U+FFFD for each escaped U+0000 and each escaped surrogate without its other
    /// half: strict readers refuse those, and databases differ in what they make of them.
    #[must_use]
    pub fn readable(self) -> Self {
        if !self.as_str().contains("\\u") {
            return self;
        }
        let mut readable = String::with_capacity(self.as_str().len());
        let mut rest = self.as_str();
        while let Some(at) = rest.find('\\') {
            let (before, escape) = rest.split_at(at);
            readable.push_str(before);
            let after = |bytes: usize| escape.get(bytes..).unwrap_or_default();
            let length = match (code_unit(escape), code_unit(after(6))) {
                (None, _) => 2,
                (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
                (Some(0 | 0xD800..=0xDFFF), _) => {
                    readable.push_str("\\ufffd");
                    rest = after(6);
                    continue;
                }
                (Some(_), _) => 6,
            };
            readable.push_str(escape.get(..length).unwrap_or(escape));
            rest = after(length);
        }
        readable.push_str(rest);
        Self::from_valid(readable)
    }

    /// A text as a JSON string.
    pub fn string(text: &str) -> Self {
        let mut json = String::with_capacity(text.len() + 2);
        json.push('"');
        for char in text.chars() {
            match char {
                '"' | '\\' => json.extend(['\\', char]),
                // Writing to a string cannot fail.
                '\0'..='\u{1F}' => drop(write!(json, "\\u{:04x}", u32::from(char))),
                _ => json.push(char),
            }
        }
        json.push('"');
        Self::from_valid(json)
    }
}

/// The UTF-16 code unit of the `\uXXXX` that a text begins with.
fn code_unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit())
        .then(|| u16::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_arrays_and_objects_outside_of_strings() {
        let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
        for (json, depth) in [
            ("1", 0),
            (r#""[[[{""#, 0),
            (r#""\"[""#, 0),
            (r#""\\",[1"#, 1),
            ("{}", 1),
            (r#"{"a": [1, {"b": []}], "c": [[]]}"#, 4),
            (r#"[[],[],[]]"#, 2),
            (deep.as_str(), 20_000),
        ] {
            assert_eq!(
                RawJson::from_valid(json).depth(),
                depth,
                "{}",
                &json[..json.len().min(50)]
            );
        }
    }

    #[test]
    fn what_strict_readers_refuse_is_replaced_and_all_else_stays() {
        for (json, readable) in [
            (
                r#"{"a": 1e400, "b":"\n\t\u00e9\/"}"#,
                r#"{"a": 1e400, "b":"\n\t\u00e9\/"}"#,
            ),
            (
                r#""\ud83e\udd80\uD83E\uDD80""#,
                r#""\ud83e\udd80\uD83E\uDD80""#,
            ),
            (r#""\ud83d""#, r#""\ufffd""#),
            (r#""\ud83dx\udd80""#, r#""\ufffdx\ufffd""#),
            (r#""\udd80\ud83e""#, r#""\ufffd\ufffd""#),
            (r#""\ud83d\ud83e\udd80""#, r#""\ufffd\ud83e\udd80""#),
            (r#""\ud83d\n\u0000""#, r#""\ufffd\n\ufffd""#),
            (
                r#""a\\ud83d \\\\u0000 \\\u0000""#,
                r#""a\\ud83d \\\\u0000 \\\ufffd""#,
            ),
            (r#""日本\u0000日本""#, r#""日本\ufffd日本""#),
        ] {
            assert_eq!(RawJson::from_valid(json).readable().as_str(), readable);
        }
    }

    #[test]
    fn any_text_is_a_json_string() {
        assert_eq!(
            RawJson::string("a\"b\\c\n\u{1F}é🦀").as_str(),
            "\"a\\\"b\\\\c\\u000a\\u001fé🦀\""
        );
    }
}
