//! The id of a request.

use actix_web::{HttpMessage, HttpRequest};
use uuid::Uuid;

/// The id of a request: in its log lines, in `X-Request-Id` and in the `instance` of a problem.
#[derive(Clone, Copy, Debug)]
pub struct RequestId(pub Uuid);

impl RequestId {
    /// The id of this request.
    pub fn of(request: &HttpRequest) -> Option<Uuid> {
        request.extensions().get::<Self>().map(|id| id.0)
    }
}
