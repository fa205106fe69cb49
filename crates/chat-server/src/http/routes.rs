//! The table of routes: what is registered, what is described, and what each may refuse.

use actix_web::http::{Method, header};
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpResponse, Resource, ResponseError, Route, guard};
use chat_protocol::problem::Code;

use crate::http::{caller, chat, chatkit, conversations, docs, health, page, turns};
use crate::problem::Refusal;

/// Where the routes of a user stand; everything below needs a token of that user.
const USER: &str = "/api/{user_id}";

/// What needs a token and names no user: it is the token's.
const OF_TOKEN: &str = "/chatkit";

/// A route.
#[derive(Clone, Copy)]
pub struct Endpoint {
    /// Its method.
    pub method: &'static Method,
    /// Its path.
    pub path: &'static str,
    /// What it may refuse or fail at, besides what [`Endpoint::codes`] adds.
    own_codes: &'static [&'static [Code]],
    route: fn() -> Route,
}

impl Endpoint {
    /// Whether it needs a token.
    pub fn is_of_user(&self) -> bool {
        self.path.starts_with(USER)
    }

    /// Whether it is for whoever the token is of.
    fn is_of_token(&self) -> bool {
        self.path == OF_TOKEN
    }

    /// All that it may refuse or fail at.
    pub fn codes(&self) -> Vec<Code> {
        let everywhere = [Code::NotAcceptable, Code::HeadersTooLarge, Code::Internal];
        let token: &[Code] = if self.is_of_user() || self.is_of_token() { IDENTITY } else { &[] };
        let user: &[Code] = if self.is_of_user() { &[Code::WrongUser] } else { &[] };
        everywhere.into_iter().chain(token.iter().chain(user).copied()).chain(self.own_codes.iter().copied().flatten().copied()).collect()
    }
}

const IDENTITY: &[Code] = &[Code::MissingToken, Code::InvalidToken, Code::TokenExpired, Code::TokenNotYetValid];
const READ: &[Code] = &[Code::InvalidRequest, Code::StoreUnavailable, Code::StoreTimeout, Code::StoreCorrupt];
const WRITE: &[Code] = &[Code::StoreFull, Code::StoreReadOnly];
const BODY: &[Code] = &[Code::UnsupportedMediaType, Code::BodyTooLarge, Code::BodyTimeout, Code::InvalidJson, Code::InvalidText];
const CURSOR: &[Code] = &[Code::InvalidCursor];
const CONVERSATION: &[Code] = &[Code::ConversationNotFound];
const TURN: &[Code] = &[Code::TurnNotFound];
const SUPERSEDED: &[Code] = &[Code::TurnSuperseded];
const MESSAGE: &[Code] = &[Code::MessageEmpty, Code::MessageTooLong];
const TITLE: &[Code] = &[Code::InvalidTitle];
const SHUTTING_DOWN: &[Code] = &[Code::ShuttingDown];
const SIGN_IN: &[Code] = &[Code::InvalidRequest, Code::InvalidSignInCode];
const MISSING: &[Code] = &[Code::NotFound];
/// Of what begins a turn and waits for its end.
const ANSWER: &[Code] = &[
    Code::InvalidIdempotencyKey,
    Code::IdempotencyMismatch,
    Code::ConversationBusy,
    Code::TooManyQueued,
    Code::ShuttingDown,
    Code::AgentTimeout,
    Code::AgentUnavailable,
    Code::AgentMisconfigured,
    Code::AgentOverloaded,
    Code::AgentProtocolError,
    Code::ContextTooLong,
    Code::AgentRefused,
    Code::AgentEmptyAnswer,
    Code::StepLimit,
    Code::TurnTimeout,
    Code::TooManyAttempts,
    Code::ReplyTimeout,
];

/// Of ChatKit's requests; what the user should read is told in a stream instead.
const CHATKIT: &[Code] =
    &[Code::Unsupported, Code::InvalidIdempotencyKey, Code::IdempotencyMismatch, Code::TooManyQueued, Code::ShuttingDown];

/// Every route.
#[rustfmt::skip]
pub fn endpoints() -> &'static [Endpoint] {
    macro_rules! endpoints {
        ($($method:ident $path:literal $handler:path, $codes:expr;)+) => {
            &[$(Endpoint {
                method: &Method::$method,
                path: $path,
                own_codes: $codes,
                route: || route(&Method::$method, $path).to($handler),
            }),+]
        };
    }
    endpoints! {
        POST "/api/{user_id}/chat" chat::post, &[READ, WRITE, BODY, MESSAGE, CONVERSATION, ANSWER];
        GET "/api/{user_id}/conversations" conversations::list, &[READ, CURSOR];
        GET "/api/{user_id}/conversations/{conversation_id}" conversations::get, &[READ, CONVERSATION];
        PATCH "/api/{user_id}/conversations/{conversation_id}" conversations::rename, &[READ, WRITE, BODY, TITLE, CONVERSATION];
        DELETE "/api/{user_id}/conversations/{conversation_id}" conversations::delete, &[READ, WRITE, CONVERSATION];
        GET "/api/{user_id}/conversations/{conversation_id}/messages" conversations::messages, &[READ, CURSOR, CONVERSATION];
        GET "/api/{user_id}/conversations/{conversation_id}/tool-calls" conversations::tool_calls, &[READ, CURSOR, CONVERSATION];
        GET "/api/{user_id}/turns/{turn_id}" turns::get, &[READ, TURN];
        GET "/api/{user_id}/turns/{turn_id}/events" turns::events, &[READ, CURSOR, TURN];
        POST "/api/{user_id}/turns/{turn_id}/cancel" turns::cancel, &[READ, WRITE, TURN];
        POST "/api/{user_id}/turns/{turn_id}/retry" turns::retry, &[READ, WRITE, TURN, CONVERSATION, SUPERSEDED, ANSWER];
        POST "/api/{user_id}/chatkit" chatkit::post_of_user, &[READ, WRITE, BODY, TITLE, CURSOR, CONVERSATION, TURN, CHATKIT];
        POST "/chatkit" chatkit::post, &[READ, WRITE, BODY, TITLE, CURSOR, CONVERSATION, TURN, CHATKIT];
        GET "/chatkit-example" chatkit::example::page, &[MISSING];
        GET "/health/live" health::live, &[];
        GET "/health/ready" health::ready, &[READ, SHUTTING_DOWN];
        GET "/openapi.json" docs::document, &[];
        POST "/sign-in" page::sign_in, &[BODY, SIGN_IN];
        GET "/page-settings" page::settings, &[];
        GET "/" page::front, &[MISSING];
        GET "/c/{conversation_id}" page::conversation, &[MISSING];
        GET "/page/{file}" page::file, &[MISSING];
        GET "/embed.js" page::embed, &[MISSING];
        GET "/docs" docs::front, &[];
        GET "/docs/{file}" docs::page, &[MISSING];
        GET "/problems/{code}" docs::problem, &[MISSING];
    }
}

/// Whether a route answers HEAD too, as RFC 9110 §9.1 asks: with the head that GET would have. A stream has none to speak of.
fn has_head(method: &Method, path: &str) -> bool {
    method == Method::GET && !path.ends_with("/events")
}

fn route(method: &Method, path: &str) -> Route {
    if has_head(method, path) { web::route().guard(guard::Any(guard::Get()).or(guard::Head())) } else { web::method(method.clone()) }
}

/// Registers every route. Below a user's path, unknown ones need a token too.
pub fn configure(config: &mut ServiceConfig) {
    let of_user = endpoints().iter().filter(|endpoint| endpoint.is_of_user());
    let mut user = web::scope(USER);
    for (path, endpoints) in by_path(of_user) {
        user = user.service(resource(path.strip_prefix(USER).unwrap_or(path), &endpoints));
    }
    config.service(user.default_service(web::to(not_found)).wrap(from_fn(caller::authenticate)));
    for (path, endpoints) in by_path(endpoints().iter().filter(|endpoint| endpoint.is_of_token())) {
        config.service(resource(path, &endpoints).wrap(from_fn(caller::identify)));
    }
    for (path, endpoints) in by_path(endpoints().iter().filter(|endpoint| !endpoint.is_of_user() && !endpoint.is_of_token())) {
        // The pages' first file has no name.
        config.service(resource(&path.replace("{file}", "{file:.*}"), &endpoints));
    }
    config.default_service(web::to(not_found));
}

/// Endpoints that stand together in the table and have the same path.
fn by_path<'a>(endpoints: impl Iterator<Item = &'a Endpoint>) -> Vec<(&'static str, Vec<&'a Endpoint>)> {
    let mut paths: Vec<(&'static str, Vec<&Endpoint>)> = Vec::new();
    for endpoint in endpoints {
        match paths.last_mut() {
            Some((path, together)) if *path == endpoint.path => together.push(endpoint),
            _ => paths.push((endpoint.path, vec![endpoint])),
        }
    }
    paths
}

fn resource(path: &str, endpoints: &[&Endpoint]) -> Resource {
    let methods = |endpoint: &&Endpoint| if has_head(endpoint.method, path) { "GET, HEAD" } else { endpoint.method.as_str() };
    let allowed = endpoints.iter().map(methods).collect::<Vec<_>>().join(", ");
    let other_method = move || {
        let mut answer = HttpResponse::from_error(Refusal::from(Code::MethodNotAllowed));
        if let Ok(allowed) = allowed.parse() {
            answer.headers_mut().insert(header::ALLOW, allowed);
        }
        std::future::ready(answer)
    };
    let resource = web::resource(path.to_owned()).default_service(web::to(other_method));
    endpoints.iter().fold(resource, |resource, endpoint| resource.route((endpoint.route)()))
}

async fn not_found() -> HttpResponse {
    Refusal::from(Code::NotFound).error_response()
}
