//! Parses JSON with common defects.

use std::borrow::Cow;

use serde_json::Value;

/// Deepest nesting that is kept. serde_json rejects more than 127 levels.
const MAX_DEPTH: usize = 120;
/// Replaces values that are nested more deeply.
const TOO_DEEP: &str = r#""[nested too deeply]""#;

/// Parses a line as JSON. Invalid JSON is repaired first: invalid UTF-8, lone surrogates, invalid
/// escapes, control characters in strings, `NaN` and `Infinity`, numbers beyond a double, and
/// nesting beyond the parser's limit.
pub(super) fn parse(line: &[u8]) -> Option<Value> {
    let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
    serde_json::from_slice(line)
        .ok()
        .or_else(|| serde_json::from_str(&repair(&String::from_utf8_lossy(line))).ok())
}

fn repair(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut depth = 0_usize;
    while let Some(first) = rest.chars().next() {
        let after = rest.get(first.len_utf8()..).unwrap_or_default();
        match first {
            '"' => {
                let (string, after) = repair_string(after);
                rest = after;
                if depth <= MAX_DEPTH {
                    out.push_str(&string);
                }
            }
            '{' | '[' => {
                rest = after;
                depth += 1;
                match depth {
                    ..=MAX_DEPTH => out.push(first),
                    _ if depth == MAX_DEPTH + 1 => out.push_str(TOO_DEEP),
                    _ => {}
                }
            }
            '}' | ']' => {
                rest = after;
                if depth <= MAX_DEPTH {
                    out.push(first);
                }
                depth = depth.saturating_sub(1);
            }
            ',' | ':' => {
                rest = after;
                if depth <= MAX_DEPTH {
                    out.push(first);
                }
            }
            _ if first.is_whitespace() => rest = after,
            _ => {
                let end = rest.find(|c: char| {
                    c.is_whitespace() || matches!(c, '"' | '{' | '[' | '}' | ']' | ',' | ':')
                });
                let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
                rest = after;
                if depth <= MAX_DEPTH {
                    out.push_str(repair_word(word));
                }
            }
        }
    }
    out
}

/// Returns a word outside strings: unchanged if it is valid JSON, else its likely replacement.
fn repair_word(word: &str) -> &str {
    match word {
        "true" | "True" => "true",
        "false" | "False" => "false",
        _ if serde_json::from_str::<Value>(word).is_ok() => word,
        _ => "null",
    }
}

/// Returns the string whose opening quote was read as valid JSON, and the text after it.
fn repair_string(text: &str) -> (String, &str) {
    let mut out = String::from('"');
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after = rest.get(first.len_utf8()..).unwrap_or_default();
        rest = after;
        match first {
            '"' => {
                out.push('"');
                break;
            }
            '\\' => {
                let (escape, after) = repair_escape(after);
                out.push_str(&escape);
                rest = after;
            }
            _ if u32::from(first) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(first))),
            _ => out.push(first),
        }
    }
    (out, rest)
}

/// Returns the escape whose backslash was read as a valid one, and the text after it.
fn repair_escape(text: &str) -> (Cow<'_, str>, &str) {
    let Some(kind) = text.chars().next() else {
        return ("".into(), text);
    };
    let (_, after) = text.split_at(kind.len_utf8());
    match kind {
        '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' => (format!("\\{kind}").into(), after),
        'u' => match code_unit(after) {
            Some((0xD800..=0xDBFF, digits, later)) => {
                match later.strip_prefix("\\u").and_then(code_unit) {
                    Some((0xDC00..=0xDFFF, low, after)) => {
                        (format!("\\u{digits}\\u{low}").into(), after)
                    }
                    _ => ("\\ufffd".into(), later),
                }
            }
            Some((0xDC00..=0xDFFF, _, after)) => ("\\ufffd".into(), after),
            Some((_, digits, after)) => (format!("\\u{digits}").into(), after),
            None => ("\\\\u".into(), after),
        },
        // The backslash is probably literal, as in a Windows path or a regular expression.
        _ => ("\\\\".into(), text),
    }
}

/// Returns the four hexadecimal digits at the start of a text, their value, and the text after
/// them.
fn code_unit(text: &str) -> Option<(u16, &str, &str)> {
    let (digits, after) = text.split_at_checked(4)?;
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex
        .then(|| u16::from_str_radix(digits, 16).ok())
        .flatten()
        .map(|unit| (unit, digits, after))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn valid_json_is_unchanged() {
        let line = r#"{"id":1,"result":{"a":[1.50,"\ud83d\ude00\u00e9\\ud800"]}}"#;
        assert_eq!(
            parse(line.as_bytes()),
            Some(serde_json::from_str(line).unwrap())
        );
        assert_eq!(repair(line), line);
        assert_eq!(parse(b"\xEF\xBB\xBF{}"), Some(json!({})));
    }

    #[test]
    fn lone_surrogates_become_replacement_characters() {
        for (line, expected) in [
            (r#""a\ud83d""#, "a\u{FFFD}"),
            (r#""\ude00b""#, "\u{FFFD}b"),
            (r#""\ud83d\ud83d\ude00""#, "\u{FFFD}\u{1F600}"),
            (r#""\ud83dx\n""#, "\u{FFFD}x\n"),
            (r#""\ud83d\u0041""#, "\u{FFFD}A"),
        ] {
            assert_eq!(parse(line.as_bytes()), Some(expected.into()), "{line}");
        }
    }

    #[test]
    fn other_defects_are_repaired() {
        for (line, expected) in [
            (
                &br#"[NaN, Infinity, -Infinity, 1e999, undefined, True, None]"#[..],
                json!([null, null, null, null, null, true, null]),
            ),
            (
                b"{\"a\":\"x\xff\xfey\"}",
                json!({ "a": "x\u{FFFD}\u{FFFD}y" }),
            ),
            (b"{\"a\":\"tab\there\"}", json!({ "a": "tab\there" })),
            (
                br#"{"a":"C:\Users\x41 \u12"}"#,
                json!({ "a": r"C:\Users\x41 \u12" }),
            ),
        ] {
            assert_eq!(
                parse(line),
                Some(expected),
                "{}",
                String::from_utf8_lossy(line)
            );
        }
    }

    #[test]
    fn nesting_beyond_the_limit_is_replaced() {
        let deep = format!(
            r#"{{"id":1,"deep":{}"]"{},"after":[2]}}"#,
            "[".repeat(20_000),
            "]".repeat(20_000)
        );
        let value = parse(deep.as_bytes()).unwrap();
        assert_eq!((&value["id"], &value["after"]), (&json!(1), &json!([2])));
        assert!(value["deep"].to_string().contains("nested too deeply"));
    }

    #[test]
    fn text_that_is_not_json_is_rejected() {
        for line in [
            "",
            "Loading plugins...",
            "{\"half\": ",
            "{\"a\" 1}",
            "\"open",
        ] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn repairing_never_panics_and_keeps_valid_json(text in "[\\[\\]{}\",:\\\\uda0-9 \
        e\u{1F600}\u{e9}-]{0,60}") {
            let repaired = repair(&text);
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                proptest::prop_assert_eq!(serde_json::from_str::<Value>(&repaired).unwrap(), value);
            }
        }
    }
}
