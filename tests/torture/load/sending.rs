//! Sends messages, with the retries of a typical client.

use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::caller::Caller;
use super::watching;
use crate::history::{Attempt, Message, Moment, Outcome, Reply};

/// Limit of a request that is answered after its turn: the server's own limit, and the time that a
/// paused server adds.
pub const LIMIT: Duration = Duration::from_secs(60);
/// OpenAI's clients retry a request a few times, and patient programs more often.
const MAX_ATTEMPTS: usize = 6;

/// A message to send.
#[derive(Clone)]
pub struct MessageRequest {
    pub conversation: Option<Uuid>,
    pub retry_of: Option<Uuid>,
    pub text: String,
    pub key: Option<String>,
    pub query: String,
    pub streams: bool,
}

impl MessageRequest {
    fn message(&self, user: &str) -> Message {
        let Self {
            conversation,
            retry_of,
            text,
            key,
            ..
        } = self.clone();
        let rejects = self.query.contains("busy=reject");
        Message {
            user: user.to_owned(),
            text,
            conversation,
            key,
            retry_of,
            rejects,
            attempts: Vec::new(),
        }
    }
}

impl Caller {
    /// Sends a message, with retries until it is acknowledged if it has a key, and otherwise once.
    /// Returns the turn.
    pub async fn send(&mut self, outgoing: &MessageRequest) -> Option<(Uuid, Uuid)> {
        let mut message = outgoing.message(&self.client.user);
        let mut pause = Duration::from_millis(40);
        let mut started = None;
        let most = if outgoing.key.is_some() {
            MAX_ATTEMPTS
        } else {
            1
        };
        for _ in 0..most {
            let (attempt, retry_after) = self.attempt(outgoing).await;
            started = started.or(attempt.outcome.turn());
            let again = match &attempt.outcome {
                Outcome::Refused { status, .. } => matches!(status, 408 | 409 | 429),
                Outcome::Unknown { .. } => true,
                Outcome::Replied(_) | Outcome::Started { .. } => false,
            };
            message.attempts.push(attempt);
            if !again || self.world.is_over() {
                break;
            }
            self.world.tally.count("requests repeated");
            // Waits for a part of the requested time, so that more requests are sent.
            let question = retry_after.map_or(Duration::ZERO, |seconds| {
                Duration::from_millis(100 * seconds.min(10))
            });
            sleep(pause.mul_f64(0.75 + 0.5 * self.rng.f64()) + question).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
        self.record(message, started, outgoing);
        started
    }

    /// Records a message, and the turn that it started.
    fn record(&self, message: Message, started: Option<(Uuid, Uuid)>, outgoing: &MessageRequest) {
        self.world
            .recorder
            .update(|history| history.messages.push(message));
        if let Some((conversation, turn)) = started {
            let mut known = self.world.known.lock().unwrap();
            known.add(&self.client.user, conversation, turn, &outgoing.text);
        }
    }

    /// Sends the same message several times concurrently, with one key.
    pub async fn send_at_once(&mut self, outgoing: &MessageRequest, times: usize) {
        let mut callers: Vec<Caller> = (0..times).map(|_| self.another()).collect();
        let attempts = callers.iter_mut().map(|caller| caller.attempt(outgoing));
        let attempts = futures_util::future::join_all(attempts).await;
        let mut message = outgoing.message(&self.client.user);
        message
            .attempts
            .extend(attempts.into_iter().map(|(attempt, _)| attempt));
        let started = message
            .attempts
            .iter()
            .find_map(|attempt| attempt.outcome.turn());
        self.record(message, started, outgoing);
    }

    /// Sends one request. Returns the outcome and the `Retry-After` in seconds.
    async fn attempt(&mut self, outgoing: &MessageRequest) -> (Attempt, Option<u64>) {
        let (path, body) = match outgoing.retry_of {
            Some(turn) => (format!("/turns/{turn}/retry{}", outgoing.query), None),
            None => (format!("/chat{}", outgoing.query), Some(body(outgoing))),
        };
        let mut request = self
            .client
            .request(&self.world, &mut self.rng, Method::POST, &path)
            .await;
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body);
        }
        if let Some(key) = &outgoing.key {
            request = request.header("idempotency-key", key);
        }
        let kind = match (outgoing.retry_of, outgoing.streams) {
            (Some(_), _) => "turn retry",
            (None, true) => "message, streamed",
            (None, false) => "message, whole reply",
        };
        let started = self.world.recorder.now();
        let (outcome, known, retry_after) = if outgoing.streams {
            self.streamed(
                request.header("accept", "text/event-stream"),
                &outgoing.text,
            )
            .await
        } else {
            let (outcome, retry_after) = self.whole(request).await;
            (outcome, self.world.recorder.now(), retry_after)
        };
        self.world.tally.request(kind, &outcome);
        (
            Attempt {
                started,
                known,
                outcome,
            },
            retry_after,
        )
    }

    async fn whole(&mut self, request: reqwest::RequestBuilder) -> (Outcome, Option<u64>) {
        let answer = async {
            let response = request.send().await?;
            let (status, retry_after) = (response.status().as_u16(), retry_after(&response));
            Ok::<_, reqwest::Error>((status, retry_after, response.text().await?))
        };
        match timeout(LIMIT, answer).await {
            Err(_) => {
                self.unanswered("a message");
                (
                    Outcome::Unknown {
                        why: "no answer".to_owned(),
                    },
                    None,
                )
            }
            Ok(Err(error)) => (
                Outcome::Unknown {
                    why: format!("{error:?}"),
                },
                None,
            ),
            Ok(Ok((status, retry_after, body))) => (self.outcome(status, &body), retry_after),
        }
    }

    async fn streamed(
        &mut self,
        request: reqwest::RequestBuilder,
        question: &str,
    ) -> (Outcome, Moment, Option<u64>) {
        let response = match timeout(LIMIT, request.send()).await {
            Err(_) => {
                self.unanswered("a stream");
                return (
                    Outcome::Unknown {
                        why: "no answer".to_owned(),
                    },
                    self.world.recorder.now(),
                    None,
                );
            }
            Ok(Err(error)) => {
                return (
                    Outcome::Unknown {
                        why: format!("{error:?}"),
                    },
                    self.world.recorder.now(),
                    None,
                );
            }
            Ok(Ok(response)) => response,
        };
        let (status, retry_after) = (response.status().as_u16(), retry_after(&response));
        if status != 200 {
            let body = response.text().await.unwrap_or_default();
            return (
                self.outcome(status, &body),
                self.world.recorder.now(),
                retry_after,
            );
        }
        // The first event names the turn, which shows that the message is stored.
        let (opened, known) = watching::follow(self, response, question).await;
        let unknown = || Outcome::Unknown {
            why: "the connection was lost before the first event".to_owned(),
        };
        let outcome = opened.map_or_else(unknown, |(conversation, turn)| Outcome::Started {
            conversation,
            turn,
            code: None,
        });
        (outcome, known, retry_after)
    }

    /// Returns the outcome that an answer implies.
    pub fn outcome(&self, status: u16, body: &str) -> Outcome {
        let Ok(answer) = serde_json::from_str::<Value>(body) else {
            return Outcome::Unknown {
                why: format!("{status} {body}"),
            };
        };
        let id = |name: &str| {
            answer[name]
                .as_str()
                .and_then(|id| Uuid::try_parse(id).ok())
        };
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        let list = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
        self.record_internal_error(status, body);
        match (status, id("conversation_id"), id("turn_id")) {
            (200, Some(conversation), Some(turn)) => Outcome::Replied(Reply {
                conversation,
                turn,
                status: text("status"),
                response: text("response"),
                tool_calls: list("tool_calls"),
                messages: list("messages"),
            }),
            // A problem of the turn: of its agent, or of reporting its end.
            (_, Some(conversation), Some(turn)) => {
                let code = text("code");
                let is_of_stream = code.starts_with("store_")
                    || matches!(code.as_str(), "reply_timeout" | "shutting_down");
                Outcome::Started {
                    conversation,
                    turn,
                    code: (!is_of_stream).then_some(code),
                }
            }
            (400..=499, ..) => Outcome::Refused {
                status,
                code: text("code"),
            },
            _ => Outcome::Unknown {
                why: format!("{status} {body}"),
            },
        }
    }

    /// Records an answer with an internal server error.
    pub fn record_internal_error(&self, status: u16, body: &str) {
        // The end of such a turn is checked against the stored rows.
        let of_turn = ["too_many_attempts", "internal"]
            .iter()
            .any(|code| body.contains(code))
            && body.contains("turn_id");
        if status == 500 && !of_turn {
            self.world.recorder.update(|history| {
                history
                    .mistakes
                    .push(format!("{} was answered {status} {body}", self.client.user))
            });
        }
    }

    pub fn unanswered(&self, what: &str) {
        let now = self.world.recorder.now();
        self.world.recorder.update(|history| {
            history.unanswered.push(format!(
                "{} waited {LIMIT:?} for {what}, until {now:?}",
                self.client.user
            ));
        });
    }
}

fn body(outgoing: &MessageRequest) -> String {
    match outgoing.conversation {
        Some(conversation) => {
            json!({ "message": outgoing.text, "conversation_id": conversation }).to_string()
        }
        None => json!({ "message": outgoing.text }).to_string(),
    }
}

fn retry_after(response: &Response) -> Option<u64> {
    response
        .headers()
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}
