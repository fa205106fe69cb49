//! Problems as responses of actix-web.

use std::fmt;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use chat_domain::{ConversationId, TurnId};
use chat_protocol::{Code, Problem};
use uuid::Uuid;

/// A refusal or failure as a response.
#[derive(Clone, Debug)]
pub struct ApiError(pub Problem);

impl ApiError {
    /// Adds the turn and its conversation.
    #[must_use]
    pub fn in_turn(self, conversation: ConversationId, turn: TurnId) -> Self {
        Self(self.0.in_turn(conversation, turn))
    }

    /// The response, with the request's id unless the problem has another one.
    pub fn response(&self, request: Option<Uuid>) -> HttpResponse {
        let mut problem = self.0.clone();
        problem.instance = problem.instance.or(request);
        let row = problem.code.row();
        let mut response = HttpResponse::build(self.status_code());
        if let Some(seconds) = row.retry_after {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        // The rest of the body is not read, or the server accepts no more requests.
        if matches!(
            problem.code,
            Code::BodyTooLarge | Code::BodyTimeout | Code::ServerOverloaded | Code::ShuttingDown
        ) {
            response.force_close();
        }
        response.content_type(Problem::MEDIA_TYPE);
        match serde_json::to_vec(&problem.body()) {
            Ok(json) => response.body(json),
            Err(_) => response.finish(),
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.detail())
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.0.code.row().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        self.response(None)
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<Code> for ApiError {
    fn from(code: Code) -> Self {
        Self(code.into())
    }
}
