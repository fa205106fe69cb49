//! Streams of server-sent events as HTTP responses.

use std::convert::Infallible;

use actix_web::HttpResponse;
use actix_web::http::header::{self, ContentEncoding};
use chat_domain::{ConversationId, Cursor, TurnEvent, TurnId, TurnStream};
use chat_protocol::Problem;
use chat_protocol::native::events;
use futures_util::StreamExt;
use tracing::Instrument;
use uuid::Uuid;

use crate::sse_writer::{Encoder, EventStream, SseWriter};
use crate::state::AppState;

/// Streams the events of a turn in the native protocol, after the frame `first`: until the turn
/// ends, this server shuts down, or the client reads too slowly. A client can resume in the last
/// two cases.
pub fn stream(
    state: &AppState,
    encoder: NativeEncoder,
    first: Option<String>,
    events: TurnStream,
) -> HttpResponse {
    let (mut writer, stream) = SseWriter::new(state.stream_settings(), encoder);
    // Not in the body itself: actix-web does not poll a body whose client does not read, and the
    // body would keep the events in memory without limit.
    let run = async move {
        writer.run(first.unwrap_or_default(), events).await;
    };
    state
        .readers
        .spawn(run.instrument(tracing::Span::current()));
    response(stream)
}

/// The response with these frames.
pub fn response(stream: EventStream) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/event-stream")
        // Neither proxies nor our own compression may buffer the stream.
        .insert_header(("X-Accel-Buffering", "no"))
        .insert_header(ContentEncoding::Identity)
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .streaming(stream.map(Ok::<_, Infallible>))
}

/// Encodes the events of a turn in the native protocol.
pub struct NativeEncoder {
    /// The id of the request.
    pub request: Option<Uuid>,
    /// The turn.
    pub turn: TurnId,
    /// Its conversation; `None` for a client that resumes, which knows the conversation.
    pub conversation: Option<ConversationId>,
}

impl Encoder for NativeEncoder {
    fn event(&mut self, cursor: Cursor, event: &TurnEvent) -> String {
        events::event(self.turn, cursor, event)
    }

    fn interrupted(&self, mut problem: Problem) -> String {
        problem.instance = self.request;
        problem.members.turn_id = Some(self.turn.0);
        problem.members.conversation_id = self.conversation.map(|id| id.0);
        events::interrupted(&problem)
    }
}
