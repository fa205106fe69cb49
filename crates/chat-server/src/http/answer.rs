//! Starts a turn and answers with it: with the whole reply at its end, or its events as they come.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse};
use chat_domain::{
    ChatError, ChatService, Cursor, Item, StartedTurn, Turn, TurnEvent, TurnStream, UserId,
};
use chat_protocol::Code;
use chat_protocol::native::ReplyScope;
use chat_protocol::native::events;
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::http::RequestId;
use crate::http::accept::ReplyFormat;
use crate::http::reply;
use crate::http::sse::{self, NativeEncoder};
use crate::problem::ApiError;
use crate::service_runner::{into_logged_problem, missing_turn_as_conversation};
use crate::state::AppState;

/// The client's choices for a reply.
#[derive(Clone, Copy, Debug)]
pub struct ReplyOptions {
    /// Whether the reply is one object or a stream.
    pub format: ReplyFormat,
    /// How much of the conversation the reply has.
    pub scope: ReplyScope,
}

/// Starts a turn and answers with it. The turn continues if the client disconnects.
///
/// # Errors
/// The errors of `start`; the problem of a turn that failed; `ReplyTimeout` if a reply would take
/// longer than the limit.
pub async fn answer<F>(
    state: &AppState,
    request: &HttpRequest,
    owner: UserId,
    options: ReplyOptions,
    start: impl FnOnce(Arc<ChatService>) -> F + Send + 'static,
) -> Result<HttpResponse, ApiError>
where
    F: Future<Output = Result<StartedTurn, ChatError>> + Send + 'static,
{
    let turn = state.runner.start_turn(start).await?;
    let (conversation, id) = (turn.conversation, turn.id);
    answer_with_turn(state, request, owner, options, turn)
        .await
        .map_err(|error| match error.0.code {
            Code::ConversationNotFound => error,
            _ => error.in_turn(conversation, id),
        })
}

async fn answer_with_turn(
    state: &AppState,
    request: &HttpRequest,
    owner: UserId,
    options: ReplyOptions,
    turn: Turn,
) -> Result<HttpResponse, ApiError> {
    let (id, reader) = (turn.id, owner.clone());
    let events = state
        .runner
        .call(move |service| async move {
            service
                .watch_turn(&reader, id, Cursor::START)
                .await
                .map_err(missing_turn_as_conversation)
        })
        .await?;
    let events = events
        .map(|event| event.map_err(missing_turn_as_conversation))
        .boxed();
    if options.format == ReplyFormat::EventStream {
        let encoder = NativeEncoder {
            request: RequestId::of(request),
            turn: id,
            conversation: Some(turn.conversation),
        };
        let opening = events::opening(&turn);
        return Ok(sse::stream(state, encoder, Some(opening), events));
    }
    let (turn, items) = timeout(state.limits.reply_time, ended_turn(state, events))
        .await
        .map_err(|_| ApiError::from(Code::ReplyTimeout))??;
    reply::answer(state, owner, options.scope, turn, items).await
}

/// Waits for the end of a turn.
async fn ended_turn(
    state: &AppState,
    mut events: TurnStream,
) -> Result<(Turn, Vec<Item>), ApiError> {
    let mut items = Vec::new();
    loop {
        let next = tokio::select! {
            // Known events go first: a client that has waited for the end of a turn gets it, even
            // from a server that shuts down.
            biased;
            next = events.next() => next,
            () = state.shutdown.cancelled() => return Err(Code::ShuttingDown.into()),
        };
        match next {
            Some(Ok((_, TurnEvent::Item(item)))) => items.push(item),
            Some(Ok((_, TurnEvent::Ended(turn)))) => return Ok((turn, items)),
            Some(Ok((_, TurnEvent::Text { .. } | TurnEvent::Discarded { .. }))) => {}
            Some(Err(error)) => return Err(into_logged_problem(error).into()),
            None => return Err(Code::Internal.into()),
        }
    }
}
