//! Conversations, and the messages and tool calls in them.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use chat_protocol::native::ConversationObject;
use chat_protocol::native::request::{self, RenameRequest};
use chat_protocol::native::{
    ConversationList, ConversationPageRequest, MessageList, MessagePageRequest, ToolCallList,
    ToolCallPageRequest,
};

use crate::http::body::read_json;
use crate::http::{Caller, parameters};
use crate::problem::ApiError;
use crate::state::AppState;

/// List conversations
///
/// In the order of their last activity, the newest first.
#[utoipa::path(
    get,
    operation_id = "listConversations",
    path = "/api/{user_id}/conversations",
    tag = "conversations",
    params(
        (
            "limit" = Option<u32>, Query,
            description = "The size of the page; 20 by default.",
            minimum = 1,
            maximum = 100,
        ),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before."),
    ),
    responses((status = 200, description = "A page of conversations.", body = ConversationList))
)]
pub async fn list(
    state: web::Data<AppState>,
    Caller(owner): Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let page = ConversationPageRequest::decode(&parameters::query(&request))?;
    let found = state
        .runner
        .call(move |service| async move { service.conversations(&owner, page.page()).await })
        .await?;
    Ok(HttpResponse::Ok().json(page.encode(found)))
}

/// Get a conversation
#[utoipa::path(
    get,
    operation_id = "getConversation",
    path = "/api/{user_id}/conversations/{conversation_id}",
    tag = "conversations",
    responses((status = 200, description = "The conversation.", body = ConversationObject))
)]
pub async fn get(
    state: web::Data<AppState>,
    Caller(owner): Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let id = parameters::conversation(&request)?;
    let found = state
        .runner
        .call(move |service| async move { service.conversation(&owner, id).await })
        .await?;
    Ok(HttpResponse::Ok().json(ConversationObject::from(&found)))
}

/// Rename a conversation
#[utoipa::path(
    patch,
    operation_id = "renameConversation",
    path = "/api/{user_id}/conversations/{conversation_id}",
    tag = "conversations",
    request_body = RenameRequest,
    responses((status = 200, description = "The conversation, renamed.", body = ConversationObject))
)]
pub async fn rename(
    state: web::Data<AppState>,
    Caller(owner): Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let id = parameters::conversation(&request)?;
    let title = request::title(&read_json(&request, payload, &state).await?)?;
    let renamed = state
        .runner
        .call(move |service| async move { service.rename(&owner, id, &title).await })
        .await?;
    Ok(HttpResponse::Ok().json(ConversationObject::from(&renamed)))
}

/// Delete a conversation
///
/// With its messages and turns. A running turn stops.
#[utoipa::path(
    delete,
    operation_id = "deleteConversation",
    path = "/api/{user_id}/conversations/{conversation_id}",
    tag = "conversations",
    responses((status = 204, description = "The conversation is deleted."))
)]
pub async fn delete(
    state: web::Data<AppState>,
    Caller(owner): Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let id = parameters::conversation(&request)?;
    state
        .runner
        .call(move |service| async move { service.delete(&owner, id).await })
        .await?;
    Ok(HttpResponse::new(StatusCode::NO_CONTENT))
}

/// List a conversation's messages
///
/// In chronological order, page by page in both directions; the newest page if neither `before` nor
/// `after` is given. A turn has one user message and at most one assistant message, with all the
/// turn's text and tool calls. A turn that failed or was cancelled before the assistant wrote text
/// or called a tool has only the user message, which then has the turn's error.
#[utoipa::path(
    get,
    operation_id = "listMessages",
    path = "/api/{user_id}/conversations/{conversation_id}/messages",
    tag = "conversations",
    params(
        (
            "limit" = Option<u32>, Query,
            description = "The size of the page; 50 by default.",
            minimum = 1,
            maximum = 200,
        ),
        (
            "before" = Option<String>, Query,
            description = "The `previous_cursor` of a page: the messages before it.",
        ),
        (
            "after" = Option<String>, Query,
            description = "The `next_cursor` of a page: the messages after it.",
        ),
        (
            "superseded" = Option<String>, Query,
            description = "`include` lists the messages of superseded turns too; `exclude` \
                (default) does not.",
        ),
    ),
    responses((status = 200, description = "A page of messages.", body = MessageList))
)]
pub async fn messages(
    state: web::Data<AppState>,
    Caller(owner): Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let id = parameters::conversation(&request)?;
    let page = MessagePageRequest::decode(id, &parameters::query(&request))?;
    let found = state
        .runner
        .call(move |service| async move { service.turns(&owner, id, page.page()).await })
        .await?;
    Ok(HttpResponse::Ok().json(page.encode(&found)))
}

/// List a conversation's tool calls
///
/// In the order in which they were recorded, including those of superseded turns: an audit log.
#[utoipa::path(
    get,
    operation_id = "listToolCalls",
    path = "/api/{user_id}/conversations/{conversation_id}/tool-calls",
    tag = "conversations",
    params(
        (
            "limit" = Option<u32>, Query,
            description = "The size of the page; 50 by default.",
            minimum = 1,
            maximum = 200,
        ),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before."),
    ),
    responses((status = 200, description = "A page of tool calls.", body = ToolCallList))
)]
pub async fn tool_calls(
    state: web::Data<AppState>,
    Caller(owner): Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let id = parameters::conversation(&request)?;
    let page = ToolCallPageRequest::decode(id, &parameters::query(&request))?;
    let found = state
        .runner
        .call(move |service| async move { service.tool_calls(&owner, id, page.page()).await })
        .await?;
    Ok(HttpResponse::Ok().json(page.encode(found)))
}
