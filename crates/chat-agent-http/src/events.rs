//! Converts the bytes of an answer to step events.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use chat_domain::{AgentError, StepEvent, StepStream};
use futures_util::stream::{self, BoxStream, StreamExt};
use reqwest::Response;
use tokio::time::{Instant, timeout};

use crate::answer::Answer;
use crate::clock::StepClock;
use crate::failure::{TimeoutKind, connection_lost, protocol_error};
use crate::framing::{Frame, FrameParser, FrameTooLong};

/// Most lines that are neither events nor JSON. A server that sends more speaks another protocol.
const MAX_UNKNOWN_LINES: usize = 100;
/// How long to wait for the end of the body after the end mark.
const END_GRACE_PERIOD: Duration = Duration::from_millis(50);

type ByteStream = BoxStream<'static, Result<Bytes, AgentError>>;

/// Reads an answer as a stream of step events, regardless of its content type. The first piece of
/// the body must arrive before `first_byte_deadline`.
pub fn read(
    response: Response,
    first_byte_deadline: Instant,
    clock: StepClock,
    answer: Answer,
) -> StepStream {
    read_pieces(pieces(response, first_byte_deadline, clock), answer)
}

/// Returns the pieces of the body, each within its timeout.
fn pieces(response: Response, first_byte_deadline: Instant, clock: StepClock) -> ByteStream {
    stream::try_unfold(
        (response, Some(first_byte_deadline)),
        move |(mut response, first_byte_deadline)| async move {
            let (by, kind) = first_byte_deadline.map_or_else(
                || (clock.next_piece_deadline(), TimeoutKind::Idle),
                |by| (by, TimeoutKind::FirstByte),
            );
            let piece = clock
                .within(by, kind, response.chunk())
                .await?
                .map_err(connection_lost)?;
            Ok(piece.map(|piece| (piece, (response, None))))
        },
    )
    .boxed()
}

fn read_pieces(pieces: ByteStream, answer: Answer) -> StepStream {
    let (parser, frames, pending) = (FrameParser::default(), VecDeque::new(), VecDeque::new());
    let reading = EventReader {
        pieces,
        parser,
        frames,
        answer: Some(answer),
        pending,
        unknown_lines: 0,
        has_ended: false,
    };
    stream::try_unfold(reading, |mut reading| async move {
        Ok(reading.next().await?.map(|event| (event, reading)))
    })
    .boxed()
}

struct EventReader {
    pieces: ByteStream,
    parser: FrameParser,
    frames: VecDeque<Frame>,
    /// `None` after the answer is complete.
    answer: Option<Answer>,
    pending: VecDeque<StepEvent>,
    /// How many lines were neither events nor JSON.
    unknown_lines: usize,
    /// Whether the end of the body was reached.
    has_ended: bool,
}

impl EventReader {
    async fn next(&mut self) -> Result<Option<StepEvent>, AgentError> {
        while let (true, Some(answer)) = (self.pending.is_empty(), &mut self.answer) {
            match self.frames.pop_front() {
                Some(Frame::Event { data, is_error }) => {
                    answer.add_json(&data, false, is_error, &mut self.pending)?
                }
                Some(Frame::Document(json)) => {
                    answer.add_json(&json, true, false, &mut self.pending)?
                }
                Some(Frame::End) => {
                    // A connection can be reused only after its response was read to the end, which
                    // usually arrives together with the end mark.
                    let _ = timeout(END_GRACE_PERIOD, async {
                        while self.pieces.next().await.is_some() {}
                    })
                    .await;
                    self.answer
                        .take()
                        .map_or(Ok(()), |answer| answer.complete(&mut self.pending))?;
                }
                Some(Frame::Unknown) => {
                    self.unknown_lines += 1;
                    if self.unknown_lines > MAX_UNKNOWN_LINES {
                        return Err(protocol_error(
                            "the body is neither an event stream nor JSON",
                        ));
                    }
                    answer.ignore("a line that is neither an event nor JSON");
                }
                None if self.has_ended => self
                    .answer
                    .take()
                    .map_or(Ok(()), |answer| answer.end(&mut self.pending))?,
                None => match self.pieces.next().await {
                    Some(Ok(piece)) => {
                        let pushed = self.parser.push(&piece, &mut self.frames);
                        pushed.map_err(|FrameTooLong| {
                            protocol_error("an event exceeds the size limit")
                        })?;
                    }
                    // The answer is complete: not every server sends the end mark.
                    Some(Err(_)) if answer.is_finished() => self.has_ended = true,
                    Some(Err(error)) => return Err(error),
                    None => {
                        self.parser.finish(&mut self.frames);
                        self.has_ended = true;
                    }
                },
            }
        }
        Ok(self.pending.pop_front())
    }
}

#[cfg(test)]
mod tests;
