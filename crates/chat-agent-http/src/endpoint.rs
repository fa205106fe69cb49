//! Sends requests and retries transient errors.

use std::time::{Duration, SystemTime};

use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use chat_domain::AgentError;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, Url, redirect};
use tokio::time::Instant;

use crate::clock::StepClock;
use crate::failure::{TimeoutKind, connection_lost, unreachable};
use crate::mask::Mask;
use crate::server_error::ServerError;
use crate::settings::{ChatCompletionsSettings, InvalidSettings, RetryPolicy};
use crate::unsupported::{RequestPart, UnsupportedParts};

/// Longest `Retry-After` that is waited for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
/// Most bytes of an error's body that are read.
const MAX_ERROR_BYTES: usize = 64 << 10;
/// How many unsupported parts are removed from one step's request before it fails.
const MAX_OMITTED_PARTS: usize = 32;

/// The address and client of a server.
#[derive(Clone, Debug)]
pub struct Endpoint {
    client: Client,
    url: Url,
    authorization: Option<HeaderValue>,
    retries: RetryPolicy,
    mask: Mask,
    unsupported: UnsupportedParts,
}

/// A successful response whose body has not been read.
pub struct OpenResponse {
    pub response: Response,
    /// When the first piece of the body must arrive.
    pub first_byte_deadline: Instant,
}

/// The failure of one attempt.
struct AttemptError {
    error: AgentError,
    /// Whether a retry may succeed.
    is_transient: bool,
    retry_after: Option<Duration>,
    /// The part of the request that the server does not support.
    unsupported_part: Option<RequestPart>,
}

impl AttemptError {
    fn permanent(error: AgentError) -> Self {
        Self {
            error,
            is_transient: false,
            retry_after: None,
            unsupported_part: None,
        }
    }

    fn transient(error: AgentError) -> Self {
        Self {
            error,
            is_transient: true,
            retry_after: None,
            unsupported_part: None,
        }
    }
}

impl Endpoint {
    pub fn new(settings: &ChatCompletionsSettings) -> Result<Self, InvalidSettings> {
        let url = settings.endpoint()?;
        let builder = Client::builder()
            // HTTP/1.1 uses one connection per turn. With HTTP/2 all turns would share one
            // connection, servers limit it to about a hundred requests, and further requests would
            // wait until they time out.
            .http1_only()
            .user_agent(concat!(
                env!("CARGO_PKG_NAME"),
                "/",
                env!("CARGO_PKG_VERSION")
            ))
            .connect_timeout(settings.timeouts.connect)
            .redirect(redirect::Policy::none())
            .no_proxy();
        let client = if url.scheme() == "https" {
            builder
                .build()
                .map_err(|error| InvalidSettings::Certificates(error.without_url()))?
        } else {
            // The system's CA certificates are not loaded for plain HTTP, because loading fails
            // where there are none.
            builder
                .tls_certs_only([])
                .build()
                .map_err(|error| InvalidSettings::Client(error.without_url()))?
        };
        let mask = Mask::new(settings.api_key.clone());
        let unsupported = UnsupportedParts::default();
        Ok(Self {
            client,
            url,
            mask,
            unsupported,
            authorization: settings.authorization()?,
            retries: settings.retries,
        })
    }

    /// Returns the mask for the server's error texts.
    pub fn mask(&self) -> &Mask {
        &self.mask
    }

    /// Returns the parts of requests that the server does not support.
    pub fn unsupported(&self) -> &UnsupportedParts {
        &self.unsupported
    }

    /// Returns the URL.
    pub fn address(&self) -> &str {
        self.url.as_str()
    }

    /// Sends a request until a successful response arrives. Transient errors are retried, and parts
    /// that the server does not support are removed.
    pub async fn post(&self, body: Vec<u8>, clock: StepClock) -> Result<OpenResponse, AgentError> {
        let mut body = self.unsupported.apply(body);
        for _ in 0..MAX_OMITTED_PARTS {
            match self.post_with_retries(body.clone(), clock).await {
                Ok(response) => return Ok(response),
                Err(AttemptError {
                    unsupported_part: Some(unsupported_part),
                    error,
                    ..
                }) if self.unsupported.record(&unsupported_part) => {
                    tracing::warn!(
                        error = ?error.source,
                        %unsupported_part,
                        "request part not supported by the agent, removed from now on"
                    );
                    body = self.unsupported.apply(body.to_vec());
                }
                Err(failure) => return Err(failure.error),
            }
        }
        self.post_with_retries(body, clock)
            .await
            .map_err(|failure| failure.error)
    }

    async fn post_with_retries(
        &self,
        body: Bytes,
        clock: StepClock,
    ) -> Result<OpenResponse, AttemptError> {
        let backoffs = ExponentialBuilder::new()
            .with_jitter()
            .with_min_delay(self.retries.initial_backoff)
            .with_max_delay(self.retries.max_backoff)
            .with_max_times(self.retries.max_attempts.saturating_sub(1));
        (|| Box::pin(self.attempt(body.clone(), clock)))
            .retry(backoffs)
            .when(|failure| failure.is_transient)
            .adjust(|failure, backoff| {
                // The backoff is added to the server's `Retry-After`: its jitter spreads the
                // clients that received the same time.
                let requested = failure.retry_after.unwrap_or_default();
                let backoff = backoff?.saturating_add(requested);
                (requested <= MAX_RETRY_AFTER && backoff < clock.remaining()).then_some(backoff)
            })
            .notify(|failure, backoff| {
                tracing::warn!(
                    kind = ?failure.error.kind,
                    error = ?failure.error.source,
                    ?backoff,
                    "transient agent error, retrying"
                );
            })
            .await
    }

    async fn attempt(&self, body: Bytes, clock: StepClock) -> Result<OpenResponse, AttemptError> {
        let first_byte_deadline = clock.first_byte_deadline();
        let mut request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json");
        request = request
            .header(ACCEPT, "text/event-stream, application/json")
            .body(body.clone());
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        match clock
            .within(first_byte_deadline, TimeoutKind::FirstByte, request.send())
            .await
        {
            Err(error) => Err(AttemptError::permanent(error)),
            Ok(Err(error)) if error.is_connect() => {
                Err(AttemptError::transient(unreachable(error)))
            }
            Ok(Err(error)) => Err(AttemptError::transient(connection_lost(error))),
            Ok(Ok(response)) if response.status().is_success() => Ok(OpenResponse {
                response,
                first_byte_deadline,
            }),
            Ok(Ok(response)) => Err(self
                .read_error(response, &body, first_byte_deadline, clock)
                .await),
        }
    }

    /// Reads an error response.
    async fn read_error(
        &self,
        mut response: Response,
        request: &[u8],
        first_byte_deadline: Instant,
        clock: StepClock,
    ) -> AttemptError {
        let mut body = Vec::new();
        // The status is sufficient if the body does not arrive or is incomplete.
        while let Ok(Ok(Some(piece))) = clock
            .within(
                first_byte_deadline,
                TimeoutKind::FirstByte,
                response.chunk(),
            )
            .await
        {
            body.extend_from_slice(&piece);
            if body.len() > MAX_ERROR_BYTES {
                break;
            }
        }
        let server_error = ServerError::from_response(response.status().as_u16(), &body);
        let retry_after = retry_after(response.headers(), SystemTime::now());
        let is_retry_forbidden = response
            .headers()
            .get("x-should-retry")
            .is_some_and(|value| value == "false");
        let is_transient = server_error.is_transient() && !is_retry_forbidden;
        let unsupported_part = server_error
            .is_about_request()
            .then(|| RequestPart::named_in(server_error.param_and_message(), request))
            .flatten();
        AttemptError {
            is_transient,
            error: server_error
                .masked(&self.mask, request)
                .into_error(retry_after),
            retry_after,
            unsupported_part,
        }
    }
}

/// Returns the value of `Retry-After`: a number of seconds or a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = value.parse().map(Duration::from_secs).ok();
    seconds.or_else(|| {
        Some(
            httpdate::parse_http_date(value)
                .ok()?
                .duration_since(now)
                .unwrap_or_default(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date");
        let parsed = |value: &str| {
            let value = HeaderValue::from_str(value).expect("a header");
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)]), now)
        };
        assert_eq!(parsed("0"), Some(Duration::ZERO));
        assert_eq!(parsed(" 120 "), Some(Duration::from_secs(120)));
        assert_eq!(
            parsed("Sun, 06 Nov 1994 08:50:07 GMT"),
            Some(Duration::from_secs(30))
        );
        assert_eq!(
            parsed("Sun, 06 Nov 1994 08:49:07 GMT"),
            Some(Duration::ZERO)
        );
        for invalid in ["", "soon", "-1", "1.5", "99999999999999999999999"] {
            assert_eq!(parsed(invalid), None);
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
