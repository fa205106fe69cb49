//! Common to every request and every response: an id, a span in the log, headers, and problems
//! instead of bare errors.

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
use chat_protocol::{Code, Problem};
use futures_util::FutureExt;
use tracing::Instrument;
use uuid::Uuid;

use crate::http::RequestId;
use crate::http::response_body::{self, MemoryExceeded, ReservedBody};
use crate::http::routes::{ErrorFormat, error_format};
use crate::http::unread_body::UnreadBody;
use crate::memory::MemoryLimit;
use crate::problem::ApiError;
use crate::state::AppState;

/// The largest headers of a request together, in bytes. (actix-web itself rejects headers from
/// 128 KiB on, before there is a request to answer.)
const HEADER_BYTES: usize = 16 << 10;

fn header_bytes(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len())
        .sum()
}

/// The outermost middleware.
///
/// # Errors
/// Only an error with a complete response: a panic of an inner layer becomes [`Code::Internal`].
pub async fn envelope(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let id = Uuid::now_v7();
    let unread = UnreadBody::share(&mut request);
    let memory = request
        .app_data::<web::Data<AppState>>()
        .map(|state| state.memory.clone());
    request.extensions_mut().insert(RequestId(id));
    let span = tracing::info_span!(
        "request",
        request_id = %id,
        method = %request.method(),
        path = request.path()
    );
    let response = async {
        let started = Instant::now();
        let has_large_headers = header_bytes(request.headers()) > HEADER_BYTES;
        let inner = async {
            if has_large_headers {
                return Ok(request.error_response(ApiError(Problem::limit_exceeded(
                    Code::HeadersTooLarge,
                    HEADER_BYTES,
                ))));
            }
            next.call(request)
                .await
                .map(ServiceResponse::map_into_boxed_body)
        };
        let response = match AssertUnwindSafe(inner).catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(error_with_response(api_error(&error), id)),
            Err(_) => return Err(error_with_response(Code::Internal.into(), id)),
        };
        let response = reserve_memory(encode_error(response, id), id, &memory).map_body(
            |_, body| match unread {
                Some(unread) => unread.attach_to(body),
                None => body,
            },
        );
        let elapsed_ms = started.elapsed().as_micros() as f64 / 1_000.0;
        tracing::info!(status = response.status().as_u16(), elapsed_ms, "answered");
        Ok(response)
    };
    response.instrument(span).await
}

/// Encodes the error of a response as a problem with the request's id, and adds the headers that
/// all responses have.
fn encode_error(response: ServiceResponse<BoxBody>, id: Uuid) -> ServiceResponse<BoxBody> {
    let status = response.status();
    let error = match response.response().error() {
        Some(error) => Some(api_error(error)),
        None if status.is_client_error() || status.is_server_error() => {
            Some(error_of_status(status, None))
        }
        None => None,
    };
    let (request, mut response) = response.into_parts();
    if let Some(mut error) = error {
        if error_format(&request) == ErrorFormat::ChatKit {
            error.0.members.message = Some(error.0.detail());
        }
        let plain = std::mem::replace(&mut response, error.response(Some(id)));
        for (name, value) in plain.headers().iter().filter(|(name, _)| is_kept(name)) {
            response.headers_mut().append(name.clone(), value.clone());
        }
    }
    add_headers(&mut response, id);
    ServiceResponse::new(request, response)
}

/// Reserves the memory that the response holds until it is read. Refuses the request if the limit
/// would be exceeded.
fn reserve_memory(
    response: ServiceResponse<BoxBody>,
    id: Uuid,
    memory: &Option<MemoryLimit>,
) -> ServiceResponse<BoxBody> {
    let (request, mut response) = response.into_parts();
    let reserved = memory.as_ref().map_or(Ok(None), |memory| {
        response_body::reserve(&mut response, memory)
    });
    let reservation = reserved.unwrap_or_else(|MemoryExceeded| {
        tracing::warn!("memory limit for bodies and replies reached, reply not sent");
        response = ApiError::from(Code::ServerOverloaded).response(Some(id));
        add_headers(&mut response, id);
        None
    });
    if request.version() < Version::HTTP_11 && response.body().size() == BodySize::Stream {
        // RFC 9112 §6.1: HTTP/1.0 has no chunks; the body ends where the connection does.
        let head = response.head_mut();
        head.no_chunking(true);
        head.set_connection_type(ConnectionType::Close);
    }
    ServiceResponse::new(request, response)
        .map_body(|_, body| BoxBody::new(ReservedBody::new(body, reservation)))
}

/// Whether a header of an error's own response is kept. Without the headers of CORS no page of
/// another origin could read the problem.
fn is_kept(name: &HeaderName) -> bool {
    [header::ALLOW, header::WWW_AUTHENTICATE, header::VARY].contains(name)
        || name.as_str().starts_with("access-control-")
}

/// An error with its complete response, for a request that is consumed.
fn error_with_response(error: ApiError, id: Uuid) -> Error {
    let mut response = error.response(Some(id));
    add_headers(&mut response, id);
    InternalError::from_response(error, response).into()
}

fn api_error(error: &Error) -> ApiError {
    match error.as_error::<ApiError>() {
        Some(error) => error.clone(),
        None => error_of_status(error.as_response_error().status_code(), Some(error)),
    }
}

/// The problem of actix-web's own error.
fn error_of_status(status: StatusCode, error: Option<&Error>) -> ApiError {
    if status == StatusCode::NOT_ACCEPTABLE {
        // From the compression middleware; our own routes return an `ApiError`.
        return Problem::new(
            Code::NotAcceptable,
            "`Accept-Encoding` excludes every encoding that this server has",
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
        tracing::error!(%error, "internal error in a request");
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
