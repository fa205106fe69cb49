//! The ChatKit protocol: one route for all requests, here and below a user's path.

pub(crate) mod example;
mod stream;

use actix_web::http::header::HeaderName;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use chat_domain::UserId;
use chat_protocol::chatkit::items::{Empty, Page, Thread, ThreadItem};
use chat_protocol::chatkit::pages::Items;
use chat_protocol::chatkit::request::{self, Request, UnaryRequest};
use utoipa::ToSchema;

use crate::http::Caller;
use crate::http::body::read_json;
use crate::http::parameters;
use crate::problem::ApiError;
use crate::state::AppState;

/// Names the frame that ChatKit's front end runs in. The same for all its requests, for as long as
/// its page is open.
pub(crate) const FRAME: HeaderName = HeaderName::from_static("chatkit-frame-instance-id");

/// Whether a path is one of this protocol.
pub(crate) fn is_route(path: &str) -> bool {
    path == "/chatkit" || (path.starts_with("/api/") && path.ends_with("/chatkit"))
}

// For the API's description; `chat_protocol::chatkit::request` reads it.
/// A request of the ChatKit protocol.
#[derive(ToSchema)]
#[schema(as = ChatKitRequest, example = json!({"type": "threads.list", "params": {}}))]
#[allow(dead_code, reason = "it describes")]
pub struct ChatKitRequest {
    /// The type of the request, such as `threads.create`.
    #[schema(rename = "type")]
    kind: String,
    /// The parameters of the request.
    params: serde_json::Value,
}

/// Speak ChatKit
///
/// The one route of the ChatKit protocol (`openai-chatkit` 1.6), for the user whose token it is.
/// Requests that begin or go on with an answer are answered with a stream of ChatKit's events, all
/// others with one object. A client that closes a stream stops its answer.
#[utoipa::path(
    post,
    operation_id = "chatkit",
    path = "/chatkit",
    tag = "chatkit",
    params(
        ("chatkit-frame-instance-id" = Option<String>, Header, description = "Sent by ChatKit's front end. A request that is repeated with the same value before its answer began is recognised."),
        ("Idempotency-Key" = Option<String>, Header, description = "Recognises a repetition: the same key with the same body gives the same answer. 1 to 255 printable ASCII characters, with or without quotes."),
    ),
    request_body = ChatKitRequest,
    responses((status = 200, description = "The object that was asked for, or the events of an answer.", content(
        (serde_json::Value = "application/json"),
        (String = "text/event-stream"),
    )))
)]
pub async fn post(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let chosen = parameters::idempotency_key(&request)?;
    let body = read_json(&request, payload, &state).await?;
    let asked = request::read(&body)?;
    match asked {
        Request::Unary(asked) => answer(&state, caller.0, asked).await,
        Request::Stream(asked) => {
            stream::answer(&state, caller.0, asked, key(&request, chosen, &body)).await
        }
    }
}

/// Speak ChatKit below a user's path
///
/// The same as `POST /chatkit`.
#[utoipa::path(
    post,
    operation_id = "chatkitOfUser",
    path = "/api/{user_id}/chatkit",
    tag = "chatkit",
    params(
        ("chatkit-frame-instance-id" = Option<String>, Header, description = "Sent by ChatKit's front end. A request that is repeated with the same value before its answer began is recognised."),
        ("Idempotency-Key" = Option<String>, Header, description = "Recognises a repetition: the same key with the same body gives the same answer. 1 to 255 printable ASCII characters, with or without quotes."),
    ),
    request_body = ChatKitRequest,
    responses((status = 200, description = "The object that was asked for, or the events of an answer.", content(
        (serde_json::Value = "application/json"),
        (String = "text/event-stream"),
    )))
)]
pub async fn post_of_user(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    post(state, caller, request, payload).await
}

/// The key of a request: the one that the client chose, or that of the front end's frame, which
/// repeats what was not answered.
fn key(request: &HttpRequest, chosen: Option<String>, body: &Bytes) -> stream::Key {
    let frame = request
        .headers()
        .get(FRAME)
        .filter(|frame| !frame.is_empty());
    match (chosen, frame) {
        (Some(chosen), _) => stream::Key::Chosen(request::chosen(chosen, body)),
        (None, Some(frame)) => stream::Key::OfFrame(request::repetition(frame.as_bytes(), body)),
        (None, None) => stream::Key::None,
    }
}

async fn answer(
    state: &AppState,
    owner: UserId,
    asked: UnaryRequest,
) -> Result<HttpResponse, ApiError> {
    let mut answer = HttpResponse::Ok();
    Ok(match asked {
        UnaryRequest::Get(id) => {
            let wanted = Items::first(id);
            let reader = owner.clone();
            let conversation = state
                .call(move |service| async move { service.conversation(&reader, id).await })
                .await?;
            let items = items(state, owner, wanted).await?;
            answer.json(Thread::new(&conversation, items))
        }
        UnaryRequest::List(wanted) => {
            let found =
                state
                    .call(move |service| async move {
                        service.conversations(&owner, wanted.page()).await
                    })
                    .await?;
            answer.json(wanted.encode(&found))
        }
        UnaryRequest::Items(wanted) => answer.json(items(state, owner, wanted).await?),
        UnaryRequest::Feedback {
            thread,
            messages,
            feedback,
        } => {
            state
                .call(move |service| async move {
                    service
                        .set_feedback(&owner, thread, messages, feedback)
                        .await
                })
                .await?;
            answer.json(Empty {})
        }
        UnaryRequest::Rename { thread, title } => {
            let renamed = state
                .call(move |service| async move { service.rename(&owner, thread, &title).await })
                .await?;
            answer.json(Thread::from(&renamed))
        }
        UnaryRequest::Delete(id) => {
            state
                .call(move |service| async move { service.delete(&owner, id).await })
                .await?;
            answer.json(Empty {})
        }
    })
}

async fn items(
    state: &AppState,
    owner: UserId,
    wanted: Items,
) -> Result<Page<ThreadItem>, ApiError> {
    let found = state
        .call(move |service| async move {
            let of = match wanted.after {
                Some(after) => Some(
                    service
                        .turn_of_message(&owner, wanted.conversation, after.message)
                        .await?,
                ),
                None => None,
            };
            let page = wanted.page(of.as_ref());
            service.turns(&owner, wanted.conversation, page).await
        })
        .await?;
    Ok(wanted.encode(&found))
}
