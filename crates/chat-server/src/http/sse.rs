//! Streams of server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{self, ContentEncoding};
use bytes::Bytes;
use chat_domain::{ConversationId, TurnId, TurnStream};
use chat_protocol::native::events;
use chat_protocol::problem::Code;
use chat_protocol::sse::KEEP_ALIVE;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use uuid::Uuid;

use crate::app::AppState;
use crate::problem::Refusal;

/// How many frames may wait for a client. Few, for what a slow client gets later comes in fewer and larger pieces.
const FRAMES_AHEAD: usize = 4;

/// What a stream is about.
pub struct Subject {
    /// The id of the request.
    pub request: Option<Uuid>,
    /// The turn.
    pub turn: TurnId,
    /// Its conversation; `None` for a client that reads on, which knows it.
    pub conversation: Option<ConversationId>,
}

/// The news of a turn, behind the frame `first`, until its end, until this server leaves, or until the client is too slow: then it
/// goes on with another request.
pub fn stream(state: &AppState, subject: Subject, first: Option<String>, news: TurnStream) -> HttpResponse {
    let (frames, mut body) = channel(FRAMES_AHEAD);
    let pump =
        Pump { subject, frames, keep_alive: state.limits.keep_alive, write_time: state.limits.write_time, leaving: state.leaving.clone() };
    // Not in the body itself: actix-web asks nothing of a body whose client does not read, and it would keep the news for ever.
    state.readers.spawn(pump.run(first, news).instrument(tracing::Span::current()));
    HttpResponse::Ok()
        .content_type("text/event-stream")
        // Proxies are not to hold anything back, and our own compression is to leave the stream alone.
        .insert_header(("X-Accel-Buffering", "no"))
        .insert_header(ContentEncoding::Identity)
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .streaming(stream::poll_fn(move |context| body.poll_recv(context)).map(Ok::<_, Infallible>))
}

/// Carries the news of a turn to the body of an answer.
struct Pump {
    subject: Subject,
    frames: Sender<Bytes>,
    keep_alive: Duration,
    write_time: Duration,
    leaving: CancellationToken,
}

impl Pump {
    /// Runs until nothing more is to be told, or nobody hears it.
    async fn run(self, first: Option<String>, mut news: TurnStream) {
        if let Some(first) = first
            && !self.write(first).await
        {
            return;
        }
        loop {
            let next = tokio::select! {
                // What is known goes first: who has waited for the end of a turn gets it, even from a server that leaves.
                biased;
                next = timeout(self.keep_alive, news.next()) => next,
                () = self.leaving.cancelled() => {
                    self.write(self.broken(Code::ShuttingDown.into())).await;
                    return;
                }
                () = self.frames.closed() => return,
            };
            let (frame, goes_on) = match next {
                Err(_) => (KEEP_ALIVE.to_owned(), true),
                Ok(Some(Ok((cursor, event)))) => (events::event(self.subject.turn, cursor, &event), true),
                Ok(Some(Err(error))) => (self.broken(error.into()), false),
                Ok(None) => return,
            };
            if !self.write(frame).await || !goes_on {
                return;
            }
        }
    }

    /// The last frame for a client that is to read on elsewhere or later.
    fn broken(&self, refusal: Refusal) -> String {
        let mut problem = refusal.0;
        problem.instance = self.subject.request;
        problem.members.turn_id = Some(self.subject.turn.0);
        problem.members.conversation_id = self.subject.conversation.map(|id| id.0);
        events::broken(&problem)
    }

    /// Whether the frame found its way before the client's time was over.
    async fn write(&self, frame: String) -> bool {
        match self.frames.send_timeout(frame.into(), self.write_time).await {
            Ok(()) => true,
            Err(SendTimeoutError::Closed(_)) => false,
            Err(SendTimeoutError::Timeout(_)) => {
                tracing::info!("the client does not read its stream; it is ended");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::Receiver;

    use super::*;

    fn pump(keep_alive: Duration) -> (Pump, Receiver<Bytes>) {
        let (frames, body) = channel(1);
        let subject = Subject { request: None, turn: TurnId(Uuid::from_u128(1)), conversation: None };
        let write_time = Duration::from_millis(1);
        (Pump { subject, frames, keep_alive, write_time, leaving: CancellationToken::new() }, body)
    }

    #[tokio::test]
    async fn signs_of_life_must_be_read_too() {
        let (pump, mut body) = pump(Duration::from_millis(1));
        pump.run(None, stream::pending().boxed()).await;
        assert_eq!(body.recv().await.as_deref(), Some(KEEP_ALIVE.as_bytes()));
        assert_eq!(body.recv().await, None);
    }

    #[tokio::test]
    async fn who_is_gone_is_told_nothing() {
        let (pump, body) = pump(Duration::from_secs(3600));
        drop(body);
        pump.run(None, stream::pending().boxed()).await;
    }
}
