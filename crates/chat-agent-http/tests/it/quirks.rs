//! Answers in the forms of servers that differ from OpenAI's.

use chat_domain::AgentErrorKind::{
    self, Misconfigured, Overloaded, Protocol, Refused, Unavailable,
};
use chat_domain::FinishReason;
use chat_test_support::stub_agent::{Answer, StubAgent, chunk};
use serde_json::{Value, json};

use crate::support::{Events, agent, call, done, ended, events, hello, text, tool};

async fn events_of(answer: Answer) -> Events {
    let stub = StubAgent::start(move |_| answer.clone());
    let mut request = hello();
    request.tools = vec![tool("add_task", "{}")];
    events(&agent(&stub.base_url()), request).await
}

fn choice(choice: Value) -> Value {
    json!({ "choices": [choice] })
}

fn fragment(fragment: Value) -> Value {
    chunk::fragment(fragment)
}

/// Each answer says "Hi", with an unusual part before the end.
#[tokio::test]
async fn every_known_form_of_text_is_read() {
    let forms = [
        (
            "parts",
            vec![chunk::delta(
                json!({ "content": [{ "type": "text", "text": "Hi" }] }),
            )],
        ),
        (
            "Mistral's thoughts before the text",
            vec![
                chunk::delta(json!({
                    "content": [{
                        "type": "thinking", "thinking": [{ "type": "text", "text": "Hm." }],
                    }],
                })),
                chunk::delta(json!({
                    "content": [
                        { "type": "thinking", "thinking": "Hm.", "signature": "x" },
                        { "type": "text", "text": "Hi" },
                    ],
                })),
            ],
        ),
        (
            "one part",
            vec![chunk::delta(
                json!({ "content": { "type": "text", "text": "Hi" } }),
            )],
        ),
        (
            "null members",
            vec![
                chunk::delta(json!({ "content": {} })),
                chunk::delta(json!({ "content": [] })),
                chunk::text("Hi"),
            ],
        ),
        ("a text for a delta", vec![choice(json!({ "text": "Hi" }))]),
        (
            "a whole message for a delta",
            vec![choice(
                json!({ "message": { "role": "assistant", "content": "Hi" } }),
            )],
        ),
        (
            "a message that repeats the pieces",
            vec![
                chunk::text("Hi"),
                choice(json!({ "delta": {}, "message": { "content": "Hi" } })),
            ],
        ),
        (
            "one choice without a list",
            vec![json!({ "choices": { "delta": { "content": "Hi" } } })],
        ),
        (
            "an index as text",
            vec![choice(
                json!({ "index": "0", "delta": { "content": "Hi" } }),
            )],
        ),
        (
            "a negative index",
            vec![choice(json!({ "index": -1, "delta": { "content": "Hi" } }))],
        ),
        (
            "no choices",
            vec![
                json!({ "choices": null }),
                json!({ "id": 7 }),
                json!({ "choices": [null] }),
                chunk::text("Hi"),
            ],
        ),
        (
            "null",
            vec![Value::Null, json!(1), json!("ping"), chunk::text("Hi")],
        ),
        (
            "an empty error",
            vec![json!({ "error": {}, "choices": [{ "delta": { "content": "Hi" } }] })],
        ),
        (
            "no error",
            ["", "null", "false", "{}", "[]"]
                .iter()
                .map(|_| json!({ "error": "", "choices": [] }))
                .chain([chunk::text("Hi")])
                .collect(),
        ),
        (
            "an error of zeros",
            vec![json!({
                "error": { "code": 0, "message": "" },
                "choices": [{ "delta": { "content": "Hi" } }],
            })],
        ),
        (
            "false for an error",
            vec![json!({ "error": false, "choices": [{ "delta": { "content": "Hi" } }] })],
        ),
        (
            "invalid bookkeeping",
            vec![json!({
                "id": 7, "object": [], "created": "now", "model": null,
                "choices": [{ "delta": { "content": "Hi" } }],
            })],
        ),
        (
            "a reason that is none",
            vec![choice(
                json!({ "delta": { "content": "Hi" }, "finish_reason": "" }),
            )],
        ),
        (
            "reasoning",
            vec![
                chunk::delta(json!({
                    "reasoning_content": "Hm.", "reasoning": "Hm.",
                    "reasoning_details": [{ "type": "reasoning.text", "text": "Hm." }],
                })),
                chunk::text("Hi"),
            ],
        ),
        (
            "an invalid usage",
            vec![
                chunk::text("Hi"),
                json!({
                    "choices": [], "usage": { "prompt_tokens": null, "completion_tokens": -1 },
                }),
            ],
        ),
        (
            "a usage of another type",
            vec![
                chunk::text("Hi"),
                json!({ "choices": [], "usage": "none" }),
                json!({ "choices": [], "usage": [1] }),
            ],
        ),
    ];
    for (name, chunks) in forms {
        let answer = Answer::chunks(chunks.into_iter().chain([chunk::finish("stop")]));
        assert_eq!(events_of(answer).await, [text("Hi"), done(0, 0)], "{name}");
    }
}

#[tokio::test]
async fn every_known_form_of_calls_is_read() {
    let function = json!({ "name": "add_task", "arguments": { "a": 1 } });
    let forms = [
        (
            "arguments as an object",
            vec![fragment(
                json!({ "index": 0, "id": "c", "function": function }),
            )],
        ),
        (
            "an id that is a number",
            vec![fragment(json!({
                "index": 0, "id": 7,
                "function": { "name": "add_task", "arguments": "{\"a\":1}" },
            }))],
        ),
        (
            "an index as text",
            vec![
                fragment(json!({ "index": "0", "function": { "name": "add_task" } })),
                fragment(json!({ "index": "0", "function": { "arguments": "{\"a\":1}" } })),
            ],
        ),
        (
            "a negative index",
            vec![fragment(json!({
                "index": -1, "id": "c",
                "function": { "name": "add_task", "arguments": "{\"a\":1}" },
            }))],
        ),
        (
            "no index and id",
            vec![fragment(json!({ "function": function }))],
        ),
        (
            "without the level of the function",
            vec![fragment(function.clone())],
        ),
        (
            "one call without a list",
            vec![chunk::delta(
                json!({ "tool_calls": { "function": function } }),
            )],
        ),
        (
            "the old form",
            vec![
                chunk::delta(json!({ "function_call": { "name": "add_task", "arguments": "" } })),
                chunk::delta(json!({ "function_call": { "arguments": "{\"a\":1}" } })),
            ],
        ),
        (
            "an empty object before the text",
            vec![
                fragment(
                    json!({ "index": 0, "function": { "name": "add_task", "arguments": {} } }),
                ),
                chunk::arguments(0, "{\"a\":1}"),
            ],
        ),
        (
            "the namespace of gpt-oss",
            vec![chunk::call(0, "c", "functions.add_task", "{\"a\":1}")],
        ),
        (
            "encoded twice",
            vec![chunk::call(0, "c", "add_task", r#""{\"a\":1}""#)],
        ),
        (
            "null members",
            vec![
                chunk::delta(json!({ "tool_calls": null, "function_call": null })),
                chunk::call(0, "c", "add_task", "{\"a\":1}"),
            ],
        ),
    ];
    for (name, chunks) in forms {
        let answer = Answer::chunks(chunks.into_iter().chain([chunk::finish("tool_calls")]));
        assert_eq!(
            events_of(answer).await,
            [call("add_task", "{\"a\":1}"), done(0, 0)],
            "{name}"
        );
    }
}

#[tokio::test]
async fn invalid_usage_does_not_fail_a_step() {
    for (usage, expected) in [
        (
            json!({ "prompt_tokens": 12.0, "completion_tokens": "3" }),
            done(12, 3),
        ),
        (
            json!({ "prompt_tokens": null, "completion_tokens": 3 }),
            done(0, 3),
        ),
        (
            json!({ "prompt_tokens": -1, "completion_tokens": {} }),
            done(0, 0),
        ),
        (json!({ "input_tokens": 5, "output_tokens": 6 }), done(5, 6)),
        (json!(null), done(0, 0)),
    ] {
        let answer = Answer::chunks([
            chunk::text("Hi"),
            chunk::finish("stop"),
            json!({ "choices": [], "usage": usage }),
        ]);
        assert_eq!(events_of(answer).await, [text("Hi"), expected], "{usage}");
    }
    let raw = r#"data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop","logprobs":NaN}],"usage":{"prompt_tokens":1e999}}"#;
    assert_eq!(events_of(Answer::sse(raw)).await, [text("Hi"), done(0, 0)]);
}

#[tokio::test]
async fn finish_reasons_are_mapped() {
    use FinishReason::{Complete, ContentFilter, Length};
    for (reason, finish) in [
        ("stop", Complete),
        ("STOP", Complete),
        ("something_new", Complete),
        ("length", Length),
        ("max_tokens", Length),
        ("MAX_TOKENS", Length),
        ("model_length", Length),
        ("content_filter", ContentFilter),
        ("SAFETY", ContentFilter),
        ("RECITATION", ContentFilter),
    ] {
        let answer = Answer::chunks([chunk::text("Hi"), chunk::finish(reason)]);
        assert_eq!(
            events_of(answer).await,
            [text("Hi"), ended(finish, 0, 0)],
            "{reason}"
        );
    }
    for reason in [
        "error",
        "failed",
        "insufficient_system_resource",
        "MALFORMED_FUNCTION_CALL",
    ] {
        let answer = Answer::chunks([chunk::text("Hi"), chunk::finish(reason)]);
        assert_eq!(
            events_of(answer).await,
            [text("Hi"), Err(Unavailable)],
            "{reason}"
        );
    }
    // Empty reasons count as none, so the answer was truncated.
    for reason in ["", "null"] {
        let lost = Answer::sse(format!(
            "data: {}\n\n",
            choice(json!({ "delta": { "content": "Hi" }, "finish_reason": reason }))
        ));
        assert_eq!(
            events_of(lost).await,
            [text("Hi"), Err(Unavailable)],
            "{reason:?}"
        );
    }
}

#[tokio::test]
async fn errors_in_the_stream_are_classified() {
    let overloaded: AgentErrorKind = Overloaded { retry_after: None };
    for (error, kind) in [
        (
            json!({ "error": { "message": "boom", "code": 502 } }),
            Unavailable,
        ),
        (
            json!({ "error": { "code": "429", "message": "slow" } }),
            overloaded,
        ),
        (json!({ "error": "out of memory" }), Unavailable),
        (
            json!({ "error": [{ "code": "invalid_api_key", "message": "no" }] }),
            Misconfigured,
        ),
        (
            json!([{ "error": { "code": 403, "status": "PERMISSION_DENIED", "message": "no" } }]),
            Misconfigured,
        ),
        (json!({ "error": true, "choices": [] }), Unavailable),
        (
            json!({ "object": "error", "message": "bad", "code": 503 }),
            overloaded,
        ),
        (
            json!({
                "choices": [{
                    "delta": { "content": "" }, "error": { "code": 503, "message": "busy" },
                    "finish_reason": "error",
                }],
            }),
            overloaded,
        ),
        (
            json!({ "error": { "code": 403, "message": "Your input was flagged" }, "choices": [] }),
            Refused,
        ),
    ] {
        assert_eq!(
            events_of(Answer::chunks([chunk::text("Hi"), error.clone()])).await,
            [text("Hi"), Err(kind)],
            "{error}"
        );
    }
    let named = format!(
        "data: {}\n\nevent: error\ndata: {{\"message\":\"busy\",\"code\":503}}\n\n",
        chunk::text("Hi")
    );
    assert_eq!(
        events_of(Answer::sse(named)).await,
        [text("Hi"), Err(overloaded)]
    );
}

#[tokio::test]
async fn unknown_forms_of_text_and_calls_are_errors() {
    for invalid in [
        choice(json!({ "delta": { "content": true } })),
        json!({ "choices": 7 }),
        choice(json!({ "delta": { "tool_calls": "add" } })),
    ] {
        assert_eq!(
            events_of(Answer::chunks([invalid.clone(), chunk::finish("stop")])).await,
            [Err(Protocol)],
            "{invalid}"
        );
    }
}

#[tokio::test]
async fn any_content_type_and_framing_is_read() {
    let (start, end) = (chunk::text("Hi"), chunk::finish("stop"));
    let pretty =
        serde_json::to_string_pretty(&json!({ "choices": [{ "message": { "content": "Hi" } }] }))
            .expect("JSON");
    let bodies = [
        (
            "events",
            format!("data: {start}\n\ndata: {end}\n\ndata: [DONE]\n\n"),
        ),
        (
            "events without empty lines",
            format!("data: {start}\ndata: {end}\ndata: [DONE]\n"),
        ),
        (
            "events without an end",
            format!("data: {start}\r\n\r\ndata: {end}"),
        ),
        ("JSON lines", format!("{start}\n{end}\n")),
        ("JSON lines with a mark", format!("{start}\n[DONE]")),
        ("an array", format!("[{start},\n{end}]")),
        (
            "one answer",
            json!({ "choices": [{ "message": { "content": "Hi" }, "finish_reason": "stop" }] })
                .to_string(),
        ),
        ("one answer, laid out", pretty),
        (
            "words between",
            format!(
                "\u{feff}: hello\n\nid: 1\ndata: ping\n\ndata: null\n\ndata: {start}\n\ndata: \
                {end}\n\n"
            ),
        ),
    ];
    for (name, body) in bodies {
        for content_type in [
            "text/event-stream",
            "text/plain",
            "application/json",
            "application/octet-stream",
            "application/x-ndjson",
            "",
        ] {
            for pieces in [3, 100_000] {
                let answer = Answer::raw(200, content_type, body.clone()).in_pieces(pieces);
                assert_eq!(
                    events_of(answer).await,
                    [text("Hi"), done(0, 0)],
                    "{name} as {content_type:?}"
                );
            }
        }
    }
    // JSON lines without an end are truncated too.
    assert_eq!(
        events_of(Answer::raw(
            200,
            "application/x-ndjson",
            format!("{start}\n")
        ))
        .await,
        [text("Hi"), Err(Unavailable)]
    );
}

#[tokio::test]
async fn split_surrogate_pairs_are_joined_and_invalid_bytes_replaced() {
    let body = concat!(
        r#"data: {"choices":[{"delta":{"content":"a\ud83e"}}]}"#,
        "\n\n",
        r#"data: {"choices":[{"delta":{"content":"\udd80b \ud83d."}}]}"#,
        "\n\n",
        r#"data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"add_task","arguments":"{\"a\":\"\ud83e"}}]}}]}"#,
        "\n\n",
        r#"data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\udd80\\ud83d\"}"}}]},"finish_reason":"stop"}]}"#,
        "\n\n",
    );
    let expected = [
        text("a"),
        text("🦀b \u{FFFD}."),
        call("add_task", r#"{"a":"🦀\ufffd"}"#),
        done(0, 0),
    ];
    assert_eq!(events_of(Answer::sse(body)).await, expected);
    let mut bytes = b"data: {\"choices\":[{\"delta\":{\"content\":\"a".to_vec();
    bytes.extend_from_slice(b"\xff\"},\"finish_reason\":\"stop\"}]}\n\n");
    assert_eq!(
        events_of(Answer::sse(bytes)).await,
        [text("a\u{FFFD}"), done(0, 0)]
    );
}
