//! Scripted answers and their failures.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream;
use serde_json::{Value, json};

use super::{Gate, chunk};

/// An answer of the stub, with failures. Offsets count bytes from the start of the body.
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

/// Behaviour before the status line.
#[derive(Clone, Debug)]
pub(super) enum Before {
    Nothing,
    Gate(Gate),
    Hang,
}

/// Behaviour after the last byte of the body.
#[derive(Clone, Debug)]
enum End {
    Whole,
    Cut,
    Hang,
    Drip { bytes: Bytes, every: Duration },
}

impl Answer {
    /// A stream of text in these pieces. Its usage is one input token, and one output token per
    /// piece.
    pub fn text<'a>(pieces: impl IntoIterator<Item = &'a str>) -> Self {
        let mut chunks: Vec<Value> = pieces.into_iter().map(chunk::text).collect();
        let written = chunks.len() as u64;
        chunks.extend([chunk::finish("stop"), chunk::usage(1, written)]);
        Self::chunks(chunks)
    }

    /// A stream of complete tool calls, given as name and arguments, with the usage of
    /// [`Answer::text`].
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

    /// An error in OpenAI's form. An empty code is sent as `null`.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let code = (!code.is_empty()).then_some(code);
        Self::json(
            status,
            &json!({
                "error": {
                    "message": message, "type": "invalid_request_error", "param": null,
                    "code": code,
                },
            }),
        )
    }

    /// Any JSON.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::raw(status, "application/json", body.to_string())
    }

    /// Any response. An empty content type is not sent.
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

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends nothing, not even the status line, until the gate is open.
    pub fn held(mut self, gate: &Gate) -> Self {
        self.before = Before::Gate(gate.clone());
        self
    }

    /// Holds the rest of the body after `bytes` bytes until the gate is open.
    pub fn held_after(mut self, bytes: usize, gate: &Gate) -> Self {
        self.gate = Some((bytes, gate.clone()));
        self
    }

    /// Never sends anything, not even the status line.
    pub fn hanging() -> Self {
        Self {
            before: Before::Hang,
            ..Self::sse("")
        }
    }

    /// Sends nothing more after `bytes` bytes; the connection stays open.
    pub fn hang_after(self, bytes: usize) -> Self {
        self.ending_after(bytes, End::Hang)
    }

    /// Closes the connection in the middle of the body, after `bytes` bytes.
    pub fn cut_after(self, bytes: usize) -> Self {
        self.ending_after(bytes, End::Cut)
    }

    /// Sends only `drop`, repeatedly, after `bytes` bytes, so that a disconnected client is
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

    /// Writes the body in pieces of `bytes` bytes.
    ///
    /// # Panics
    /// Panics if `bytes` is 0.
    pub fn in_pieces(mut self, bytes: usize) -> Self {
        assert!(bytes > 0, "a piece has at least one byte");
        self.piece = bytes;
        self
    }

    /// Pauses after each piece of the body.
    pub fn slowly(mut self, pause: Duration) -> Self {
        self.pause = Some(pause);
        self
    }

    fn ending_after(mut self, bytes: usize, end: End) -> Self {
        self.body.truncate(bytes);
        self.end = end;
        self
    }

    /// Returns the body as a stream, which ends with an error if the connection is to be cut.
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
                        // Lets the server write, because it would join pieces otherwise.
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
