//! The whole reply to a message, written page by page as its client reads it.
//!
//! A reply shows the conversation up to its turn, as it was when the turn ended: the turns that had
//! been superseded by then are not shown. Turns do not change once they have ended, so a page can
//! be dropped and read again while the client does not read.

use std::collections::HashMap;
use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::header::{ContentEncoding, ContentType};
use bytes::Bytes;
use chat_domain::{Item, ItemBody, LoggedTurn, MessageId, Ordinal, Turn, TurnId, TurnPage, UserId};
use chat_protocol::native::query::ReplyScope;
use chat_protocol::native::reply::{END, append_messages, begin};
use chat_protocol::problem::Code;
use futures_util::stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::timeout;
use tracing::Instrument;

use crate::http::held::PIECE;
use crate::problem::ApiError;
use crate::problem::of_new_turn;
use crate::state::AppState;

/// A page ends with the turn that reaches this size, in bytes.
const PAGE_BYTES: usize = 64 << 10;

/// Up to this size a reply is sent as one body with its length.
const SMALL_REPLY: usize = 64 << 10;

/// The largest text that is kept for as long as the client does not read, in bytes.
const KEPT_BYTES: usize = 128 << 10;

/// Pieces that are on their way to the connection.
const PIECES_AHEAD: usize = 2;

/// The most that a long reply holds, in bytes: its text, the pieces on their way, and the
/// connection's own buffer.
const HELD_BYTES: usize = KEPT_BYTES + (PIECES_AHEAD + 2) * PIECE;

/// How many turns the first page reads, and any page at most.
const FIRST_TURNS: u32 = 4;
const MOST_TURNS: u32 = 128;

/// Answers with the reply to an ended turn.
///
/// # Errors
/// The problem of a turn that failed; the store's; `server_overloaded`.
pub async fn answer(
    state: &AppState,
    owner: UserId,
    shown: ReplyScope,
    turn: Turn,
    items: Vec<Item>,
) -> Result<HttpResponse, ApiError> {
    let question = items.iter().find_map(|item| match &item.body {
        ItemBody::Message(message) => Some(message.id),
        _ => None,
    });
    let mut reply = Reply {
        state: state.clone(),
        owner,
        shown,
        id: turn.id,
        question: question.ok_or(Code::Internal)?,
        first: Some((turn.clone(), items)),
        turn,
        hidden: None,
        turns: FIRST_TURNS,
    };
    let page = reply.page(Place::START, None).await?;
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
        .reserve(HELD_BYTES)
        .ok_or(Code::ServerOverloaded)?;
    let (pieces, mut body) = channel(PIECES_AHEAD);
    state.readers.spawn(
        reply
            .write(page, pieces)
            .instrument(tracing::Span::current()),
    );
    let mut response = HttpResponse::Ok()
        .insert_header(ContentType::json())
        // The encoder of a compression would hold more than the reply itself.
        .insert_header(ContentEncoding::Identity)
        .streaming(stream::poll_fn(move |context| body.poll_recv(context)));
    response.extensions_mut().insert(reservation);
    Ok(response)
}

/// A reply that cannot be written to its end: the connection is closed, so that the client sees
/// that the body is incomplete.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the rest of the reply cannot be read from the store")]
struct Incomplete;

/// A place in the text of a reply.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The last turn before it; `None` at the start.
    after: Option<Ordinal>,
    /// Whether a message comes before it.
    has_messages: bool,
}

impl Place {
    const START: Self = Self {
        after: None,
        has_messages: false,
    };
}

/// A part of the text.
struct Page {
    at: Place,
    /// How many turns were read for it and are in it.
    turns: u32,
    text: String,
    /// Where the next page begins; `None` at the end.
    next: Option<Place>,
}

/// Which of the conversation's turns a reply does not show.
enum Hidden {
    /// None: the reply is to a superseded turn.
    Nothing,
    /// Those that are superseded now, for none was since the reply's turn ended.
    SupersededNow,
    /// Those that are superseded now and lie in one of these ranges: others were superseded since.
    Ranges(Vec<(Ordinal, Ordinal)>),
}

impl Hidden {
    fn hides(&self, turn: &Turn) -> bool {
        turn.superseded
            && match self {
                Self::Nothing => false,
                Self::SupersededNow => true,
                Self::Ranges(ranges) => ranges
                    .iter()
                    .any(|(from, to)| (*from..*to).contains(&turn.ordinal)),
            }
    }
}

/// The part of a page's text that is in memory.
struct Kept {
    /// Where it begins in the text.
    start: usize,
    bytes: Vec<u8>,
    /// One of the few permits to keep a large text whole.
    room: Option<OwnedSemaphorePermit>,
}

impl Kept {
    /// Drops what a reply may not keep while its client does not read.
    fn shrink(&mut self, offset: usize) {
        if self.bytes.len() > KEPT_BYTES {
            let rest = self.bytes.get(offset - self.start..).unwrap_or_default();
            self.bytes = rest.get(..KEPT_BYTES).unwrap_or(rest).to_vec();
            self.start = offset;
        }
        self.room = None;
    }

    fn is_behind(&self, offset: usize) -> bool {
        offset >= self.start + self.bytes.len()
    }

    /// A copy of the next piece, so that the piece does not keep the whole text.
    fn piece(&self, offset: usize) -> Option<Bytes> {
        let rest = self.bytes.get(offset - self.start..)?;
        let piece = rest.get(..PIECE).unwrap_or(rest);
        (!piece.is_empty()).then(|| Bytes::copy_from_slice(piece))
    }
}

struct Reply {
    state: AppState,
    owner: UserId,
    shown: ReplyScope,
    id: TurnId,
    /// The user's message of the turn.
    question: MessageId,
    /// The turn with its items, until the first page has been read.
    first: Option<(Turn, Vec<Item>)>,
    turn: Turn,
    /// Decided with the first page.
    hidden: Option<Hidden>,
    /// How many turns the next page reads.
    turns: u32,
}

impl Reply {
    /// Writes the reply from its first page on.
    async fn write(mut self, mut page: Page, pieces: Sender<Result<Bytes, Incomplete>>) {
        loop {
            let next = page.next;
            match self.write_page(page, &pieces).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(refusal) => return fail(&pieces, &refusal).await,
            }
            let Some(next) = next else { return };
            page = match self.page(next, None).await {
                Ok(page) => page,
                Err(refusal) => return fail(&pieces, &refusal).await,
            };
        }
    }

    /// Writes a page; false if the client is gone.
    async fn write_page(
        &mut self,
        page: Page,
        pieces: &Sender<Result<Bytes, Incomplete>>,
    ) -> Result<bool, ApiError> {
        let (at, turns, length) = (page.at, page.turns, page.text.len());
        let mut kept = self.keep(page.text, 0);
        let mut offset = 0;
        while offset < length {
            let room = match timeout(self.state.limits.stall_time, pieces.reserve()).await {
                Ok(room) => room,
                Err(_) => {
                    kept.shrink(offset);
                    pieces.reserve().await
                }
            };
            let Ok(room) = room else { return Ok(false) };
            if kept.is_behind(offset) {
                let text = self.page(at, Some(turns)).await?.text;
                // A page that was read again must be the same.
                if text.len() != length {
                    return Err(Code::Internal.into());
                }
                kept = self.keep(text, offset);
            }
            let piece = kept.piece(offset).ok_or(Code::Internal)?;
            offset += piece.len();
            room.send(Ok(piece));
        }
        Ok(true)
    }

    /// Keeps a text from an offset on: whole while it is small or there is room for a large one.
    fn keep(&self, text: String, offset: usize) -> Kept {
        let is_large = text.len() > KEPT_BYTES;
        let large_texts = Arc::clone(&self.state.large_texts);
        let room = is_large
            .then(|| large_texts.try_acquire_owned().ok())
            .flatten();
        let has_room = room.is_some();
        let mut kept = Kept {
            start: 0,
            bytes: text.into_bytes(),
            room,
        };
        if is_large && !has_room {
            kept.shrink(offset);
        }
        kept
    }

    /// Reads the page at a place; `again` with so many turns as before.
    async fn page(&mut self, at: Place, again: Option<u32>) -> Result<Page, ApiError> {
        let reads = self.state.page_reads.clone();
        let _permit = reads.acquire().await.map_err(|_| Code::Internal)?;
        let mut text = String::new();
        if at.after.is_none() {
            let (turn, items) = match self.first.take() {
                Some(first) => first,
                None => self.read_turn().await?,
            };
            if self.shown == ReplyScope::Turn {
                text = begin(turn.clone(), items.clone())?;
                append_messages(&mut text, true, &LoggedTurn { turn, items })?;
                text.push_str(END);
                return Ok(Page {
                    at,
                    turns: 0,
                    text,
                    next: None,
                });
            }
            text = begin(turn, items)?;
        }
        let limit = again.unwrap_or(self.turns);
        let logs = self.read_turns(at.after, limit).await?;
        let is_last_read = u32::try_from(logs.len()).is_ok_and(|read| read < limit);
        self.decide_hidden(at.after, &logs).await?;
        let (mut last, mut has_messages, mut turns) = (at.after, at.has_messages, 0);
        let mut is_cut = false;
        for mut log in logs {
            if again.is_none() && turns > 0 && text.len() >= PAGE_BYTES {
                is_cut = true;
                break;
            }
            (last, turns) = (Some(log.turn.ordinal), turns + 1);
            if log.turn.id != self.id
                && self
                    .hidden
                    .as_ref()
                    .is_some_and(|hidden| hidden.hides(&log.turn))
            {
                continue;
            }
            if !matches!(self.hidden, Some(Hidden::Nothing)) {
                log.turn.superseded = false;
            }
            append_messages(&mut text, !has_messages, &log)?;
            has_messages = true;
        }
        let is_end = !is_cut && (is_last_read || last == Some(self.turn.ordinal));
        if is_end {
            text.push_str(END);
        }
        self.turns = match (is_cut, text.len() < PAGE_BYTES / 2) {
            (true, _) => turns,
            (false, true) => (limit * 2).min(MOST_TURNS),
            (false, false) => limit,
        };
        Ok(Page {
            at,
            turns,
            text,
            next: (!is_end).then_some(Place {
                after: last,
                has_messages,
            }),
        })
    }

    /// Decides which turns are hidden, once `logs` have been read.
    async fn decide_hidden(
        &mut self,
        after: Option<Ordinal>,
        logs: &[LoggedTurn],
    ) -> Result<(), ApiError> {
        let needs_decision = match &self.hidden {
            None => true,
            // A retry that supersedes any turn of the reply after its own turn has ended supersedes
            // that one too.
            Some(Hidden::SupersededNow) => logs
                .iter()
                .any(|log| log.turn.superseded && log.turn.id != self.id),
            Some(_) => false,
        };
        if !needs_decision {
            return Ok(());
        }
        let is_superseded = match logs.iter().find(|log| log.turn.id == self.id) {
            Some(log) => log.turn.superseded,
            None => {
                let (owner, conversation, question) =
                    (self.owner.clone(), self.turn.conversation, self.question);
                let turn = self.state.call(move |service| async move {
                    service
                        .turn_of_message(&owner, conversation, question)
                        .await
                        .map_err(of_new_turn)
                });
                turn.await?.superseded
            }
        };
        self.hidden = Some(match (&self.hidden, is_superseded) {
            (_, false) => Hidden::SupersededNow,
            (None, true) => Hidden::Nothing,
            (Some(_), true) => Hidden::Ranges(self.superseded_ranges(after).await?),
        });
        Ok(())
    }

    /// The turns that the retries up to the reply's turn superseded after a place: from the retried
    /// turn up to the retry.
    async fn superseded_ranges(
        &self,
        mut after: Option<Ordinal>,
    ) -> Result<Vec<(Ordinal, Ordinal)>, ApiError> {
        let (mut places, mut retries) = (HashMap::new(), Vec::new());
        loop {
            let logs = self.read_turns(after, FIRST_TURNS).await?;
            let Some(last) = logs.last() else { break };
            after = Some(last.turn.ordinal);
            for log in &logs {
                places.insert(log.turn.id, log.turn.ordinal);
                retries.extend(log.turn.retry_of.map(|retried| (retried, log.turn.ordinal)));
            }
        }
        // A retried turn that is not there lies before the place.
        let range = |(retried, to)| (places.get(&retried).copied().unwrap_or(Ordinal(0)), to);
        Ok(retries.into_iter().map(range).collect())
    }

    async fn read_turn(&self) -> Result<(Turn, Vec<Item>), ApiError> {
        let (owner, id) = (self.owner.clone(), self.id);
        let view = self
            .state
            .call(move |service| async move { service.turn(&owner, id).await.map_err(of_new_turn) })
            .await?;
        // As it was when the reply began.
        Ok((self.turn.clone(), view.items))
    }

    async fn read_turns(
        &self,
        after: Option<Ordinal>,
        limit: u32,
    ) -> Result<Vec<LoggedTurn>, ApiError> {
        let (owner, conversation) = (self.owner.clone(), self.turn.conversation);
        let before = Some(Ordinal(self.turn.ordinal.0 + 1));
        let page = TurnPage {
            after,
            before,
            limit,
            newest: false,
            superseded: true,
        };
        self.state
            .call(move |service| async move { service.turns(&owner, conversation, page).await })
            .await
    }
}

async fn fail(pieces: &Sender<Result<Bytes, Incomplete>>, refusal: &ApiError) {
    tracing::warn!(error = %refusal, "a reply breaks off after its begin was sent; its connection is closed");
    // The client may be gone.
    let _ = pieces.send(Err(Incomplete)).await;
}
