//! Requests of ChatKit's front ends: one JSON object with a `type` and its `params`.
//!
//! Numbers may be texts, as pydantic accepts them. Unknown members are ignored.

use chat_domain::{
    ConversationId, Feedback, IdempotencyKey, InvalidInput, MessageId, PageOrder, Title,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::ids::{ItemId, ItemKind, ThreadId};
use super::pages::{ItemPageRequest, PageExtent, ThreadPageRequest};
use crate::json;
use crate::native::request::fingerprint;
use crate::problem::{Code, Problem};

/// The longest reason of a problem, in characters: it may have text of the client.
const MAX_REASON_CHARS: usize = 200;

/// A request of a front end.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// A request that is answered by a stream.
    Stream(StreamingRequest),
    /// A request that is answered by one object.
    Unary(UnaryRequest),
}

/// A request that is answered by a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum StreamingRequest {
    /// `threads.create`: a message that starts a thread.
    Create {
        /// The text.
        text: String,
    },
    /// `threads.add_user_message`: a message to a thread.
    AddUserMessage {
        /// The thread.
        thread: ConversationId,
        /// The text.
        text: String,
    },
    /// `threads.retry_after_item`: a message to retry.
    Retry {
        /// The thread.
        thread: ConversationId,
        /// The user message.
        question: MessageId,
    },
    /// A reply to an item that the server never sends.
    Unexpected {
        /// The thread.
        thread: ConversationId,
        /// The problem for the user.
        reason: Problem,
    },
    /// A message that is rejected, with a problem for the user.
    Refused(Problem),
}

/// A request that is answered by one object.
#[derive(Debug, PartialEq, Eq)]
pub enum UnaryRequest {
    /// `threads.get_by_id`.
    Get(ConversationId),
    /// `threads.list`.
    List(ThreadPageRequest),
    /// `items.list`.
    Items(ItemPageRequest),
    /// `items.feedback`.
    Feedback {
        /// The thread.
        thread: ConversationId,
        /// The messages that the items belong to.
        messages: Vec<MessageId>,
        /// The owner's feedback.
        feedback: Feedback,
    },
    /// `threads.update`.
    Rename {
        /// The thread.
        thread: ConversationId,
        /// Its new title.
        title: Title,
    },
    /// `threads.delete`.
    Delete(ConversationId),
}

#[derive(Deserialize)]
struct ThreadParams {
    thread_id: String,
}

#[derive(Deserialize)]
struct CreateParams {
    input: Input,
}

#[derive(Deserialize)]
struct AddUserMessageParams {
    thread_id: String,
    input: Input,
}

#[derive(Deserialize)]
struct Input {
    content: Vec<Content>,
    attachments: Vec<String>,
    // The server chooses the model.
    #[serde(rename = "inference_options")]
    _inference_options: InferenceOptions,
    quoted_text: Option<String>,
}

#[derive(Deserialize)]
struct InferenceOptions {
    #[serde(rename = "model")]
    _model: Option<String>,
    #[serde(rename = "tool_choice")]
    _tool_choice: Option<ToolChoice>,
}

#[derive(Deserialize)]
struct ToolChoice {
    #[serde(rename = "id")]
    _id: String,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Content {
    InputText {
        text: String,
    },
    InputTag {
        #[serde(rename = "id")]
        _id: String,
        text: String,
        #[serde(rename = "data")]
        _data: Map<String, Value>,
    },
}

#[derive(Deserialize)]
struct ItemParams {
    thread_id: String,
    item_id: String,
}

#[derive(Deserialize)]
struct ToolOutputParams {
    thread_id: String,
    #[serde(rename = "result")]
    _result: Value,
}

#[derive(Deserialize)]
struct StructuredInputParams {
    thread_id: String,
    #[serde(rename = "item_id")]
    _item_id: String,
    #[serde(rename = "input")]
    _input: Map<String, Value>,
}

#[derive(Deserialize)]
struct CustomActionParams {
    thread_id: String,
    #[serde(rename = "item_id")]
    _item_id: Option<String>,
    #[serde(rename = "action")]
    _action: Action,
}

#[derive(Deserialize)]
struct Action {
    #[serde(rename = "type")]
    _kind: String,
}

#[derive(Deserialize)]
struct ListParams {
    #[serde(default, deserialize_with = "number")]
    limit: Option<u32>,
    #[serde(default)]
    order: SortOrder,
    after: Option<String>,
}

#[derive(Deserialize)]
struct ItemListParams {
    thread_id: String,
    #[serde(flatten)]
    list: ListParams,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum SortOrder {
    Asc,
    #[default]
    Desc,
}

#[derive(Deserialize)]
struct FeedbackParams {
    thread_id: String,
    item_ids: Vec<String>,
    kind: String,
}

#[derive(Deserialize)]
struct RenameParams {
    thread_id: String,
    title: String,
}

/// A non-negative integer, which may be a text or have a fraction of zero.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let read = |value: &Value| match value {
        Value::String(text) => text.trim().parse::<u32>().ok(),
        Value::Number(number) => match number.as_u64() {
            Some(whole) => Some(u32::try_from(whole).unwrap_or(u32::MAX)),
            None => number
                .as_f64()
                .filter(|float| float.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(float))
                .map(|float| float as u32),
        },
        _ => None,
    };
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        value => read(&value)
            .map(Some)
            .ok_or_else(|| serde::de::Error::custom("`limit` is not a whole number from 0")),
    }
}

/// Decodes a request.
///
/// # Errors
/// `invalid_json`, `invalid_request`, `invalid_text`, `invalid_title`, `invalid_cursor`;
/// `conversation_not_found` for an invalid id of a thread; `unsupported`.
pub fn read(body: &[u8]) -> Result<Request, Problem> {
    let Value::Object(mut members) = json::read(body)? else {
        return Err(Problem::at_member(
            Code::InvalidRequest,
            "",
            "The body is not a JSON object",
        ));
    };
    if members
        .get("metadata")
        .is_some_and(|metadata| !metadata.is_object())
    {
        return Err(Problem::at_member(
            Code::InvalidRequest,
            "/metadata",
            "The member `/metadata` is not an object",
        ));
    }
    let Some(Value::String(kind)) = members.remove("type") else {
        return Err(Problem::at_member(
            Code::InvalidRequest,
            "/type",
            "The member `/type` is missing, or not a string",
        ));
    };
    let params = members.remove("params").unwrap_or_default();
    let unsupported = |what: &str| Problem::new(Code::Unsupported, what);
    Ok(match kind.as_str() {
        "threads.create" => {
            let CreateParams { input } = decode(params)?;
            Request::Stream(input.text().map_or_else(StreamingRequest::Refused, |text| {
                StreamingRequest::Create { text }
            }))
        }
        "threads.add_user_message" => {
            let AddUserMessageParams { thread_id, input } = decode(params)?;
            let thread = thread(&thread_id)?;
            Request::Stream(input.text().map_or_else(StreamingRequest::Refused, |text| {
                StreamingRequest::AddUserMessage { thread, text }
            }))
        }
        "threads.retry_after_item" => {
            let ItemParams { thread_id, item_id } = decode(params)?;
            let thread = thread(&thread_id)?;
            let question = ItemId::parse(&item_id).ok_or(Code::TurnNotFound)?;
            if question.kind != ItemKind::Message {
                return Err(Problem::at_member(
                    Code::InvalidRequest,
                    "/params/item_id",
                    "Only a user message can be retried",
                ));
            }
            Request::Stream(StreamingRequest::Retry {
                thread,
                question: question.message,
            })
        }
        "threads.add_client_tool_output" => {
            let ToolOutputParams { thread_id, .. } = decode(params)?;
            unexpected(
                &thread_id,
                "The conversation does not wait for a browser tool",
            )?
        }
        "threads.add_structured_input" => {
            let StructuredInputParams { thread_id, .. } = decode(params)?;
            unexpected(&thread_id, "The conversation does not wait for a form")?
        }
        "threads.custom_action" => {
            let CustomActionParams { thread_id, .. } = decode(params)?;
            unexpected(&thread_id, "The conversation has no widgets")?
        }
        "threads.get_by_id" => Request::Unary(UnaryRequest::Get(thread(
            &decode::<ThreadParams>(params)?.thread_id,
        )?)),
        "threads.list" => {
            let list: ListParams = decode(params)?;
            let after = list
                .after
                .as_deref()
                .map(|id| {
                    ThreadId::parse(id)
                        .map(|thread| thread.0)
                        .ok_or_else(invalid_cursor)
                })
                .transpose()?;
            Request::Unary(UnaryRequest::List(ThreadPageRequest {
                extent: list.extent(),
                after,
            }))
        }
        "items.list" => {
            let ItemListParams { thread_id, list } = decode(params)?;
            let after = list
                .after
                .as_deref()
                .map(|id| ItemId::parse(id).ok_or_else(invalid_cursor))
                .transpose()?;
            Request::Unary(UnaryRequest::Items(ItemPageRequest {
                conversation: thread(&thread_id)?,
                after,
                extent: list.extent(),
            }))
        }
        "items.feedback" => {
            let FeedbackParams {
                thread_id,
                item_ids,
                kind,
            } = decode(params)?;
            let feedback = Feedback::from_code(&kind);
            let feedback = feedback.ok_or_else(|| {
                invalid_params("The member `/params/kind` is neither `positive` nor `negative`")
            })?;
            let messages = item_ids.iter().map(|id| {
                ItemId::parse(id)
                    .map(|item| item.message)
                    .ok_or(Code::ConversationNotFound)
            });
            Request::Unary(UnaryRequest::Feedback {
                thread: thread(&thread_id)?,
                messages: messages.collect::<Result<_, _>>()?,
                feedback,
            })
        }
        "threads.update" => {
            let RenameParams { thread_id, title } = decode(params)?;
            let title = Title::new(&title).map_err(|_| InvalidInput::Title)?;
            Request::Unary(UnaryRequest::Rename {
                thread: thread(&thread_id)?,
                title,
            })
        }
        "threads.delete" => Request::Unary(UnaryRequest::Delete(thread(
            &decode::<ThreadParams>(params)?.thread_id,
        )?)),
        "threads.sync_custom_action" => {
            return Err(unsupported("This server has no widgets"));
        }
        "attachments.create" | "attachments.delete" => {
            return Err(unsupported("This server does not support attachments"));
        }
        "input.transcribe" => {
            return Err(unsupported("This server does not transcribe speech"));
        }
        _ => {
            return Err(Problem::at_member(
                Code::InvalidRequest,
                "/type",
                "The member `/type` is not a request of the ChatKit protocol",
            ));
        }
    })
}

/// Decodes the params of a request.
fn decode<T: DeserializeOwned>(params: Value) -> Result<T, Problem> {
    serde_json::from_value(params).map_err(|error| invalid_params(&error.to_string()))
}

fn invalid_params(what: &str) -> Problem {
    let reason: String = what.chars().take(MAX_REASON_CHARS).collect();
    Problem::at_member(Code::InvalidRequest, "/params", reason)
}

fn invalid_cursor() -> Problem {
    Problem::at_member(
        Code::InvalidCursor,
        "/params/after",
        "The member `/params/after` is not the id of an object of this list",
    )
}

/// The conversation of a thread's id. An invalid id names a thread that does not exist.
fn thread(id: &str) -> Result<ConversationId, Problem> {
    ThreadId::parse(id)
        .map(|thread| thread.0)
        .ok_or_else(|| Code::ConversationNotFound.into())
}

fn unexpected(thread_id: &str, reason: &str) -> Result<Request, Problem> {
    Ok(Request::Stream(StreamingRequest::Unexpected {
        thread: thread(thread_id)?,
        reason: Problem::new(Code::Unsupported, reason),
    }))
}

impl ListParams {
    fn extent(&self) -> PageExtent {
        let order = match self.order {
            SortOrder::Asc => PageOrder::OldestFirst,
            SortOrder::Desc => PageOrder::NewestFirst,
        };
        PageExtent::new(self.limit, order)
    }
}

impl Input {
    /// The message as one text: first the quoted text; tags by their names.
    fn text(self) -> Result<String, Problem> {
        if !self.attachments.is_empty() {
            return Err(Problem::new(
                Code::Unsupported,
                "This server does not support attachments",
            ));
        }
        let mut text = String::new();
        for line in self.quoted_text.iter().flat_map(|quoted| quoted.lines()) {
            text.push_str(&format!("> {line}\n"));
        }
        if !text.is_empty() {
            text.push('\n');
        }
        let parts = self.content.into_iter().map(|part| match part {
            Content::InputText { text } | Content::InputTag { text, .. } => text,
        });
        text.extend(parts);
        Ok(text)
    }
}

/// The idempotency key of a request of the front end. The front end repeats a request whose outcome
/// it does not know with the same body and the same `frame`, which stays the same until its page is
/// closed.
pub fn frame_key(frame: &[u8], body: &[u8]) -> IdempotencyKey {
    let mut digest = Sha256::new();
    digest.update(u64::try_from(frame.len()).unwrap_or(u64::MAX).to_be_bytes());
    digest.update(frame);
    digest.update(body);
    let digest: [u8; 32] = digest.finalize().into();
    let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    IdempotencyKey {
        key: format!("chatkit {name}"),
        fingerprint: digest,
    }
}

/// The idempotency key of a request with a key of the client.
pub fn client_key(key: String, body: &[u8]) -> IdempotencyKey {
    IdempotencyKey {
        key,
        fingerprint: fingerprint("POST /chatkit", body),
    }
}
