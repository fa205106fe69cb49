//! Problems (RFC 9457): the errors of the API.
//!
//! [`Code`] is their only table, the source of `docs/errors.md`, the OpenAPI document and every
//! error response.

mod domain_errors;

use std::borrow::Cow;

use chat_domain::{ConversationId, FailureKind, TurnFailure, TurnId};
use serde::{Serialize, Serializer};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

/// One row of the table of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The stable name, for programs.
    pub code: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The kind of problem, a noun phrase.
    pub title: &'static str,
    /// The default reason, a sentence without its stop, for problems without a reason of their own.
    pub reason: &'static str,
    /// The advice, in whole sentences.
    pub advice: &'static str,
    /// The optional members that the problem may have.
    pub members: &'static [&'static str],
    /// Seconds to wait before a retry, sent as `Retry-After`.
    pub retry_after: Option<u32>,
}

macro_rules! table {
    ($(
        $variant:ident $status:literal $code:literal $title:literal, $reason:literal;
        $advice:literal $([$($member:literal),+])? $(, after $seconds:literal)?
    )+) => {
        /// The kind of problem, for programs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $title] $variant),+
        }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its row of the table.
            pub const fn row(self) -> Row {
                match self {
                    $(Self::$variant => Row {
                        code: $code,
                        status: $status,
                        title: $title,
                        reason: $reason,
                        advice: $advice,
                        members: &[$($($member),+)?],
                        retry_after: table!(@after $($seconds)?),
                    }),+
                }
            }
        }
    };
    (@after) => { None };
    (@after $seconds:literal) => { Some($seconds) };
}

table! {
    MissingToken 401 "missing_token" "Missing access token", "The request has no access token";
        "Send exactly one header `Authorization: Bearer <token>`."
    InvalidToken 401 "invalid_token" "Invalid access token", "The access token is invalid";
        "Get a new token from the identity provider that this server trusts."
    TokenExpired 401 "token_expired" "Expired access token", "The access token has expired";
        "Get a new token and send the request again."
    TokenNotYetValid 401 "token_not_yet_valid" "Access token not valid yet",
        "The access token is not valid yet";
        "Wait until the token's `nbf` or `iat`, or check the clocks of the issuer and of this \
         server."
    WrongUser 403 "wrong_user" "Token of another user", "The token belongs to another user";
        "Use the token's subject (`sub`) as the user in the path."
    InvalidSignInCode 403 "invalid_sign_in_code" "Invalid sign-in code",
        "The sign-in code is invalid";
        "A code works once. Restart the server in development mode for a new code, or sign in with \
         the token that it printed."
    InvalidJson 400 "invalid_json" "Invalid JSON in the body", "The body is not valid JSON";
        "Send one JSON text in UTF-8, without duplicate keys, at most 64 levels deep."
        ["line", "column"]
    InvalidRequest 422 "invalid_request" "Invalid request", "The request is invalid";
        "Correct the member that `path` names, or the parameter that `parameter` names."
        ["path", "parameter"]
    InvalidText 422 "invalid_text" "Invalid characters in the text",
        "The text has characters that cannot be stored";
        "Remove U+0000 and unpaired surrogates." ["path", "line", "column"]
    MessageEmpty 422 "message_empty" "Empty message", "The message is empty";
        "Send a message with at least one character that is not white space." ["path"]
    MessageTooLong 422 "message_too_long" "Message too long", "The message is too long";
        "Send a shorter message: `limit` is the maximum, `length` was sent."
        ["path", "limit", "length"]
    InvalidTitle 422 "invalid_title" "Invalid title", "The title is invalid";
        "Send 1 to 200 characters without control characters." ["path"]
    InvalidCursor 422 "invalid_cursor" "Invalid cursor", "The cursor does not belong to this route";
        "Use a cursor exactly as this route returned it, or omit it to start from the beginning."
        ["parameter", "path"]
    InvalidIdempotencyKey 400 "invalid_idempotency_key" "Invalid idempotency key",
        "The idempotency key is invalid";
        "Send one `Idempotency-Key` of 1 to 255 printable ASCII characters, for example a UUID."
        ["parameter"]
    IdempotencyMismatch 422 "idempotency_mismatch" "Idempotency key of another request",
        "The idempotency key was used for another request";
        "Use a new key for a new request; repeat a request with exactly the same route and body."
    NotAcceptable 406 "not_acceptable" "No acceptable media type",
        "The client accepts no media type that this route has";
        "Accept `application/json`, or `text/event-stream` where the route offers it."
    UnsupportedMediaType 415 "unsupported_media_type" "Unsupported media type",
        "The body's media type is not supported";
        "Send the body as `Content-Type: application/json`, without `Content-Encoding`."
    BodyTooLarge 413 "body_too_large" "Body too large", "The body is too large";
        "Send at most `limit` bytes." ["limit"]
    BodyTimeout 408 "body_timeout" "Body timeout", "The body was sent too slowly";
        "Send the whole body within 10 seconds."
    HeadersTooLarge 431 "headers_too_large" "Headers too large", "The headers are too large";
        "Send at most `limit` bytes of headers." ["limit"]
    NotFound 404 "not_found" "Route not found", "The route does not exist";
        "See `/openapi.json` for the routes of this server."
    MethodNotAllowed 405 "method_not_allowed" "Method not allowed",
        "The route does not have this method";
        "Use a method that the header `Allow` names."
    Unsupported 501 "unsupported" "Unsupported ChatKit request",
        "This server does not support the request";
        "`docs/chatkit.md` lists the supported requests."
    ConversationNotFound 404 "conversation_not_found" "Conversation not found",
        "The conversation does not exist";
        "Check the id, or omit it to start a new conversation."
    TurnNotFound 404 "turn_not_found" "Turn not found", "The turn does not exist";
        "Check the id; the turn's conversation may have been deleted."
    TurnSuperseded 409 "turn_superseded" "Superseded turn", "A retry has superseded the turn";
        "Retry the newer turn, which the conversation's messages name."
    ConversationBusy 409 "conversation_busy" "Running turn in the conversation",
        "A turn of the conversation is running";
        "Wait for the end of the turn that `turn_id` names, cancel it, or send with `busy=enqueue` \
         or `busy=interrupt`." ["turn_id"]
    TooManyQueued 429 "too_many_queued" "Too many queued messages",
        "Too many messages are queued in the conversation";
        "Wait until some of them are answered, then send again.", after 5
    AgentTimeout 504 "agent_timeout" "Agent timeout", "The agent took too long";
        "The message is stored. Retry the turn, or send another message."
        ["conversation_id", "turn_id"]
    AgentUnavailable 503 "agent_unavailable" "Agent unavailable", "The agent cannot be reached";
        "The message is stored. Retry the turn later." ["conversation_id", "turn_id"], after 10
    AgentMisconfigured 502 "agent_misconfigured" "Agent misconfigured",
        "The agent rejects this server";
        "The message is stored. The operator must check the agent's address, model, key and tools; \
         the server's log has the reason." ["conversation_id", "turn_id"]
    AgentOverloaded 503 "agent_overloaded" "Agent overloaded", "The agent is overloaded";
        "The message is stored. Retry the turn later." ["conversation_id", "turn_id"], after 10
    AgentProtocolError 502 "agent_protocol_error" "Invalid answer of the agent",
        "The agent's answer is invalid";
        "The message is stored. Retry the turn; if the error persists, the operator must check the \
         agent." ["conversation_id", "turn_id"]
    ContextTooLong 422 "context_too_long" "Message too long for the agent",
        "The message is longer than the agent can read";
        "The message is stored. Send a shorter message or ask for less at once: older turns were \
         already left out." ["conversation_id", "turn_id"]
    AgentRefused 422 "agent_refused" "Content refused by the agent",
        "The agent refused the content";
        "The message is stored. Send another message." ["conversation_id", "turn_id"]
    AgentEmptyAnswer 502 "agent_empty_answer" "Empty answer of the agent",
        "The agent's answer is empty";
        "The message is stored. Retry the turn; if the error persists, the operator must raise the \
         agent's token limit for an answer, or choose another model." ["conversation_id", "turn_id"]
    StepLimit 502 "step_limit" "Step limit reached", "The turn needed more steps than allowed";
        "The message and all completed work are stored. Ask for less at once."
        ["conversation_id", "turn_id"]
    TurnTimeout 504 "turn_timeout" "Turn timeout", "The turn took longer than allowed";
        "The message and all completed work are stored. Retry the turn, or ask for less at once."
        ["conversation_id", "turn_id"]
    TooManyAttempts 500 "too_many_attempts" "Too many failed attempts",
        "All attempts at the turn failed";
        "The message is stored. Send another message, and tell the operator."
        ["conversation_id", "turn_id"]
    ReplyTimeout 504 "reply_timeout" "Reply timeout",
        "The turn did not end within the time limit of a reply";
        "The message is stored and its turn continues. Do not send it again: read the turn that \
         `turn_id` names, at `/api/{user_id}/turns/{turn_id}` or its `events`."
        ["conversation_id", "turn_id"]
    StoreUnavailable 503 "store_unavailable" "Database unavailable",
        "The database cannot be reached";
        "Send the same request again shortly, with the same `Idempotency-Key` if it had one."
        ["conversation_id", "turn_id"], after 2
    StoreTimeout 503 "store_timeout" "Database timeout", "The database is too slow";
        "Send the same request again shortly, with the same `Idempotency-Key` if it had one."
        ["conversation_id", "turn_id"], after 2
    StoreFull 507 "store_full" "Database full", "The database has no space left";
        "Reading still works. The operator must free disk space." ["conversation_id", "turn_id"]
    StoreReadOnly 503 "store_read_only" "Read-only database", "The database is read-only";
        "Reading still works. The operator must make the database writable."
        ["conversation_id", "turn_id"], after 30
    StoreCorrupt 500 "store_corrupt" "Damaged database", "The database is damaged";
        "Nothing more is stored. The operator must restore the database from a backup."
        ["conversation_id", "turn_id"]
    ShuttingDown 503 "shutting_down" "Server shutting down", "This server is shutting down";
        "Send the same request again, with the same `Idempotency-Key` if it had one; another \
         server will accept it." ["conversation_id", "turn_id"], after 1
    ServerOverloaded 503 "server_overloaded" "Server overloaded",
        "Requests and replies of other clients use all memory";
        "Send the same request again shortly, with the same `Idempotency-Key` if it had one."
        ["conversation_id", "turn_id"], after 2
    TooManyConnections 503 "too_many_connections" "Too many connections",
        "The server has too many connections";
        "Connect again shortly. Clients with many requests should reuse their connections.", after 2
    Internal 500 "internal" "Internal server error", "An internal error occurred";
        "Tell the operator the value of `instance`, which is in the server's log."
        ["conversation_id", "turn_id"]
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.row().code)
    }
}

impl PartialSchema for Code {
    fn schema() -> RefOr<Schema> {
        let codes = Self::ALL.iter().map(|code| code.row().code);
        ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(codes))
            .description(Some("The kind of problem, for programs."))
            .into()
    }
}

impl ToSchema for Code {
    fn name() -> Cow<'static, str> {
        "ProblemCode".into()
    }
}

impl From<FailureKind> for Code {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::AgentTimeout => Self::AgentTimeout,
            FailureKind::AgentUnavailable => Self::AgentUnavailable,
            FailureKind::AgentMisconfigured => Self::AgentMisconfigured,
            FailureKind::AgentOverloaded => Self::AgentOverloaded,
            FailureKind::AgentProtocolError => Self::AgentProtocolError,
            FailureKind::ContextTooLong => Self::ContextTooLong,
            FailureKind::AgentRefused => Self::AgentRefused,
            FailureKind::AgentEmptyAnswer => Self::AgentEmptyAnswer,
            FailureKind::StepLimit => Self::StepLimit,
            FailureKind::TimeLimit => Self::TurnTimeout,
            FailureKind::TooManyAttempts => Self::TooManyAttempts,
            FailureKind::Internal => Self::Internal,
        }
    }
}

/// An error of the API, with advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The kind of problem, for programs.
    pub code: Code,
    /// The reason, if it is more specific than that of the code. No secrets, no internals.
    pub reason: Option<String>,
    /// The id of the request, as in the log.
    pub instance: Option<Uuid>,
    /// The optional members.
    pub members: Box<Members>,
    /// Whether a turn ended with this problem.
    is_turn_failure: bool,
}

/// Members that only some problems have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ProblemMembers)]
pub struct Members {
    /// The conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<Uuid>,
    /// The turn that failed, or that keeps the conversation busy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_id: Option<Uuid>,
    /// How much is allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// How much it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<usize>,
    /// The member of the body, as a JSON Pointer (RFC 6901).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Cow<'static, str>>,
    /// The parameter of the path, the query or the header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<Cow<'static, str>>,
    /// The line of the body, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The column in that line, in bytes, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// The same as `detail`, on ChatKit's routes only: its front end shows this member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self {
            code,
            reason: None,
            instance: None,
            members: Box::default(),
            is_turn_failure: false,
        }
    }
}

/// The advice if a turn ended because of an internal error.
const TURN_FAILURE_ADVICE: &str =
    "The message is stored. Retry the turn; if it fails again, tell the operator.";

/// The advice if the message is stored and its turn continues.
const KEPT_MESSAGE_ADVICE: &str = Code::ReplyTimeout.row().advice;

impl Problem {
    /// The media type of its JSON.
    pub const MEDIA_TYPE: &'static str = "application/problem+json";

    /// A problem with a reason of its own.
    pub fn new(code: Code, reason: impl Into<String>) -> Self {
        Self {
            reason: Some(reason.into()),
            ..Self::from(code)
        }
    }

    /// A problem of data that is larger than `limit`.
    pub fn limit_exceeded(code: Code, limit: usize) -> Self {
        let mut problem = Self::from(code);
        problem.members.limit = Some(limit);
        problem
    }

    /// A problem of a member of the body. `path` is its JSON Pointer.
    pub fn at_member(
        code: Code,
        path: impl Into<Cow<'static, str>>,
        reason: impl Into<String>,
    ) -> Self {
        let mut problem = Self::new(code, reason);
        problem.members.path = Some(path.into());
        problem
    }

    /// A problem of a parameter of the path, the query or the header.
    pub fn at_parameter(
        code: Code,
        parameter: impl Into<Cow<'static, str>>,
        reason: impl Into<String>,
    ) -> Self {
        let mut problem = Self::new(code, reason);
        problem.members.parameter = Some(parameter.into());
        problem
    }

    /// The problem of a failed turn.
    pub fn turn_failure(failure: &TurnFailure) -> Self {
        Self {
            is_turn_failure: true,
            ..Self::new(failure.kind.into(), failure.message.clone())
        }
    }

    /// Adds the turn and its conversation.
    #[must_use]
    pub fn in_turn(mut self, conversation: ConversationId, turn: TurnId) -> Self {
        self.members.conversation_id = Some(conversation.0);
        self.members.turn_id = Some(turn.0);
        self
    }

    /// The reason and the advice, in sentences.
    pub fn detail(&self) -> String {
        let Row { reason, advice, .. } = self.code.row();
        let reason = self.reason.as_deref().unwrap_or(reason);
        let (first, rest) = reason.split_at(reason.ceil_char_boundary(1));
        let first = first.to_uppercase();
        let stop = if reason.ends_with(['.', '!', '?']) {
            ""
        } else {
            "."
        };
        let advice = match self.code {
            Code::Internal if self.is_turn_failure => TURN_FAILURE_ADVICE,
            _ if self.is_after_storing() => KEPT_MESSAGE_ADVICE,
            _ => advice,
        };
        format!("{first}{rest}{stop} {advice}")
    }

    /// Whether the message was stored before the error, so that sending it again would duplicate
    /// it.
    fn is_after_storing(&self) -> bool {
        let after_storing = matches!(
            self.code,
            Code::StoreUnavailable
                | Code::StoreTimeout
                | Code::StoreFull
                | Code::StoreReadOnly
                | Code::StoreCorrupt
                | Code::ShuttingDown
                | Code::Internal
        );
        after_storing && self.members.turn_id.is_some()
    }

    /// The body of the response.
    pub fn body(&self) -> ProblemBody {
        let row = self.code.row();
        ProblemBody {
            kind: format!("/problems/{}", row.code),
            title: row.title,
            status: row.status,
            detail: self.detail(),
            code: self.code,
            instance: self.instance.map(|id| id.urn().to_string()),
            members: Members::clone(&self.members),
        }
    }
}

/// A problem in the format of RFC 9457.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// The address of the explanation of the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem, in words.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The reason and the advice.
    pub detail: String,
    /// The kind of problem, for programs.
    pub code: Code,
    /// The id of the request, as in the server's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The optional members.
    #[serde(flatten)]
    pub members: Members,
}
