//! The ChatKit protocol: one route for all requests, with and without the user in its path.

pub(crate) mod example;

use actix_web::http::header::HeaderName;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use chat_domain::UserId;
use chat_protocol::chatkit::ItemPageRequest;
use chat_protocol::chatkit::request::{self, Request, UnaryRequest};
use chat_protocol::chatkit::{Empty, Page, Thread, ThreadItem};
use utoipa::ToSchema;

use crate::chatkit_streams::{ChatKitStreams, RequestKey};
use crate::http::Caller;
use crate::http::body::read_json;
use crate::http::{parameters, sse};
use crate::problem::ApiError;
use crate::state::AppState;

/// The id of the frame that ChatKit's front end runs in: the same for all requests of a page, until
/// the page is closed.
pub(crate) const FRAME: HeaderName = HeaderName::from_static("chatkit-frame-instance-id");

// For the API's description; `chat_protocol::chatkit::request` reads the request.
/// A request of the ChatKit protocol.
#[derive(ToSchema)]
#[schema(as = ChatKitRequest, example = json!({"type": "threads.list", "params": {}}))]
#[allow(dead_code, reason = "only its schema is used")]
pub struct ChatKitRequest {
    /// The type of the request, such as `threads.create`.
    #[schema(rename = "type")]
    kind: String,
    /// The parameters of the request.
    params: serde_json::Value,
}

/// Send a ChatKit request
///
/// The only route of the ChatKit protocol (`openai-chatkit` 1.6), for the token's user. Requests
/// that start a turn are answered with a stream of ChatKit's events, all others with one object. A
/// client that closes a stream cancels its turn.
#[utoipa::path(
    post,
    operation_id = "chatkit",
    path = "/chatkit",
    tag = "chatkit",
    params(
        (
            "chatkit-frame-instance-id" = Option<String>, Header,
            description = "Sent by ChatKit's front end. Identifies a repeated request until the \
                first frames of its stream are read.",
        ),
        (
            "Idempotency-Key" = Option<String>, Header,
            description = "Identifies a repeated request: the same key with the same body returns the same \
                answer. 1 to 255 printable ASCII characters, with or without quotes.",
        ),
    ),
    request_body = ChatKitRequest,
    responses((
        status = 200,
        description = "The requested object, or the events of a turn.",
        content(
            (serde_json::Value = "application/json"),
            (String = "text/event-stream"),
        ),
    ))
)]
pub async fn post(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let client_key = parameters::idempotency_key(&request)?;
    let body = read_json(&request, payload, &state).await?;
    match request::read(&body)? {
        Request::Unary(unary) => answer(&state, caller.0, unary).await,
        Request::Stream(streaming) => {
            let streams = ChatKitStreams {
                runner: state.runner.clone(),
                readers: state.readers.clone(),
                settings: state.stream_settings(),
            };
            let key = request_key(&request, client_key, &body);
            let stream = streams.open(caller.0, streaming, key).await?;
            Ok(sse::response(stream))
        }
    }
}

/// Send a ChatKit request below a user's path
///
/// The same as `POST /chatkit`.
#[utoipa::path(
    post,
    operation_id = "chatkitOfUser",
    path = "/api/{user_id}/chatkit",
    tag = "chatkit",
    params(
        (
            "chatkit-frame-instance-id" = Option<String>, Header,
            description = "Sent by ChatKit's front end. Identifies a repeated request until the \
                first frames of its stream are read.",
        ),
        (
            "Idempotency-Key" = Option<String>, Header,
            description = "Identifies a repeated request: the same key with the same body returns the same \
                answer. 1 to 255 printable ASCII characters, with or without quotes.",
        ),
    ),
    request_body = ChatKitRequest,
    responses((
        status = 200,
        description = "The requested object, or the events of a turn.",
        content(
            (serde_json::Value = "application/json"),
            (String = "text/event-stream"),
        ),
    ))
)]
pub async fn post_of_user(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    post(state, caller, request, payload).await
}

/// The key of a request: the client's own key, or one of the front end's frame.
fn request_key(request: &HttpRequest, client_key: Option<String>, body: &Bytes) -> RequestKey {
    let frame = request
        .headers()
        .get(FRAME)
        .filter(|frame| !frame.is_empty());
    match (client_key, frame) {
        (Some(key), _) => RequestKey::Client(request::client_key(key, body)),
        (None, Some(frame)) => RequestKey::Frame(request::frame_key(frame.as_bytes(), body)),
        (None, None) => RequestKey::None,
    }
}

async fn answer(
    state: &AppState,
    owner: UserId,
    request: UnaryRequest,
) -> Result<HttpResponse, ApiError> {
    let mut response = HttpResponse::Ok();
    Ok(match request {
        UnaryRequest::Get(id) => {
            let request = ItemPageRequest::first(id);
            let reader = owner.clone();
            let conversation = state
                .runner
                .call(move |service| async move { service.conversation(&reader, id).await })
                .await?;
            let items = items(state, owner, request).await?;
            response.json(Thread::new(&conversation, items))
        }
        UnaryRequest::List(request) => {
            let found =
                state
                    .runner
                    .call(move |service| async move {
                        service.conversations(&owner, request.page()).await
                    })
                    .await?;
            response.json(request.encode(&found))
        }
        UnaryRequest::Items(request) => response.json(items(state, owner, request).await?),
        UnaryRequest::Feedback {
            thread,
            messages,
            feedback,
        } => {
            state
                .runner
                .call(move |service| async move {
                    service
                        .set_feedback(&owner, thread, messages, feedback)
                        .await
                })
                .await?;
            response.json(Empty {})
        }
        UnaryRequest::Rename { thread, title } => {
            let renamed = state
                .runner
                .call(move |service| async move { service.rename(&owner, thread, &title).await })
                .await?;
            response.json(Thread::from(&renamed))
        }
        UnaryRequest::Delete(id) => {
            state
                .runner
                .call(move |service| async move { service.delete(&owner, id).await })
                .await?;
            response.json(Empty {})
        }
    })
}

async fn items(
    state: &AppState,
    owner: UserId,
    request: ItemPageRequest,
) -> Result<Page<ThreadItem>, ApiError> {
    let found = state
        .runner
        .call(move |service| async move {
            let turn = match request.after {
                Some(after) => Some(
                    service
                        .turn_of_message(&owner, request.conversation, after.message)
                        .await?,
                ),
                None => None,
            };
            let page = request.page(turn.as_ref());
            service.turns(&owner, request.conversation, page).await
        })
        .await?;
    Ok(request.encode(&found))
}
