//! Problems (RFC 9457): the answers to requests that were refused or failed.
//!
//! [`Code`] is the one table of them; `docs/errors.md`, the OpenAPI document and every answer come
//! from it.

mod domain_errors;

use std::borrow::Cow;

use chat_domain::{ConversationId, FailureKind, TurnFailure, TurnId};
use serde::{Serialize, Serializer};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

/// One line of the table of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The stable name that programs decide by.
    pub code: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The kind of problem, in words.
    pub title: &'static str,
    /// The remedy.
    pub advice: &'static str,
    /// Members the problem may have besides those that all have.
    pub members: &'static [&'static str],
    /// Seconds after which trying again makes sense, sent as `Retry-After`.
    pub retry_after: Option<u32>,
}

macro_rules! table {
    ($($variant:ident $status:literal $code:literal $title:literal; $advice:literal $([$($member:literal),+])? $(, after $seconds:literal)?)+) => {
        /// The kind of problem, for programs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $title] $variant),+
        }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its line of the table.
            pub const fn row(self) -> Row {
                match self {
                    $(Self::$variant => Row {
                        code: $code,
                        status: $status,
                        title: $title,
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
    MissingToken 401 "missing_token" "No access token was sent";
        "Send exactly one header `Authorization: Bearer <token>`."
    InvalidToken 401 "invalid_token" "The access token is not valid";
        "Get a new token from the identity provider that this server trusts."
    TokenExpired 401 "token_expired" "The access token has expired";
        "Get a new token and send the request again."
    TokenNotYetValid 401 "token_not_yet_valid" "The access token is not valid yet";
        "Wait until the token's `nbf` or `iat`, or check the clocks of the issuer and of this server."
    WrongUser 403 "wrong_user" "The token belongs to another user";
        "Use the token's own subject (`sub`) as the user in the path."
    InvalidSignInCode 403 "invalid_sign_in_code" "The sign-in code is not valid";
        "A code works once. Start the server in development mode again for a new one, or sign in with the token that it printed."
    InvalidJson 400 "invalid_json" "The body is not acceptable JSON";
        "Send one JSON text in UTF-8, without duplicate names, at most 64 levels deep." ["line", "column"]
    InvalidRequest 422 "invalid_request" "The request is not what this route takes";
        "Correct the member that `path` names, or the parameter that `parameter` names." ["path", "parameter"]
    InvalidText 422 "invalid_text" "The text holds characters that cannot be kept";
        "Leave out U+0000 and surrogates without their other half." ["path", "line", "column"]
    MessageEmpty 422 "message_empty" "The message is empty";
        "Send a message with at least one character that is not white space." ["path"]
    MessageTooLong 422 "message_too_long" "The message is too long";
        "Send a shorter one; `limit` is the most that is allowed, `length` is what was sent." ["path", "limit", "length"]
    InvalidTitle 422 "invalid_title" "The title is not acceptable";
        "Send 1 to 200 characters without control characters." ["path"]
    InvalidCursor 422 "invalid_cursor" "The cursor does not belong here";
        "Use a cursor exactly as this route gave it, or leave it out to start over." ["parameter", "path"]
    InvalidIdempotencyKey 400 "invalid_idempotency_key" "The idempotency key is not acceptable";
        "Send one `Idempotency-Key` of 1 to 255 printable ASCII characters, for example a UUID." ["parameter"]
    IdempotencyMismatch 422 "idempotency_mismatch" "The idempotency key was used for another request";
        "Use a new key for a new request; repeat a request with exactly the same route and body."
    NotAcceptable 406 "not_acceptable" "No form of the answer is acceptable to the client";
        "Accept `application/json`, or `text/event-stream` where the route offers it."
    UnsupportedMediaType 415 "unsupported_media_type" "The body's media type is not supported";
        "Send the body as `Content-Type: application/json`, without `Content-Encoding`."
    BodyTooLarge 413 "body_too_large" "The body is too large";
        "Send at most `limit` bytes." ["limit"]
    BodyTimeout 408 "body_timeout" "The body came too slowly";
        "Send the whole body within 10 seconds."
    HeadersTooLarge 431 "headers_too_large" "The headers are too large";
        "Send at most `limit` bytes of headers." ["limit"]
    NotFound 404 "not_found" "There is no such route";
        "See `/openapi.json` for the routes of this server."
    MethodNotAllowed 405 "method_not_allowed" "The route does not have this method";
        "Use a method that the header `Allow` names."
    Unsupported 501 "unsupported" "This server does not do that";
        "The documentation of the ChatKit protocol, `docs/chatkit.md`, lists what there is."
    ConversationNotFound 404 "conversation_not_found" "There is no such conversation";
        "Check the id, or begin a new conversation by leaving it out."
    TurnNotFound 404 "turn_not_found" "There is no such turn";
        "Check the id; the turn's conversation may have been deleted."
    TurnSuperseded 409 "turn_superseded" "A retry has taken the place of this turn";
        "Retry the turn that took its place: it is the one that the conversation's messages name."
    ConversationBusy 409 "conversation_busy" "A turn of the conversation is running";
        "Wait for the end of the turn that `turn_id` names, cancel it, or send with `busy=enqueue` or `busy=interrupt`." ["turn_id"]
    TooManyQueued 429 "too_many_queued" "Too many messages wait in the conversation";
        "Wait until some of them are answered, then send again.", after 5
    AgentTimeout 504 "agent_timeout" "The agent took too long";
        "The message is kept. Retry the turn, or go on with another message." ["conversation_id", "turn_id"]
    AgentUnavailable 503 "agent_unavailable" "The agent cannot be reached";
        "The message is kept. Retry the turn in a while." ["conversation_id", "turn_id"], after 10
    AgentMisconfigured 502 "agent_misconfigured" "The agent refuses this server";
        "The message is kept. The operator has to check the agent's address, model, key and tools; the server's log has the reason." ["conversation_id", "turn_id"]
    AgentOverloaded 503 "agent_overloaded" "The agent has more to do than it can";
        "The message is kept. Retry the turn in a while." ["conversation_id", "turn_id"], after 10
    AgentProtocolError 502 "agent_protocol_error" "The agent's answer was not understood";
        "The message is kept. Retry the turn; if it happens again, the operator has to look at the agent." ["conversation_id", "turn_id"]
    ContextTooLong 422 "context_too_long" "The message is longer than the agent can read";
        "The message is kept. Send a shorter message, or ask for less at once: older turns were left out already." ["conversation_id", "turn_id"]
    AgentRefused 422 "agent_refused" "The agent refused the content";
        "The message is kept. Go on with another message." ["conversation_id", "turn_id"]
    AgentEmptyAnswer 502 "agent_empty_answer" "The agent's answer is empty";
        "The message is kept. Retry the turn; if it happens again, the operator has to raise the agent's limit of tokens for an answer, or choose another model." ["conversation_id", "turn_id"]
    StepLimit 502 "step_limit" "The turn needed more steps than allowed";
        "The message and all work done are kept. Ask for less at once." ["conversation_id", "turn_id"]
    TurnTimeout 504 "turn_timeout" "The turn took longer than allowed";
        "The message and all work done are kept. Retry the turn, or ask for less at once." ["conversation_id", "turn_id"]
    TooManyAttempts 500 "too_many_attempts" "The server failed at this turn again and again";
        "The message is kept. Go on with another message, and tell the operator." ["conversation_id", "turn_id"]
    ReplyTimeout 504 "reply_timeout" "The turn has not ended within the time that a reply may take";
        "The message is kept and its turn goes on. Do not send it again: read the turn that `turn_id` names, at `/api/{user_id}/turns/{turn_id}` or its `events`." ["conversation_id", "turn_id"]
    StoreUnavailable 503 "store_unavailable" "The database cannot be reached";
        "Send the same request again in a moment, with the same `Idempotency-Key` if it had one." ["conversation_id", "turn_id"], after 2
    StoreTimeout 503 "store_timeout" "The database is too slow";
        "Send the same request again in a moment, with the same `Idempotency-Key` if it had one." ["conversation_id", "turn_id"], after 2
    StoreFull 507 "store_full" "The database has no room left";
        "Reading still works. The operator has to make room." ["conversation_id", "turn_id"]
    StoreReadOnly 503 "store_read_only" "The database can only be read";
        "Reading still works. The operator has to make the database writable." ["conversation_id", "turn_id"], after 30
    StoreCorrupt 500 "store_corrupt" "The database is damaged";
        "Nothing more is stored. The operator has to restore the database from a backup." ["conversation_id", "turn_id"]
    ShuttingDown 503 "shutting_down" "This server is shutting down";
        "Send the same request again, with the same `Idempotency-Key` if it had one; another server will take it." ["conversation_id", "turn_id"], after 1
    ServerOverloaded 503 "server_overloaded" "Too much memory is held for other clients";
        "Send the same request again in a moment, with the same `Idempotency-Key` if it had one." ["conversation_id", "turn_id"], after 2
    TooManyConnections 503 "too_many_connections" "The server has too many connections";
        "Connect again in a moment. Clients with many requests should keep their connections and use them again.", after 2
    Internal 500 "internal" "The server made a mistake";
        "Tell the operator the value of `instance`: it is in the server's log." ["conversation_id", "turn_id"]
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
            .description(Some("What is wrong, for programs."))
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

/// A refusal or failure, and its remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The kind of problem, for programs.
    pub code: Code,
    /// The details of this occurrence, if there is more to say than the code's title. No secrets,
    /// no internals.
    pub reason: Option<String>,
    /// Names this occurrence; the log has it too.
    pub instance: Option<Uuid>,
    /// The members that some codes have.
    pub members: Box<Members>,
    /// Whether it is how a turn ended.
    is_turn_failure: bool,
}

/// Members that only some problems have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ProblemMembers)]
pub struct Members {
    /// The conversation it happened in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<Uuid>,
    /// The turn it happened to, or that is in the way.
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
    /// The same as `detail`, on ChatKit's routes alone: its front end shows this member.
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

/// The remedy where a turn ended because of the server itself.
const TURN_FAILURE_ADVICE: &str =
    "The message is kept. Retry the turn; if it fails again, tell the operator.";

/// The remedy where a problem names the turn of a stored message.
const KEPT_MESSAGE_ADVICE: &str = Code::ReplyTimeout.row().advice;

impl Problem {
    /// The media type of its JSON.
    pub const MEDIA_TYPE: &'static str = "application/problem+json";

    /// A problem that has more to say than its code's title.
    pub fn new(code: Code, reason: impl Into<String>) -> Self {
        Self {
            reason: Some(reason.into()),
            ..Self::from(code)
        }
    }

    /// Something is larger than `limit`.
    pub fn limit_exceeded(code: Code, limit: usize) -> Self {
        let mut problem = Self::from(code);
        problem.members.limit = Some(limit);
        problem
    }

    /// A member of the body is wrong; `path` is its JSON Pointer.
    pub fn at_member(
        code: Code,
        path: impl Into<Cow<'static, str>>,
        reason: impl Into<String>,
    ) -> Self {
        let mut problem = Self::new(code, reason);
        problem.members.path = Some(path.into());
        problem
    }

    /// A parameter of the path, the query or the header is wrong.
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

    /// The same, with the turn and its conversation.
    #[must_use]
    pub fn in_turn(mut self, conversation: ConversationId, turn: TurnId) -> Self {
        self.members.conversation_id = Some(conversation.0);
        self.members.turn_id = Some(turn.0);
        self
    }

    /// The details and the remedy, in words.
    pub fn detail(&self) -> String {
        let Row { title, advice, .. } = self.code.row();
        let reason = self.reason.as_deref().unwrap_or(title);
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

    /// Whether the message was stored before it went wrong, so that sending it again would double
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

    /// The body that a client gets.
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

/// A problem as RFC 9457 writes it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// A reference to the explanation of the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem, in words.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The details of this occurrence, and the remedy.
    pub detail: String,
    /// The kind of problem, for programs.
    pub code: Code,
    /// Names this occurrence: the request's id, which the server's log has too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Members that only some codes have.
    #[serde(flatten)]
    pub members: Members,
}
