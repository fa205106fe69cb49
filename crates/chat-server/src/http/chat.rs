//! Sending a message.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use chat_domain::ChatService;
use chat_protocol::native::reply::ChatReply;
use chat_protocol::native::request::{self, ChatRequest};

use crate::http::Caller;
use crate::http::accept::{self, ReplyFormat};
use crate::http::answer::{ReplyOptions, answer};
use crate::http::body::read_json;
use crate::http::parameters;
use crate::problem::ApiError;
use crate::state::AppState;

/// Send a message
///
/// Stores the message and runs its turn. Answers with the whole reply when the turn has ended, or,
/// with `Accept: text/event-stream`, with events as they come (described at `GET
/// …/turns/{turn_id}/events`; the first event is `turn`). The turn continues if the client
/// disconnects. If the turn fails, the message is stored, and the problem has `conversation_id` and
/// `turn_id`.
#[utoipa::path(
    post,
    operation_id = "sendMessage",
    path = "/api/{user_id}/chat",
    tag = "chat",
    params(
        (
            "busy" = Option<String>, Query,
            description = "The policy if a turn of the conversation is running: `enqueue` (default) \
                queues the message; `reject` rejects it; `interrupt` cancels the running and all \
                queued turns.",
        ),
        (
            "messages" = Option<String>, Query,
            description = "The messages in the reply: `all` (default) of the conversation up to this \
                turn, or of this `turn` only.",
        ),
        (
            "Idempotency-Key" = Option<String>, Header,
            description = "Identifies a repeated request: the same key with the same body returns \
                the same turn. 1 to 255 printable ASCII characters, with or without quotes.",
        ),
    ),
    request_body = ChatRequest,
    responses((
        status = 200,
        description = "The reply of a completed or cancelled turn, or the events of the turn.",
        content(
            (ChatReply = "application/json"),
            (String = "text/event-stream"),
        ),
    ))
)]
pub async fn post(
    state: web::Data<AppState>,
    Caller(owner): Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let format = accept::choose(&request, &[ReplyFormat::Json, ReplyFormat::EventStream])?;
    let query = parameters::query(&request);
    let (busy, scope) = (query.busy()?, query.reply_scope()?);
    let key = parameters::idempotency_key(&request)?;
    let body = read_json(&request, payload, &state).await?;
    let command = request::start_turn(owner.clone(), &body, busy, key)?;
    let start = |service: Arc<ChatService>| async move { service.start_turn(command).await };
    let options = ReplyOptions { format, scope };
    answer(&state, &request, owner, options, start).await
}
