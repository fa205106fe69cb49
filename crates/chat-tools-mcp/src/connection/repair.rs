//! Reads JSON that is nearly right.

use std::borrow::Cow;

use serde_json::Value;

/// The deepest nesting that is kept. serde_json refuses more than 127.
const DEEPEST: usize = 120;
/// Stands for what is nested deeper.
const TOO_DEEP: &str = r#""[nested too deeply]""#;

/// The JSON value of a line. A line that is not JSON is mended first: invalid UTF-8, lone
/// surrogates, invalid escapes, control characters in strings, `NaN` and `Infinity`, numbers beyond
/// a double, and nesting beyond the parser's limit.
pub(super) fn parse(line: &[u8]) -> Option<Value> {
    let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
    serde_json::from_slice(line)
        .ok()
        .or_else(|| serde_json::from_str(&mend(&String::from_utf8_lossy(line))).ok())
}

fn mend(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut depth = 0_usize;
    while let Some(first) = rest.chars().next() {
        let after = rest.get(first.len_utf8()..).unwrap_or_default();
        match first {
            '"' => {
                let (string, after) = string(after);
                rest = after;
                if depth <= DEEPEST {
                    out.push_str(&string);
                }
            }
            '{' | '[' => {
                rest = after;
                depth += 1;
                match depth {
                    ..=DEEPEST => out.push(first),
                    _ if depth == DEEPEST + 1 => out.push_str(TOO_DEEP),
                    _ => {}
                }
            }
            '}' | ']' => {
                rest = after;
                if depth <= DEEPEST {
                    out.push(first);
                }
                depth = depth.saturating_sub(1);
            }
            ',' | ':' => {
                rest = after;
                if depth <= DEEPEST {
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
                if depth <= DEEPEST {
                    out.push_str(bare(word));
                }
            }
        }
    }
    out
}

/// A word outside of strings: itself if JSON knows it, else what it most likely means.
fn bare(word: &str) -> &str {
    match word {
        "true" | "True" => "true",
        "false" | "False" => "false",
        _ if serde_json::from_str::<Value>(word).is_ok() => word,
        _ => "null",
    }
}

/// The string whose opening quote has been read, as valid JSON, and what follows it.
fn string(text: &str) -> (String, &str) {
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
                let (escape, after) = escape(after);
                out.push_str(&escape);
                rest = after;
            }
            _ if u32::from(first) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(first))),
            _ => out.push(first),
        }
    }
    (out, rest)
}

/// The escape whose backslash has been read, as a valid one, and what follows it.
fn escape(text: &str) -> (Cow<'_, str>, &str) {
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
        // The backslash was meant for itself, as in a Windows path or a regular expression.
        _ => ("\\\\".into(), text),
    }
}

/// The four hexadecimal digits at the start of a text, their value, and what follows them.
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
    fn valid_json_is_taken_as_it_is() {
        let line = r#"{"id":1,"result":{"a":[1.50,"\ud83d\ude00\u00e9\\ud800"]}}"#;
        assert_eq!(
            parse(line.as_bytes()),
            Some(serde_json::from_str(line).unwrap())
        );
        assert_eq!(mend(line), line);
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
    fn other_faults_of_writers_are_mended() {
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
    fn what_is_no_json_stays_none() {
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
        fn mending_never_fails_and_keeps_valid_json(text in "[\\[\\]{}\",:\\\\uda0-9 e\u{1F600}\u{e9}-]{0,60}") {
            let mended = mend(&text);
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                proptest::prop_assert_eq!(serde_json::from_str::<Value>(&mended).unwrap(), value);
            }
        }
    }
}
