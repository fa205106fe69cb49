use AgentErrorKind::{ContextTooLong, Misconfigured, Overloaded, Refused, Unavailable};
use serde_json::json;

use super::*;

const RETRY_AFTER: Option<Duration> = Some(Duration::from_secs(7));

fn in_stream(data: &Value) -> Option<ServerError> {
    let json = data.to_string();
    let values = crate::json::parse_values(&json).expect("JSON");
    let crate::json::Node::Object(event) = crate::json::Node::parse(&values[0]) else {
        panic!("an object")
    };
    ServerError::in_stream(&json, &event)
}

#[track_caller]
fn answered(status: u16, body: &str, expected: AgentErrorKind) -> AgentError {
    let error = ServerError::from_response(status, body.as_bytes())
        .masked(&Mask::default(), b"{}")
        .into_error(None);
    assert_eq!(error.kind, expected, "{status} {body}");
    error
}

#[test]
fn the_status_determines_the_kind() {
    let overloaded = Overloaded { retry_after: None };
    let kinds = [
        (301, Misconfigured),
        (308, Misconfigured),
        (400, Misconfigured),
        (401, Misconfigured),
        (402, Misconfigured),
        (403, Misconfigured),
        (404, Misconfigured),
        (405, Misconfigured),
        (408, Unavailable),
        (413, ContextTooLong { limit: None }),
        (418, Misconfigured),
        (422, Misconfigured),
        (429, overloaded),
        (500, Unavailable),
        (502, Unavailable),
        (503, overloaded),
        (504, Unavailable),
        (529, overloaded),
        (599, Unavailable),
    ];
    for (status, kind) in kinds {
        for body in [
            "",
            "<html>",
            "[]",
            "{}",
            r#"{"error":null}"#,
            r#"{"error":{"message":7,"type":[],"code":null}}"#,
        ] {
            answered(status, body, kind);
        }
        let is_transient = matches!(status, 408 | 429 | 500..);
        assert_eq!(
            ServerError::from_response(status, b"").is_transient(),
            is_transient,
            "{status}"
        );
    }
}

#[test]
fn retry_after_is_part_of_the_error() {
    for status in [408, 429, 500, 503] {
        assert_eq!(
            ServerError::from_response(status, b"")
                .masked(&Mask::default(), b"")
                .into_error(RETRY_AFTER)
                .kind,
            Overloaded {
                retry_after: RETRY_AFTER
            }
        );
    }
    assert_eq!(
        ServerError::from_response(401, b"")
            .masked(&Mask::default(), b"")
            .into_error(RETRY_AFTER)
            .kind,
        Misconfigured
    );
}

#[test]
fn context_too_long_is_recognized_for_many_servers() {
    let coded = json!({
        "error": {
            "message": "…", "type": "invalid_request_error", "param": "messages",
            "code": "context_length_exceeded",
        },
    });
    let llama_cpp = json!({
        "error": {
            "code": 400, "message": "the request exceeds the available context size",
            "type": "exceed_context_size_error",
        },
    });
    let flat = json!({
        "object": "error", "message": "This model's maximum context length is 4096 tokens.",
        "type": "BadRequestError", "code": 400,
    });
    let llama_cpp_counts = json!({
        "error": {
            "code": 400,
            "message": "request (9000 tokens) exceeds the available context size (2048 tokens), \
            try increasing it",
            "type": "exceed_context_size_error", "n_prompt_tokens": 9000, "n_ctx": 2048,
        },
    });
    let anthropic = json!({
        "error": {
            "type": "invalid_request_error",
            "message": "prompt is too long: 210000 tokens > 200000 maximum",
        },
    });
    let plain = json!({ "error": "input exceeds the context window" });
    let lm_studio = json!({
        "error": "Trying to keep the first 9000 tokens when context the overflows. However, the \
        model is loaded with context length of only 4096 tokens, which is not enough.",
    });
    let gemini = json!([{
        "error": {
            "code": 400, "status": "INVALID_ARGUMENT",
            "message": "The input token count (1200000) exceeds the maximum number of tokens \
            allowed (1048576).",
        },
    }]);
    let mistral = json!({
        "object": "error",
        "message": "Prompt contains 40000 tokens and 0 draft tokens, too large for model with \
        32768 maximum context length",
    });
    let xai = json!({
        "error": "This model's maximum prompt length is 131,072 but the request contains 200000 \
        tokens.",
    });
    for (body, limit) in [
        (coded, None),
        (llama_cpp, None),
        (llama_cpp_counts, Some(2_048)),
        (flat, Some(4_096)),
        (anthropic, Some(200_000)),
        (plain, None),
        (lm_studio, Some(4_096)),
        (gemini, Some(1_048_576)),
        (mistral, Some(32_768)),
        (xai, Some(131_072)),
    ] {
        for status in [400, 413, 422] {
            answered(status, &body.to_string(), ContextTooLong { limit });
        }
        if body.is_object() {
            assert_eq!(
                in_stream(&body)
                    .expect("an error")
                    .into_error(None, &Mask::default())
                    .kind,
                ContextTooLong { limit },
                "{body}"
            );
        }
        assert!(!ServerError::from_response(400, body.to_string().as_bytes()).is_transient());
    }
    // The text alone does not turn an invalid key into a long conversation.
    answered(
        401,
        r#"{"error":"no key for the long context window model"}"#,
        Misconfigured,
    );
}

#[test]
fn content_policy_errors_are_recognized() {
    answered(
        400,
        r#"{"error":{"code":"content_filter","message":"…"}}"#,
        Refused,
    );
    answered(
        400,
        r#"{"error":{"code":"content_policy_violation"}}"#,
        Refused,
    );
    answered(
        403,
        r#"{"error":{"code":403,"message":"no","metadata":{"reasons":["violence"]}}}"#,
        Refused,
    );
    answered(
        403,
        r#"{"error":{"message":"Your input was flagged by moderation"}}"#,
        Refused,
    );
    answered(403, r#"{"error":{"message":"forbidden"}}"#, Misconfigured);
    answered(
        400,
        r#"{"error":{"message":"The response was filtered due to Azure OpenAI's content management policy."}}"#,
        Refused,
    );
}

#[test]
fn an_exhausted_quota_is_permanent() {
    for body in [
        r#"{"error":{"type":"insufficient_quota","code":"insufficient_quota"}}"#,
        r#"{"error":{"type":"insufficient_quota"}}"#,
    ] {
        answered(429, body, Misconfigured);
        assert!(!ServerError::from_response(429, body.as_bytes()).is_transient());
    }
}

#[test]
fn a_missing_model_or_unsupported_tools_are_misconfigurations() {
    answered(
        400,
        r#"{"error":{"code":"model_not_found"}}"#,
        Misconfigured,
    );
    answered(
        404,
        r#"{"error":{"message":"model \"x\" not found, try pulling it first"}}"#,
        Misconfigured,
    );
    let error = answered(
        400,
        r#"{"error":{"message":"registry.ollama.ai/library/gemma:2b does not support tools"}}"#,
        Misconfigured,
    );
    assert!(error.message.contains("tools"));
    let vllm = r#"{"object":"error","message":"\"auto\" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set","code":400}"#;
    assert!(
        answered(400, vllm, Misconfigured)
            .message
            .contains("--enable-auto-tool-choice")
    );
    answered(
        400,
        r#"{"error":{"message":"Invalid model name passed in model=x","code":"400"}}"#,
        Misconfigured,
    );
    answered(
        400,
        r#"[{"error":{"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}]"#,
        Misconfigured,
    );
}

#[test]
fn errors_in_a_stream_are_classified() {
    let kind = |data: Value| {
        in_stream(&data).map(|server_error| server_error.into_error(None, &Mask::default()).kind)
    };
    assert_eq!(kind(json!({ "choices": [], "error": null })), None);
    assert_eq!(kind(json!({ "error": {} })), Some(Unavailable));
    assert_eq!(kind(json!({ "error": "out of memory" })), Some(Unavailable));
    assert_eq!(
        kind(json!({ "error": { "type": "server_error" }, "choices": [] })),
        Some(Unavailable)
    );
    assert_eq!(
        kind(json!({ "error": { "type": "overloaded_error" } })),
        Some(Overloaded { retry_after: None })
    );
    assert_eq!(
        kind(json!({ "error": { "code": 429 } })),
        Some(Overloaded { retry_after: None })
    );
    assert_eq!(kind(json!({ "error": { "code": 502 } })), Some(Unavailable));
    assert_eq!(
        kind(json!({ "error": { "code": "invalid_api_key" } })),
        Some(Misconfigured)
    );
    assert_eq!(
        kind(json!({ "object": "error", "message": "bad", "code": 400 })),
        Some(Misconfigured)
    );
    assert_eq!(kind(json!({ "error": { "code": 7 } })), Some(Unavailable));
    assert_eq!(kind(json!({ "error": {}, "choices": [] })), None);
}

#[test]
fn messages_hold_no_server_text_and_logs_no_key() {
    let body = json!({
        "error": {
            "message": "Incorrect API key: sk-S3cret in http://internal", "type": "sk-S3cret",
            "code": "invalid_api_key",
        },
    });
    let error = answered(401, &body.to_string(), Misconfigured);
    let logged = error.source.as_ref().expect("a source").to_string();
    assert_eq!(
        logged,
        "error response with status 401, code invalid_api_key: Incorrect API key: […] in \
        http://internal"
    );
    assert!(!error.message.contains("S3cret"));
    let in_stream = in_stream(&body)
        .expect("an error")
        .into_error(None, &Mask::default());
    assert_eq!(
        in_stream.source.expect("a source").to_string(),
        "error in the stream, code invalid_api_key: Incorrect API key: […] in http://internal"
    );
}
