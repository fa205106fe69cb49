//! The whole reply to a message, written page by page as its client reads.
//!
//! A reply has the conversation up to its turn, as it was when the turn ended: turns that had been
//! superseded by then are left out. Turns do not change once they have ended, so a page can be
//! dropped while the client does not read, and read again later.

mod buffer;
mod pages;

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::header::{ContentEncoding, ContentType};
use bytes::Bytes;
use chat_domain::{Item, Turn, UserId};
use chat_protocol::Code;
use chat_protocol::native::ReplyScope;
use futures_util::stream;
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::timeout;
use tracing::Instrument;

use self::buffer::{Buffer, MAX_BUFFER};
use self::pages::{Page, PageReader, Place};
use crate::http::response_body::CHUNK_BYTES;
use crate::problem::ApiError;
use crate::state::AppState;

/// Up to this size a reply is sent as one body with its length, in bytes.
const SMALL_REPLY: usize = 64 << 10;

/// Chunks that are on their way to the connection.
const CHUNKS_AHEAD: usize = 2;

/// The most memory that a long reply holds, in bytes: its text, the chunks on their way, and the
/// connection's own buffer.
const RESERVED_BYTES: usize = MAX_BUFFER + (CHUNKS_AHEAD + 2) * CHUNK_BYTES;

/// Answers with the reply to an ended turn.
///
/// # Errors
/// The problem of a turn that failed; the store's; `server_overloaded`.
pub async fn answer(
    state: &AppState,
    owner: UserId,
    scope: ReplyScope,
    turn: Turn,
    items: Vec<Item>,
) -> Result<HttpResponse, ApiError> {
    let mut reader = PageReader::new(state, owner, scope, turn, items)?;
    let page = reader.read(Place::START, None).await?;
    if page.next.is_none() && page.text.len() <= SMALL_REPLY {
        let reservation = state
            .memory
            .reserve(page.text.len())
            .ok_or(Code::ServerOverloaded)?;
        let mut response = HttpResponse::Ok()
            .insert_header(ContentType::json())
            .body(page.text);
        response.extensions_mut().insert(reservation);
        return Ok(response);
    }
    let reservation = state
        .memory
        .reserve(RESERVED_BYTES)
        .ok_or(Code::ServerOverloaded)?;
    let (chunks, mut body) = channel(CHUNKS_AHEAD);
    let writer = ReplyWriter {
        state: state.clone(),
        reader,
        chunks,
    };
    state
        .readers
        .spawn(writer.run(page).instrument(tracing::Span::current()));
    let mut response = HttpResponse::Ok()
        .insert_header(ContentType::json())
        // The encoder of a compression would hold more than the reply itself.
        .insert_header(ContentEncoding::Identity)
        .streaming(stream::poll_fn(move |context| body.poll_recv(context)));
    response.extensions_mut().insert(reservation);
    Ok(response)
}

/// A reply that cannot be written to its end. The connection is closed, so that the client sees
/// that the body is incomplete.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the rest of the reply cannot be read from the store")]
struct Incomplete;

/// Why a reply is not written to its end.
enum Stop {
    ClientGone,
    Failed(ApiError),
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Self::Failed(error)
    }
}

struct ReplyWriter {
    state: AppState,
    reader: PageReader,
    chunks: Sender<Result<Bytes, Incomplete>>,
}

impl ReplyWriter {
    /// Writes the reply from its first page on.
    async fn run(mut self, first: Page) {
        if let Err(Stop::Failed(error)) = self.write(first).await {
            tracing::warn!(%error, "reply interrupted, closing its connection");
            // The client may be gone.
            let _ = self.chunks.send(Err(Incomplete)).await;
        }
    }

    async fn write(&mut self, mut page: Page) -> Result<(), Stop> {
        loop {
            let next = page.next;
            self.write_page(page).await?;
            let Some(next) = next else { return Ok(()) };
            page = self.reader.read(next, None).await?;
        }
    }

    async fn write_page(&mut self, page: Page) -> Result<(), Stop> {
        let (place, turns, length) = (page.place, page.turns, page.text.len());
        let mut buffer = self.buffer(page.text, 0);
        let mut offset = 0;
        while offset < length {
            let room = match timeout(self.state.limits.stall_time, self.chunks.reserve()).await {
                Ok(room) => room,
                Err(_) => {
                    buffer.shrink(offset);
                    self.chunks.reserve().await
                }
            };
            let room = room.map_err(|_| Stop::ClientGone)?;
            if buffer.is_behind(offset) {
                let text = self.reader.read(place, Some(turns)).await?.text;
                // A page that is read again must be the same.
                if text.len() != length {
                    return Err(ApiError::from(Code::Internal).into());
                }
                buffer = self.buffer(text, offset);
            }
            let chunk = buffer.chunk(offset);
            let chunk = chunk.ok_or_else(|| ApiError::from(Code::Internal))?;
            offset += chunk.len();
            room.send(Ok(chunk));
        }
        Ok(())
    }

    fn buffer(&self, text: String, offset: usize) -> Buffer {
        let permits = Arc::clone(&self.state.large_texts);
        Buffer::new(text, offset, || permits.try_acquire_owned().ok())
    }
}
