//! Classifies the errors that servers report.

use std::fmt;
use std::time::Duration;

use chat_domain::{AgentError, AgentErrorKind};
use serde_json::Value;

use crate::failure::refused_by_content_policy;
use crate::json::{Object, replace_lone_surrogates};
use crate::mask::Mask;

mod texts;

/// An error reported by a server, in an error response or in a stream.
///
/// OpenAI's form is `{"error": {"message", "type", "code"}}`. Other servers send a plain string for
/// `error`, put the members at the top level, wrap the object in an array, or use FastAPI's
/// `{"detail": [{"loc", "msg"}]}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    /// HTTP status of the response, or a code that looks like one.
    status: Option<u16>,
    code: String,
    kind: String,
    /// Paths of the rejected members, such as `tools[3].function.parameters`, separated by spaces.
    param: String,
    /// The server's error text. It may repeat the API key or the conversation, so it must pass a
    /// [`Mask`] before it is logged.
    message: String,
    is_moderated: bool,
    limit: Option<u64>,
}

impl ServerError {
    /// Parses the body of a response with an error status.
    pub fn from_response(status: u16, body: &[u8]) -> Self {
        let body = String::from_utf8_lossy(body);
        let mut server_error = Self::parse(&body);
        server_error.status = Some(status);
        server_error
    }

    /// Parses an error in JSON or plain text.
    pub fn parse(text: &str) -> Self {
        match serde_json::from_str(&replace_lone_surrogates(text)) {
            Ok(value) => Self::from_json(&value),
            Err(_) if text.trim_start().starts_with('<') => Self::default(),
            Err(_) => Self {
                message: text.trim().chars().take(4_096).collect(),
                ..Self::default()
            }
            .with_limit(None),
        }
    }

    /// Finds the error in an event or in a successful response. A blank member `error` is ignored
    /// if the event has an answer too.
    pub fn in_stream(json: &str, event: &Object<'_>) -> Option<Self> {
        let is_error =
            event.trimmed_text("object") == "error" || event.trimmed_text("type") == "error";
        let has_error = event.has("error") && !event.get("error").is_blank();
        let only_error = event
            .raw("error")
            .is_some_and(|error| error.get().starts_with('{'))
            && !event.has("choices")
            && !event.has("usage");
        (is_error || has_error || only_error).then(|| Self::parse(json))
    }

    fn from_json(body: &Value) -> Self {
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
                    .map(|path| path.iter().map(path_element).collect::<Vec<_>>().join(".")),
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
        // OpenRouter puts the error of its provider here, as text.
        messages.extend(
            metadata
                .get("raw")
                .and_then(Value::as_str)
                .map(|raw| Self::parse_nested(raw).message),
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
        let code = if texts::CONTENT_POLICY.contains(&inner) {
            inner.to_owned()
        } else {
            code
        };
        let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
        let status = number(member("code"))
            .and_then(|code| u16::try_from(code).ok())
            .filter(|code| (400..=599).contains(code));
        let server_error = Self {
            status,
            code,
            kind: text("type"),
            param: params.join(" ").trim().to_owned(),
            message: messages.join(" "),
            is_moderated: metadata.get("reasons").is_some()
                || metadata.get("flagged_input").is_some(),
            limit: None,
        };
        server_error.with_limit(number(member("n_ctx")))
    }

    fn parse_nested(raw: &str) -> Self {
        let nested = serde_json::from_str::<Value>(raw)
            .ok()
            .filter(|value| value.get("metadata").is_none());
        nested.map_or_else(
            || Self {
                message: raw.chars().take(1_024).collect(),
                ..Self::default()
            },
            |value| Self::from_json(&value),
        )
    }

    fn with_limit(mut self, limit: Option<u64>) -> Self {
        self.limit = limit.or_else(|| texts::token_limit(&self.message.to_lowercase()));
        self
    }

    /// Whether a retry of the same request may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(
            self.cause(),
            ErrorCause::Overloaded | ErrorCause::Unavailable
        )
    }

    /// Whether the server rejected the content of the request, so that a changed request may
    /// succeed.
    pub fn is_about_request(&self) -> bool {
        matches!(self.status, Some(400 | 422))
            && matches!(
                self.cause(),
                ErrorCause::RequestRejected | ErrorCause::ToolsUnsupported
            )
    }

    /// Returns the paths of the rejected members and the unmasked error text.
    pub fn param_and_message(&self) -> (&str, &str) {
        (&self.param, &self.message)
    }

    /// Masks the text of an error response to `request`.
    pub fn masked(mut self, mask: &Mask, request: &[u8]) -> MaskedServerError {
        let cause = self.cause();
        self.message = mask.mask_response(&self.message, request);
        MaskedServerError {
            cause,
            server_error: self,
        }
    }

    /// Converts an error in a stream to the error of the step.
    pub fn into_error(self, retry_after: Option<Duration>, mask: &Mask) -> AgentError {
        let cause = self.cause();
        let message = mask.mask_stream_error(&self.message);
        MaskedServerError {
            cause,
            server_error: Self { message, ..self },
        }
        .into_error(retry_after)
    }

    fn cause(&self) -> ErrorCause {
        let named = |names: &[&str]| {
            names.contains(&self.code.as_str()) || names.contains(&self.kind.as_str())
        };
        let message = self.message.to_lowercase();
        let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
        // The texts are used only where the status does not contradict them.
        let may_be_about_content = matches!(self.status, None | Some(400 | 413 | 422 | 500));
        if named(texts::QUOTA_EXCEEDED) || self.status == Some(402) {
            ErrorCause::QuotaExceeded
        } else if named(texts::CONTEXT_TOO_LONG)
            || (may_be_about_content && says(texts::CONTEXT_TOO_LONG_TEXTS))
            || self.status == Some(413)
        {
            ErrorCause::ContextTooLong
        } else if named(texts::CONTENT_POLICY)
            || (may_be_about_content && says(texts::CONTENT_POLICY_TEXTS))
            || (self.status == Some(403)
                && (self.is_moderated || says(texts::CONTENT_POLICY_TEXTS)))
        {
            ErrorCause::ContentPolicy
        } else if named(texts::MODEL_NOT_FOUND)
            || (may_be_about_content && says(texts::MODEL_NOT_FOUND_TEXTS))
        {
            ErrorCause::NotFound
        } else if named(texts::INVALID_API_KEY)
            || (may_be_about_content && says(texts::INVALID_API_KEY_TEXTS))
        {
            ErrorCause::InvalidApiKey
        } else if may_be_about_content && says(texts::TOOL_PARSER_MISSING_TEXTS) {
            ErrorCause::ToolParserMissing
        } else if may_be_about_content && says(texts::TOOLS_UNSUPPORTED_TEXTS) {
            ErrorCause::ToolsUnsupported
        } else {
            match self.status {
                Some(401 | 403) => ErrorCause::InvalidApiKey,
                Some(300..=399 | 404 | 405 | 410) => ErrorCause::NotFound,
                Some(429 | 503 | 529) => ErrorCause::Overloaded,
                None if named(texts::OVERLOADED) => ErrorCause::Overloaded,
                None | Some(408 | 500..) => ErrorCause::Unavailable,
                Some(_) => ErrorCause::RequestRejected,
            }
        }
    }
}

/// Formats one element of a path, such as `tools` or `3`.
fn path_element(step: &Value) -> String {
    step.as_str()
        .map_or_else(|| step.to_string(), str::to_owned)
}

/// A server error whose text is masked.
pub struct MaskedServerError {
    cause: ErrorCause,
    server_error: ServerError,
}

impl MaskedServerError {
    /// Converts the error to the error of the step. An unavailable server that names a retry time
    /// counts as overloaded.
    pub fn into_error(self, retry_after: Option<Duration>) -> AgentError {
        use AgentErrorKind::{ContextTooLong, Misconfigured, Overloaded, Unavailable};
        let (kind, message) = match self.cause {
            ErrorCause::ContentPolicy => {
                return refused_by_content_policy().because(Logged(self.server_error));
            }
            ErrorCause::QuotaExceeded => (
                Misconfigured,
                "The quota of the agent's account is exhausted.",
            ),
            ErrorCause::InvalidApiKey => (Misconfigured, "The agent rejected the API key."),
            ErrorCause::NotFound => (Misconfigured, "The agent's address or model was not found."),
            ErrorCause::ToolsUnsupported => {
                (Misconfigured, "The agent's model does not support tools.")
            }
            ErrorCause::ToolParserMissing => (
                Misconfigured,
                "The agent's server does not accept tools. vLLM needs its options \
                 --enable-auto-tool-choice and --tool-call-parser.",
            ),
            ErrorCause::ContextTooLong => (
                ContextTooLong {
                    limit: self.server_error.limit,
                },
                "The conversation is longer than the agent can read.",
            ),
            ErrorCause::Overloaded => (Overloaded { retry_after }, "The agent is overloaded."),
            ErrorCause::Unavailable if retry_after.is_some() => (
                Overloaded { retry_after },
                "The agent is unavailable for now.",
            ),
            ErrorCause::Unavailable => (Unavailable, "The agent failed."),
            ErrorCause::RequestRejected => (Misconfigured, "The agent rejected the request."),
        };
        AgentError::new(kind, message).because(Logged(self.server_error))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ErrorCause {
    QuotaExceeded,
    InvalidApiKey,
    NotFound,
    ToolsUnsupported,
    ToolParserMissing,
    ContextTooLong,
    ContentPolicy,
    Overloaded,
    Unavailable,
    RequestRejected,
}

/// The log form of a server error with a masked text.
struct Logged(ServerError);

impl std::error::Error for Logged {}

/// The error chain is logged with `Debug`.
impl fmt::Debug for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.status {
            Some(status) => write!(f, "error response with status {status}")?,
            None => f.write_str("error in the stream")?,
        }
        for (name, word) in [("code", &self.0.code), ("type", &self.0.kind)] {
            // Known codes are words such as `invalid_request_error`. A key has digits or capital
            // letters.
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
