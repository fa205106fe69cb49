//! What the stub says, and how badly.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream;
use serde_json::{Value, json};

use super::{Gate, chunk};

/// What the stub says to a request, and how badly. Bytes are counted in the body, from its
/// beginning.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) before: Before,
    body: Bytes,
    piece: usize,
    pause: Option<Duration>,
    gate: Option<(usize, Gate)>,
    end: End,
}

/// What comes before the status line.
#[derive(Clone, Debug)]
pub(super) enum Before {
    Nothing,
    Gate(Gate),
    Hang,
}

/// What comes after the last byte of the body.
#[derive(Clone, Debug)]
enum End {
    Whole,
    Cut,
    Hang,
    Drip { bytes: Bytes, every: Duration },
}

impl Answer {
    /// A stream of text in these pieces, with a usage of one token in and one out for each piece.
    pub fn text<'a>(pieces: impl IntoIterator<Item = &'a str>) -> Self {
        let mut chunks: Vec<Value> = pieces.into_iter().map(chunk::text).collect();
        let written = chunks.len() as u64;
        chunks.extend([chunk::finish("stop"), chunk::usage(1, written)]);
        Self::chunks(chunks)
    }

    /// A stream that calls these tools, given as name and arguments, each call whole, with a usage
    /// as of [`Answer::text`].
    pub fn calls<'a>(calls: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let call = |(index, (tool, arguments)): (u64, (&str, &str))| {
            chunk::call(index, &format!("call_stub_{index}"), tool, arguments)
        };
        let mut chunks: Vec<Value> = (0..).zip(calls).map(call).collect();
        let written = chunks.len() as u64;
        chunks.extend([chunk::finish("tool_calls"), chunk::usage(1, written)]);
        Self::chunks(chunks)
    }

    /// A stream of these events (see [`chunk`]), and the end mark.
    pub fn chunks(chunks: impl IntoIterator<Item = Value>) -> Self {
        let events: String = chunks
            .into_iter()
            .map(|chunk| format!("data: {chunk}\n\n"))
            .collect();
        Self::sse(format!("{events}data: [DONE]\n\n"))
    }

    /// A stream of these bytes.
    pub fn sse(body: impl Into<Bytes>) -> Self {
        Self::raw(200, "text/event-stream", body)
    }

    /// An error as OpenAI writes it. An empty code is sent as `null`.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let code = (!code.is_empty()).then_some(code);
        Self::json(
            status,
            &json!({ "error": { "message": message, "type": "invalid_request_error", "param": null, "code": code } }),
        )
    }

    /// Any JSON.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::raw(status, "application/json", body.to_string())
    }

    /// Anything at all. An empty content type is not sent.
    pub fn raw(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        let content_type = (!content_type.is_empty())
            .then(|| ("content-type".to_owned(), content_type.to_owned()));
        Self {
            status,
            headers: content_type.into_iter().collect(),
            before: Before::Nothing,
            body: body.into(),
            piece: usize::MAX,
            pause: None,
            gate: None,
            end: End::Whole,
        }
    }

    /// With this header too.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Nothing is sent, not even the status line, before the gate is open.
    pub fn held(mut self, gate: &Gate) -> Self {
        self.before = Before::Gate(gate.clone());
        self
    }

    /// After `bytes` bytes the rest waits for the gate.
    pub fn held_after(mut self, bytes: usize, gate: &Gate) -> Self {
        self.gate = Some((bytes, gate.clone()));
        self
    }

    /// Nothing is ever sent, not even the status line.
    pub fn hanging() -> Self {
        Self {
            before: Before::Hang,
            ..Self::sse("")
        }
    }

    /// After `bytes` bytes nothing more comes, and the connection stays open.
    pub fn hang_after(self, bytes: usize) -> Self {
        self.ending_after(bytes, End::Hang)
    }

    /// After `bytes` bytes the connection is closed in the middle of the body.
    pub fn cut_after(self, bytes: usize) -> Self {
        self.ending_after(bytes, End::Cut)
    }

    /// After `bytes` bytes only `drop` comes, again and again, so that a client that goes away is
    /// noticed.
    pub fn drip_after(self, bytes: usize, drop: impl Into<Bytes>, every: Duration) -> Self {
        self.ending_after(
            bytes,
            End::Drip {
                bytes: drop.into(),
                every,
            },
        )
    }

    /// The body is written in pieces of `bytes` bytes.
    ///
    /// # Panics
    /// If `bytes` is 0.
    pub fn in_pieces(mut self, bytes: usize) -> Self {
        assert!(bytes > 0, "a piece has at least one byte");
        self.piece = bytes;
        self
    }

    /// With a pause after each piece of the body.
    pub fn slowly(mut self, pause: Duration) -> Self {
        self.pause = Some(pause);
        self
    }

    fn ending_after(mut self, bytes: usize, end: End) -> Self {
        self.body.truncate(bytes);
        self.end = end;
        self
    }

    /// The body as it is written. The stream ends when everything was said, with an error if the
    /// connection is to be cut.
    pub(super) fn into_body(self) -> impl Stream<Item = io::Result<Bytes>> {
        stream::unfold(Some((self, 0)), |state| async move {
            let (mut answer, sent) = state?;
            if let Some((_, gate)) = answer.gate.take_if(|(at, _)| *at <= sent) {
                gate.pass().await;
            }
            if !answer.body.is_empty() {
                if sent > 0 {
                    match answer.pause {
                        Some(pause) => tokio::time::sleep(pause).await,
                        // Gives the server the time to write what it has: else pieces would be
                        // joined.
                        None => tokio::task::yield_now().await,
                    }
                }
                let before_gate = answer.gate.as_ref().map_or(usize::MAX, |(at, _)| at - sent);
                let piece = answer
                    .body
                    .split_to(answer.body.len().min(answer.piece).min(before_gate));
                let sent = sent + piece.len();
                return Some((Ok(piece), Some((answer, sent))));
            }
            match &answer.end {
                End::Whole => None,
                End::Cut => {
                    tokio::task::yield_now().await;
                    Some((Err(io::Error::other("cut, as the script says")), None))
                }
                End::Hang => std::future::pending().await,
                End::Drip { bytes, every } => {
                    tokio::time::sleep(*every).await;
                    Some((Ok(bytes.clone()), Some((answer.clone(), sent))))
                }
            }
        })
    }
}
