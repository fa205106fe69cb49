//! A page with the official ChatKit component, connected to this server.
//!
//! The component is a third-party script and must not run at the origin whose storage has the chat
//! page's token. So the example is served at the name `localhost` only, and the chat page, while
//! the example is on, at any other name: for a browser these are different origins.

use std::net::{IpAddr, SocketAddr};

use actix_web::http::header::{self, HeaderName};
use actix_web::{HttpRequest, HttpResponse, web};
use chat_protocol::{Code, Problem};

use crate::problem::ApiError;
use crate::state::AppState;

const PAGE: &str = include_str!("example.html");

/// The origin of the component, which renders in a frame of the same origin.
const COMPONENT: &str = "https://cdn.platform.openai.com";

/// The host name at which the example is served.
const NAME: &str = "localhost";

/// The host of a request, and its port with the colon, if any.
fn host(request: &HttpRequest) -> Option<(&str, &str)> {
    let host = request.headers().get(header::HOST)?.to_str().ok()?;
    let at = host.rfind(':').filter(|at| {
        host.get(at + 1..)
            .is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
    });
    Some(at.map_or((host, ""), |at| host.split_at(at)))
}

/// Redirects from the example's origin to the chat page's, if the example is on.
pub(crate) fn redirect_to_page_origin(
    state: &AppState,
    request: &HttpRequest,
) -> Option<HttpResponse> {
    let (_, port) = host(request)
        .filter(|(name, _)| state.chatkit_example && name.eq_ignore_ascii_case(NAME))?;
    let address = if request.peer_addr().is_some_and(|peer| is_ipv6(&peer)) {
        "[::1]"
    } else {
        "127.0.0.1"
    };
    let location = format!("//{address}{port}{}", request.uri());
    Some(
        HttpResponse::TemporaryRedirect()
            .insert_header((header::LOCATION, location))
            .finish(),
    )
}

fn is_ipv6(peer: &SocketAddr) -> bool {
    matches!(peer, SocketAddr::V6(peer) if peer.ip().to_ipv4_mapped().is_none())
}

/// Get an example of a ChatKit front end
///
/// A page with OpenAI's ChatKit component, connected to `POST /chatkit`. Off unless
/// `CHAT_CHATKIT_EXAMPLE` is set, because the component is loaded from OpenAI's network. Served at
/// `localhost` only, so that the component cannot read the storage of the chat page.
#[utoipa::path(
    get,
    operation_id = "getChatKitExample",
    path = "/chatkit-example",
    tag = "chatkit",
    security(()),
    responses(
        (status = 200, description = "The page.", body = String, content_type = "text/html"),
        (status = 307, description = "To the same page at `localhost`."),
    )
)]
pub async fn page(
    state: web::Data<AppState>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let (name, port) = host(&request)
        .filter(|_| state.chatkit_example)
        .ok_or(Code::NotFound)?;
    if !name.eq_ignore_ascii_case(NAME) {
        if !name
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
        {
            let reason = "The example is served at `localhost` only";
            return Err(Problem::new(Code::NotFound, reason).into());
        }
        let location = format!("//{NAME}{port}/chatkit-example");
        return Ok(HttpResponse::TemporaryRedirect()
            .insert_header((header::LOCATION, location))
            .finish());
    }
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|_| Code::Internal)?;
    let nonce: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}' {COMPONENT}; style-src 'unsafe-inline'; \
         connect-src 'self' {COMPONENT} https://api.openai.com; frame-src {COMPONENT}; \
         img-src data: {COMPONENT}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    Ok(HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, policy))
        // The chat page may have stored a token at this origin before the example was on.
        .insert_header((HeaderName::from_static("clear-site-data"), r#""storage""#))
        .insert_header((HeaderName::from_static("x-frame-options"), "DENY"))
        .body(PAGE.replace("{nonce}", &nonce)))
}
