//! Sending messages, as often as a client does that wants to be heard.

use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::caller::Caller;
use super::watching;
use crate::history::{Attempt, Message, Moment, Outcome, Reply};

/// How long a request may take that is answered when its turn has ended: the server's own limit,
/// and what a paused server adds.
pub const LIMIT: Duration = Duration::from_secs(60);
/// How often the clients of OpenAI repeat a request by themselves, and a patient program more
/// often.
const TRIES: usize = 6;

/// A message to send.
#[derive(Clone)]
pub struct Wish {
    pub conversation: Option<Uuid>,
    pub retry_of: Option<Uuid>,
    pub text: String,
    pub key: Option<String>,
    pub query: String,
    pub streams: bool,
}

impl Wish {
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
    /// Sends until it is heard, as a client that repeats requests does; without a key only once.
    /// Gives the turn.
    pub async fn send(&mut self, wish: &Wish) -> Option<(Uuid, Uuid)> {
        let mut message = wish.message(&self.way.user);
        let mut pause = Duration::from_millis(40);
        let mut begun = None;
        for _ in 0..if wish.key.is_some() { TRIES } else { 1 } {
            let (attempt, retry_after) = self.attempt(wish).await;
            begun = begun.or(attempt.outcome.turn());
            let again = match &attempt.outcome {
                Outcome::Refused { status, .. } => matches!(status, 408 | 409 | 429),
                Outcome::Unknown { .. } => true,
                Outcome::Replied(_) | Outcome::Begun { .. } => false,
            };
            message.attempts.push(attempt);
            if !again || self.world.is_over() {
                break;
            }
            self.world.tally.count("requests repeated");
            // Asked for seconds, a client waits; here a part of it, for the sake of more requests.
            let asked = retry_after.map_or(Duration::ZERO, |seconds| {
                Duration::from_millis(100 * seconds.min(10))
            });
            sleep(pause.mul_f64(0.75 + 0.5 * self.rng.f64()) + asked).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
        self.world
            .record
            .note(|history| history.messages.push(message));
        if let Some((conversation, turn)) = begun {
            self.world
                .book
                .lock()
                .unwrap()
                .add(&self.way.user, conversation, turn, &wish.text);
        }
        begun
    }

    /// Sends the same several times at once; all under one key.
    pub async fn send_at_once(&mut self, wish: &Wish, times: usize) {
        let mut callers: Vec<Caller> = (0..times).map(|_| self.another()).collect();
        let attempts = callers.iter_mut().map(|caller| caller.attempt(wish));
        let attempts = futures_util::future::join_all(attempts).await;
        let mut message = wish.message(&self.way.user);
        message
            .attempts
            .extend(attempts.into_iter().map(|(attempt, _)| attempt));
        let begun = message
            .attempts
            .iter()
            .find_map(|attempt| attempt.outcome.turn());
        self.world
            .record
            .note(|history| history.messages.push(message));
        if let Some((conversation, turn)) = begun {
            self.world
                .book
                .lock()
                .unwrap()
                .add(&self.way.user, conversation, turn, &wish.text);
        }
    }

    /// One request, and the seconds after which the server wants it repeated.
    async fn attempt(&mut self, wish: &Wish) -> (Attempt, Option<u64>) {
        let (path, body) = match wish.retry_of {
            Some(turn) => (format!("/turns/{turn}/retry{}", wish.query), None),
            None => (format!("/chat{}", wish.query), Some(body(wish))),
        };
        let mut request = self
            .way
            .request(&self.world, &mut self.rng, Method::POST, &path)
            .await;
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body);
        }
        if let Some(key) = &wish.key {
            request = request.header("idempotency-key", key);
        }
        let kind = match (wish.retry_of, wish.streams) {
            (Some(_), _) => "turn retry",
            (None, true) => "message, streamed",
            (None, false) => "message, whole reply",
        };
        let begun = self.world.record.now();
        let (outcome, known, retry_after) = if wish.streams {
            self.streamed(request.header("accept", "text/event-stream"), &wish.text)
                .await
        } else {
            let (outcome, retry_after) = self.whole(request).await;
            (outcome, self.world.record.now(), retry_after)
        };
        self.world.tally.request(kind, &outcome);
        (
            Attempt {
                begun,
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
        asked: &str,
    ) -> (Outcome, Moment, Option<u64>) {
        let response = match timeout(LIMIT, request.send()).await {
            Err(_) => {
                self.unanswered("a stream");
                return (
                    Outcome::Unknown {
                        why: "no answer".to_owned(),
                    },
                    self.world.record.now(),
                    None,
                );
            }
            Ok(Err(error)) => {
                return (
                    Outcome::Unknown {
                        why: format!("{error:?}"),
                    },
                    self.world.record.now(),
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
                self.world.record.now(),
                retry_after,
            );
        }
        // What it opens with says which turn it is: from then on the message is stored for certain.
        let (opened, known) = watching::follow(self, response, asked).await;
        let unknown = || Outcome::Unknown {
            why: "the stream broke before it said anything".to_owned(),
        };
        let outcome = opened.map_or_else(unknown, |(conversation, turn)| Outcome::Begun {
            conversation,
            turn,
            code: None,
        });
        (outcome, known, retry_after)
    }

    /// What an answer says of its message.
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
        self.mistake(status, body);
        match (status, id("conversation_id"), id("turn_id")) {
            (200, Some(conversation), Some(turn)) => Outcome::Replied(Reply {
                conversation,
                turn,
                status: text("status"),
                response: text("response"),
                tool_calls: list("tool_calls"),
                messages: list("messages"),
            }),
            // A problem of a turn: of its agent, or of telling its end.
            (_, Some(conversation), Some(turn)) => {
                let code = text("code");
                let of_telling = code.starts_with("store_")
                    || matches!(code.as_str(), "reply_timeout" | "shutting_down");
                Outcome::Begun {
                    conversation,
                    turn,
                    code: (!of_telling).then_some(code),
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

    /// Notes an answer by which the server says that it made a mistake.
    pub fn mistake(&self, status: u16, body: &str) {
        // That a turn ended so is checked against what is stored.
        let of_turn = ["too_many_attempts", "internal"]
            .iter()
            .any(|code| body.contains(code))
            && body.contains("turn_id");
        if status == 500 && !of_turn {
            self.world.record.note(|history| {
                history
                    .mistakes
                    .push(format!("{} was answered {status} {body}", self.way.user))
            });
        }
    }

    pub fn unanswered(&self, what: &str) {
        let now = self.world.record.now();
        self.world.record.note(|history| {
            history.unanswered.push(format!(
                "{} waited for {what} for {LIMIT:?}, until {now:?}",
                self.way.user
            ));
        });
    }
}

fn body(wish: &Wish) -> String {
    match wish.conversation {
        Some(conversation) => {
            json!({ "message": wish.text, "conversation_id": conversation }).to_string()
        }
        None => json!({ "message": wish.text }).to_string(),
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
