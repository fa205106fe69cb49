//! Streams of server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{self, ContentEncoding};
use bytes::Bytes;
use chat_domain::{ConversationId, Cursor, TurnEvent, TurnId, TurnStream};
use chat_protocol::native::events;
use chat_protocol::problem::{Code, Problem};
use chat_protocol::sse::KEEP_ALIVE;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use uuid::Uuid;

use crate::problem::ApiError;
use crate::state::AppState;

/// How many frames may wait for a client. Few, for what a slow client gets later comes in fewer and
/// larger pieces.
const FRAMES_AHEAD: usize = 4;

/// Encodes the events of a turn in one protocol.
pub trait Encoder: Send + 'static {
    /// The frames of an event, after which the reader has come to `cursor`; nothing if the protocol
    /// has none for it.
    fn event(&mut self, cursor: Cursor, event: &TurnEvent) -> String;

    /// The last frame for a client that is to resume elsewhere or later.
    fn broken(&self, problem: Problem) -> String;
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// All events were sent.
    Completed,
    /// The server interrupted it: reading failed, or the server shuts down.
    Interrupted,
    /// The client went away.
    ClientGone,
    /// The client does not read.
    ClientStalled,
}

/// The news of a turn in the protocol of our own, behind the frame `first`, until its end, until
/// this server shuts down, or until the client is too slow: then it resumes with another request.
pub fn stream(
    state: &AppState,
    subject: Subject,
    first: Option<String>,
    news: TurnStream,
) -> HttpResponse {
    let (writer, body) = SseWriter::new(state, subject);
    // Not in the body itself: actix-web asks nothing of a body whose client does not read, and it
    // would keep the events forever.
    let run = async move {
        let mut writer = writer;
        writer.run(first.unwrap_or_default(), news).await;
    };
    state
        .readers
        .spawn(run.instrument(tracing::Span::current()));
    response(body, CancellationToken::new())
}

/// The answer that a writer fills. `taken` is cancelled when the client has received its head and
/// the first frames.
pub fn response(mut body: Receiver<Bytes>, taken: CancellationToken) -> HttpResponse {
    let frames = stream::poll_fn(move |context| {
        let next = body.poll_recv(context);
        if next.is_ready() {
            taken.cancel();
        }
        next
    });
    HttpResponse::Ok()
        .content_type("text/event-stream")
        // Proxies are not to hold anything back, and our own compression is to leave the stream
        // alone.
        .insert_header(("X-Accel-Buffering", "no"))
        .insert_header(ContentEncoding::Identity)
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .streaming(frames.map(Ok::<_, Infallible>))
}

/// The subject of a stream in the native protocol.
pub struct Subject {
    /// The id of the request.
    pub request: Option<Uuid>,
    /// The turn.
    pub turn: TurnId,
    /// Its conversation; `None` for a client that reads on, which knows it.
    pub conversation: Option<ConversationId>,
}

impl Encoder for Subject {
    fn event(&mut self, cursor: Cursor, event: &TurnEvent) -> String {
        events::event(self.turn, cursor, event)
    }

    fn broken(&self, mut problem: Problem) -> String {
        problem.instance = self.request;
        problem.members.turn_id = Some(self.turn.0);
        problem.members.conversation_id = self.conversation.map(|id| id.0);
        events::broken(&problem)
    }
}

/// Writes the events of a turn to the body of an answer.
pub struct SseWriter<E> {
    encoder: E,
    frames: Sender<Bytes>,
    keep_alive: Duration,
    write_time: Duration,
    leaving: CancellationToken,
}

impl<E: Encoder> SseWriter<E> {
    /// A writer, and the body it fills.
    pub fn new(state: &AppState, encoder: E) -> (Self, Receiver<Bytes>) {
        let (frames, body) = channel(FRAMES_AHEAD);
        let (keep_alive, write_time) = (state.limits.keep_alive, state.limits.write_time);
        (
            Self {
                encoder,
                frames,
                keep_alive,
                write_time,
                leaving: state.leaving.clone(),
            },
            body,
        )
    }

    /// Runs until all events are sent, or the client is gone.
    pub async fn run(&mut self, first: String, mut news: TurnStream) -> StreamEnd {
        let mut told = self.write(first).await;
        while told == StreamEnd::Completed {
            let next = tokio::select! {
                // Known events go first: a client that has waited for the end of a turn gets it,
                // even from a server that shuts down.
                biased;
                next = timeout(self.keep_alive, news.next()) => next,
                () = self.leaving.cancelled() => return self.break_off(Code::ShuttingDown.into()).await,
                () = self.frames.closed() => return StreamEnd::ClientGone,
            };
            let frames = match next {
                Err(_) => KEEP_ALIVE.to_owned(),
                Ok(Some(Ok((cursor, event)))) => self.encoder.event(cursor, &event),
                Ok(Some(Err(error))) => return self.break_off(error.into()).await,
                Ok(None) => return StreamEnd::Completed,
            };
            told = self.write(frames).await;
        }
        told
    }

    async fn break_off(&self, refusal: ApiError) -> StreamEnd {
        self.write(self.encoder.broken(refusal.0)).await;
        StreamEnd::Interrupted
    }

    /// Sends frames, if there are any; [`StreamEnd::Completed`] if they found their way before the
    /// client's time was over.
    pub async fn write(&self, frames: String) -> StreamEnd {
        if frames.is_empty() {
            return StreamEnd::Completed;
        }
        match self
            .frames
            .send_timeout(frames.into(), self.write_time)
            .await
        {
            Ok(()) => StreamEnd::Completed,
            Err(SendTimeoutError::Closed(_)) => StreamEnd::ClientGone,
            Err(SendTimeoutError::Timeout(_)) => {
                tracing::info!("the client does not read its stream; it is ended");
                StreamEnd::ClientStalled
            }
        }
    }

    /// Returns when the client is gone.
    pub fn gone(&self) -> impl Future<Output = ()> + Send + 'static {
        let frames = self.frames.clone();
        async move { frames.closed().await }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(keep_alive: Duration) -> (SseWriter<Subject>, Receiver<Bytes>) {
        let (frames, body) = channel(1);
        let subject = Subject {
            request: None,
            turn: TurnId(Uuid::from_u128(1)),
            conversation: None,
        };
        let write_time = Duration::from_millis(1);
        (
            SseWriter {
                encoder: subject,
                frames,
                keep_alive,
                write_time,
                leaving: CancellationToken::new(),
            },
            body,
        )
    }

    #[tokio::test]
    async fn signs_of_life_must_be_read_too() {
        let (mut writer, mut body) = writer(Duration::from_millis(1));
        assert_eq!(
            writer.run(String::new(), stream::pending().boxed()).await,
            StreamEnd::ClientStalled
        );
        drop(writer);
        assert_eq!(body.recv().await.as_deref(), Some(KEEP_ALIVE.as_bytes()));
        assert_eq!(body.recv().await, None);
    }

    #[tokio::test]
    async fn who_is_gone_is_told_nothing() {
        let (mut writer, body) = writer(Duration::from_secs(3600));
        drop(body);
        assert_eq!(
            writer.run(String::new(), stream::pending().boxed()).await,
            StreamEnd::ClientGone
        );
    }
}
