//! The chat page, its files and settings, and sign-in.

use actix_web::http::header::{self, ContentEncoding, HeaderName};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use chat_domain::{Environment, SystemEnvironment};
use chat_protocol::Code;
use chat_protocol::native::request::{self, SignInRequest};
use chat_web::{Coding, File};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::body::read_json;
use crate::http::chatkit::example;
use crate::http::files::{self, EncodedContents, ServedFile};
use crate::page::PageSettings;
use crate::problem::ApiError;
use crate::state::AppState;

/// A token in exchange for a sign-in code.
#[derive(Serialize, ToSchema)]
pub struct SignInReply {
    /// The token, as `Authorization: Bearer` carries it.
    pub token: String,
}

/// Get the chat page
#[utoipa::path(
    get,
    operation_id = "getChatPage",
    path = "/",
    tag = "server",
    security(()),
    responses((status = 200, description = "The page.", body = String, content_type = "text/html")),
)]
pub async fn front(
    state: web::Data<AppState>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    if let Some(redirect) = example::redirect_to_page_origin(&state, &request) {
        return Ok(redirect);
    }
    let page = chat_web::find("index.html").ok_or(Code::NotFound)?;
    let mut response = answer(&request, page);
    let headers = response.headers_mut();
    if let Ok(policy) = state.page.policy().parse() {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    if state.page.settings.embedders.is_empty() {
        headers.insert(
            HeaderName::from_static("x-frame-options"),
            header::HeaderValue::from_static("DENY"),
        );
    }
    Ok(response)
}

/// Get the chat page at a conversation
#[utoipa::path(
    get,
    operation_id = "getChatPageAt",
    path = "/c/{conversation_id}",
    tag = "server",
    security(()),
    responses((
        status = 200,
        description = "The page, which shows the conversation to its owner.",
        body = String,
        content_type = "text/html",
    ))
)]
pub async fn conversation(
    state: web::Data<AppState>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    front(state, request).await
}

/// Get a file of the chat page
#[utoipa::path(
    get,
    operation_id = "getPageFile",
    path = "/page/{file}",
    tag = "server",
    security(()),
    params(("file" = String, Path, description = "A file of the page.")),
    responses(
        (
            status = 200,
            description = "A script, a style, a font or a picture.",
            body = String,
            content_type = "text/javascript",
        ),
        (status = 304, description = "The client has the file already (`If-None-Match`)."),
    )
)]
pub async fn file(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let file =
        chat_web::find(request.match_info().query("file")).filter(|file| file.path != "index.html");
    Ok(answer(&request, file.ok_or(Code::NotFound)?))
}

/// Get the script that embeds the chat page
#[utoipa::path(
    get,
    operation_id = "getEmbedScript",
    path = "/embed.js",
    tag = "server",
    security(()),
    responses((
        status = 200,
        description = "The script, which defines the element `<chat-panel>`.",
        body = String,
        content_type = "text/javascript",
    ))
)]
pub async fn embed(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    Ok(answer(
        &request,
        chat_web::find("embed.js").ok_or(Code::NotFound)?,
    ))
}

/// Get the settings of the chat page
///
/// The settings that the page needs before sign-in.
#[utoipa::path(
    get,
    operation_id = "getPageSettings",
    path = "/page-settings",
    tag = "server",
    security(()),
    responses((status = 200, description = "The settings.", body = PageSettings)),
)]
pub async fn settings(state: web::Data<AppState>) -> HttpResponse {
    HttpResponse::Ok().json(&state.page.settings)
}

/// Sign a browser in
///
/// In development mode: exchanges the one-time code in the address that the server printed at its
/// start for a token.
#[utoipa::path(
    post,
    operation_id = "signIn",
    path = "/sign-in",
    tag = "server",
    security(()),
    request_body = SignInRequest,
    responses((
        status = 200,
        description = "A token. The code is not valid any more.",
        body = SignInReply,
    ))
)]
pub async fn sign_in(
    state: web::Data<AppState>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let given = request::sign_in_code(&read_json(&request, payload, &state).await?)?;
    let token = state
        .page
        .code
        .as_ref()
        .and_then(|code| code.redeem(&given, SystemEnvironment.now()));
    Ok(HttpResponse::Ok().json(SignInReply {
        token: token.ok_or(Code::InvalidSignInCode)?,
    }))
}

/// A file in the coding that the client prefers, or 304 if it has not changed.
fn answer(request: &HttpRequest, file: &'static File) -> HttpResponse {
    let content_encoding = |coding| match coding {
        Coding::Brotli => ContentEncoding::Brotli,
        Coding::Gzip => ContentEncoding::Gzip,
        Coding::Identity => ContentEncoding::Identity,
    };
    let (coding, bytes) = file.contents(|coding| files::accepts(request, content_encoding(coding)));
    let cache_control = if file.is_immutable() {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let contents = EncodedContents {
        encoding: content_encoding(coding),
        bytes: Bytes::from_static(bytes),
    };
    files::answer(
        request,
        ServedFile {
            media_type: file.media_type,
            tag: file.tag.to_owned(),
            cache_control,
        },
        contents,
    )
}
