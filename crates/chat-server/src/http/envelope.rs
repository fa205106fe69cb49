//! Common to every request and every answer: an id, a span in the log, headers, and
//! problems instead of bare errors.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use actix_http::ConnectionType;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{StatusCode, Version};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpResponse, web};
use chat_protocol::problem::{Code, Problem};
use futures_util::FutureExt;
use tracing::Instrument;
use uuid::Uuid;

use crate::http::held::{self, Held};
use crate::http::{chatkit, unread};
use crate::memory::MemoryLimit;
use crate::problem::ApiError;
use crate::state::AppState;

/// The id of a request: in its log lines, in `X-Request-Id` and in the `instance` of a problem.
#[derive(Clone, Copy, Debug)]
pub struct RequestId(pub Uuid);

/// The largest headers taken, all together, in bytes. (actix-web itself refuses from 128 KiB,
/// before there is a request to answer.)
const HEADER_BYTES: usize = 16 << 10;

fn header_bytes(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len())
        .sum()
}

/// The outermost layer.
///
/// # Errors
/// A panic below becomes [`Code::Internal`]; every other error becomes an answer.
pub async fn envelope(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let id = Uuid::now_v7();
    let unread = unread::keep(&mut request);
    let memory = request
        .app_data::<web::Data<AppState>>()
        .map(|state| state.memory.clone());
    request.extensions_mut().insert(RequestId(id));
    let span = tracing::info_span!("request", request_id = %id, method = %request.method(), path = request.path());
    let answer = async {
        let begun = Instant::now();
        let too_large = header_bytes(request.headers()) > HEADER_BYTES;
        let below = async {
            if too_large {
                return Ok(request
                    .error_response(ApiError(Problem::over(Code::HeadersTooLarge, HEADER_BYTES))));
            }
            next.call(request)
                .await
                .map(ServiceResponse::map_into_boxed_body)
        };
        let answer = AssertUnwindSafe(below).catch_unwind().await;
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(enclosed(refusal_of(&error), id)),
            Err(_) => return Err(enclosed(Code::Internal.into(), id)),
        };
        let answer =
            sent_in_pieces(as_problem(answer, id), id, &memory).map_body(|_, body| match unread {
                Some(unread) => unread.with(body),
                None => body,
            });
        let took_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        tracing::info!(status = answer.status().as_u16(), took_us, "answered");
        Ok(answer)
    };
    answer.instrument(span).await
}

/// Turns the error of an answer into a problem that carries the request's id, and adds the headers
/// that all answers have.
fn as_problem(answer: ServiceResponse<BoxBody>, id: Uuid) -> ServiceResponse<BoxBody> {
    let status = answer.status();
    let refusal = match answer.response().error() {
        Some(error) => Some(refusal_of(error)),
        None if status.is_client_error() || status.is_server_error() => Some(foreign(status, None)),
        None => None,
    };
    let (request, mut response) = answer.into_parts();
    if let Some(mut refusal) = refusal {
        if chatkit::is_route(request.path()) {
            // Where its front end looks for what to show.
            refusal.0.members.message = Some(refusal.0.detail());
        }
        let plain = std::mem::replace(&mut response, refusal.response(Some(id)));
        for (name, value) in plain.headers().iter().filter(|(name, _)| is_kept(name)) {
            response.headers_mut().append(name.clone(), value.clone());
        }
    }
    add_headers(&mut response, id);
    ServiceResponse::new(request, response)
}

/// Counts the memory that the answer holds until it is read, and shapes its body for its client.
fn sent_in_pieces(
    answer: ServiceResponse<BoxBody>,
    id: Uuid,
    memory: &Option<MemoryLimit>,
) -> ServiceResponse<BoxBody> {
    let (request, mut response) = answer.into_parts();
    let counted = memory
        .as_ref()
        .map_or(Ok(None), |memory| held::count(&mut response, memory));
    let reservation = counted.unwrap_or_else(|held::Exceeded| {
        tracing::warn!(
            "the memory limit for bodies and replies is reached; the answer is not sent"
        );
        response = ApiError::from(Code::ServerOverloaded).response(Some(id));
        add_headers(&mut response, id);
        None
    });
    if request.version() < Version::HTTP_11 && response.body().size() == BodySize::Stream {
        // RFC 9112 §6.1: no chunks for such a client; the body ends where the connection does.
        let head = response.head_mut();
        head.no_chunking(true);
        head.set_connection_type(ConnectionType::Close);
    }
    ServiceResponse::new(request, response)
        .map_body(|_, body| BoxBody::new(Held::new(body, reservation)))
}

/// The headers of an error's own answer. Without the headers of CORS no page of another
/// origin could read the problem.
fn is_kept(name: &HeaderName) -> bool {
    [header::ALLOW, header::WWW_AUTHENTICATE, header::VARY].contains(name)
        || name.as_str().starts_with("access-control-")
}

/// An error that has no request to answer any more, with its whole answer.
fn enclosed(refusal: ApiError, id: Uuid) -> Error {
    let mut response = refusal.response(Some(id));
    add_headers(&mut response, id);
    InternalError::from_response(refusal, response).into()
}

fn refusal_of(error: &Error) -> ApiError {
    match error.as_error::<ApiError>() {
        Some(refusal) => refusal.clone(),
        None => foreign(error.as_response_error().status_code(), Some(error)),
    }
}

/// A problem for an error of actix-web's own.
fn foreign(status: StatusCode, error: Option<&Error>) -> ApiError {
    if status == StatusCode::NOT_ACCEPTABLE {
        // Of the compression; our own routes refuse for themselves.
        return Problem::new(
            Code::NotAcceptable,
            "`Accept-Encoding` names no encoding that this server has, and refuses none at all",
        )
        .into();
    }
    let code = match status {
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
        StatusCode::PAYLOAD_TOO_LARGE => Code::BodyTooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType,
        StatusCode::REQUEST_TIMEOUT => Code::BodyTimeout,
        status if status.is_client_error() => Code::InvalidRequest,
        _ => Code::Internal,
    };
    if let (Code::Internal, Some(error)) = (code, error) {
        tracing::error!(cause = %error, "fault in a request");
    }
    code.into()
}

fn add_headers(response: &mut HttpResponse, id: Uuid) {
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
