//! Parameters in the path, the query and the headers of a request.

use actix_web::HttpRequest;
use actix_web::http::header::HeaderName;
use chat_domain::{ConversationId, Cursor, TurnId};
use chat_protocol::native::Query;
use chat_protocol::native::request;
use chat_protocol::{Code, Problem};

/// The parameters of the query.
pub fn query(request: &HttpRequest) -> Query {
    Query::new(request.query_string())
}

/// The conversation in the path.
///
/// # Errors
/// `invalid_request`.
pub fn conversation(request: &HttpRequest) -> Result<ConversationId, Problem> {
    let name = "conversation_id";
    request::path_id(name, request.match_info().query(name)).map(ConversationId)
}

/// The turn in the path.
///
/// # Errors
/// `invalid_request`.
pub fn turn(request: &HttpRequest) -> Result<TurnId, Problem> {
    let name = "turn_id";
    request::path_id(name, request.match_info().query(name)).map(TurnId)
}

/// The idempotency key in the header.
///
/// # Errors
/// `invalid_idempotency_key`.
pub fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let duplicate = || {
        Problem::at_parameter(
            Code::InvalidIdempotencyKey,
            "Idempotency-Key",
            "Duplicate header `Idempotency-Key`",
        )
    };
    single(request, &HeaderName::from_static("idempotency-key"))
        .map_err(|_| duplicate())?
        .map(request::idempotency_key)
        .transpose()
}

/// The cursor of a client that resumes a stream.
///
/// # Errors
/// `invalid_cursor`, `invalid_request`.
pub fn resume(request: &HttpRequest, turn: TurnId) -> Result<Option<Cursor>, Problem> {
    let duplicate = || {
        Problem::at_parameter(
            Code::InvalidCursor,
            "Last-Event-ID",
            "Duplicate header `Last-Event-ID`",
        )
    };
    let last =
        single(request, &HeaderName::from_static("last-event-id")).map_err(|_| duplicate())?;
    request::resume(turn, last, query(request).get("after")?)
}

/// A header that a request has more than once.
struct Duplicate;

fn single<'a>(request: &'a HttpRequest, name: &HeaderName) -> Result<Option<&'a [u8]>, Duplicate> {
    let mut values = request
        .headers()
        .get_all(name)
        .map(|value| value.as_bytes());
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(Duplicate),
    }
}
