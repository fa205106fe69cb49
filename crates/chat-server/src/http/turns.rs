//! A turn: its status, its events, its cancellation, its retry.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use chat_domain::{ChatService, Cursor};
use chat_protocol::native::TurnDetailObject;
use chat_protocol::native::TurnObject;
use chat_protocol::native::events::opening;
use chat_protocol::native::reply::ChatReply;
use chat_protocol::native::request;

use crate::http::accept::{self, ReplyFormat};
use crate::http::answer::{ReplyOptions, answer};
use crate::http::sse::{self, NativeEncoder};
use crate::http::{Caller, RequestId, parameters};
use crate::problem::ApiError;
use crate::state::AppState;

/// Get a turn
///
/// The turn in the database: its status, its messages with their tool calls, and the draft of the
/// answer.
#[utoipa::path(
    get,
    operation_id = "getTurn",
    path = "/api/{user_id}/turns/{turn_id}",
    tag = "turns",
    responses((status = 200, description = "The turn.", body = TurnDetailObject))
)]
pub async fn get(
    state: web::Data<AppState>,
    Caller(owner): Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let turn = parameters::turn(&request)?;
    let view = state
        .runner
        .call(move |service| async move { service.turn(&owner, turn).await })
        .await?;
    Ok(HttpResponse::Ok().json(TurnDetailObject::from(view)))
}

/// Read a turn's events
///
/// Streams the events from the start, or after the cursor in `Last-Event-ID` or `after`, until the
/// turn's end. The turn may run on any server, or have ended long ago. The `id` of each event is a
/// cursor: the events up to it and the events after it are together what an uninterrupted reader
/// gets.
///
/// Events: `turn` (`StateEvent`; only when reading from the start; without id), `message`
/// (`MessageEvent`), `text` (`TextEvent`), `discarded` (`DiscardedEvent`), `tool_call`
/// (`ToolCallEvent`), `tool_result` (`ToolResultEvent`), and last `done` (`DoneEvent`) or `error`
/// (a `Problem`). An `error` without id is an error of reading, not of the turn: resume from the
/// last id. A comment is sent every 15 seconds while there are no events.
#[utoipa::path(
    get,
    operation_id = "readTurnEvents",
    path = "/api/{user_id}/turns/{turn_id}/events",
    tag = "turns",
    params(
        (
            "Last-Event-ID" = Option<String>, Header,
            description = "The id of the last event that was read.",
        ),
        (
            "after" = Option<String>, Query,
            description = "The same for clients that cannot set the header, which takes precedence.",
        ),
    ),
    responses(
        (status = 200, description = "The events.", content((String = "text/event-stream"))),
        (status = 204, description = "The client has read the end of the turn."),
    )
)]
pub async fn events(
    state: web::Data<AppState>,
    Caller(owner): Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let id = parameters::turn(&request)?;
    let cursor = parameters::resume(&request, id)?;
    let watched = state.runner.call(move |service| async move {
        // A client that resumes knows the turn.
        let turn = if cursor.is_none() {
            Some(service.turn(&owner, id).await?.turn)
        } else {
            None
        };
        Ok((
            turn,
            service
                .watch_turn(&owner, id, cursor.unwrap_or(Cursor::START))
                .await?,
        ))
    });
    let (turn, events) = watched.await?;
    if cursor.is_some_and(|cursor| cursor.ended) {
        return Ok(HttpResponse::new(StatusCode::NO_CONTENT));
    }
    let opening = turn.as_ref().map(opening);
    let encoder = NativeEncoder {
        request: RequestId::of(&request),
        turn: id,
        conversation: turn.map(|turn| turn.conversation),
    };
    Ok(sse::stream(&state, encoder, opening, events))
}

/// Cancel a turn
///
/// Requests the cancellation and returns the turn at that moment: a `running` turn ends soon, a
/// `queued` turn ends when it would start, an ended turn does not change. Messages and tool calls
/// so far are kept.
#[utoipa::path(
    post,
    operation_id = "cancelTurn",
    path = "/api/{user_id}/turns/{turn_id}/cancel",
    tag = "turns",
    responses((
        status = 200,
        description = "The turn when its cancellation was requested.",
        body = TurnObject,
    ))
)]
pub async fn cancel(
    state: web::Data<AppState>,
    Caller(owner): Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let turn = parameters::turn(&request)?;
    let observed = state
        .runner
        .call(move |service| async move { service.cancel_turn(&owner, turn).await })
        .await?;
    Ok(HttpResponse::Ok().json(TurnObject::from(&observed)))
}

/// Retry a turn
///
/// Starts a new turn from the same user message and answers as sending a message does. When the new
/// turn starts to run, it supersedes the old turn and all turns after it: they stay in the log,
/// marked, but not in the agent's context and the default view.
#[utoipa::path(
    post,
    operation_id = "retryTurn",
    path = "/api/{user_id}/turns/{turn_id}/retry",
    tag = "turns",
    params(
        (
            "busy" = Option<String>, Query,
            description = "The policy if a turn of the conversation is running: `enqueue` \
                (default), `reject` or `interrupt`.",
        ),
        (
            "messages" = Option<String>, Query,
            description = "The messages in the reply: `all` (default) of the conversation up to this \
                turn, or of this `turn` only.",
        ),
        (
            "Idempotency-Key" = Option<String>, Header,
            description = "Identifies a repeated request: the same key for the same turn returns the same \
                new turn. 1 to 255 printable ASCII characters, with or without quotes.",
        ),
    ),
    responses((
        status = 200,
        description = "The reply of a completed or cancelled turn, or the events of the new turn.",
        content(
            (ChatReply = "application/json"),
            (String = "text/event-stream"),
        ),
    ))
)]
pub async fn retry(
    state: web::Data<AppState>,
    Caller(owner): Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let format = accept::choose(&request, &[ReplyFormat::Json, ReplyFormat::EventStream])?;
    let turn = parameters::turn(&request)?;
    let query = parameters::query(&request);
    let (busy, scope) = (query.busy()?, query.reply_scope()?);
    let command = request::retry_turn(
        owner.clone(),
        turn,
        busy,
        parameters::idempotency_key(&request)?,
    );
    let start = |service: Arc<ChatService>| async move { service.retry_turn(command).await };
    let options = ReplyOptions { format, scope };
    answer(&state, &request, owner, options, start).await
}
