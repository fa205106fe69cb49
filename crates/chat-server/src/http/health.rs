//! Liveness and readiness.

use std::sync::atomic::Ordering;

use actix_web::{HttpResponse, web};
use chat_protocol::Code;
use serde::Serialize;
use utoipa::ToSchema;

use crate::logging;
use crate::problem::ApiError;
use crate::state::AppState;

/// The state of a healthy server.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: &'static str,
    /// The number of log lines that could not be written since the server started; absent if 0.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    pub lost_log_lines: u64,
}

impl Health {
    fn ok() -> Self {
        Self {
            status: "ok",
            lost_log_lines: logging::lost_lines(),
        }
    }
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Check liveness
#[utoipa::path(
    get,
    operation_id = "getLiveness",
    path = "/health/live",
    tag = "server",
    security(()),
    responses((status = 200, description = "The server answers.", body = Health)),
)]
pub async fn live() -> HttpResponse {
    HttpResponse::Ok().json(Health::ok())
}

/// Check readiness
///
/// The database answers and is up to date, and the server is not shutting down.
#[utoipa::path(
    get,
    operation_id = "getReadiness",
    path = "/health/ready",
    tag = "server",
    security(()),
    responses((status = 200, description = "The server is ready.", body = Health)),
)]
pub async fn ready(state: web::Data<AppState>) -> Result<HttpResponse, ApiError> {
    if state.draining.load(Ordering::Relaxed) {
        return Err(Code::ShuttingDown.into());
    }
    state
        .runner
        .call(|service| async move { service.ready().await })
        .await?;
    Ok(HttpResponse::Ok().json(Health::ok()))
}
