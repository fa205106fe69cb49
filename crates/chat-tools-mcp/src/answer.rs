//! Converts a server's answer to the outcome of a tool call.

use chat_domain::{CallError, RawJson, ToolError, ToolErrorKind, ToolOutput, without_nul};
use rmcp::ServiceError;
use rmcp::model::{CallToolResponse, ErrorCode, JsonObject};
use serde_json::{Value, json};

use crate::connection::{MAX_LINE_BYTES, into_raw};
use crate::local_error::LocalError;

/// Longest error message that is passed on, in characters.
const MAX_MESSAGE_CHARS: usize = 4_000;

/// The outcome of a call, and a defect of the answer for the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) result: Result<ToolOutput, CallError>,
    /// The reason why the answer is invalid.
    pub(crate) defect: Option<&'static str>,
}

impl From<Result<ToolOutput, CallError>> for Outcome {
    fn from(result: Result<ToolOutput, CallError>) -> Self {
        Self {
            result,
            defect: None,
        }
    }
}

/// Converts the answer to a call. If the answer is invalid, the call may have taken effect: its
/// outcome is unknown, unless the tool is repeatable.
pub(crate) fn outcome(answer: Result<CallToolResponse, ServiceError>, repeatable: bool) -> Outcome {
    match answer {
        Ok(CallToolResponse::Complete(result)) => parse_result(into_raw(result), repeatable),
        // The connection passes on no other form of results.
        Ok(_) => invalid_answer("the answer is not a result", "", repeatable),
        Err(error) => request_error(error, repeatable),
    }
}

/// Returns the outcome of a call that was not answered within `limit`.
pub(crate) fn timeout_error(limit: std::time::Duration, repeatable: bool) -> CallError {
    match repeatable {
        true => ToolError::new(
            ToolErrorKind::TimedOut,
            format!("The tool did not answer within {limit:?}."),
        )
        .into(),
        false => CallError::Unknown,
    }
}

fn parse_result(result: Value, repeatable: bool) -> Outcome {
    let mut result = match result {
        Value::Object(result) => result,
        Value::Null => return invalid_answer("the result is null", "", repeatable),
        value => return Ok(ToolOutput(raw_json(value.to_string()))).into(),
    };
    match result.get("resultType").and_then(Value::as_str) {
        Some("input_required") => {
            return Err(failed("The tool requires client input, which is not supported.").into())
                .into();
        }
        Some("task") => {
            return invalid_answer(
                "the server started a task that was not requested",
                "",
                repeatable,
            );
        }
        _ => {}
    }
    let structured = result
        .remove("structuredContent")
        .or_else(|| result.remove("toolResult"));
    let blocks = result.remove("content").and_then(blocks);
    match is_error(&result) {
        Some(false) => {}
        Some(true) => {
            return Err(failed(&error_text(blocks.as_deref(), structured.as_ref())).into()).into();
        }
        None => {
            return invalid_answer(
                "`isError` is not a boolean",
                &error_text(blocks.as_deref(), structured.as_ref()),
                repeatable,
            );
        }
    }
    let json = match (structured, blocks.as_deref()) {
        (Some(value), Some([block]))
            if text(block).and_then(portable_json).as_ref() == Some(&value) =>
        {
            text(block).unwrap_or_default().to_owned()
        }
        (Some(Value::Null), Some([_, ..])) | (None, Some(_)) => {
            content_json(blocks.unwrap_or_default())
        }
        (Some(value), _) => value.to_string(),
        (None, None) => return invalid_answer("the result has no content", "", repeatable),
    };
    Ok(ToolOutput(raw_json(json))).into()
}

/// Formats content as JSON: a text that is JSON as it is, another text as a string, and other
/// content as the array of its blocks.
fn content_json(blocks: Vec<Value>) -> String {
    match blocks.as_slice() {
        [block] => match text(block) {
            Some(text) if portable_json(text).is_some() => text.to_owned(),
            Some(text) => Value::from(text).to_string(),
            None => Value::Array(blocks).to_string(),
        },
        _ => Value::Array(blocks).to_string(),
    }
}

/// Returns the blocks of content that is a list, one block or one text. Blocks of unknown types are
/// kept.
fn blocks(content: Value) -> Option<Vec<Value>> {
    let block = |block: Value| match block {
        Value::Object(_) => block,
        Value::String(text) => text_block(&text),
        _ => text_block("[unsupported content]"),
    };
    match content {
        Value::Array(blocks) => Some(blocks.into_iter().map(block).collect()),
        content @ (Value::Object(_) | Value::String(_)) => Some(vec![block(content)]),
        _ => None,
    }
}

fn text_block(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

/// Returns the text of a text block.
fn text(block: &Value) -> Option<&str> {
    let is_text = block.get("type").is_none_or(|kind| kind == "text");
    is_text.then(|| block.get("text")?.as_str()).flatten()
}

/// Whether a result reports an error. `None` if the flag is invalid.
fn is_error(result: &JsonObject) -> Option<bool> {
    match result.get("isError") {
        None | Some(Value::Null) => Some(false),
        Some(Value::Bool(is_error)) => Some(*is_error),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") || text.is_empty() => {
            Some(false)
        }
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Some(true),
        Some(Value::Number(number)) if number.as_f64() == Some(0.0) => Some(false),
        Some(Value::Number(number)) if number.as_f64() == Some(1.0) => Some(true),
        Some(_) => None,
    }
}

/// Parses JSON that every library can represent: without lone surrogates and numbers beyond a
/// double.
fn portable_json(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

/// Replaces U+0000 in valid JSON, where only an escape can represent it.
pub(crate) fn raw_json(json: String) -> RawJson {
    if !json.contains("\\u0000") {
        return RawJson::from_valid(json);
    }
    let mut clean = String::with_capacity(json.len());
    let mut rest = json.as_str();
    while let Some((before, escape)) = rest.split_once('\\') {
        clean.push_str(before);
        rest = match escape.strip_prefix("u0000") {
            Some(after) => {
                clean.push_str("\\ufffd");
                after
            }
            None => {
                // The escaped character may be a backslash, which then escapes nothing.
                let (escaped, after) =
                    escape.split_at(escape.chars().next().map_or(0, char::len_utf8));
                clean.push('\\');
                clean.push_str(escaped);
                after
            }
        };
    }
    clean.push_str(rest);
    RawJson::from_valid(clean)
}

fn error_text(blocks: Option<&[Value]>, structured: Option<&Value>) -> String {
    let texts: Vec<&str> = blocks.unwrap_or_default().iter().filter_map(text).collect();
    match (texts.join("\n"), structured) {
        (text, _) if !text.trim().is_empty() => text,
        (_, Some(value)) => value.to_string(),
        (_, None) => "The tool failed without a message.".to_owned(),
    }
}

fn failed(message: &str) -> ToolError {
    ToolError::new(ToolErrorKind::Failed, truncate(message))
}

/// Returns the outcome of a call whose answer is invalid.
fn invalid_answer(defect: &'static str, readable: &str, repeatable: bool) -> Outcome {
    let result = match repeatable {
        true => {
            let message = "The tool ran, but its answer is invalid.";
            Err(failed([message, readable].join(" ").trim()).into())
        }
        false => Err(CallError::Unknown),
    };
    Outcome {
        result,
        defect: Some(defect),
    }
}

fn truncate(message: &str) -> String {
    let mut text: String = message.chars().take(MAX_MESSAGE_CHARS).collect();
    if text.len() < message.len() {
        text.push('…');
    }
    without_nul(text)
}

fn request_error(error: ServiceError, repeatable: bool) -> Outcome {
    let result = match error {
        ServiceError::McpError(error) => match LocalError::from_error(&error) {
            Some(LocalError::Unreadable) => {
                return invalid_answer("the answer's line cannot be parsed", "", repeatable);
            }
            Some(LocalError::TooLarge) => {
                let message = format!(
                    "The tool ran, but its answer exceeds the limit of {MAX_LINE_BYTES} bytes."
                );
                ToolError::new(ToolErrorKind::TooLarge, message).into()
            }
            None => {
                let kind = match error.code {
                    ErrorCode::METHOD_NOT_FOUND => ToolErrorKind::UnknownTool,
                    ErrorCode::INVALID_PARAMS => ToolErrorKind::InvalidArguments,
                    _ => ToolErrorKind::Failed,
                };
                ToolError::new(kind, truncate(&error.message)).into()
            }
        },
        // The write failed, so the line has no end and no server treats it as a request.
        ServiceError::TransportSend(_) => ToolError::new(
            ToolErrorKind::Unavailable,
            "The tool's server ended before the call was sent.",
        )
        .into(),
        ServiceError::UnexpectedResponse => {
            return invalid_answer("the answer is not a result", "", repeatable);
        }
        _ => CallError::Unknown,
    };
    Err(result).into()
}

#[cfg(test)]
mod tests {
    use rmcp::model::ErrorData;

    use super::*;

    fn answer(result: Value) -> Result<String, CallError> {
        parse_result(result, false)
            .result
            .map(|output| output.0.as_str().to_owned())
    }

    fn text(text: &str) -> Value {
        text_block(text)
    }

    #[test]
    fn structured_content_is_preferred() {
        assert_eq!(
            answer(json!({ "content": [text("words")], "structuredContent": { "a": 1 } })).unwrap(),
            r#"{"a":1}"#
        );
        assert_eq!(
            answer(json!({ "structuredContent": null, "isError": false })).unwrap(),
            "null"
        );
    }

    #[test]
    fn an_equal_text_block_gives_the_exact_spelling() {
        let exact = r#"{ "b": 123456789012345678901234567890, "a": 1 }"#;
        let value: Value = serde_json::from_str(exact).unwrap();
        assert_eq!(
            answer(json!({ "content": [text(exact)], "structuredContent": value })).unwrap(),
            exact
        );
    }

    #[test]
    fn a_single_text_is_json_or_a_string() {
        for (block, expected) in [
            (
                r#"{"n": 123456789012345678901234567890}"#,
                r#"{"n": 123456789012345678901234567890}"#,
            ),
            ("plain \"words\"", r#""plain \"words\"""#),
            ("", r#""""#),
            ("1e400", r#""1e400""#),
            (r#""\ud800""#, r#""\"\\ud800\"""#),
        ] {
            assert_eq!(
                answer(json!({ "content": [text(block)] })).unwrap(),
                expected
            );
        }
    }

    #[test]
    fn several_blocks_are_an_array() {
        let image = json!({ "type": "image", "data": "AA==", "mimeType": "image/png" });
        let content = json!([text("a"), image]);
        let result = answer(json!({ "content": content })).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&result).unwrap(), content);
        assert_eq!(answer(json!({ "content": [] })).unwrap(), "[]");
    }

    #[test]
    fn unknown_blocks_are_kept() {
        let chart = json!({ "type": "chart", "points": [1, 2] });
        let result =
            answer(json!({ "content": [text("a"), chart, "words", 7, { "type": "text" }] }))
                .unwrap();
        let expected = json!([
            text("a"), chart, text("words"), text("[unsupported content]"), { "type": "text" },
        ]);
        assert_eq!(serde_json::from_str::<Value>(&result).unwrap(), expected);
        for (content, expected) in [
            (json!("words"), r#""words""#),
            (json!(text("words")), r#""words""#),
            (json!([{ "text": "words" }]), r#""words""#),
            (json!([chart]), r#"[{"points":[1,2],"type":"chart"}]"#),
        ] {
            assert_eq!(answer(json!({ "content": content })).unwrap(), expected);
        }
    }

    #[test]
    fn other_forms_of_results_are_kept() {
        for (result, expected) in [
            (json!({ "toolResult": { "a": 1 } }), r#"{"a":1}"#),
            (
                json!({ "structuredContent": { "a": 1 }, "content": 7, "isError": "false" }),
                r#"{"a":1}"#,
            ),
            (
                json!({ "structuredContent": null, "content": [text("words")], "isError": null }),
                r#""words""#,
            ),
            (json!("words"), r#""words""#),
            (json!([1]), "[1]"),
        ] {
            assert_eq!(answer(result).unwrap(), expected);
        }
    }

    #[test]
    fn the_error_flag_is_read_in_every_form() {
        for flag in [json!(true), json!("true"), json!("True"), json!(1)] {
            let result = json!({ "isError": flag, "content": [text("no way")] });
            let Err(CallError::Failed(error)) = parse_result(result, false).result else {
                panic!("{flag} is no error")
            };
            assert!(error.message.ends_with("no way"), "{error:?}");
        }
    }

    #[test]
    fn an_invalid_answer_is_unknown_unless_the_tool_is_repeatable() {
        for result in [
            json!({}),
            json!(null),
            json!({ "content": null }),
            json!({ "content": 7 }),
            json!({ "isError": ["true"], "content": [text("no way")] }),
            json!({ "isError": "perhaps", "content": [text("no way")] }),
            json!({ "resultType": "task", "taskId": "1" }),
        ] {
            let outcome = parse_result(result.clone(), false);
            assert_eq!(outcome.result, Err(CallError::Unknown), "{result}");
            assert!(outcome.defect.is_some(), "{result} is logged");
            let Err(CallError::Failed(error)) = parse_result(result.clone(), true).result else {
                panic!("{result}")
            };
            assert!(error.message.starts_with("The tool ran"), "{error:?}");
            assert!(
                result.get("isError").is_none() || error.message.ends_with("no way"),
                "what can be read is kept: {error:?}"
            );
        }
        assert_eq!(
            timeout_error(std::time::Duration::from_secs(1), false),
            CallError::Unknown
        );
        assert!(matches!(
            timeout_error(std::time::Duration::from_secs(1), true),
            CallError::Failed(error) if error.kind == ToolErrorKind::TimedOut,
        ));
    }

    #[test]
    fn nul_is_replaced_in_every_spelling() {
        assert_eq!(
            answer(json!({ "structuredContent": { "a": "x\0y" } })).unwrap(),
            r#"{"a":"x\ufffdy"}"#
        );
        assert_eq!(
            answer(json!({ "content": [text(r#"["\u0000\\u0000\\\u0000é\n"]"#)] })).unwrap(),
            r#"["\ufffd\\u0000\\\ufffdé\n"]"#
        );
        assert_eq!(
            answer(json!({ "content": [text("x\0y")] })).unwrap(),
            r#""x\ufffdy""#
        );
        let error = answer(json!({ "content": [text("x\0y")], "isError": true })).unwrap_err();
        assert_eq!(error, failed("x\u{FFFD}y").into());
    }

    #[test]
    fn error_messages_are_passed_on_and_truncated() {
        assert_eq!(
            answer(json!({ "content": [text("no"), text("way")], "isError": true })).unwrap_err(),
            failed("no\nway").into()
        );
        assert_eq!(
            answer(json!({ "structuredContent": 7, "isError": true })).unwrap_err(),
            failed("7").into()
        );
        let CallError::Failed(error) =
            answer(json!({ "content": [text(&"é".repeat(5_000))], "isError": true })).unwrap_err()
        else {
            panic!("a failure is known");
        };
        assert_eq!(error.message.chars().count(), MAX_MESSAGE_CHARS + 1);
    }

    #[test]
    fn request_errors_are_mapped_to_kinds() {
        let refused = |error| outcome(Err(error), false).result.unwrap_err();
        for (code, kind) in [
            (ErrorCode::METHOD_NOT_FOUND, ToolErrorKind::UnknownTool),
            (ErrorCode::INVALID_PARAMS, ToolErrorKind::InvalidArguments),
            (ErrorCode::INTERNAL_ERROR, ToolErrorKind::Failed),
        ] {
            let error = ServiceError::McpError(ErrorData::new(code, "why", None));
            assert_eq!(refused(error), ToolError::new(kind, "why").into());
        }
        assert_eq!(refused(ServiceError::TransportClosed), CallError::Unknown);
        assert_eq!(
            refused(ServiceError::McpError(LocalError::Unreadable.into_error())),
            CallError::Unknown
        );
        let too_large = refused(ServiceError::McpError(LocalError::TooLarge.into_error()));
        assert!(
            matches!(too_large, CallError::Failed(error) if error.kind == ToolErrorKind::TooLarge)
        );
    }
}
