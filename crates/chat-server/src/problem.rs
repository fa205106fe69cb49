//! Problems as answers of actix-web.

use std::fmt;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use chat_domain::{ChatError, ConversationId, StoreError, TurnId};
use chat_protocol::problem::{Code, Problem};
use uuid::Uuid;

use crate::observer::chain;
use crate::tasks::TaskFault;

/// A refusal or failure on its way to the client.
#[derive(Clone, Debug)]
pub struct ApiError(pub Problem);

impl ApiError {
    /// The same, with the turn and its conversation.
    #[must_use]
    pub fn in_turn(self, conversation: ConversationId, turn: TurnId) -> Self {
        Self(self.0.in_turn(conversation, turn))
    }

    /// The answer, under the request's id.
    pub fn response(&self, request: Option<Uuid>) -> HttpResponse {
        let mut problem = self.0.clone();
        problem.instance = problem.instance.or(request);
        let row = problem.code.row();
        let mut response = HttpResponse::build(self.status_code());
        if let Some(seconds) = row.retry_after {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        // The rest of the body is not read, or the server takes no more requests.
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

/// Clients get no more than the code; the causes go to the log, under the id of the request.
impl From<ChatError> for ApiError {
    fn from(error: ChatError) -> Self {
        match &error {
            ChatError::Store(StoreError::Unavailable(why, cause)) => {
                tracing::warn!(?why, cause = chain(&**cause), "the store is unavailable");
            }
            ChatError::Store(fault) => tracing::error!(cause = chain(fault), "fault in the store"),
            _ => {}
        }
        Self(Problem::from(&error))
    }
}

impl From<TaskFault> for ApiError {
    fn from(fault: TaskFault) -> Self {
        tracing::error!(cause = %fault, "fault in a request");
        Code::Internal.into()
    }
}

/// The same error, for a client whose request has begun the turn: the turn disappears only with its
/// conversation.
pub fn of_new_turn(error: ChatError) -> ChatError {
    match error {
        ChatError::TurnNotFound => ChatError::ConversationNotFound,
        error => error,
    }
}
