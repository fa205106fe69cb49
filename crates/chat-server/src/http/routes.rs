//! The table of routes: handlers, query parameters and errors of each.

use actix_web::body::BoxBody;
use actix_web::dev::ServiceRequest;
use actix_web::http::{Method, header};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource, ResponseError, Route, guard};
use chat_protocol::Code;
use chat_protocol::native::Query;

use crate::http::{caller, chat, chatkit, conversations, docs, health, page, turns};
use crate::problem::ApiError;

/// The prefix of a user's routes; everything below needs a token of that user.
const USER: &str = "/api/{user_id}";

/// The route that needs a token and names no user in its path.
const CHATKIT: &str = "/chatkit";

/// How the errors of a route are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorFormat {
    /// As problems of RFC 9457.
    Problem,
    /// As problems with the member `message`, which ChatKit's front end shows.
    ChatKit,
}

/// A route.
#[derive(Clone, Copy)]
pub struct Endpoint {
    /// Its method.
    pub method: &'static Method,
    /// Its path.
    pub path: &'static str,
    /// How its errors are encoded.
    error_format: ErrorFormat,
    /// Its errors, besides those that [`Endpoint::codes`] adds.
    own_codes: &'static [&'static [Code]],
    /// The parameters of its query; `None` for pages and their files, whose links may have any
    /// parameter.
    pub query: Option<&'static [&'static str]>,
    route: fn() -> Route,
}

impl Endpoint {
    /// Whether it needs a token of the user in its path.
    pub fn has_path_user(&self) -> bool {
        self.path.starts_with(USER)
    }

    /// Whether it needs a token of any user.
    fn has_token_user(&self) -> bool {
        self.path == CHATKIT
    }

    /// All errors that it may return.
    pub fn codes(&self) -> Vec<Code> {
        let common = [
            Code::NotAcceptable,
            Code::HeadersTooLarge,
            Code::ServerOverloaded,
            Code::TooManyConnections,
            Code::Internal,
        ];
        let token: &[Code] = if self.has_path_user() || self.has_token_user() {
            IDENTITY
        } else {
            &[]
        };
        let user: &[Code] = if self.has_path_user() {
            &[Code::WrongUser]
        } else {
            &[]
        };
        let query: &[Code] = if self.query.is_some() {
            &[Code::InvalidRequest]
        } else {
            &[]
        };
        common
            .into_iter()
            .chain(query.iter().copied())
            .chain(token.iter().chain(user).copied())
            .chain(self.own_codes.iter().copied().flatten().copied())
            .collect()
    }
}

const IDENTITY: &[Code] = &[
    Code::MissingToken,
    Code::InvalidToken,
    Code::TokenExpired,
    Code::TokenNotYetValid,
];
const READ: &[Code] = &[
    Code::InvalidRequest,
    Code::StoreUnavailable,
    Code::StoreTimeout,
    Code::StoreCorrupt,
];
const WRITE: &[Code] = &[Code::StoreFull, Code::StoreReadOnly];
const BODY: &[Code] = &[
    Code::UnsupportedMediaType,
    Code::BodyTooLarge,
    Code::BodyTimeout,
    Code::InvalidJson,
    Code::InvalidText,
];
const CURSOR: &[Code] = &[Code::InvalidCursor];
const CONVERSATION: &[Code] = &[Code::ConversationNotFound];
const TURN: &[Code] = &[Code::TurnNotFound];
const SUPERSEDED: &[Code] = &[Code::TurnSuperseded];
const MESSAGE: &[Code] = &[Code::MessageEmpty, Code::MessageTooLong];
const TITLE: &[Code] = &[Code::InvalidTitle];
const SHUTTING_DOWN: &[Code] = &[Code::ShuttingDown];
const SIGN_IN: &[Code] = &[Code::InvalidRequest, Code::InvalidSignInCode];
const MISSING: &[Code] = &[Code::NotFound];
/// Errors of a route that starts a turn and waits for its end.
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

/// Errors of ChatKit's requests; those that the user should read are events of a stream.
const CHATKIT_CODES: &[Code] = &[
    Code::Unsupported,
    Code::InvalidIdempotencyKey,
    Code::IdempotencyMismatch,
    Code::TooManyQueued,
    Code::ShuttingDown,
];

/// Routes without parameters, and routes that accept any.
const NONE: Option<&[&str]> = Some(&[]);
const ANY: Option<&[&str]> = None;

/// Every route.
#[rustfmt::skip]
pub fn endpoints() -> &'static [Endpoint] {
    use ErrorFormat::{ChatKit, Problem};
    macro_rules! endpoints {
        ($(
            $method:ident $path:literal $handler:path, $format:ident, $codes:expr, $query:expr;
        )+) => {
            &[$(Endpoint {
                method: &Method::$method,
                path: $path,
                error_format: $format,
                own_codes: $codes,
                query: $query,
                route: || route(&Method::$method, $path).to($handler),
            }),+]
        };
    }
    endpoints! {
        POST "/api/{user_id}/chat" chat::post, Problem,
            &[READ, WRITE, BODY, MESSAGE, CONVERSATION, ANSWER], Some(&["busy", "messages"]);
        GET "/api/{user_id}/conversations" conversations::list, Problem,
            &[READ, CURSOR], Some(&["limit", "cursor"]);
        GET "/api/{user_id}/conversations/{conversation_id}" conversations::get, Problem,
            &[READ, CONVERSATION], NONE;
        PATCH "/api/{user_id}/conversations/{conversation_id}" conversations::rename, Problem,
            &[READ, WRITE, BODY, TITLE, CONVERSATION], NONE;
        DELETE "/api/{user_id}/conversations/{conversation_id}" conversations::delete, Problem,
            &[READ, WRITE, CONVERSATION], NONE;
        GET "/api/{user_id}/conversations/{conversation_id}/messages"
            conversations::messages, Problem,
            &[READ, CURSOR, CONVERSATION], Some(&["limit", "before", "after", "superseded"]);
        GET "/api/{user_id}/conversations/{conversation_id}/tool-calls"
            conversations::tool_calls, Problem,
            &[READ, CURSOR, CONVERSATION], Some(&["limit", "cursor"]);
        GET "/api/{user_id}/turns/{turn_id}" turns::get, Problem, &[READ, TURN], NONE;
        GET "/api/{user_id}/turns/{turn_id}/events" turns::events, Problem,
            &[READ, CURSOR, TURN], Some(&["after"]);
        POST "/api/{user_id}/turns/{turn_id}/cancel" turns::cancel, Problem,
            &[READ, WRITE, TURN], NONE;
        POST "/api/{user_id}/turns/{turn_id}/retry" turns::retry, Problem,
            &[READ, WRITE, TURN, CONVERSATION, SUPERSEDED, ANSWER], Some(&["busy", "messages"]);
        POST "/api/{user_id}/chatkit" chatkit::post_of_user, ChatKit,
            &[READ, WRITE, BODY, TITLE, CURSOR, CONVERSATION, TURN, CHATKIT_CODES], NONE;
        POST "/chatkit" chatkit::post, ChatKit,
            &[READ, WRITE, BODY, TITLE, CURSOR, CONVERSATION, TURN, CHATKIT_CODES], NONE;
        GET "/chatkit-example" chatkit::example::page, Problem, &[MISSING], ANY;
        GET "/health/live" health::live, Problem, &[], NONE;
        GET "/health/ready" health::ready, Problem, &[READ, SHUTTING_DOWN], NONE;
        GET "/openapi.json" docs::document, Problem, &[], NONE;
        POST "/sign-in" page::sign_in, Problem, &[BODY, SIGN_IN], NONE;
        GET "/page-settings" page::settings, Problem, &[], NONE;
        GET "/" page::front, Problem, &[MISSING], ANY;
        GET "/c/{conversation_id}" page::conversation, Problem, &[MISSING], ANY;
        GET "/page/{file}" page::file, Problem, &[MISSING], ANY;
        GET "/embed.js" page::embed, Problem, &[MISSING], ANY;
        GET "/docs" docs::front, Problem, &[], ANY;
        GET "/docs/{file}" docs::page, Problem, &[MISSING], ANY;
        GET "/problems/{code}" docs::problem, Problem, &[MISSING], NONE;
    }
}

/// How the errors of a request are encoded. A request without a route gets problems.
pub fn error_format(request: &HttpRequest) -> ErrorFormat {
    let path = request.match_pattern();
    endpoints()
        .iter()
        .find(|endpoint| path.as_deref() == Some(endpoint.path))
        .map_or(ErrorFormat::Problem, |endpoint| endpoint.error_format)
}

/// Whether a route answers HEAD, as RFC 9110 §9.1 asks. Streams do not: they have no length.
fn has_head(method: &Method, path: &str) -> bool {
    method == Method::GET && !path.ends_with("/events")
}

fn route(method: &Method, path: &str) -> Route {
    if has_head(method, path) {
        web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
    } else {
        web::method(method.clone())
    }
}

/// Registers every route. Unknown routes below a user's path need a token too.
pub fn configure(config: &mut ServiceConfig) {
    let with_path_user = endpoints()
        .iter()
        .filter(|endpoint| endpoint.has_path_user());
    let mut user = web::scope(USER);
    for (path, endpoints) in by_path(with_path_user) {
        user = user.service(resource(
            path.strip_prefix(USER).unwrap_or(path),
            &endpoints,
        ));
    }
    config.service(
        user.default_service(web::to(not_found))
            .wrap(from_fn(caller::require_path_user)),
    );
    for (path, endpoints) in by_path(
        endpoints()
            .iter()
            .filter(|endpoint| endpoint.has_token_user()),
    ) {
        config.service(resource(path, &endpoints).wrap(from_fn(caller::require_token)));
    }
    for (path, endpoints) in by_path(
        endpoints()
            .iter()
            .filter(|endpoint| !endpoint.has_path_user() && !endpoint.has_token_user()),
    ) {
        // The first file of the documentation has an empty name.
        config.service(resource(&path.replace("{file}", "{file:.*}"), &endpoints));
    }
    config.default_service(web::to(not_found));
}

/// Endpoints that are neighbours in the table and have the same path.
fn by_path<'a>(
    endpoints: impl Iterator<Item = &'a Endpoint>,
) -> Vec<(&'static str, Vec<&'a Endpoint>)> {
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
    let methods = |endpoint: &&Endpoint| {
        if has_head(endpoint.method, path) {
            "GET, HEAD"
        } else {
            endpoint.method.as_str()
        }
    };
    let allowed = endpoints.iter().map(methods).collect::<Vec<_>>().join(", ");
    let other_method = move || {
        let mut response = HttpResponse::from_error(ApiError::from(Code::MethodNotAllowed));
        if let Ok(allowed) = allowed.parse() {
            response.headers_mut().insert(header::ALLOW, allowed);
        }
        std::future::ready(response)
    };
    let resource = web::resource(path.to_owned()).default_service(web::to(other_method));
    endpoints.iter().fold(resource, |resource, endpoint| {
        resource.route(checked_route(endpoint))
    })
}

/// The route of an endpoint, which rejects unknown query parameters.
fn checked_route(endpoint: &Endpoint) -> Route {
    let Some(known) = endpoint.query else {
        return (endpoint.route)();
    };
    let check = move |request: ServiceRequest, next: Next<BoxBody>| async move {
        match Query::new(request.query_string()).check(known) {
            Ok(()) => next.call(request).await,
            Err(problem) => Ok(request.error_response(ApiError::from(problem))),
        }
    };
    (endpoint.route)().wrap(from_fn(check))
}

async fn not_found() -> HttpResponse {
    ApiError::from(Code::NotFound).error_response()
}
