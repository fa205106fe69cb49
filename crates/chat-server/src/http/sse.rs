//! Streams of server-sent events.

use std::convert::Infallible;

use actix_web::HttpResponse;
use actix_web::http::header::{self, ContentEncoding};
use bytes::Bytes;
use chat_domain::{Turn, TurnStream};
use chat_protocol::native::events;
use chat_protocol::sse::KEEP_ALIVE;
use futures_util::{Stream, StreamExt, stream};
use tokio::time::timeout;
use uuid::Uuid;

use crate::app::AppState;
use crate::problem::Refusal;

/// The news of a turn, behind the frame `first`, until its end or until this server leaves: then the client goes on elsewhere.
pub fn stream(state: &AppState, request: Option<Uuid>, turn: Turn, first: Option<String>, news: TurnStream) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/event-stream")
        // Proxies are not to hold anything back, and our own compression is to leave the stream alone.
        .insert_header(("X-Accel-Buffering", "no"))
        .insert_header(ContentEncoding::Identity)
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .streaming(frames(state, request, turn, first, news).map(|frame| Ok::<_, Infallible>(Bytes::from(frame))))
}

fn frames(
    state: &AppState,
    request: Option<Uuid>,
    turn: Turn,
    first: Option<String>,
    news: TurnStream,
) -> impl Stream<Item = String> + 'static {
    let keep_alive = state.limits.keep_alive;
    let leaving = state.leaving.clone();
    let span = tracing::Span::current();
    let later = stream::unfold(Some(news), move |news| {
        let (leaving, span, turn) = (leaving.clone(), span.clone(), turn.clone());
        async move {
            let mut news = news?;
            let next = tokio::select! {
                next = timeout(keep_alive, news.next()) => next,
                () = leaving.cancelled() => return None,
            };
            match next {
                Err(_) => Some((KEEP_ALIVE.to_owned(), Some(news))),
                Ok(Some(Ok((cursor, event)))) => Some((events::event(&turn, cursor, &event), Some(news))),
                Ok(Some(Err(error))) => {
                    let mut problem = span.in_scope(|| Refusal::from(error)).in_turn(turn.conversation, turn.id).0;
                    problem.instance = request;
                    Some((events::broken(&problem), None))
                }
                Ok(None) => None,
            }
        }
    });
    stream::iter(first).chain(later)
}
