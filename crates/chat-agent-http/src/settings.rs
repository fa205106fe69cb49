//! What must be known of a server to ask it.

use std::fmt;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

/// What must be known of a server that speaks the chat completions protocol.
#[derive(Clone)]
pub struct ChatCompletionsSettings {
    /// Where it is, such as `http://127.0.0.1:11434/v1`; a `/chat/completions` at its end is left
    /// off. `http` or `https`; without user, password, query and fragment.
    pub base_url: String,
    /// Which model to ask.
    pub model: String,
    /// Sent as a bearer token, if there is one.
    pub api_key: Option<SecretString>,
    /// What the model is told before the conversation, as a system message.
    pub instructions: Option<String>,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// How often and when to try again.
    pub retries: Retries,
}

impl ChatCompletionsSettings {
    /// A server without a key, a model without instructions, and the default limits.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            model: model.into(),
            api_key: None,
            instructions: None,
            timeouts: Timeouts::default(),
            retries: Retries::default(),
        }
    }

    /// The address requests are sent to.
    pub(crate) fn endpoint(&self) -> Result<Url, InvalidSettings> {
        let unusable = InvalidSettings::BaseUrl;
        let mut url =
            Url::parse(&self.base_url).map_err(|_| unusable("it is not an absolute URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(unusable("it begins neither with http:// nor with https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(unusable(
                "it holds a user or a password; a key has its own setting",
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(unusable("it holds a query or a fragment"));
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

    /// The value of the `Authorization` header.
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

/// Without the address, which may wrongly hold a password, and without the instructions.
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

/// How long to wait for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection. Default 5 s.
    pub connect: Duration,
    /// From sending a request, connecting included, to the first byte of the answer's body: a
    /// server may load its model meanwhile. Default 5 min.
    pub first_byte: Duration,
    /// Between two pieces of the answer. Keep-alive comments count as pieces. Default 2 min.
    pub idle: Duration,
    /// For the whole step, with all tries and pauses. Default 10 min.
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

/// How often and when to try again. A pause is twice as long as the one before, and up to twice
/// that by chance, so that many clients of a server that comes back do not all return at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// How often a step is tried, the first time included; 0 counts as 1. Default 3.
    pub tries: usize,
    /// The first pause, before chance. Default 500 ms.
    pub first_pause: Duration,
    /// The longest pause, before chance. Default 8 s.
    pub longest_pause: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            tries: 3,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(8),
        }
    }
}

/// Why there can be no agent with these settings. Never shows the address or the key.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSettings {
    /// The address is not usable.
    #[error("the agent's base URL is not usable: {0}")]
    BaseUrl(&'static str),
    /// The key cannot be sent in a header.
    #[error("the agent's API key holds characters that cannot be sent, perhaps a line end")]
    ApiKey,
    /// No model is named.
    #[error("the agent's model has no name")]
    Model,
    /// The base URL is `https`, and no client can be made for it: the machine has no CA
    /// certificates.
    #[error(
        "the agent's base URL begins with https://, and no CA certificates were found on this machine; install the package \
         ca-certificates, or name a file with SSL_CERT_FILE or a folder with SSL_CERT_DIR"
    )]
    Certificates(#[source] reqwest::Error),
    /// The HTTP client cannot be made.
    #[error("there is no HTTP client for the agent")]
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
    fn unusable_addresses_are_refused_without_being_shown() {
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
