//! An answer's bytes, read as the events of a step.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chat_domain::{AgentError, StepEvent, StepStream};
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use sse_stream::SseByteStream;
use tokio::time::{Instant, timeout};

use crate::answer::Answer;
use crate::clock::StepClock;
use crate::failure::{Slow, broken, cut_off, nonsense};

/// The most bytes of a stream without a whole event. A server could go on for ever, and all of it would be kept.
const MAX_EVENT: usize = 1 << 20;
/// The longest answer that comes whole.
const MAX_WHOLE: usize = 8 << 20;
/// The end of a stream (<https://platform.openai.com/docs/api-reference/chat/create#chat_create-stream>).
const END_MARK: &str = "[DONE]";
/// How long to wait for the end of the connection's answer after the mark.
const END_AFTER_MARK: Duration = Duration::from_millis(50);

type Pieces = BoxStream<'static, Result<Bytes, AgentError>>;

/// Reads an answer as it comes. The first piece of its body must come before `first_byte_by`.
///
/// # Errors
/// It is neither a stream of events nor JSON.
pub fn read(response: Response, first_byte_by: Instant, clock: StepClock, answer: Answer) -> Result<StepStream, AgentError> {
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let pieces = pieces(response, first_byte_by, clock);
    match essence.as_str() {
        // Some servers name no type.
        "text/event-stream" | "" => Ok(read_events(pieces, answer)),
        "application/json" => Ok(read_whole(pieces, answer)),
        _ => Err(nonsense("it is neither a stream of events nor JSON")),
    }
}

/// The body, piece by piece, each in time.
fn pieces(response: Response, first_byte_by: Instant, clock: StepClock) -> Pieces {
    stream::try_unfold((response, Some(first_byte_by)), move |(mut response, first_byte_by)| async move {
        let (by, slow) = first_byte_by.map_or_else(|| (clock.next_piece_by(), Slow::Idle), |by| (by, Slow::FirstByte));
        let piece = clock.within(by, slow, response.chunk()).await?.map_err(broken)?;
        Ok(piece.map(|piece| (piece, (response, None))))
    })
    .boxed()
}

fn read_events(pieces: Pieces, answer: Answer) -> StepStream {
    let kept = Arc::new(AtomicUsize::new(0));
    let counted = kept.clone();
    let bounded = pieces.and_then(move |piece| {
        let kept = counted.fetch_add(piece.len(), Ordering::Relaxed);
        std::future::ready(if kept > MAX_EVENT { Err(nonsense("an event is longer than allowed")) } else { Ok(piece) })
    });
    let reading = Reading { events: SseByteStream::new(bounded.boxed()), kept, answer: Some(answer), ready: VecDeque::new() };
    stream::try_unfold(reading, |mut reading| async move { Ok(reading.next().await?.map(|event| (event, reading))) }).boxed()
}

struct Reading {
    events: SseByteStream<Pieces>,
    /// How many bytes came since the last event.
    kept: Arc<AtomicUsize>,
    /// Until it is complete.
    answer: Option<Answer>,
    ready: VecDeque<StepEvent>,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<StepEvent>, AgentError> {
        while let (true, Some(answer)) = (self.ready.is_empty(), &mut self.answer) {
            let event = self.events.next().await;
            self.kept.store(0, Ordering::Relaxed);
            match event {
                Some(Ok(event)) => match event.data.as_deref().map(str::trim) {
                    None | Some("") => {}
                    Some(END_MARK) => {
                        // A connection whose answer was read to its end can be used again. It mostly comes with the mark.
                        let _ = timeout(END_AFTER_MARK, async { while self.events.next().await.is_some() {} }).await;
                        self.complete()?;
                    }
                    Some(data) => answer.hear(data, &mut self.ready)?,
                },
                // Nothing more was to come: not every server writes the end mark.
                None | Some(Err(_)) if answer.is_finished() => self.complete()?,
                None => return Err(cut_off()),
                Some(Err(sse_stream::Error::Body(source))) => return Err(source.downcast().map_or_else(|_| cut_off(), |error| *error)),
                Some(Err(_)) => return Err(nonsense("an event that is not UTF-8")),
            }
        }
        Ok(self.ready.pop_front())
    }

    fn complete(&mut self) -> Result<(), AgentError> {
        self.answer.take().map_or(Ok(()), |answer| answer.complete(&mut self.ready))
    }
}

/// An answer that comes whole, although a stream was asked for.
fn read_whole(mut pieces: Pieces, mut answer: Answer) -> StepStream {
    let read = async move {
        let mut body = Vec::new();
        while let Some(piece) = pieces.try_next().await? {
            body.extend_from_slice(&piece);
            if body.len() > MAX_WHOLE {
                return Err(nonsense("it is longer than allowed"));
            }
        }
        let mut events = VecDeque::new();
        answer.hear(std::str::from_utf8(&body).map_err(|_| nonsense("it is not UTF-8"))?, &mut events)?;
        answer.complete(&mut events)?;
        Ok(stream::iter(events.into_iter().map(Ok)))
    };
    stream::once(read).try_flatten().boxed()
}

#[cfg(test)]
mod tests;
