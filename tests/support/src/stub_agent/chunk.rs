//! JSON of a stream's events in OpenAI's form.

use serde_json::{Value, json};

/// A piece of the answer's text.
pub fn text(piece: &str) -> Value {
    delta(json!({ "content": piece }))
}

/// A complete tool call in one fragment.
pub fn call(index: u64, id: &str, tool: &str, arguments: &str) -> Value {
    fragment(json!({
        "index": index, "id": id, "type": "function",
        "function": { "name": tool, "arguments": arguments },
    }))
}

/// A further piece of a call's arguments.
pub fn arguments(index: u64, piece: &str) -> Value {
    fragment(json!({ "index": index, "function": { "arguments": piece } }))
}

/// Any fragment of a tool call.
pub fn fragment(fragment: Value) -> Value {
    delta(json!({ "tool_calls": [fragment] }))
}

/// Any delta.
pub fn delta(delta: Value) -> Value {
    chunk(
        json!([{ "index": 0, "delta": delta, "finish_reason": null }]),
        Value::Null,
    )
}

/// The finish reason: `stop`, `length`, `tool_calls` or `content_filter`.
pub fn finish(reason: &str) -> Value {
    chunk(
        json!([{ "index": 0, "delta": {}, "finish_reason": reason }]),
        Value::Null,
    )
}

/// The usage, the last event of a stream with `include_usage`.
pub fn usage(input_tokens: u64, output_tokens: u64) -> Value {
    let total = input_tokens + output_tokens;
    chunk(
        json!([]),
        json!({
            "prompt_tokens": input_tokens, "completion_tokens": output_tokens,
            "total_tokens": total,
        }),
    )
}

fn chunk(choices: Value, usage: Value) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "stub",
        "choices": choices, "usage": usage,
    })
}
