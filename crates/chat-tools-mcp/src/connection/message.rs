//! Reads JSON-RPC messages leniently.

use rmcp::model::{
    CallToolResult, ClientJsonRpcMessage, ErrorCode, ErrorData, InitializeResult, JsonObject,
    RequestId, ServerJsonRpcMessage, ServerResult,
};
use serde_json::{Value, json};

use crate::failure::Failure;

/// What one message of a server comes to.
pub(super) enum Incoming {
    /// A message for the library.
    Message(Box<ServerJsonRpcMessage>),
    /// A request that cannot be read, and the reply that says so.
    Rejected(Box<ClientJsonRpcMessage>),
    /// No JSON-RPC message.
    Noise,
}

/// The messages of a line: one, or several in a batch.
pub(super) fn read(line: Value, initialize: Option<&RequestId>) -> Vec<Incoming> {
    match line {
        Value::Array(batch) => batch
            .into_iter()
            .map(|message| one(message, initialize))
            .collect(),
        message => vec![one(message, initialize)],
    }
}

/// The failure of the request with this id.
pub(super) fn failure(id: i64, failure: Failure) -> ServerJsonRpcMessage {
    ServerJsonRpcMessage::error(failure.into_error(), Some(RequestId::Number(id)))
}

fn one(message: Value, initialize: Option<&RequestId>) -> Incoming {
    let Value::Object(mut message) = message else {
        return Incoming::Noise;
    };
    if message.get("method").is_some_and(Value::is_string) {
        return from_server(message);
    }
    let Some(id) = message.get("id").and_then(request_id) else {
        return Incoming::Noise;
    };
    let is_initialize = initialize == Some(&RequestId::Number(id));
    let read = match (error(message.remove("error")), message.remove("result")) {
        (Some(error), None | Some(Value::Null)) => Err(error),
        (Some(error), Some(Value::Object(result))) if result.is_empty() => Err(error),
        (None, Some(result)) if is_initialize => {
            initialized(&result).ok_or(Failure::Unreadable.into_error())
        }
        (None, Some(result)) => Ok(raw(result)),
        // Neither an error nor a result, or both.
        _ => Err(Failure::Unreadable.into_error()),
    };
    let id = RequestId::Number(id);
    Incoming::Message(Box::new(match read {
        Ok(result) => ServerJsonRpcMessage::response(result, id),
        Err(error) => ServerJsonRpcMessage::error(error, Some(id)),
    }))
}

/// A result as the server wrote it. The library's own type for a tool's result carries it, so that
/// the library cancels calls whose answers are not awaited any more; [`into_raw`] takes it out
/// again.
fn raw(result: Value) -> ServerResult {
    let mut carrier = CallToolResult::success(Vec::new());
    carrier.structured_content = Some(result);
    ServerResult::CallToolResult(carrier)
}

/// The result that a server wrote.
pub(crate) fn into_raw(result: CallToolResult) -> Value {
    result.structured_content.unwrap_or_default()
}

/// A request or a notification of the server.
fn from_server(mut message: JsonObject) -> Incoming {
    message.insert("jsonrpc".to_owned(), "2.0".into());
    message.retain(|key, value| !(value.is_null() && (key == "id" || key == "params")));
    let id = message.get("id").cloned();
    match (serde_json::from_value(Value::Object(message)), id) {
        (Ok(message), _) => Incoming::Message(Box::new(message)),
        (Err(error), Some(id)) => {
            tracing::debug!(%error, "a request of a tool server cannot be read");
            let error = ErrorData::new(
                ErrorCode::INVALID_REQUEST,
                "the request cannot be read",
                None,
            );
            let id = serde_json::from_value(id).ok();
            Incoming::Rejected(Box::new(ClientJsonRpcMessage::error(error, id)))
        }
        (Err(error), None) => {
            tracing::debug!(%error, "a notification of a tool server cannot be read");
            Incoming::Noise
        }
    }
}

/// Our own ids are whole numbers; some servers write them as text or as fractions.
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

/// An error in any form; `None` for what stands for no error.
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
    // `data` is for our own failures alone.
    Some(ErrorData::new(
        code.map_or(ErrorCode::INTERNAL_ERROR, ErrorCode),
        message,
        None,
    ))
}

/// The answer to `initialize`, of which only the version and the name are used.
fn initialized(result: &Value) -> Option<ServerResult> {
    let result = result.as_object()?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let info = result.get("serverInfo");
    let member =
        |key| text(info.and_then(|info| info.get(key))).unwrap_or_else(|| "unknown".to_owned());
    let mut read = json!({ "capabilities": { "tools": {} }, "serverInfo": { "name": member("name"), "version": member("version") } });
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
        match read(message, None).pop() {
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
    fn a_result_is_taken_whatever_stands_beside_it() {
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
    fn an_error_is_read_in_any_form() {
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
    fn neither_or_both_are_unreadable() {
        for message in [
            json!({ "id": 7 }),
            json!({ "id": 7, "error": null }),
            json!({ "id": 7, "result": { "a": 1 }, "error": "no" }),
        ] {
            assert_eq!(
                Failure::of(&only(message.clone()).unwrap_err()),
                Some(Failure::Unreadable),
                "{message}"
            );
        }
    }

    #[test]
    fn requests_of_the_server_are_read_or_rejected() {
        let ping = read(json!({ "id": "a", "method": "ping", "params": null }), None).pop();
        assert!(
            matches!(ping, Some(Incoming::Message(message)) if matches!(*message, ServerJsonRpcMessage::Request(_)))
        );
        let odd = read(
            json!({ "id": 1, "method": "sampling/createMessage", "params": 7 }),
            None,
        )
        .pop();
        assert!(matches!(
            odd,
            Some(Incoming::Message(_) | Incoming::Rejected(_))
        ));
        for noise in [
            json!(7),
            json!({}),
            json!({ "result": 1 }),
            json!({ "id": null, "error": { "code": 1, "message": "x" } }),
        ] {
            assert!(matches!(read(noise, None).pop(), Some(Incoming::Noise)));
        }
        assert!(read(json!([]), None).is_empty());
    }

    #[test]
    fn the_handshake_needs_no_more_than_an_object() {
        for result in [
            json!({}),
            json!({ "protocolVersion": 7, "capabilities": { "tools": true, "experimental": [] }, "serverInfo": { "name": "a" } }),
            json!({ "protocolVersion": "2024-11-05", "capabilities": [], "serverInfo": null, "instructions": 5 }),
        ] {
            assert!(
                matches!(
                    initialized(&result),
                    Some(ServerResult::InitializeResult(_))
                ),
                "{result}"
            );
        }
        assert!(initialized(&json!("hello")).is_none());
    }
}
