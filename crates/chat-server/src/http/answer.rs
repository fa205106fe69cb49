//! Beginning a turn and answering with it: the whole reply at its end, or its events as they come.

use std::sync::Arc;

use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use chat_domain::{
    ChatError, ChatService, Cursor, Item, StartedTurn, Turn, TurnEvent, TurnStream, UserId,
};
use chat_protocol::native::events;
use chat_protocol::native::query::ReplyScope;
use chat_protocol::problem::Code;
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::http::RequestId;
use crate::http::accept::Form;
use crate::http::reply;
use crate::http::sse::{self, Subject};
use crate::problem::{ApiError, of_new_turn};
use crate::state::AppState;

/// How a client wants to be answered.
#[derive(Clone, Copy, Debug)]
pub struct ReplyOptions {
    /// At once or as it comes.
    pub form: Form,
    /// How much of the conversation.
    pub shown: ReplyScope,
}

/// Begins a turn and answers with it. The turn continues if the client does not wait.
///
/// # Errors
/// The errors of `begin`; the problem of a turn that failed; `ReplyTimeout` if a reply would take
/// longer than the limit.
pub async fn answer<F>(
    state: &AppState,
    request: &HttpRequest,
    owner: UserId,
    wanted: ReplyOptions,
    begin: impl FnOnce(Arc<ChatService>) -> F + Send + 'static,
) -> Result<HttpResponse, ApiError>
where
    F: Future<Output = Result<StartedTurn, ChatError>> + Send + 'static,
{
    let tasks = state.tasks.clone();
    let turn = state.call(|service| async move {
        let started = begin(service).await?;
        if let Some(task) = started.task {
            tasks.spawn(task);
        }
        Ok(started.turn)
    });
    let turn = turn.await?;
    let (conversation, id) = (turn.conversation, turn.id);
    follow(state, request, owner, wanted, turn)
        .await
        .map_err(|refusal| match refusal.0.code {
            Code::ConversationNotFound => refusal,
            _ => refusal.in_turn(conversation, id),
        })
}

async fn follow(
    state: &AppState,
    request: &HttpRequest,
    owner: UserId,
    wanted: ReplyOptions,
    turn: Turn,
) -> Result<HttpResponse, ApiError> {
    let (id, reader) = (turn.id, owner.clone());
    let news = state
        .call(move |service| async move {
            service
                .watch_turn(&reader, id, Cursor::START)
                .await
                .map_err(of_new_turn)
        })
        .await?;
    let news = news.map(|event| event.map_err(of_new_turn)).boxed();
    if wanted.form == Form::Events {
        let request = request.extensions().get::<RequestId>().map(|id| id.0);
        let opening = events::opening(&turn);
        return Ok(sse::stream(
            state,
            Subject {
                request,
                turn: id,
                conversation: Some(turn.conversation),
            },
            Some(opening),
            news,
        ));
    }
    let (turn, items) = timeout(state.limits.reply_time, ended(state, news))
        .await
        .map_err(|_| ApiError::from(Code::ReplyTimeout))??;
    reply::answer(state, owner, wanted.shown, turn, items).await
}

/// Waits for the end of a turn.
async fn ended(state: &AppState, mut news: TurnStream) -> Result<(Turn, Vec<Item>), ApiError> {
    let mut items = Vec::new();
    loop {
        let next = tokio::select! {
            // Known events go first: a client that has waited for the end gets it, even from a
            // server that leaves.
            biased;
            next = news.next() => next,
            () = state.leaving.cancelled() => return Err(Code::ShuttingDown.into()),
        };
        match next {
            Some(Ok((_, TurnEvent::Item(item)))) => items.push(item),
            Some(Ok((_, TurnEvent::Ended(turn)))) => return Ok((turn, items)),
            Some(Ok((_, TurnEvent::Text { .. } | TurnEvent::Discarded { .. }))) => {}
            Some(Err(error)) => return Err(error.into()),
            None => return Err(Code::Internal.into()),
        }
    }
}
