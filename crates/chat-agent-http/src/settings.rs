//! Settings of the adapter.

use std::fmt;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

/// Settings of an agent behind a chat completions endpoint.
#[derive(Clone)]
pub struct ChatCompletionsSettings {
    /// Base URL, such as `http://127.0.0.1:11434/v1`. A trailing `/chat/completions` is removed.
    /// The scheme is `http` or `https`; user, password, query and fragment are not allowed.
    pub base_url: String,
    /// Model name.
    pub model: String,
    /// Bearer token.
    pub api_key: Option<SecretString>,
    /// System message that precedes the conversation.
    pub instructions: Option<String>,
    /// Timeouts of a step.
    pub timeouts: Timeouts,
    /// When to retry.
    pub retries: RetryPolicy,
}

impl ChatCompletionsSettings {
    /// Creates settings without key and instructions, with the default limits.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            model: model.into(),
            api_key: None,
            instructions: None,
            timeouts: Timeouts::default(),
            retries: RetryPolicy::default(),
        }
    }

    /// Returns the URL that requests are sent to.
    pub(crate) fn endpoint(&self) -> Result<Url, InvalidSettings> {
        let unusable = InvalidSettings::BaseUrl;
        let mut url =
            Url::parse(&self.base_url).map_err(|_| unusable("it is not an absolute URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(unusable("it starts with neither http:// nor https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(unusable(
                "it contains a user or a password; the API key has its own setting",
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(unusable("it contains a query or a fragment"));
        }
        let base = url.path().trim_end_matches('/');
        let base = base
            .strip_suffix("/chat/completions")
            .unwrap_or(base)
            .trim_end_matches('/');
        let path = format!("{base}/chat/completions");
        url.set_path(&path);
        Ok(url)
    }

    /// Returns the value of the `Authorization` header.
    pub(crate) fn authorization(&self) -> Result<Option<HeaderValue>, InvalidSettings> {
        let Some(key) = &self.api_key else {
            return Ok(None);
        };
        let bearer = SecretString::from(format!("Bearer {}", key.expose_secret()));
        let mut value =
            HeaderValue::from_str(bearer.expose_secret()).map_err(|_| InvalidSettings::ApiKey)?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// Omits the URL, which may contain a password by mistake, and the instructions.
impl fmt::Debug for ChatCompletionsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatCompletionsSettings")
            .field("model", &self.model)
            .field("api_key", &self.api_key)
            .field("timeouts", &self.timeouts)
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}

/// Timeouts of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect. Default 5 s.
    pub connect: Duration,
    /// From sending a request, including connecting, to the first byte of the response's body. A
    /// server may load its model in this time. Default 5 min.
    pub first_byte: Duration,
    /// Between two pieces of the response. Keep-alive comments count as pieces. Default 2 min.
    pub idle: Duration,
    /// For the whole step, including all attempts and backoffs. Default 10 min.
    pub step: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(300),
            idle: Duration::from_secs(120),
            step: Duration::from_secs(600),
        }
    }
}

/// When transient errors are retried. Each backoff is twice as long as the one before, plus random
/// jitter of up to the same length, so that clients of a restarted server do not all return at
/// once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Most attempts of a step, including the first; 0 counts as 1. Default 3.
    pub max_attempts: usize,
    /// First backoff, before jitter. Default 500 ms.
    pub initial_backoff: Duration,
    /// Longest backoff, before jitter. Default 8 s.
    pub max_backoff: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            initial_backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(8),
        }
    }
}

/// The reason why settings were rejected. Never contains the URL or the key.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSettings {
    /// The base URL is not usable.
    #[error("the agent's base URL is not usable: {0}")]
    BaseUrl(&'static str),
    /// The key contains characters that a header cannot contain.
    #[error(
        "the agent's API key contains characters that a header cannot contain, perhaps a line end"
    )]
    ApiKey,
    /// The model name is empty.
    #[error("the agent's model name is empty")]
    Model,
    /// The base URL is `https`, and the system has no CA certificates.
    #[error(
        "the agent's base URL starts with https://, but no CA certificates were found on this \
        machine; install the package \
         ca-certificates, or name a file with SSL_CERT_FILE or a folder with SSL_CERT_DIR"
    )]
    Certificates(#[source] reqwest::Error),
    /// The HTTP client cannot be built.
    #[error("the HTTP client for the agent cannot be built")]
    Client(#[source] reqwest::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(base_url: &str) -> Result<String, String> {
        ChatCompletionsSettings::new(base_url, "m")
            .endpoint()
            .map(String::from)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_endpoint_is_below_the_base() {
        assert_eq!(
            endpoint("http://127.0.0.1:11434/v1"),
            Ok("http://127.0.0.1:11434/v1/chat/completions".into())
        );
        assert_eq!(
            endpoint("https://api.example.com/openai/v1//"),
            Ok("https://api.example.com/openai/v1/chat/completions".into())
        );
        assert_eq!(
            endpoint("http://[::1]:8080"),
            Ok("http://[::1]:8080/chat/completions".into())
        );
        for whole in [
            "http://host/v1/chat/completions",
            "http://host/v1/chat/completions/",
            "http://host/v1//chat/completions",
        ] {
            assert_eq!(
                endpoint(whole),
                Ok("http://host/v1/chat/completions".into()),
                "{whole}"
            );
        }
        assert_eq!(
            endpoint("http://host/chat/completions"),
            Ok("http://host/chat/completions".into())
        );
    }

    #[test]
    fn unusable_urls_are_rejected_without_being_shown() {
        let unusable = [
            "",
            "localhost:11434/v1",
            "/v1",
            "ftp://example.com/v1",
            "http://",
            "http://host:99999/v1",
        ];
        let revealing = [
            "http://secret@example.com/v1",
            "http://user:secret@example.com",
            "http://example.com/v1?key=secret",
            "http://example.com/#secret",
        ];
        for base_url in unusable.iter().chain(&revealing) {
            let error = endpoint(base_url).expect_err(base_url);
            assert!(
                error.starts_with("the agent's base URL is not usable: it "),
                "{error}"
            );
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn the_key_is_never_shown() {
        let mut settings = ChatCompletionsSettings::new("http://user:s3cret@example.com/v1", "m");
        settings.api_key = Some("sk-s3cret".into());
        assert!(!format!("{settings:?}").contains("s3cret"));
        let value = settings.authorization().expect("a header").expect("a key");
        assert!(!format!("{value:?}").contains("s3cret"));
        assert_eq!(value.as_bytes(), b"Bearer sk-s3cret");
        settings.api_key = Some("sk-s3cret\n".into());
        let error = settings.authorization().expect_err("a line end");
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }
}
