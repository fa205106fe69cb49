//! The OpenAPI document: the handlers' own descriptions, and what all routes have in common.

use std::collections::BTreeMap;

use chat_protocol::native::events::{
    DiscardedEvent, DoneEvent, MessageEvent, StateEvent, TextEvent, ToolCallEvent, ToolResultEvent,
};
use chat_protocol::{Code, Problem, ProblemBody, Row};
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Content, Header, KnownFormat, ObjectBuilder, Ref, RefOr, Required, Response, ResponseBuilder,
    SchemaFormat, Type,
};

use crate::http::{self, Endpoint};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Chat",
        description = "A stateless, durable chat backend.\n\n\
            All routes below `/api/{user_id}` need a JSON Web Token (HS256) of that user, and \
            `/chatkit` one of any user, with `sub` and `exp`, as `Authorization: Bearer <token>`. \
            In development mode the server prints a token of the user `demo` when it starts; \
            otherwise the holder of the secret `CHAT_JWT_SECRET`, usually an identity provider, \
            issues tokens.\n\n\
            An unknown query parameter is rejected (`invalid_request`). Unknown members of a body \
            are ignored, unless their names are similar to a known one.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    servers((url = "/", description = "The server of this document")),
    security(("bearer" = [])),
    tags(
        (name = "chat", description = "Sending messages"),
        (name = "conversations", description = "Conversations, their messages and tool calls"),
        (name = "turns", description = "Everything done in answer to one user message"),
        (name = "chatkit", description = "The protocol of OpenAI's ChatKit component"),
        (name = "server", description = "The server itself; no token needed"),
    ),
    paths(
        http::chat::post,
        http::conversations::list,
        http::conversations::get,
        http::conversations::rename,
        http::conversations::delete,
        http::conversations::messages,
        http::conversations::tool_calls,
        http::turns::get,
        http::turns::events,
        http::turns::cancel,
        http::turns::retry,
        http::page::sign_in,
        http::page::settings,
        http::page::front,
        http::page::conversation,
        http::page::file,
        http::page::embed,
        http::chatkit::post,
        http::chatkit::post_of_user,
        http::chatkit::example::page,
        http::health::live,
        http::health::ready,
        http::docs::document,
        http::docs::front,
        http::docs::page,
        http::docs::problem,
    ),
    components(schemas(
        ProblemBody,
        StateEvent,
        MessageEvent,
        TextEvent,
        DiscardedEvent,
        ToolCallEvent,
        ToolResultEvent,
        DoneEvent,
    ))
)]
struct ApiDoc;

/// The OpenAPI document.
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = ApiDoc::openapi();
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT");
    let bearer = bearer.description(Some(
        "A JSON Web Token whose `sub` is the `{user_id}` of the path.",
    ));
    document
        .components
        .get_or_insert_default()
        .add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
    for endpoint in http::endpoints() {
        if let Some(operation) = operation(&mut document, endpoint) {
            complete(operation, endpoint);
        }
    }
    document
}

fn operation<'a>(
    document: &'a mut utoipa::openapi::OpenApi,
    endpoint: &Endpoint,
) -> Option<&'a mut Operation> {
    let item = document.paths.paths.get_mut(endpoint.path)?;
    let operation = match endpoint.method.as_str() {
        "GET" => &mut item.get,
        "POST" => &mut item.post,
        "PATCH" => &mut item.patch,
        "DELETE" => &mut item.delete,
        _ => return None,
    };
    operation.as_mut()
}

/// The values of these parameters, in all routes; the first is the default.
const ENUMS: &[(&str, &[&str])] = &[
    ("busy", &["enqueue", "reject", "interrupt"]),
    ("messages", &["all", "turn"]),
    ("superseded", &["exclude", "include"]),
];

/// The patterns of these parameters, in all routes. Cursors have none, because their form may
/// change.
const PATTERNS: &[(&str, Option<&str>)] = &[
    (
        "Idempotency-Key",
        Some(r#"^(?:[!#-~](?:[ -~]{0,253}[!-~])?|"(?:[ !#-\[\]-~]|\\["\\]){1,255}")$"#),
    ),
    ("after", None),
    ("before", None),
    ("cursor", None),
];

/// Adds what all routes have in common: ids in the path, headers of responses, problems.
fn complete(operation: &mut Operation, endpoint: &Endpoint) {
    let parameters = operation.parameters.get_or_insert_default();
    let ids = [
        ("user_id", "The user: the token's subject."),
        ("conversation_id", "The conversation."),
        ("turn_id", "The turn."),
    ];
    for (name, description) in ids.into_iter().rev() {
        if endpoint.path.contains(&format!("{{{name}}}")) {
            parameters.insert(0, id_parameter(name, description));
        }
    }
    for parameter in parameters.iter_mut() {
        if let RefOr::T(parameter) = parameter
            && let Some((_, values)) = ENUMS.iter().find(|(name, _)| *name == parameter.name)
        {
            let schema = ObjectBuilder::new()
                .schema_type(Type::String)
                .enum_values(Some(values.iter().copied()));
            parameter.schema = Some(schema.into());
        }
        if let RefOr::T(parameter) = parameter
            && let Some((_, pattern)) = PATTERNS.iter().find(|(name, _)| *name == parameter.name)
        {
            let text = ObjectBuilder::new()
                .schema_type(Type::String)
                .min_length(Some(1));
            parameter.schema = Some(text.pattern(pattern.map(str::to_owned)).into());
        }
    }
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            response
                .headers
                .insert("X-Request-Id".to_owned(), request_id());
        }
    }
    let mut by_status = BTreeMap::<u16, Vec<Row>>::new();
    for row in endpoint.codes().into_iter().map(Code::row) {
        by_status.entry(row.status).or_default().push(row);
    }
    for (status, rows) in by_status {
        operation
            .responses
            .responses
            .insert(status.to_string(), RefOr::T(problems(status, &rows)));
    }
}

fn id_parameter(name: &str, description: &str) -> RefOr<Parameter> {
    let text = ObjectBuilder::new().schema_type(Type::String);
    let schema = if name == "user_id" {
        text.min_length(Some(1))
            .max_length(Some(chat_domain::UserId::MAX_BYTES))
    } else {
        text.format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)))
    };
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True);
    // The user of development mode's token.
    let parameter = parameter.example((name == "user_id").then(|| "demo".into()));
    RefOr::T(
        parameter
            .description(Some(description))
            .schema(Some(schema))
            .build(),
    )
}

fn request_id() -> RefOr<Header> {
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)));
    RefOr::T(header(
        schema,
        "The id of the request, as in the server's log.",
    ))
}

fn header(schema: ObjectBuilder, description: &str) -> Header {
    let mut header = Header::new(schema.build());
    header.description = Some(description.to_owned());
    header
}

fn problems(status: u16, rows: &[Row]) -> Response {
    let lines: Vec<_> = rows
        .iter()
        .map(|row| format!("- `{}`: {}. {}", row.code, row.title, row.advice))
        .collect();
    let mut response = ResponseBuilder::new()
        .description(lines.join("\n"))
        .content(
            Problem::MEDIA_TYPE,
            Content::new(Some(Ref::from_schema_name("Problem"))),
        )
        .build();
    response
        .headers
        .insert("X-Request-Id".to_owned(), request_id());
    if rows.iter().any(|row| row.retry_after.is_some()) {
        let seconds = ObjectBuilder::new().schema_type(Type::Integer);
        response.headers.insert(
            "Retry-After".to_owned(),
            RefOr::T(header(seconds, "Seconds to wait before a retry.")),
        );
    }
    if status == 401 {
        let text = ObjectBuilder::new().schema_type(Type::String);
        response.headers.insert(
            "WWW-Authenticate".to_owned(),
            RefOr::T(header(text, "The challenge of RFC 6750.")),
        );
    }
    response
}
