//! Whether the server lives and can serve.

use std::sync::atomic::Ordering;

use actix_web::{HttpResponse, web};
use chat_protocol::problem::Code;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::AppState;
use crate::problem::Refusal;

/// The server is well.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: &'static str,
}

/// Whether the server lives
#[utoipa::path(get, operation_id = "getLiveness", path = "/health/live", tag = "server", security(()), responses((status = 200, description = "It lives.", body = Health)))]
pub async fn live() -> HttpResponse {
    HttpResponse::Ok().json(Health { status: "ok" })
}

/// Whether the server can serve
///
/// The database answers and is up to date, and the server is not shutting down.
#[utoipa::path(get, operation_id = "getReadiness", path = "/health/ready", tag = "server", security(()), responses((status = 200, description = "It can.", body = Health)))]
pub async fn ready(state: web::Data<AppState>) -> Result<HttpResponse, Refusal> {
    if state.draining.load(Ordering::Relaxed) {
        return Err(Code::ShuttingDown.into());
    }
    state.call(|service| async move { service.ready().await }).await?;
    Ok(HttpResponse::Ok().json(Health { status: "ok" }))
}
