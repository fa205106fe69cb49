//! An answer's bytes, read as the events of a step.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use chat_domain::{AgentError, StepEvent, StepStream};
use futures_util::stream::{self, BoxStream, StreamExt};
use reqwest::Response;
use tokio::time::{Instant, timeout};

use crate::answer::Answer;
use crate::clock::StepClock;
use crate::failure::{Slow, broken, nonsense};
use crate::framing::{Frame, Framing, TooLong};

/// The most lines that are neither events nor JSON: this is another kind of server.
const MAX_UNKNOWN: usize = 100;
/// How long to wait for the end of the connection's answer after the mark.
const END_AFTER_MARK: Duration = Duration::from_millis(50);

type Pieces = BoxStream<'static, Result<Bytes, AgentError>>;

/// Reads an answer as it comes, whatever its content type is called. The first piece of its body
/// must come before `first_byte_by`.
pub fn read(
    response: Response,
    first_byte_by: Instant,
    clock: StepClock,
    answer: Answer,
) -> StepStream {
    read_pieces(pieces(response, first_byte_by, clock), answer)
}

/// The body, piece by piece, each in time.
fn pieces(response: Response, first_byte_by: Instant, clock: StepClock) -> Pieces {
    stream::try_unfold(
        (response, Some(first_byte_by)),
        move |(mut response, first_byte_by)| async move {
            let (by, slow) = first_byte_by.map_or_else(
                || (clock.next_piece_by(), Slow::Idle),
                |by| (by, Slow::FirstByte),
            );
            let piece = clock
                .within(by, slow, response.chunk())
                .await?
                .map_err(broken)?;
            Ok(piece.map(|piece| (piece, (response, None))))
        },
    )
    .boxed()
}

fn read_pieces(pieces: Pieces, answer: Answer) -> StepStream {
    let (framing, frames, ready) = (Framing::default(), VecDeque::new(), VecDeque::new());
    let reading = Reading {
        pieces,
        framing,
        frames,
        answer: Some(answer),
        ready,
        unknown: 0,
        is_over: false,
    };
    stream::try_unfold(reading, |mut reading| async move {
        Ok(reading.next().await?.map(|event| (event, reading)))
    })
    .boxed()
}

struct Reading {
    pieces: Pieces,
    framing: Framing,
    frames: VecDeque<Frame>,
    /// Until it is complete.
    answer: Option<Answer>,
    ready: VecDeque<StepEvent>,
    /// How many lines were neither events nor JSON.
    unknown: usize,
    /// Whether the body has come to its end.
    is_over: bool,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<StepEvent>, AgentError> {
        while let (true, Some(answer)) = (self.ready.is_empty(), &mut self.answer) {
            match self.frames.pop_front() {
                Some(Frame::Event { data, is_error }) => {
                    answer.hear(&data, false, is_error, &mut self.ready)?
                }
                Some(Frame::Whole(json)) => answer.hear(&json, true, false, &mut self.ready)?,
                Some(Frame::End) => {
                    // A connection whose answer was read to its end can be used again. It mostly
                    // comes with the mark.
                    let _ = timeout(END_AFTER_MARK, async {
                        while self.pieces.next().await.is_some() {}
                    })
                    .await;
                    self.answer
                        .take()
                        .map_or(Ok(()), |answer| answer.complete(&mut self.ready))?;
                }
                Some(Frame::Unknown) => {
                    self.unknown += 1;
                    if self.unknown > MAX_UNKNOWN {
                        return Err(nonsense("it is neither a stream of events nor JSON"));
                    }
                    answer.pass_over("a line that is neither an event nor JSON");
                }
                None if self.is_over => self
                    .answer
                    .take()
                    .map_or(Ok(()), |answer| answer.end(&mut self.ready))?,
                None => match self.pieces.next().await {
                    Some(Ok(piece)) => {
                        let pushed = self.framing.push(&piece, &mut self.frames);
                        pushed.map_err(|TooLong| nonsense("an event is longer than allowed"))?;
                    }
                    // Nothing more was to come: not every server writes the end mark.
                    Some(Err(_)) if answer.is_finished() => self.is_over = true,
                    Some(Err(error)) => return Err(error),
                    None => {
                        self.framing.finish(&mut self.frames);
                        self.is_over = true;
                    }
                },
            }
        }
        Ok(self.ready.pop_front())
    }
}

#[cfg(test)]
mod tests;
