//! The description of the API, and pages that show it without a network.

use std::sync::{Arc, LazyLock};

use actix_web::http::header::{self, ContentEncoding, HeaderName};
use actix_web::{HttpRequest, HttpResponse};
use chat_protocol::errors_doc::explanation;
use chat_protocol::problem::Code;
use utoipa_swagger_ui::Config;

use crate::openapi;
use crate::problem::Refusal;

/// What the pages may do: their own scripts, styles and requests. Swagger UI sets styles from its scripts and draws with `data:`.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
                      font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

static DOCUMENT: LazyLock<String> = LazyLock::new(|| openapi::document().to_json().unwrap_or_default());
static PAGES: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| Arc::new(Config::from("/openapi.json").validator_url("none")));

/// The API's description
#[utoipa::path(get, operation_id = "getDescription", path = "/openapi.json", tag = "server", security(()), responses((status = 200, description = "This document: OpenAPI 3.1.", body = serde_json::Value)))]
pub async fn document() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").insert_header((header::CACHE_CONTROL, "no-cache")).body(DOCUMENT.as_str())
}

/// The documentation without its slash
#[utoipa::path(get, operation_id = "getDocumentation", path = "/docs", tag = "server", security(()), responses((status = 308, description = "To `/docs/`.", headers(("Location" = String)))))]
pub async fn front() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((header::LOCATION, "/docs/")).finish()
}

/// The documentation's pages and their files
#[utoipa::path(
    get,
    operation_id = "getPage",
    path = "/docs/{file}",
    tag = "server",
    security(()),
    params(("file" = String, Path, description = "A file of the documentation; its first page if empty.")),
    responses((status = 200, description = "A page, a script, a style or a picture.", body = String, content_type = "text/html"))
)]
pub async fn page(request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let file = utoipa_swagger_ui::serve(request.match_info().query("file"), PAGES.clone());
    let file = file.map_err(|_| Code::Internal)?.ok_or(Code::NotFound)?;
    let mut response = HttpResponse::Ok();
    if file.gzpipped {
        response.insert_header(ContentEncoding::Gzip);
    }
    response
        .content_type(file.content_type)
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((HeaderName::from_static("x-frame-options"), "DENY"))
        .insert_header((header::CACHE_CONTROL, "no-cache"));
    Ok(response.body(file.bytes.into_owned()))
}

/// The explanation of a problem
///
/// Where the `type` of a problem leads.
#[utoipa::path(
    get,
    operation_id = "explainProblem",
    path = "/problems/{code}",
    tag = "server",
    security(()),
    params(("code" = String, Path, description = "The problem's code.")),
    responses((status = 200, description = "What the code means and what to do.", body = String, content_type = "text/plain"))
)]
pub async fn problem(request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let text = explanation(request.match_info().query("code")).ok_or(Code::NotFound)?;
    Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(text))
}
