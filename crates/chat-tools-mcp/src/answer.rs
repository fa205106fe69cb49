//! The outcome of a call, from a server's answer.

use chat_domain::{CallError, RawJson, ToolError, ToolErrorKind, ToolOutput, without_nul};
use rmcp::ServiceError;
use rmcp::model::{CallToolResponse, ErrorCode, JsonObject};
use serde_json::{Value, json};

use crate::connection::{LONGEST_LINE, into_raw};
use crate::failure::Failure;

/// The longest error message that is passed on, in characters.
const LONGEST_MESSAGE: usize = 4_000;

/// What the outcome of a call is, and what of it the log should know.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) result: Result<ToolOutput, CallError>,
    /// What was wrong with the answer itself.
    pub(crate) fault: Option<&'static str>,
}

impl From<Result<ToolOutput, CallError>> for Outcome {
    fn from(result: Result<ToolOutput, CallError>) -> Self {
        Self {
            result,
            fault: None,
        }
    }
}

/// Reads the answer to a call of a tool that is repeatable or not. A call whose answer cannot be
/// understood may have done its work: its outcome is unknown unless repeating it does no harm.
pub(crate) fn outcome(answer: Result<CallToolResponse, ServiceError>, repeatable: bool) -> Outcome {
    match answer {
        Ok(CallToolResponse::Complete(result)) => completed(into_raw(result), repeatable),
        // The connection passes on results in no other form.
        Ok(_) => unreadable("the answer is not a result", "", repeatable),
        Err(error) => failed_request(error, repeatable),
    }
}

/// The outcome of a call that got no answer in time.
pub(crate) fn timed_out(limit: std::time::Duration, repeatable: bool) -> CallError {
    match repeatable {
        true => ToolError::new(
            ToolErrorKind::TimedOut,
            format!("The tool gave no answer within {limit:?}."),
        )
        .into(),
        false => CallError::Unknown,
    }
}

fn completed(result: Value, repeatable: bool) -> Outcome {
    let mut result = match result {
        Value::Object(result) => result,
        Value::Null => return unreadable("the result is null", "", repeatable),
        value => return Ok(ToolOutput(raw_json(value.to_string()))).into(),
    };
    match result.get("resultType").and_then(Value::as_str) {
        Some("input_required") => {
            return Err(failed("The tool asks for something that cannot be given here.").into())
                .into();
        }
        Some("task") => {
            return unreadable(
                "the server began a task, which was not asked for",
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
            return unreadable(
                "`isError` is not a boolean",
                &error_text(blocks.as_deref(), structured.as_ref()),
                repeatable,
            );
        }
    }
    let json = match (structured, blocks.as_deref()) {
        (Some(value), Some([block]))
            if text(block).and_then(json_value).as_ref() == Some(&value) =>
        {
            text(block).unwrap_or_default().to_owned()
        }
        (Some(Value::Null), Some([_, ..])) | (None, Some(_)) => written(blocks.unwrap_or_default()),
        (Some(value), _) => value.to_string(),
        (None, None) => return unreadable("the result has no content", "", repeatable),
    };
    Ok(ToolOutput(raw_json(json))).into()
}

/// Content as JSON: a text that is JSON as it is, another text as a string, and else the array of
/// blocks.
fn written(blocks: Vec<Value>) -> String {
    match blocks.as_slice() {
        [block] => match text(block) {
            Some(text) if json_value(text).is_some() => text.to_owned(),
            Some(text) => Value::from(text).to_string(),
            None => Value::Array(blocks).to_string(),
        },
        _ => Value::Array(blocks).to_string(),
    }
}

/// The blocks of a content, which is a list, or one block, or one text. A block of an unknown type
/// stays as it is.
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

/// The text of a block of text.
fn text(block: &Value) -> Option<&str> {
    let is_text = block.get("type").is_none_or(|kind| kind == "text");
    is_text.then(|| block.get("text")?.as_str()).flatten()
}

/// Whether a result reports an error; `None` if that cannot be told.
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

/// The text, if it is JSON that every library can hold: no half surrogates, no numbers beyond a
/// double.
fn json_value(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

/// Valid JSON, freed of U+0000. Only an escape can stand for it there: a naked one would not be
/// valid.
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
                // The escaped character may be a backslash itself, which then escapes nothing.
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
        (_, None) => "The tool failed and did not say why.".to_owned(),
    }
}

fn failed(message: &str) -> ToolError {
    ToolError::new(ToolErrorKind::Failed, bounded(message))
}

/// The outcome of a call that was answered, though not in a form that can be understood.
fn unreadable(fault: &'static str, readable: &str, repeatable: bool) -> Outcome {
    let result = match repeatable {
        true => {
            let message = "The tool ran, but its server's answer cannot be understood.";
            Err(failed([message, readable].join(" ").trim()).into())
        }
        false => Err(CallError::Unknown),
    };
    Outcome {
        result,
        fault: Some(fault),
    }
}

fn bounded(message: &str) -> String {
    let mut text: String = message.chars().take(LONGEST_MESSAGE).collect();
    if text.len() < message.len() {
        text.push('…');
    }
    without_nul(text)
}

fn failed_request(error: ServiceError, repeatable: bool) -> Outcome {
    let result = match error {
        ServiceError::McpError(error) => match Failure::of(&error) {
            Some(Failure::Unreadable) => {
                return unreadable("the answer's line cannot be read", "", repeatable);
            }
            Some(Failure::TooLarge) => {
                let message = format!(
                    "The tool ran, but its answer is larger than the {LONGEST_LINE} bytes that are read."
                );
                ToolError::new(ToolErrorKind::TooLarge, message).into()
            }
            None => {
                let kind = match error.code {
                    ErrorCode::METHOD_NOT_FOUND => ToolErrorKind::UnknownTool,
                    ErrorCode::INVALID_PARAMS => ToolErrorKind::InvalidArguments,
                    _ => ToolErrorKind::Failed,
                };
                ToolError::new(kind, bounded(&error.message)).into()
            }
        },
        // The write failed, so that the line never had its end: no server takes that for a request.
        ServiceError::TransportSend(_) => ToolError::new(
            ToolErrorKind::Unavailable,
            "The tool's server went away before it could be asked.",
        )
        .into(),
        ServiceError::UnexpectedResponse => {
            return unreadable("the answer is not a result", "", repeatable);
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
        completed(result, false)
            .result
            .map(|output| output.0.as_str().to_owned())
    }

    fn text(text: &str) -> Value {
        text_block(text)
    }

    #[test]
    fn structured_content_comes_first() {
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
    fn the_text_beside_it_gives_the_exact_spelling() {
        let exact = r#"{ "b": 123456789012345678901234567890, "a": 1 }"#;
        let value: Value = serde_json::from_str(exact).unwrap();
        assert_eq!(
            answer(json!({ "content": [text(exact)], "structuredContent": value })).unwrap(),
            exact
        );
    }

    #[test]
    fn one_text_is_json_or_a_string() {
        for (said, expected) in [
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
                answer(json!({ "content": [text(said)] })).unwrap(),
                expected
            );
        }
    }

    #[test]
    fn several_blocks_are_an_array() {
        let image = json!({ "type": "image", "data": "AA==", "mimeType": "image/png" });
        let content = json!([text("a"), image]);
        let said = answer(json!({ "content": content })).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), content);
        assert_eq!(answer(json!({ "content": [] })).unwrap(), "[]");
    }

    #[test]
    fn blocks_that_are_not_known_are_kept() {
        let chart = json!({ "type": "chart", "points": [1, 2] });
        let said = answer(json!({ "content": [text("a"), chart, "words", 7, { "type": "text" }] }))
            .unwrap();
        let expected = json!([text("a"), chart, text("words"), text("[unsupported content]"), { "type": "text" }]);
        assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), expected);
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
    fn results_of_other_forms_are_kept() {
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
    fn an_error_is_an_error_however_its_flag_is_written() {
        for flag in [json!(true), json!("true"), json!("True"), json!(1)] {
            let result = json!({ "isError": flag, "content": [text("no way")] });
            let Err(CallError::Failed(error)) = completed(result, false).result else {
                panic!("{flag} is no error")
            };
            assert!(error.message.ends_with("no way"), "{error:?}");
        }
    }

    #[test]
    fn an_answer_that_cannot_be_understood_is_unknown_unless_its_tool_is_repeatable() {
        for result in [
            json!({}),
            json!(null),
            json!({ "content": null }),
            json!({ "content": 7 }),
            json!({ "isError": ["true"], "content": [text("no way")] }),
            json!({ "isError": "perhaps", "content": [text("no way")] }),
            json!({ "resultType": "task", "taskId": "1" }),
        ] {
            let outcome = completed(result.clone(), false);
            assert_eq!(outcome.result, Err(CallError::Unknown), "{result}");
            assert!(outcome.fault.is_some(), "the log is told of {result}");
            let Err(CallError::Failed(error)) = completed(result.clone(), true).result else {
                panic!("{result}")
            };
            assert!(error.message.starts_with("The tool ran"), "{error:?}");
            assert!(
                result.get("isError").is_none() || error.message.ends_with("no way"),
                "what can be read is kept: {error:?}"
            );
        }
        assert_eq!(
            timed_out(std::time::Duration::from_secs(1), false),
            CallError::Unknown
        );
        assert!(
            matches!(timed_out(std::time::Duration::from_secs(1), true), CallError::Failed(error) if error.kind == ToolErrorKind::TimedOut)
        );
    }

    #[test]
    fn nul_is_replaced_in_each_spelling() {
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
    fn errors_are_told_and_bounded() {
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
        assert_eq!(error.message.chars().count(), LONGEST_MESSAGE + 1);
    }

    #[test]
    fn errors_of_the_request_have_their_kinds() {
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
            refused(ServiceError::McpError(Failure::Unreadable.into_error())),
            CallError::Unknown
        );
        let too_large = refused(ServiceError::McpError(Failure::TooLarge.into_error()));
        assert!(
            matches!(too_large, CallError::Failed(error) if error.kind == ToolErrorKind::TooLarge)
        );
    }
}
