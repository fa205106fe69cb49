//! Authentication of requests.

use std::future::{Ready, ready};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest, web};
use chat_domain::UserId;
use chat_protocol::{Code, Problem};
use serde::Deserialize;

use crate::problem::ApiError;
use crate::state::AppState;

/// The authenticated caller. The path's user, if it names one, is the same.
#[derive(Clone, Debug)]
pub struct Caller(pub UserId);

/// The user in the path.
#[derive(Deserialize)]
pub struct PathUser {
    user_id: String,
}

/// Requires a valid token of the user in the path; answers 401 or 403 to other requests. Runs
/// before the body is read.
///
/// # Errors
/// Those of the inner services.
pub async fn require_path_user(
    state: web::Data<AppState>,
    path: web::Path<PathUser>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let caller = caller(&state, Some(&path.user_id), request.headers());
    admit(caller, request, next).await
}

/// Requires a valid token where the path names no user. The caller is the token's user.
///
/// # Errors
/// Those of the inner services.
pub async fn require_token(
    state: web::Data<AppState>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let caller = caller(&state, None, request.headers());
    admit(caller, request, next).await
}

async fn admit(
    caller: Result<UserId, Problem>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    match caller {
        Ok(user) => {
            request.extensions_mut().insert(Caller(user));
            Ok(next.call(request).await?.map_into_boxed_body())
        }
        Err(problem) => {
            let challenge = challenge(problem.code);
            let mut response = request.error_response(ApiError(problem));
            if let Some(challenge) = challenge {
                response.headers_mut().insert(
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static(challenge),
                );
            }
            Ok(response)
        }
    }
}

fn caller(
    state: &AppState,
    path_user: Option<&str>,
    headers: &HeaderMap,
) -> Result<UserId, Problem> {
    let subject = state.tokens.verify(bearer(headers)?)?;
    let Some(path_user) = path_user else {
        return Ok(subject);
    };
    // actix-web replaces bytes that are not UTF-8 with this character, so that several paths would
    // name one user.
    let is_utf8 = !path_user.contains(char::REPLACEMENT_CHARACTER);
    if is_utf8 && subject.as_str() == path_user {
        Ok(subject)
    } else {
        Err(Code::WrongUser.into())
    }
}

/// The token of the one `Authorization: Bearer` header (RFC 6750 §2.1). The scheme's case does not
/// matter (RFC 9110 §11.1).
fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let missing = |reason| Problem::new(Code::MissingToken, reason);
    let mut values = headers.get_all(header::AUTHORIZATION);
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value
            .to_str()
            .map_err(|_| missing("The header `Authorization` is not text"))?,
        (Some(_), Some(_)) => return Err(missing("Duplicate header `Authorization`")),
        (None, _) => return Err(Code::MissingToken.into()),
    };
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(missing(
            "The scheme of the header `Authorization` is not `Bearer`",
        ));
    }
    match token.trim_matches(' ') {
        "" => Err(missing("The bearer token is empty")),
        token => Ok(token),
    }
}

/// The value of `WWW-Authenticate` (RFC 6750 §3). None if another token of the same user would be
/// refused too.
fn challenge(code: Code) -> Option<&'static str> {
    match code {
        Code::MissingToken => Some("Bearer"),
        Code::InvalidToken => Some(r#"Bearer error="invalid_token""#),
        Code::TokenExpired => {
            Some(r#"Bearer error="invalid_token", error_description="the token has expired""#)
        }
        Code::TokenNotYetValid => {
            Some(r#"Bearer error="invalid_token", error_description="the token is not valid yet""#)
        }
        _ => None,
    }
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(
            request
                .extensions()
                .get::<Self>()
                .cloned()
                .ok_or_else(|| Code::MissingToken.into()),
        )
    }
}
