//! What a server means by an error.

use std::fmt;
use std::time::Duration;

use chat_domain::{AgentError, AgentErrorKind};
use serde_json::Value;

use crate::failure::refused_by_policy;
use crate::json::{Object, without_halves};
use crate::mask::Mask;

mod texts;

/// An error as a server writes it: as the body of an answer, or in the middle of a stream.
///
/// OpenAI's form is `{"error": {"message", "type", "code"}}`; others have a plain string for
/// `error`, or the members at the top, or a list around it, or FastAPI's `{"detail": [{"loc",
/// "msg"}]}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the answer, or a code that looks like one.
    status: Option<u16>,
    code: String,
    kind: String,
    /// Which member is wrong, such as `tools[3].function.parameters`; several are separated by
    /// spaces.
    param: String,
    /// The server's words. They may repeat the key or the conversation, so they are logged through
    /// a [`Mask`] only.
    message: String,
    is_moderated: bool,
    limit: Option<u64>,
}

impl Refusal {
    /// What an answer with this status, which is no success, says in its body.
    pub fn of_answer(status: u16, body: &[u8]) -> Self {
        let body = String::from_utf8_lossy(body);
        let mut refusal = Self::of_event(&body);
        refusal.status = Some(status);
        refusal
    }

    /// An error that is known to be one: JSON, or words.
    pub fn of_event(text: &str) -> Self {
        match serde_json::from_str(&without_halves(text)) {
            Ok(value) => Self::read(&value),
            Err(_) if text.trim_start().starts_with('<') => Self::default(),
            Err(_) => Self {
                message: text.trim().chars().take(4_096).collect(),
                ..Self::default()
            }
            .with_limit(None),
        }
    }

    /// The error in an event of a stream, or in an answer that claims success; `None` if there is
    /// none. A blank member `error` is none where there is an answer too.
    pub fn in_stream(json: &str, event: &Object<'_>) -> Option<Self> {
        let is_error = event.word("object") == "error" || event.word("type") == "error";
        let has_error = event.has("error") && !event.get("error").is_blank();
        let only_error = event
            .raw("error")
            .is_some_and(|error| error.get().starts_with('{'))
            && !event.has("choices")
            && !event.has("usage");
        (is_error || has_error || only_error).then(|| Self::of_event(json))
    }

    fn read(body: &Value) -> Self {
        let body = match body {
            Value::Array(errors) => errors
                .iter()
                .find(|error| error.is_object())
                .unwrap_or(body),
            _ => body,
        };
        let error = ["error", "errors"]
            .into_iter()
            .find_map(|name| body.get(name).filter(|error| !error.is_null()))
            .unwrap_or(body);
        let error = match error {
            Value::Array(errors) => errors.first().unwrap_or(error),
            _ => error,
        };
        let member = |name| error.get(name).unwrap_or(&Value::Null);
        let text = |name| match member(name) {
            Value::String(text) => text.clone(),
            _ => String::new(),
        };
        let details = [
            member("detail"),
            body.get("detail").unwrap_or(&Value::Null),
            member("message"),
        ];
        let (mut params, mut messages) = (vec![text("param")], Vec::new());
        messages.extend(
            error
                .as_str()
                .or_else(|| member("message").as_str())
                .map(str::to_owned),
        );
        messages.extend(
            ["msg", "error_message"]
                .iter()
                .filter_map(|name| member(name).as_str().map(str::to_owned)),
        );
        for detail in details
            .iter()
            .filter_map(|detail| detail.as_array())
            .flatten()
            .take(16)
        {
            params.extend(
                detail
                    .get("loc")
                    .and_then(Value::as_array)
                    .map(|path| path.iter().map(step).collect::<Vec<_>>().join(".")),
            );
            messages.extend(detail.get("msg").and_then(Value::as_str).map(str::to_owned));
            messages.extend(
                detail
                    .get("type")
                    .and_then(Value::as_str)
                    .map(|kind| format!("({kind})")),
            );
        }
        messages.extend(
            details
                .iter()
                .take(2)
                .filter_map(|detail| detail.as_str())
                .map(str::to_owned),
        );
        let metadata = error.get("metadata").unwrap_or(&Value::Null);
        // OpenRouter puts what its provider said here, as text.
        messages.extend(
            metadata
                .get("raw")
                .and_then(Value::as_str)
                .map(|raw| Self::of_nested(raw).message),
        );
        messages.dedup();
        let code = match text("code") {
            code if code.is_empty() => text("status"),
            code => code,
        };
        let inner = error
            .get("innererror")
            .and_then(|inner| inner.get("code"))
            .and_then(Value::as_str)
            .unwrap_or_default();
        let code = if texts::POLICY.contains(&inner) {
            inner.to_owned()
        } else {
            code
        };
        let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
        let status = number(member("code"))
            .and_then(|code| u16::try_from(code).ok())
            .filter(|code| (400..=599).contains(code));
        let refusal = Self {
            status,
            code,
            kind: text("type"),
            param: params.join(" ").trim().to_owned(),
            message: messages.join(" "),
            is_moderated: metadata.get("reasons").is_some()
                || metadata.get("flagged_input").is_some(),
            limit: None,
        };
        refusal.with_limit(number(member("n_ctx")))
    }

    fn of_nested(raw: &str) -> Self {
        let nested = serde_json::from_str::<Value>(raw)
            .ok()
            .filter(|value| value.get("metadata").is_none());
        nested.map_or_else(
            || Self {
                message: raw.chars().take(1_024).collect(),
                ..Self::default()
            },
            |value| Self::read(&value),
        )
    }

    fn with_limit(mut self, limit: Option<u64>) -> Self {
        self.limit = limit.or_else(|| texts::limit(&self.message.to_lowercase()));
        self
    }

    /// Whether the same request may be answered later.
    pub fn is_passing(&self) -> bool {
        matches!(self.meaning(), Meaning::Overloaded | Meaning::Unavailable)
    }

    /// Whether the request itself is refused, so that another one may be accepted.
    pub fn is_about_the_request(&self) -> bool {
        matches!(self.status, Some(400 | 422))
            && matches!(self.meaning(), Meaning::Other | Meaning::NoTools)
    }

    /// Which member is wrong, and the server's words, not masked.
    pub fn complaint(&self) -> (&str, &str) {
        (&self.param, &self.message)
    }

    /// Replaces the words by what may be logged.
    pub fn masked(mut self, mask: &Mask, request: &[u8]) -> MaskedRefusal {
        let meaning = self.meaning();
        self.message = mask.answer(&self.message, request);
        MaskedRefusal {
            meaning,
            refusal: self,
        }
    }

    /// The error of the step, if it came in the middle of an answer.
    pub fn into_error(self, retry_after: Option<Duration>, mask: &Mask) -> AgentError {
        let meaning = self.meaning();
        let message = mask.event(&self.message);
        MaskedRefusal {
            meaning,
            refusal: Self { message, ..self },
        }
        .into_error(retry_after)
    }

    fn meaning(&self) -> Meaning {
        let named = |names: &[&str]| {
            names.contains(&self.code.as_str()) || names.contains(&self.kind.as_str())
        };
        let message = self.message.to_lowercase();
        let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
        // The texts are trusted only where the status does not say something else.
        let about_content = matches!(self.status, None | Some(400 | 413 | 422 | 500));
        if named(texts::QUOTA) || self.status == Some(402) {
            Meaning::Quota
        } else if named(texts::TOO_LONG)
            || (about_content && says(texts::TOO_LONG_TEXTS))
            || self.status == Some(413)
        {
            Meaning::TooLong
        } else if named(texts::POLICY)
            || (about_content && says(texts::POLICY_TEXTS))
            || (self.status == Some(403) && (self.is_moderated || says(texts::POLICY_TEXTS)))
        {
            Meaning::Policy
        } else if named(texts::NO_MODEL) || (about_content && says(texts::NO_MODEL_TEXTS)) {
            Meaning::Address
        } else if named(texts::NO_KEY) || (about_content && says(texts::NO_KEY_TEXTS)) {
            Meaning::Key
        } else if about_content && says(texts::NO_PARSER_TEXTS) {
            Meaning::NoParser
        } else if about_content && says(texts::NO_TOOLS_TEXTS) {
            Meaning::NoTools
        } else {
            match self.status {
                Some(401 | 403) => Meaning::Key,
                Some(300..=399 | 404 | 405 | 410) => Meaning::Address,
                Some(429 | 503 | 529) => Meaning::Overloaded,
                None if named(texts::OVERLOADED) => Meaning::Overloaded,
                None | Some(408 | 500..) => Meaning::Unavailable,
                Some(_) => Meaning::Other,
            }
        }
    }
}

/// A step of a path, such as `tools` or `3`.
fn step(step: &Value) -> String {
    step.as_str()
        .map_or_else(|| step.to_string(), str::to_owned)
}

/// A refusal whose words may be logged.
pub struct MaskedRefusal {
    meaning: Meaning,
    refusal: Refusal,
}

impl MaskedRefusal {
    /// The error of the step. With a time to come back, a server that cannot answer now is
    /// overloaded.
    pub fn into_error(self, retry_after: Option<Duration>) -> AgentError {
        use AgentErrorKind::{ContextTooLong, Misconfigured, Overloaded, Unavailable};
        let (kind, message) = match self.meaning {
            Meaning::Policy => return refused_by_policy().because(Logged(self.refusal)),
            Meaning::Quota => (Misconfigured, "The agent's account has no credit left."),
            Meaning::Key => (Misconfigured, "The agent refuses the API key."),
            Meaning::Address => (Misconfigured, "The agent knows no such address or model."),
            Meaning::NoTools => (Misconfigured, "The agent's model cannot use tools."),
            Meaning::NoParser => (
                Misconfigured,
                "The agent's server does not take tools. vLLM needs its options --enable-auto-tool-choice and --tool-call-parser.",
            ),
            Meaning::TooLong => (
                ContextTooLong {
                    limit: self.refusal.limit,
                },
                "The conversation is longer than the agent can read.",
            ),
            Meaning::Overloaded => (Overloaded { retry_after }, "The agent has too much to do."),
            Meaning::Unavailable if retry_after.is_some() => {
                (Overloaded { retry_after }, "The agent cannot answer now.")
            }
            Meaning::Unavailable => (Unavailable, "The agent failed."),
            Meaning::Other => (Misconfigured, "The agent did not accept the request."),
        };
        AgentError::new(kind, message).because(Logged(self.refusal))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Quota,
    Key,
    Address,
    NoTools,
    NoParser,
    TooLong,
    Policy,
    Overloaded,
    Unavailable,
    Other,
}

/// A refusal as it is logged; its message is masked.
struct Logged(Refusal);

impl std::error::Error for Logged {}

/// Errors are logged in this form too.
impl fmt::Debug for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server answered")?;
        match self.0.status {
            Some(status) => write!(f, " with status {status}")?,
            None => f.write_str(" with an error in its stream")?,
        }
        for (name, word) in [("code", &self.0.code), ("type", &self.0.kind)] {
            // The known ones are words such as `invalid_request_error`; a key has digits or
            // capitals.
            if !word.is_empty()
                && word.len() <= 40
                && word
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            {
                write!(f, ", {name} {word}")?;
            }
        }
        let is_path = |byte: u8| byte.is_ascii_alphanumeric() || b"._[] -".contains(&byte);
        if !self.0.param.is_empty()
            && self.0.param.len() <= 200
            && self.0.param.bytes().all(is_path)
        {
            write!(f, ", at {}", self.0.param)?;
        }
        if self.0.message.is_empty() {
            Ok(())
        } else {
            write!(f, ": {}", self.0.message)
        }
    }
}

#[cfg(test)]
mod tests;
