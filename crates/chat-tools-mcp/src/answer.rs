//! What came of a call, from MCP's words into the domain's.

use chat_domain::{CallError, RawJson, ToolError, ToolErrorKind, ToolOutput, without_nul};
use rmcp::ServiceError;
use rmcp::model::{CallToolResponse, CallToolResult, ContentBlock, ErrorCode};
use serde_json::Value;

/// The longest error message that is passed on, in characters.
const LONGEST_MESSAGE: usize = 4_000;

/// What a server's answer says.
pub(crate) fn outcome(answer: Result<CallToolResponse, ServiceError>) -> Result<ToolOutput, CallError> {
    match answer {
        Ok(CallToolResponse::Complete(result)) => Ok(completed(result)?),
        // A question to the user, or a task to be polled: neither is anything that we told the server we could do.
        Ok(_) => Err(failed("The tool asks for something that cannot be given here.").into()),
        Err(error) => Err(refused(error)),
    }
}

fn completed(result: CallToolResult) -> Result<ToolOutput, ToolError> {
    if result.is_error == Some(true) {
        return Err(failed(&error_text(&result)));
    }
    let json = match (result.structured_content, result.content.as_slice()) {
        (Some(value), [ContentBlock::Text(block)]) if json_value(&block.text).as_ref() == Some(&value) => block.text.clone(),
        (Some(value), _) => value.to_string(),
        (None, [ContentBlock::Text(block)]) if json_value(&block.text).is_some() => block.text.clone(),
        (None, [ContentBlock::Text(block)]) => Value::from(block.text.as_str()).to_string(),
        (None, blocks) => serde_json::to_string(blocks).map_err(|_| failed("The tool gave an answer that cannot be written down."))?,
    };
    Ok(ToolOutput(raw_json(json)))
}

/// The text, if it is JSON that every library can hold: no half surrogates, no numbers beyond a double.
fn json_value(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

/// Valid JSON, freed of U+0000. Only an escape can stand for it there: a naked one would not be valid.
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
                let (escaped, after) = escape.split_at(escape.chars().next().map_or(0, char::len_utf8));
                clean.push('\\');
                clean.push_str(escaped);
                after
            }
        };
    }
    clean.push_str(rest);
    RawJson::from_valid(clean)
}

fn error_text(result: &CallToolResult) -> String {
    let texts: Vec<&str> = result.content.iter().filter_map(|block| block.as_text()).map(|block| block.text.as_str()).collect();
    match (texts.join("\n"), &result.structured_content) {
        (text, _) if !text.trim().is_empty() => text,
        (_, Some(value)) => value.to_string(),
        (_, None) => "The tool failed and did not say why.".to_owned(),
    }
}

fn failed(message: &str) -> ToolError {
    ToolError::new(ToolErrorKind::Failed, bounded(message))
}

fn bounded(message: &str) -> String {
    let mut text: String = message.chars().take(LONGEST_MESSAGE).collect();
    if text.len() < message.len() {
        text.push('…');
    }
    without_nul(text)
}

fn refused(error: ServiceError) -> CallError {
    match error {
        ServiceError::McpError(error) => {
            let kind = match error.code {
                ErrorCode::METHOD_NOT_FOUND => ToolErrorKind::UnknownTool,
                ErrorCode::INVALID_PARAMS => ToolErrorKind::InvalidArguments,
                _ => ToolErrorKind::Failed,
            };
            ToolError::new(kind, bounded(&error.message)).into()
        }
        // The write failed, so that the line never had its end: no server takes that for a request.
        ServiceError::TransportSend(_) => {
            ToolError::new(ToolErrorKind::Unavailable, "The tool's server went away before it could be asked.").into()
        }
        ServiceError::UnexpectedResponse => failed("The tool's server gave an answer that cannot be understood.").into(),
        _ => CallError::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use rmcp::model::ErrorData;
    use serde_json::json;

    use super::*;

    fn answer(json: Value) -> Result<String, CallError> {
        let result: CallToolResult = serde_json::from_value(json).unwrap();
        outcome(Ok(CallToolResponse::Complete(result))).map(|output| output.0.as_str().to_owned())
    }

    fn text(text: &str) -> Value {
        json!({ "type": "text", "text": text })
    }

    #[test]
    fn structured_content_comes_first() {
        assert_eq!(answer(json!({ "content": [text("words")], "structuredContent": { "a": 1 } })).unwrap(), r#"{"a":1}"#);
        assert_eq!(answer(json!({ "structuredContent": null, "isError": false })).unwrap(), "null");
    }

    #[test]
    fn the_text_beside_it_gives_the_exact_spelling() {
        let exact = r#"{ "b": 123456789012345678901234567890, "a": 1 }"#;
        let value: Value = serde_json::from_str(exact).unwrap();
        assert_eq!(answer(json!({ "content": [text(exact)], "structuredContent": value })).unwrap(), exact);
    }

    #[test]
    fn one_text_is_json_or_a_string() {
        for (said, expected) in [
            (r#"{"n": 123456789012345678901234567890}"#, r#"{"n": 123456789012345678901234567890}"#),
            ("plain \"words\"", r#""plain \"words\"""#),
            ("", r#""""#),
            ("1e400", r#""1e400""#),
            (r#""\ud800""#, r#""\"\\ud800\"""#),
        ] {
            assert_eq!(answer(json!({ "content": [text(said)] })).unwrap(), expected);
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
    fn nul_is_replaced_in_each_spelling() {
        assert_eq!(answer(json!({ "structuredContent": { "a": "x\0y" } })).unwrap(), r#"{"a":"x\ufffdy"}"#);
        assert_eq!(answer(json!({ "content": [text(r#"["\u0000\\u0000\\\u0000é\n"]"#)] })).unwrap(), r#"["\ufffd\\u0000\\\ufffdé\n"]"#);
        assert_eq!(answer(json!({ "content": [text("x\0y")] })).unwrap(), r#""x\ufffdy""#);
        let error = answer(json!({ "content": [text("x\0y")], "isError": true })).unwrap_err();
        assert_eq!(error, failed("x\u{FFFD}y").into());
    }

    #[test]
    fn errors_are_told_and_bounded() {
        assert_eq!(answer(json!({ "content": [text("no"), text("way")], "isError": true })).unwrap_err(), failed("no\nway").into());
        assert_eq!(answer(json!({ "structuredContent": 7, "isError": true })).unwrap_err(), failed("7").into());
        let CallError::Failed(error) = answer(json!({ "content": [text(&"é".repeat(5_000))], "isError": true })).unwrap_err() else {
            panic!("a failure is known");
        };
        assert_eq!(error.message.chars().count(), LONGEST_MESSAGE + 1);
    }

    #[test]
    fn json_rpc_errors_have_their_kinds() {
        for (code, kind) in [
            (ErrorCode::METHOD_NOT_FOUND, ToolErrorKind::UnknownTool),
            (ErrorCode::INVALID_PARAMS, ToolErrorKind::InvalidArguments),
            (ErrorCode::INTERNAL_ERROR, ToolErrorKind::Failed),
        ] {
            let error = ServiceError::McpError(ErrorData::new(code, "why", None));
            assert_eq!(outcome(Err(error)).unwrap_err(), ToolError::new(kind, "why").into());
        }
        assert_eq!(outcome(Err(ServiceError::TransportClosed)).unwrap_err(), CallError::Unknown);
    }
}
