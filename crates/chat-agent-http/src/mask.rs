//! Words of a server, made fit for the log: without keys, and without the conversation.

use secrecy::{ExposeSecret, SecretString};

use crate::json::{Node, values};

/// The most of a server's words that is logged, in bytes.
const MAX_REASON: usize = 1 << 10;
/// What stands for a part that is not logged.
const MASKED: &str = "[…]";
/// A part of the conversation this long is masked wherever it appears; a shorter one in quotation
/// marks.
const LONG_ENOUGH: usize = 16;
/// A word this long that mixes letters and digits may be a key.
const KEY_LENGTH: usize = 20;

/// Masks what must not be logged.
#[derive(Clone, Debug, Default)]
pub struct Mask {
    key: Option<SecretString>,
}

impl Mask {
    pub fn new(key: Option<SecretString>) -> Self {
        Self { key }
    }

    /// The words of an answer to this request.
    pub fn answer(&self, words: &str, request: &[u8]) -> String {
        let said = conversation(request);
        let reason = self.without_keys(words);
        let known = |part: &str| !part.trim().is_empty() && said.contains(part);
        shortened(&without_quotes(&without_long_parts(&reason, &said), &known))
    }

    /// The words of an error in the middle of an answer, when the request is gone: whatever is
    /// quoted and is more than one plain word is masked.
    pub fn event(&self, words: &str) -> String {
        let plain = |char: char| char.is_ascii_alphanumeric() || "_.-/[]".contains(char);
        shortened(&without_quotes(&self.without_keys(words), &|part: &str| {
            part.len() > 64 || !part.chars().all(plain)
        }))
    }

    fn without_keys(&self, words: &str) -> String {
        let words: String = words
            .chars()
            .take(8 * MAX_REASON)
            .map(|char| if char.is_control() { ' ' } else { char })
            .collect();
        let key = self
            .key
            .as_ref()
            .map(|key| key.expose_secret())
            .filter(|key| !key.is_empty());
        let words = key.map_or_else(|| words.clone(), |key| words.replace(key, MASKED));
        let mut after_bearer = false;
        let word = |word: &str| {
            let core = word.trim_matches(|char: char| !char.is_ascii_alphanumeric());
            let masked = after_bearer || looks_like_a_key(core);
            after_bearer = ["bearer", "basic", "password", "token:"]
                .contains(&word.to_ascii_lowercase().as_str());
            if masked && !core.is_empty() {
                word.replace(core, MASKED)
            } else {
                word.to_owned()
            }
        };
        words.split(' ').map(word).collect::<Vec<_>>().join(" ")
    }
}

/// Whether a word may be a key: by its prefix, or because it is long and mixes letters and digits.
/// Names of members and models do not.
fn looks_like_a_key(word: &str) -> bool {
    let prefixed = [
        "sk-", "sk_", "pk-", "key-", "AIza", "gsk_", "xai-", "hf_", "eyJ", "ya29.", "ghp_", "AKIA",
        "nvapi-", "r8_",
    ];
    let parts = word.split(|char: char| {
        !(char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '*' | '+'))
    });
    let mixed = |part: &str| {
        let digits = part.bytes().filter(u8::is_ascii_digit).count();
        part.len() >= KEY_LENGTH
            && digits >= 3
            && part.bytes().any(|byte| byte.is_ascii_alphabetic())
    };
    let is_key = |part: &str| {
        (part.len() >= 6 && prefixed.iter().any(|prefix| part.starts_with(prefix))) || mixed(part)
    };
    parts.into_iter().any(is_key) || word.contains("://") && word.contains('@')
}

/// The words with each quoted part masked that is `secret`.
fn without_quotes(words: &str, secret: &dyn Fn(&str) -> bool) -> String {
    let mut kept = String::with_capacity(words.len());
    let mut rest = words;
    while let Some(at) = rest.find(['\'', '"', '`', '“', '‘', '«']) {
        let (before, quoted) = rest.split_at(at);
        kept.push_str(before);
        let Some(open) = quoted.chars().next() else {
            break;
        };
        let close = match open {
            '“' => '”',
            '‘' => '’',
            '«' => '»',
            same => same,
        };
        let inner = quoted.get(open.len_utf8()..).unwrap_or_default();
        kept.push(open);
        match inner.split_once(close) {
            Some((part, after)) if secret(part) => {
                kept.push_str(MASKED);
                kept.push(close);
                rest = after;
            }
            _ => rest = inner,
        }
    }
    kept.push_str(rest);
    kept
}

/// The words with each part masked that is in the conversation and long enough to be no accident.
fn without_long_parts(words: &str, said: &str) -> String {
    let mut kept = String::with_capacity(words.len());
    let mut rest = words;
    let prefix = |text: &str, bytes: usize| {
        text.get(..text.floor_char_boundary(bytes))
            .unwrap_or_default()
            .to_owned()
    };
    while let Some(first) = rest.chars().next() {
        let begins_word = kept
            .chars()
            .next_back()
            .is_none_or(|char| !char.is_alphanumeric());
        let mut shared = prefix(rest, LONG_ENOUGH);
        if begins_word && shared.len() + 3 >= LONG_ENOUGH && said.contains(&shared) {
            while let Some(next) = rest
                .get(shared.len()..)
                .and_then(|rest| rest.chars().next())
            {
                shared.push(next);
                if !said.contains(&shared) {
                    shared.pop();
                    break;
                }
            }
            kept.push_str(MASKED);
            rest = rest.get(shared.len()..).unwrap_or_default();
        } else {
            kept.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        }
    }
    kept
}

fn shortened(words: &str) -> String {
    let words = words.trim();
    match words.get(..words.floor_char_boundary(MAX_REASON)) {
        Some(cut) if cut.len() < words.len() => format!("{cut}…"),
        _ => words.to_owned(),
    }
}

/// All that is said in the messages of a request, decoded, and as it is written.
fn conversation(request: &[u8]) -> String {
    let mut said = String::new();
    let body = std::str::from_utf8(request)
        .ok()
        .and_then(|body| values(body).ok())
        .unwrap_or_default();
    for value in &body {
        let Node::Object(body) = Node::of(value) else {
            continue;
        };
        let Node::List(messages) = body.get("messages") else {
            continue;
        };
        for message in messages {
            let Node::Object(message) = Node::of(message) else {
                continue;
            };
            add_text(&mut said, &message.get("content"));
            let Node::List(calls) = message.get("tool_calls") else {
                continue;
            };
            for call in calls {
                let Node::Object(call) = Node::of(call) else {
                    continue;
                };
                if let Node::Object(function) = call.get("function") {
                    add_text(&mut said, &function.get("arguments"));
                }
            }
        }
    }
    let escaped = said.replace('\n', "\\n").replace('"', "\\\"");
    said.push_str(&escaped);
    said
}

fn add_text(said: &mut String, content: &Node<'_>) {
    match content {
        Node::Text(text) => {
            said.push_str(&text.clone().into_string());
            said.push('\n');
        }
        Node::List(parts) => {
            for part in parts {
                if let Node::Object(part) = Node::of(part) {
                    add_text(said, &part.get("text"));
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask() -> Mask {
        Mask::new(Some("hunter2".into()))
    }

    #[test]
    fn keys_are_masked_and_words_stay() {
        for (words, masked) in [
            (
                "Incorrect API key provided: hunter2.",
                "Incorrect API key provided: […].",
            ),
            (
                "Invalid Authorization: Bearer abc",
                "Invalid Authorization: Bearer […]",
            ),
            ("key sk-proj-abc123 is revoked", "key […] is revoked"),
            (
                "token eyJhbGciOiJI.eyJzdWIi.x3 (expired)",
                "token […] (expired)",
            ),
            ("id 0a1b2c3d4e5f60718293a4b5 failed", "id […] failed"),
            (
                "Unknown parameter: 'stream_options.include_usage'",
                "Unknown parameter: 'stream_options.include_usage'",
            ),
            (
                "This model's maximum context length is 8192 tokens",
                "This model's maximum context length is 8192 tokens",
            ),
            (
                "model claude-sonnet-4 needs --enable-auto-tool-choice",
                "model claude-sonnet-4 needs --enable-auto-tool-choice",
            ),
        ] {
            assert_eq!(mask().answer(words, b"{}"), masked);
        }
    }

    #[test]
    fn the_conversation_is_masked() {
        let request = serde_json::json!({ "messages": [
            { "role": "user", "content": "my sister's pin is 4711" },
            { "role": "assistant", "content": null, "tool_calls": [{ "function": { "arguments": "{\"to\":\"Zoë of the mill\"}" } }] },
        ] });
        let request = request.to_string().into_bytes();
        let masked = |words: &str| mask().answer(words, &request);
        assert_eq!(
            masked("Invalid value: 'pin' in tools[0]"),
            "Invalid value: '[…]' in tools[0]"
        );
        assert_eq!(
            masked("cannot read my sister's pin is 4711 here"),
            "cannot read […] here"
        );
        assert_eq!(
            masked("bad arguments {\"to\":\"Zoë of the mill\"}"),
            "bad arguments […]"
        );
        assert_eq!(
            masked("bad arguments {\\\"to\\\":\\\"Zoë of the mill\\\"}"),
            "bad arguments […]"
        );
        assert_eq!(
            masked("Invalid 'tools[0].name': it is not allowed"),
            "Invalid 'tools[0].name': it is not allowed"
        );
    }

    #[test]
    fn quoted_sentences_of_an_error_in_the_stream_are_masked() {
        assert_eq!(
            mask().event("bad value 'I am ill' for \"content\""),
            "bad value '[…]' for \"content\""
        );
    }

    #[test]
    fn reasons_are_short() {
        assert!(mask().answer(&"na ".repeat(10_000), b"").len() <= MAX_REASON + "…".len());
    }
}
