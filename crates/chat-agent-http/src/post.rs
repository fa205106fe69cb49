//! One request, sent until it is answered.

use std::time::{Duration, SystemTime};

use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use chat_domain::AgentError;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, Url, redirect};
use tokio::time::Instant;

use crate::clock::StepClock;
use crate::failure::{Slow, broken, unreachable};
use crate::habits::{Habits, Lesson};
use crate::mask::Mask;
use crate::refusal::Refusal;
use crate::settings::{ChatCompletionsSettings, InvalidSettings, Retries};

/// A server that wants to be left alone for longer is not waited for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);
/// How much of an error's body is read; the rest says nothing more.
const MAX_ERROR: usize = 64 << 10;
/// How often a step's request is changed because the server does not take a part of it.
const MAX_LESSONS: usize = 32;

/// Where requests are sent, and how.
#[derive(Clone, Debug)]
pub struct Endpoint {
    client: Client,
    url: Url,
    authorization: Option<HeaderValue>,
    retries: Retries,
    mask: Mask,
    habits: Habits,
}

/// A successful answer whose body has not been read.
pub struct Opened {
    pub response: Response,
    /// When the first piece of its body must be there.
    pub first_byte_by: Instant,
}

/// A try that failed.
struct Failure {
    error: AgentError,
    /// Whether another try may do better.
    passing: bool,
    retry_after: Option<Duration>,
    /// Which part of the request the server does not take.
    lesson: Option<Lesson>,
}

impl Failure {
    fn lasting(error: AgentError) -> Self {
        Self {
            error,
            passing: false,
            retry_after: None,
            lesson: None,
        }
    }

    fn passing(error: AgentError) -> Self {
        Self {
            error,
            passing: true,
            retry_after: None,
            lesson: None,
        }
    }
}

impl Endpoint {
    pub fn new(settings: &ChatCompletionsSettings) -> Result<Self, InvalidSettings> {
        let url = settings.endpoint()?;
        let builder = Client::builder()
            // A connection for each turn. Servers bear about a hundred requests on one of HTTP/2,
            // there would never be a second one, and what is too much would wait there until it is
            // too late.
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
            // The machine's CA certificates are not read, which fails where there are none: nothing
            // needs them.
            builder
                .tls_certs_only([])
                .build()
                .map_err(|error| InvalidSettings::Client(error.without_url()))?
        };
        let mask = Mask::new(settings.api_key.clone());
        let habits = Habits::default();
        Ok(Self {
            client,
            url,
            mask,
            habits,
            authorization: settings.authorization()?,
            retries: settings.retries,
        })
    }

    /// What must not be logged of the server's words.
    pub fn mask(&self) -> &Mask {
        &self.mask
    }

    /// What is known of the server by its refusals.
    pub fn habits(&self) -> &Habits {
        &self.habits
    }

    /// Where it is: the data that a server wants back is for the same one only.
    pub fn address(&self) -> &str {
        self.url.as_str()
    }

    /// Sends a request, again if need be, until there is a successful answer. A part that the
    /// server does not take is left out then.
    pub async fn post(&self, body: Vec<u8>, clock: StepClock) -> Result<Opened, AgentError> {
        let mut body = self.habits.apply(body);
        for _ in 0..MAX_LESSONS {
            match self.post_unchanged(body.clone(), clock).await {
                Ok(opened) => return Ok(opened),
                Err(Failure {
                    lesson: Some(lesson),
                    error,
                    ..
                }) if self.habits.learn(&lesson) => {
                    tracing::warn!(source = ?error.source, %lesson, "the agent refuses a part of the request, which is sent without it from now on");
                    body = self.habits.apply(body.to_vec());
                }
                Err(failure) => return Err(failure.error),
            }
        }
        self.post_unchanged(body, clock)
            .await
            .map_err(|failure| failure.error)
    }

    async fn post_unchanged(&self, body: Bytes, clock: StepClock) -> Result<Opened, Failure> {
        let pauses = ExponentialBuilder::new()
            .with_jitter()
            .with_min_delay(self.retries.first_pause)
            .with_max_delay(self.retries.longest_pause)
            .with_max_times(self.retries.tries.saturating_sub(1));
        (|| Box::pin(self.attempt(body.clone(), clock)))
            .retry(pauses)
            .when(|failure| failure.passing)
            .adjust(|failure, pause| {
                // The server's time and ours: the chance in ours spreads all those who were told
                // the same time.
                let asked = failure.retry_after.unwrap_or_default();
                let pause = pause?.saturating_add(asked);
                (asked <= LONGEST_RETRY_AFTER && pause < clock.left()).then_some(pause)
            })
            .notify(|failure, pause| {
                tracing::warn!(kind = ?failure.error.kind, source = ?failure.error.source, ?pause, "the agent is asked again");
            })
            .await
    }

    async fn attempt(&self, body: Bytes, clock: StepClock) -> Result<Opened, Failure> {
        let first_byte_by = clock.first_byte_by();
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
            .within(first_byte_by, Slow::FirstByte, request.send())
            .await
        {
            Err(slow) => Err(Failure::lasting(slow)),
            Ok(Err(error)) if error.is_connect() => Err(Failure::passing(unreachable(error))),
            Ok(Err(error)) => Err(Failure::passing(broken(error))),
            Ok(Ok(response)) if response.status().is_success() => Ok(Opened {
                response,
                first_byte_by,
            }),
            Ok(Ok(response)) => Err(self.refused(response, &body, first_byte_by, clock).await),
        }
    }

    /// What an answer that is no success means.
    async fn refused(
        &self,
        mut response: Response,
        request: &[u8],
        first_byte_by: Instant,
        clock: StepClock,
    ) -> Failure {
        let mut body = Vec::new();
        // The status says enough if the body does not come or breaks off.
        while let Ok(Ok(Some(piece))) = clock
            .within(first_byte_by, Slow::FirstByte, response.chunk())
            .await
        {
            body.extend_from_slice(&piece);
            if body.len() > MAX_ERROR {
                break;
            }
        }
        let refusal = Refusal::of_answer(response.status().as_u16(), &body);
        let retry_after = retry_after(response.headers(), SystemTime::now());
        let forbidden = response
            .headers()
            .get("x-should-retry")
            .is_some_and(|value| value == "false");
        let passing = refusal.is_passing() && !forbidden;
        let lesson = refusal
            .is_about_the_request()
            .then(|| Lesson::of(refusal.complaint(), request))
            .flatten();
        Failure {
            passing,
            error: refusal.masked(&self.mask, request).into_error(retry_after),
            retry_after,
            lesson,
        }
    }
}

/// The time to wait: a number of seconds or a date (RFC 9110, section 10.2.3).
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
        let said = |value: &str| {
            let value = HeaderValue::from_str(value).expect("a header");
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)]), now)
        };
        assert_eq!(said("0"), Some(Duration::ZERO));
        assert_eq!(said(" 120 "), Some(Duration::from_secs(120)));
        assert_eq!(
            said("Sun, 06 Nov 1994 08:50:07 GMT"),
            Some(Duration::from_secs(30))
        );
        assert_eq!(said("Sun, 06 Nov 1994 08:49:07 GMT"), Some(Duration::ZERO));
        for nonsense in ["", "soon", "-1", "1.5", "99999999999999999999999"] {
            assert_eq!(said(nonsense), None);
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
