//! Streams of server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{self, ContentEncoding};
use bytes::Bytes;
use chat_domain::{Turn, TurnStream};
use chat_protocol::native::events;
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

/// The news of a turn, behind the frame `first`, until its end, until this server leaves, or until the client is too slow: then it
/// goes on with another request.
pub fn stream(state: &AppState, request: Option<Uuid>, turn: Turn, first: Option<String>, news: TurnStream) -> HttpResponse {
    let (frames, mut body) = channel(FRAMES_AHEAD);
    let pump = Pump {
        request,
        turn,
        frames,
        keep_alive: state.limits.keep_alive,
        write_time: state.limits.write_time,
        leaving: state.leaving.clone(),
    };
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
    request: Option<Uuid>,
    turn: Turn,
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
                () = self.leaving.cancelled() => return,
                () = self.frames.closed() => return,
            };
            let (frame, goes_on) = match next {
                Err(_) => (KEEP_ALIVE.to_owned(), true),
                Ok(Some(Ok((cursor, event)))) => (events::event(&self.turn, cursor, &event), true),
                Ok(Some(Err(error))) => {
                    let mut problem = Refusal::from(error).in_turn(self.turn.conversation, self.turn.id).0;
                    problem.instance = self.request;
                    (events::broken(&problem), false)
                }
                Ok(None) => return,
            };
            if !self.write(frame).await || !goes_on {
                return;
            }
        }
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
