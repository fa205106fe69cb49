//! What a server means by an error.

use std::fmt;
use std::time::Duration;

use chat_domain::{AgentError, AgentErrorKind};
use serde_json::Value;

use crate::failure::refused_by_policy;

/// An error as a server writes it: as the body of an answer, or in the middle of a stream.
///
/// OpenAI's form is `{"error": {"message", "type", "code"}}`; others have a plain string for `error`, or the members at the top.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the answer, or a code that looks like one.
    status: Option<u16>,
    code: String,
    kind: String,
    /// In lower case. Never shown nor logged: it may repeat the key or the conversation.
    message: String,
}

impl Refusal {
    /// What an answer with this status, which is no success, says in its body.
    pub fn of_answer(status: u16, body: &[u8]) -> Self {
        let mut refusal = serde_json::from_slice(body).map(|body| Self::read(&body)).unwrap_or_default();
        refusal.status = Some(status);
        refusal
    }

    /// The error in an event of a stream, or in an answer that claims success; `None` if there is none.
    pub fn in_stream(data: &Value) -> Option<Self> {
        let has_error = data.get("error").is_some_and(|error| !error.is_null()) || data.get("object").is_some_and(|kind| kind == "error");
        has_error.then(|| Self::read(data))
    }

    fn read(body: &Value) -> Self {
        let error = body.get("error").filter(|error| !error.is_null()).unwrap_or(body);
        let member = |name| error.get(name).unwrap_or(&Value::Null);
        let text = |name| member(name).as_str().unwrap_or_default().to_owned();
        let message = error.as_str().or_else(|| member("message").as_str()).or_else(|| member("detail").as_str());
        let status = member("code").as_u64().and_then(|code| u16::try_from(code).ok()).filter(|code| (400..=599).contains(code));
        Self { status, code: text("code"), kind: text("type"), message: message.unwrap_or_default().to_lowercase() }
    }

    /// Whether the same request may be answered later.
    pub fn is_passing(&self) -> bool {
        matches!(self.meaning(), Meaning::Overloaded | Meaning::Unavailable)
    }

    /// The error of the step. With a time to come back, a server that cannot answer now is overloaded.
    pub fn into_error(self, retry_after: Option<Duration>) -> AgentError {
        use AgentErrorKind::{ContextTooLong, Misconfigured, Overloaded, Protocol, Unavailable};
        let (kind, message) = match self.meaning() {
            Meaning::Policy => return refused_by_policy().because(Logged(self)),
            Meaning::Quota => (Misconfigured, "The agent's account has no credit left."),
            Meaning::Key => (Misconfigured, "The agent refuses the API key."),
            Meaning::Address => (Misconfigured, "The agent knows no such address or model."),
            Meaning::NoTools => (Misconfigured, "The agent's model cannot use tools."),
            Meaning::TooLong => (ContextTooLong { limit: None }, "The conversation is longer than the agent can read."),
            Meaning::Overloaded => (Overloaded { retry_after }, "The agent has too much to do."),
            Meaning::Unavailable if retry_after.is_some() => (Overloaded { retry_after }, "The agent cannot answer now."),
            Meaning::Unavailable => (Unavailable, "The agent failed."),
            Meaning::Other => (Protocol, "The agent did not accept the request."),
        };
        AgentError::new(kind, message).because(Logged(self))
    }

    fn meaning(&self) -> Meaning {
        let named = |names: &[&str]| names.contains(&self.code.as_str()) || names.contains(&self.kind.as_str());
        let says = |texts: &[&str]| texts.iter().any(|text| self.message.contains(text));
        // The texts are trusted only where the status does not say something else.
        let about_content = matches!(self.status, None | Some(400 | 413 | 422 | 500));
        if named(QUOTA) || self.status == Some(402) {
            Meaning::Quota
        } else if named(TOO_LONG) || (about_content && says(TOO_LONG_TEXTS)) || self.status == Some(413) {
            Meaning::TooLong
        } else if named(POLICY) || (about_content && says(POLICY_TEXTS)) {
            Meaning::Policy
        } else if named(NO_MODEL) {
            Meaning::Address
        } else if named(NO_KEY) {
            Meaning::Key
        } else if about_content && says(NO_TOOLS_TEXTS) {
            Meaning::NoTools
        } else {
            match self.status {
                Some(401 | 403) => Meaning::Key,
                Some(300..=399 | 404 | 405 | 410) => Meaning::Address,
                Some(429 | 503 | 529) => Meaning::Overloaded,
                None if named(OVERLOADED) => Meaning::Overloaded,
                None | Some(408 | 500..) => Meaning::Unavailable,
                Some(_) => Meaning::Other,
            }
        }
    }
}

enum Meaning {
    Quota,
    Key,
    Address,
    NoTools,
    TooLong,
    Policy,
    Overloaded,
    Unavailable,
    Other,
}

// From https://platform.openai.com/docs/guides/error-codes, Azure OpenAI's content filter and the sources of Anthropic's compatible
// endpoint, llama.cpp, vLLM and Ollama.
const QUOTA: &[&str] = &["insufficient_quota", "billing_hard_limit_reached", "billing_not_active"];
const NO_KEY: &[&str] = &["invalid_api_key", "authentication_error"];
const NO_MODEL: &[&str] = &["model_not_found", "not_found_error"];
const NO_TOOLS_TEXTS: &[&str] = &["does not support tools"];
const OVERLOADED: &[&str] = &["rate_limit_exceeded", "rate_limit_error", "overloaded_error", "server_overloaded"];
const TOO_LONG: &[&str] = &["context_length_exceeded", "exceed_context_size_error"];
const TOO_LONG_TEXTS: &[&str] = &[
    "maximum context length",
    "context length exceeded",
    "exceeds the context",
    "exceeds the available context size",
    "exceeds the maximum number of tokens",
    "exceeds the model's context",
    "context window",
    "prompt is too long",
    "prompt too long",
    "input is too long",
];
const POLICY: &[&str] = &["content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"];
const POLICY_TEXTS: &[&str] = &["content management policy", "content policy", "usage policies"];

/// A refusal as it is logged: without its message, and only words from it that can hold no secret.
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
            // The known ones are words such as `invalid_request_error`; a key has digits or capitals.
            if !word.is_empty() && word.len() <= 40 && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
                write!(f, ", {name} {word}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
