//! A page that shows how the official ChatKit component is pointed at this server.

use actix_web::http::header::{self, HeaderName};
use actix_web::{HttpResponse, web};
use chat_protocol::problem::Code;

use crate::app::AppState;
use crate::problem::Refusal;

const PAGE: &str = include_str!("example.html");

/// Where the component comes from. It draws in a frame of the same origin.
const COMPONENT: &str = "https://cdn.platform.openai.com";

/// An example of a ChatKit front end
///
/// A page with OpenAI's ChatKit component, pointed at `POST /chatkit`. Off unless `CHAT_CHATKIT_EXAMPLE` is set: the component comes from OpenAI's
/// network.
#[utoipa::path(
    get,
    operation_id = "getChatKitExample",
    path = "/chatkit-example",
    tag = "chatkit",
    security(()),
    responses((status = 200, description = "The page.", body = String, content_type = "text/html"))
)]
pub async fn page(state: web::Data<AppState>) -> Result<HttpResponse, Refusal> {
    if !state.chatkit_example {
        return Err(Code::NotFound.into());
    }
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|_| Code::Internal)?;
    let nonce: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}' {COMPONENT}; style-src 'unsafe-inline'; connect-src 'self' {COMPONENT} https://api.openai.com; \
         frame-src {COMPONENT}; img-src data: {COMPONENT}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    Ok(HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, policy))
        .insert_header((HeaderName::from_static("x-frame-options"), "DENY"))
        .body(PAGE.replace("{nonce}", &nonce)))
}
