//! Parses JSON-RPC messages leniently.

use rmcp::model::{
    CallToolResult, ClientJsonRpcMessage, ErrorCode, ErrorData, InitializeResult, JsonObject,
    RequestId, ServerJsonRpcMessage, ServerResult,
};
use serde_json::{Value, json};

use crate::local_error::LocalError;

/// The result of parsing one message of a server.
pub(super) enum Incoming {
    /// A message for the MCP library.
    Message(Box<ServerJsonRpcMessage>),
    /// A request that cannot be parsed, and the reply that rejects it.
    Rejected(Box<ClientJsonRpcMessage>),
    /// Not a JSON-RPC message.
    Ignored,
}

/// Parses the messages of a line: one message, or several in a batch.
pub(super) fn parse_messages(line: Value, initialize: Option<&RequestId>) -> Vec<Incoming> {
    match line {
        Value::Array(batch) => batch
            .into_iter()
            .map(|message| parse_message(message, initialize))
            .collect(),
        message => vec![parse_message(message, initialize)],
    }
}

/// Returns an error response to the request with this id.
pub(super) fn error_response(id: i64, local_error: LocalError) -> ServerJsonRpcMessage {
    ServerJsonRpcMessage::error(local_error.into_error(), Some(RequestId::Number(id)))
}

fn parse_message(message: Value, initialize: Option<&RequestId>) -> Incoming {
    let Value::Object(mut message) = message else {
        return Incoming::Ignored;
    };
    if message.get("method").is_some_and(Value::is_string) {
        return parse_server_message(message);
    }
    let Some(id) = message.get("id").and_then(request_id) else {
        return Incoming::Ignored;
    };
    let is_initialize = initialize == Some(&RequestId::Number(id));
    let read = match (error(message.remove("error")), message.remove("result")) {
        (Some(error), None | Some(Value::Null)) => Err(error),
        (Some(error), Some(Value::Object(result))) if result.is_empty() => Err(error),
        (None, Some(result)) if is_initialize => {
            parse_initialize_result(&result).ok_or(LocalError::Unreadable.into_error())
        }
        (None, Some(result)) => Ok(raw(result)),
        // The answer has neither an error nor a result, or both.
        _ => Err(LocalError::Unreadable.into_error()),
    };
    let id = RequestId::Number(id);
    Incoming::Message(Box::new(match read {
        Ok(result) => ServerJsonRpcMessage::response(result, id),
        Err(error) => ServerJsonRpcMessage::error(error, Some(id)),
    }))
}

/// Wraps a server's raw result in the library's type for tool results, because the library cancels
/// dropped calls of that type only. [`into_raw`] unwraps it.
fn raw(result: Value) -> ServerResult {
    let mut carrier = CallToolResult::success(Vec::new());
    carrier.structured_content = Some(result);
    ServerResult::CallToolResult(carrier)
}

/// Unwraps the raw result of a server.
pub(crate) fn into_raw(result: CallToolResult) -> Value {
    result.structured_content.unwrap_or_default()
}

/// Parses a request or notification of the server.
fn parse_server_message(mut message: JsonObject) -> Incoming {
    message.insert("jsonrpc".to_owned(), "2.0".into());
    message.retain(|key, value| !(value.is_null() && (key == "id" || key == "params")));
    let id = message.get("id").cloned();
    match (serde_json::from_value(Value::Object(message)), id) {
        (Ok(message), _) => Incoming::Message(Box::new(message)),
        (Err(error), Some(id)) => {
            tracing::debug!(%error, "tool server request cannot be parsed");
            let error = ErrorData::new(
                ErrorCode::INVALID_REQUEST,
                "the request cannot be parsed",
                None,
            );
            let id = serde_json::from_value(id).ok();
            Incoming::Rejected(Box::new(ClientJsonRpcMessage::error(error, id)))
        }
        (Err(error), None) => {
            tracing::debug!(%error, "tool server notification cannot be parsed");
            Incoming::Ignored
        }
    }
}

/// Returns a request id of this client, which is an integer. Some servers write it as text or as a
/// fraction.
fn request_id(id: &Value) -> Option<i64> {
    match id {
        Value::Number(number) => number.as_i64().or_else(|| {
            number
                .as_f64()
                .filter(|number| number.fract() == 0.0)
                .map(|number| number as i64)
        }),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Parses an error in any form. `None` if the value means no error.
fn error(error: Option<Value>) -> Option<ErrorData> {
    let (code, message) = match error? {
        Value::Null | Value::Bool(false) => return None,
        Value::String(text) if text.is_empty() => return None,
        Value::Object(object) if object.is_empty() => return None,
        Value::String(text) => (None, text),
        Value::Object(mut object) => {
            let code = object
                .get("code")
                .and_then(request_id)
                .and_then(|code| i32::try_from(code).ok());
            match object.remove("message") {
                Some(Value::String(message)) => (code, message),
                _ => (code, Value::Object(object).to_string()),
            }
        }
        other => (None, other.to_string()),
    };
    // `data` marks the errors of this client only.
    Some(ErrorData::new(
        code.map_or(ErrorCode::INTERNAL_ERROR, ErrorCode),
        message,
        None,
    ))
}

/// Parses the result of `initialize`. Only the version and the name are used.
fn parse_initialize_result(result: &Value) -> Option<ServerResult> {
    let result = result.as_object()?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let info = result.get("serverInfo");
    let member =
        |key| text(info.and_then(|info| info.get(key))).unwrap_or_else(|| "unknown".to_owned());
    let mut read = json!({
        "capabilities": { "tools": {} },
        "serverInfo": { "name": member("name"), "version": member("version") },
    });
    let version = text(result.get("protocolVersion")).or_else(|| {
        serde_json::to_value(rmcp::model::ProtocolVersion::default())
            .ok()?
            .as_str()
            .map(str::to_owned)
    });
    read.as_object_mut()?
        .insert("protocolVersion".to_owned(), version?.into());
    let read: InitializeResult = serde_json::from_value(read).ok()?;
    Some(ServerResult::InitializeResult(read))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(message: Value) -> Result<Value, ErrorData> {
        match parse_messages(message, None).pop() {
            Some(Incoming::Message(message)) => match *message {
                ServerJsonRpcMessage::Response(response) => {
                    assert_eq!(response.id, RequestId::Number(7));
                    let ServerResult::CallToolResult(result) = response.result else {
                        panic!("not raw")
                    };
                    Ok(into_raw(result))
                }
                ServerJsonRpcMessage::Error(error) => {
                    assert_eq!(error.id, Some(RequestId::Number(7)));
                    Err(error.error)
                }
                other => panic!("no answer: {other:?}"),
            },
            _ => panic!("no message"),
        }
    }

    #[test]
    fn a_result_is_read_despite_other_members() {
        for message in [
            json!({ "jsonrpc": "2.0", "id": 7, "result": { "a": 1 } }),
            json!({ "id": "7", "result": { "a": 1 }, "error": null }),
            json!({ "id": 7.0, "result": { "a": 1 }, "error": {} }),
            json!({ "id": 7, "result": { "a": 1 }, "error": false, "extra": [] }),
            json!([{ "id": 7, "result": { "a": 1 } }]),
        ] {
            assert_eq!(only(message.clone()), Ok(json!({ "a": 1 })), "{message}");
        }
    }

    #[test]
    fn an_error_is_read_in_every_form() {
        for (error, code, message) in [
            (json!({ "code": -32602, "message": "no" }), -32602, "no"),
            (
                json!({ "code": "-32602", "message": "no", "data": { "kind": "too_large" } }),
                -32602,
                "no",
            ),
            (json!({ "code": "E_FAIL", "message": "no" }), -32603, "no"),
            (
                json!({ "code": 9_999_999_999_u64, "message": "no" }),
                -32603,
                "no",
            ),
            (json!({ "code": -32000 }), -32000, r#"{"code":-32000}"#),
            (json!("no"), -32603, "no"),
            (json!([1]), -32603, "[1]"),
        ] {
            let read = only(json!({ "id": 7, "error": error, "result": null })).unwrap_err();
            assert_eq!(
                (read.code.0, read.message.as_ref(), read.data),
                (code, message, None),
                "{error}"
            );
        }
    }

    #[test]
    fn an_answer_needs_either_a_result_or_an_error() {
        for message in [
            json!({ "id": 7 }),
            json!({ "id": 7, "error": null }),
            json!({ "id": 7, "result": { "a": 1 }, "error": "no" }),
        ] {
            assert_eq!(
                LocalError::from_error(&only(message.clone()).unwrap_err()),
                Some(LocalError::Unreadable),
                "{message}"
            );
        }
    }

    #[test]
    fn server_requests_are_parsed_or_rejected() {
        let ping =
            parse_messages(json!({ "id": "a", "method": "ping", "params": null }), None).pop();
        assert!(matches!(
            ping,
            Some(Incoming::Message(message)) if matches!(
                *message, ServerJsonRpcMessage::Request(_),
            ),
        ));
        let odd = parse_messages(
            json!({ "id": 1, "method": "sampling/createMessage", "params": 7 }),
            None,
        )
        .pop();
        assert!(matches!(
            odd,
            Some(Incoming::Message(_) | Incoming::Rejected(_))
        ));
        for ignored in [
            json!(7),
            json!({}),
            json!({ "result": 1 }),
            json!({ "id": null, "error": { "code": 1, "message": "x" } }),
        ] {
            assert!(matches!(
                parse_messages(ignored, None).pop(),
                Some(Incoming::Ignored)
            ));
        }
        assert!(parse_messages(json!([]), None).is_empty());
    }

    #[test]
    fn the_initialize_result_needs_to_be_an_object_only() {
        for result in [
            json!({}),
            json!({
                "protocolVersion": 7, "capabilities": { "tools": true, "experimental": [] },
                "serverInfo": { "name": "a" },
            }),
            json!({
                "protocolVersion": "2024-11-05", "capabilities": [], "serverInfo": null,
                "instructions": 5,
            }),
        ] {
            assert!(
                matches!(
                    parse_initialize_result(&result),
                    Some(ServerResult::InitializeResult(_))
                ),
                "{result}"
            );
        }
        assert!(parse_initialize_result(&json!("hello")).is_none());
    }
}
