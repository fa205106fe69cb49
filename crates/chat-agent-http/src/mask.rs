//! Masks API keys and parts of the conversation in a server's error text before it is logged.

use secrecy::{ExposeSecret, SecretString};

use crate::json::{Node, parse_values};

/// Most bytes of a server's text that are logged.
const MAX_LOGGED_BYTES: usize = 1 << 10;
/// Replaces a masked part.
const MASKED: &str = "[…]";
/// A part of the conversation with at least this many bytes is masked wherever it appears. A
/// shorter part is masked in quotation marks only.
const MIN_MASKED_BYTES: usize = 16;
/// A word with at least this many characters that mixes letters and digits may be a key.
const MIN_KEY_CHARS: usize = 20;

/// Masks text that must not be logged.
#[derive(Clone, Debug, Default)]
pub struct Mask {
    key: Option<SecretString>,
}

impl Mask {
    pub fn new(key: Option<SecretString>) -> Self {
        Self { key }
    }

    /// Masks the text of an error response to `request`.
    pub fn mask_response(&self, text: &str, request: &[u8]) -> String {
        let conversation = conversation(request);
        let reason = self.mask_keys(text);
        let known = |part: &str| !part.trim().is_empty() && conversation.contains(part);
        truncate(&mask_quoted(
            &mask_long_parts(&reason, &conversation),
            &known,
        ))
    }

    /// Masks the text of an error in a stream. The request is no longer available, so every quoted
    /// part that is more than one plain word is masked.
    pub fn mask_stream_error(&self, text: &str) -> String {
        let plain = |char: char| char.is_ascii_alphanumeric() || "_.-/[]".contains(char);
        truncate(&mask_quoted(&self.mask_keys(text), &|part: &str| {
            part.len() > 64 || !part.chars().all(plain)
        }))
    }

    fn mask_keys(&self, text: &str) -> String {
        let text: String = text
            .chars()
            .take(8 * MAX_LOGGED_BYTES)
            .map(|char| if char.is_control() { ' ' } else { char })
            .collect();
        let key = self
            .key
            .as_ref()
            .map(|key| key.expose_secret())
            .filter(|key| !key.is_empty());
        let text = key.map_or_else(|| text.clone(), |key| text.replace(key, MASKED));
        let mut after_bearer = false;
        let word = |word: &str| {
            let core = word.trim_matches(|char: char| !char.is_ascii_alphanumeric());
            let masked = after_bearer || may_be_key(core);
            after_bearer = ["bearer", "basic", "password", "token:"]
                .contains(&word.to_ascii_lowercase().as_str());
            if masked && !core.is_empty() {
                word.replace(core, MASKED)
            } else {
                word.to_owned()
            }
        };
        text.split(' ').map(word).collect::<Vec<_>>().join(" ")
    }
}

/// Whether a word may be a key: by its prefix, or because it is long and mixes letters and digits.
/// Names of members and models do not match.
fn may_be_key(word: &str) -> bool {
    let prefixed = [
        "sk-", "sk_", "pk-", "key-", "AIza", "gsk_", "xai-", "hf_", "eyJ", "ya29.", "ghp_", "AKIA",
        "nvapi-", "r8_",
    ];
    let parts = word.split(|char: char| {
        !(char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '*' | '+'))
    });
    let mixed = |part: &str| {
        let digits = part.bytes().filter(u8::is_ascii_digit).count();
        part.len() >= MIN_KEY_CHARS
            && digits >= 3
            && part.bytes().any(|byte| byte.is_ascii_alphabetic())
    };
    let is_key = |part: &str| {
        (part.len() >= 6 && prefixed.iter().any(|prefix| part.starts_with(prefix))) || mixed(part)
    };
    parts.into_iter().any(is_key) || word.contains("://") && word.contains('@')
}

/// Masks each quoted part for which `is_secret` returns true.
fn mask_quoted(text: &str, is_secret: &dyn Fn(&str) -> bool) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\'', '"', '`', '“', '‘', '«']) {
        let (before, quoted) = rest.split_at(at);
        masked.push_str(before);
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
        masked.push(open);
        match inner.split_once(close) {
            Some((part, after)) if is_secret(part) => {
                masked.push_str(MASKED);
                masked.push(close);
                rest = after;
            }
            _ => rest = inner,
        }
    }
    masked.push_str(rest);
    masked
}

/// Masks each part that also occurs in the conversation and is too long for a coincidence.
fn mask_long_parts(text: &str, conversation: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    let prefix = |text: &str, bytes: usize| {
        text.get(..text.floor_char_boundary(bytes))
            .unwrap_or_default()
            .to_owned()
    };
    while let Some(first) = rest.chars().next() {
        let begins_word = masked
            .chars()
            .next_back()
            .is_none_or(|char| !char.is_alphanumeric());
        let mut shared = prefix(rest, MIN_MASKED_BYTES);
        if begins_word && shared.len() + 3 >= MIN_MASKED_BYTES && conversation.contains(&shared) {
            while let Some(next) = rest
                .get(shared.len()..)
                .and_then(|rest| rest.chars().next())
            {
                shared.push(next);
                if !conversation.contains(&shared) {
                    shared.pop();
                    break;
                }
            }
            masked.push_str(MASKED);
            rest = rest.get(shared.len()..).unwrap_or_default();
        } else {
            masked.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        }
    }
    masked
}

fn truncate(text: &str) -> String {
    let text = text.trim();
    match text.get(..text.floor_char_boundary(MAX_LOGGED_BYTES)) {
        Some(cut) if cut.len() < text.len() => format!("{cut}…"),
        _ => text.to_owned(),
    }
}

/// Returns the texts and tool arguments of a request's messages, decoded and as JSON.
fn conversation(request: &[u8]) -> String {
    let mut conversation = String::new();
    let body = std::str::from_utf8(request)
        .ok()
        .and_then(|body| parse_values(body).ok())
        .unwrap_or_default();
    for value in &body {
        let Node::Object(body) = Node::parse(value) else {
            continue;
        };
        let Node::List(messages) = body.get("messages") else {
            continue;
        };
        for message in messages {
            let Node::Object(message) = Node::parse(message) else {
                continue;
            };
            add_text(&mut conversation, &message.get("content"));
            let Node::List(calls) = message.get("tool_calls") else {
                continue;
            };
            for call in calls {
                let Node::Object(call) = Node::parse(call) else {
                    continue;
                };
                if let Node::Object(function) = call.get("function") {
                    add_text(&mut conversation, &function.get("arguments"));
                }
            }
        }
    }
    let escaped = conversation.replace('\n', "\\n").replace('"', "\\\"");
    conversation.push_str(&escaped);
    conversation
}

fn add_text(conversation: &mut String, content: &Node<'_>) {
    match content {
        Node::Text(text) => {
            conversation.push_str(&text.clone().into_string());
            conversation.push('\n');
        }
        Node::List(parts) => {
            for part in parts {
                if let Node::Object(part) = Node::parse(part) {
                    add_text(conversation, &part.get("text"));
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
    fn keys_are_masked_and_other_words_are_kept() {
        for (text, masked) in [
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
            assert_eq!(mask().mask_response(text, b"{}"), masked);
        }
    }

    #[test]
    fn the_conversation_is_masked() {
        let request = serde_json::json!({ "messages": [
            { "role": "user", "content": "my sister's pin is 4711" },
            {
                "role": "assistant", "content": null,
                "tool_calls": [{ "function": { "arguments": "{\"to\":\"Zoë of the mill\"}" } }],
            },
        ] });
        let request = request.to_string().into_bytes();
        let masked = |text: &str| mask().mask_response(text, &request);
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
            mask().mask_stream_error("bad value 'I am ill' for \"content\""),
            "bad value '[…]' for \"content\""
        );
    }

    #[test]
    fn long_text_is_truncated() {
        assert!(
            mask().mask_response(&"na ".repeat(10_000), b"").len() <= MAX_LOGGED_BYTES + "…".len()
        );
    }
}
