//! Reads request bodies, within limits on type, size and time.

use actix_web::error::PayloadError;
use actix_web::http::header;
use actix_web::mime::{self, Mime};
use actix_web::{HttpMessage, HttpRequest, web};
use bytes::{Bytes, BytesMut};
use chat_protocol::{Code, Problem};
use futures_util::StreamExt;

use crate::state::AppState;

/// The JSON text in the body of a request.
///
/// # Errors
/// `unsupported_media_type`, `body_too_large`, `body_timeout`, `server_overloaded`; `invalid_json`
/// if the body is empty or truncated.
pub async fn read_json(
    request: &HttpRequest,
    payload: web::Payload,
    state: &AppState,
) -> Result<Bytes, Problem> {
    let headers = request.headers();
    let encoded = headers
        .get_all(header::CONTENT_ENCODING)
        .any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"));
    let types = headers.get_all(header::CONTENT_TYPE).count();
    let is_json = types == 1
        && request
            .mime_type()
            .ok()
            .flatten()
            .is_some_and(|mime| is_json(&mime));
    if encoded || (types > 0 && !is_json) {
        return Err(Code::UnsupportedMediaType.into());
    }
    let body = tokio::time::timeout(state.limits.body_time, read(request, payload, state)).await;
    let body = body.map_err(|_| Problem::from(Code::BodyTimeout))??;
    match (body.is_empty(), is_json) {
        (true, _) => Err(Problem::new(Code::InvalidJson, "The request has no body")),
        (false, true) => Ok(body),
        (false, false) => Err(Code::UnsupportedMediaType.into()),
    }
}

/// Whether a type is JSON. RFC 8259 §8.1 and §11: JSON is UTF-8 and needs no `charset`; another
/// `charset` is rejected.
fn is_json(mime: &Mime) -> bool {
    let charset = mime.get_param(mime::CHARSET);
    mime.essence_str() == "application/json"
        && charset.is_none_or(|charset| charset.as_str().eq_ignore_ascii_case("utf-8"))
}

async fn read(
    request: &HttpRequest,
    mut payload: web::Payload,
    state: &AppState,
) -> Result<Bytes, Problem> {
    let limit = state.limits.body_bytes;
    let too_large = || Problem::limit_exceeded(Code::BodyTooLarge, limit);
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut body = BytesMut::new();
    let mut reservation = state.memory.reserve(0).ok_or(Code::ServerOverloaded)?;
    // The HTTP library ignores the length of a body if the request asks for WebSocket.
    while announced.is_none_or(|length| body.len() < length) {
        let Some(chunk) = payload.next().await else {
            break;
        };
        let chunk = chunk.map_err(|error| match error {
            PayloadError::Overflow => too_large(),
            _ => truncated(),
        })?;
        if body.len() + chunk.len() > limit {
            return Err(too_large());
        }
        if !reservation.grow(chunk.len()) {
            return Err(Code::ServerOverloaded.into());
        }
        body.extend_from_slice(&chunk);
    }
    match announced {
        Some(length) if body.len() < length => Err(truncated()),
        Some(length) => Ok(body.freeze().slice(..length)),
        None => Ok(body.freeze()),
    }
}

fn truncated() -> Problem {
    Problem::new(Code::InvalidJson, "The body is truncated")
}
