use serde_json::{Value, json};

use super::*;

fn call(id: &str) -> Value {
    json!({ "id": id, "type": "function", "function": { "name": "add_task", "arguments": "{\"title\":\"Milk\"}" } })
}

fn tool(name: &str) -> Value {
    json!({ "type": "function", "function": { "name": name, "description": "Does it.", "parameters": { "type": "object" } } })
}

/// A request with everything in it that is allowed.
fn good() -> Value {
    json!({
        "model": "m",
        "stream": true,
        "stream_options": { "include_usage": true },
        "tools": [tool("add_task"), tool("list_tasks")],
        "messages": [
            { "role": "system", "content": "Be brief." },
            { "role": "user", "content": "Hello" },
            { "role": "assistant", "content": "Hello." },
            { "role": "user", "content": [{ "type": "text", "text": "Add milk, twice" }] },
            { "role": "assistant", "content": null, "tool_calls": [call("a"), call("b")] },
            { "role": "tool", "tool_call_id": "b", "content": "{}" },
            { "role": "tool", "tool_call_id": "a", "content": "" },
            { "role": "assistant", "content": "Once more.", "tool_calls": [call("c")] },
            { "role": "tool", "tool_call_id": "c", "content": "{}" },
        ],
    })
}

fn check(body: &Value) -> Result<(), Rejection> {
    check_request(body.to_string().as_bytes())
}

/// The good request with one place changed.
fn with(pointer: &str, value: Value) -> Value {
    let mut body = good();
    *body
        .pointer_mut(pointer)
        .expect("the place is in the good request") = value;
    body
}

fn without(pointer: &str, member: &str) -> Value {
    let mut body = good();
    let object = body
        .pointer_mut(pointer)
        .and_then(Value::as_object_mut)
        .expect("the place is an object of the good request");
    object.remove(member).expect("the member is there");
    body
}

fn with_messages(messages: Value) -> Value {
    with("/messages", messages)
}

#[track_caller]
fn refused(body: &Value, at: &str, reason: &str) {
    let rejection = check(body).expect_err("an endpoint refuses this");
    assert_eq!((rejection.at.as_str(), rejection.reason), (at, reason));
}

const UNANSWERED: &str =
    "an assistant message with 'tool_calls' must be followed by all their answers";
const NO_CALL: &str = "answers no call of the preceding assistant message, or one a second time";
const BAD_NAME: &str = "does not match '^[a-zA-Z0-9_-]{1,64}$'";

#[test]
fn a_good_request_is_taken() {
    assert_eq!(check(&good()), Ok(()));
    assert_eq!(
        check(&json!({ "model": "m", "messages": [{ "role": "user", "content": "Hello" }] })),
        Ok(())
    );
}

#[test]
fn bodies_that_are_no_requests() {
    assert_eq!(
        check_request(b"{").expect_err("not JSON").reason,
        "not JSON"
    );
    refused(&json!([]), "body", "not an object");
    refused(&without("", "model"), "model", "not a string");
    refused(&with("/model", json!("")), "model", "empty");
    let mut unknown = good();
    unknown["surprise"] = json!(1);
    refused(&unknown, "surprise", "unknown member");
}

#[test]
fn streaming_options() {
    refused(&with("/stream", json!("yes")), "stream", "not a boolean");
    refused(
        &with("/stream", json!(false)),
        "stream_options",
        "only allowed with stream",
    );
    refused(
        &without("", "stream"),
        "stream_options",
        "only allowed with stream",
    );
    refused(
        &with("/stream_options/include_usage", json!(1)),
        "stream_options.include_usage",
        "not a boolean",
    );
}

#[test]
fn messages_that_are_not_there() {
    refused(&without("", "messages"), "messages", "not an array");
    refused(&with_messages(json!([])), "messages", "empty");
    refused(
        &with("/messages/1", json!("Hello")),
        "messages[1].",
        "not an object",
    );
}

#[test]
fn unknown_roles() {
    refused(
        &with("/messages/1/role", json!("human")),
        "messages[1].role",
        "unknown",
    );
    refused(
        &with("/messages/1/role", json!("function")),
        "messages[1].role",
        "unknown",
    );
    refused(
        &without("/messages/1", "role"),
        "messages[1].role",
        "not a string",
    );
}

#[test]
fn content_that_is_missing_or_empty() {
    for index in [0, 1, 2] {
        let at = format!("messages[{index}].content");
        refused(
            &with(&format!("/messages/{index}/content"), json!("")),
            &at,
            "empty",
        );
        refused(
            &with(&format!("/messages/{index}/content"), Value::Null),
            &at,
            "neither a string nor an array",
        );
        refused(
            &without(&format!("/messages/{index}"), "content"),
            &at,
            "neither a string nor an array",
        );
    }
    refused(
        &with("/messages/3/content", json!([])),
        "messages[3].content",
        "empty",
    );
    refused(
        &with("/messages/3/content/0/text", json!("")),
        "messages[3].content",
        "not a part with text",
    );
    refused(
        &with("/messages/5/content", Value::Null),
        "messages[5].content",
        "not a string",
    );
    refused(
        &with("/messages/7/content", json!(1)),
        "messages[7].content",
        "not a string",
    );
}

#[test]
fn calls_that_are_not_answered_at_once() {
    let user = || json!({ "role": "user", "content": "Hello" });
    let calls =
        || json!({ "role": "assistant", "content": null, "tool_calls": [call("a"), call("b")] });
    let answer = |id: &str| json!({ "role": "tool", "tool_call_id": id, "content": "{}" });
    refused(
        &with_messages(json!([user(), calls()])),
        "messages",
        UNANSWERED,
    );
    refused(
        &with_messages(json!([user(), calls(), answer("a")])),
        "messages",
        UNANSWERED,
    );
    refused(
        &with_messages(json!([user(), calls(), answer("a"), user()])),
        "messages[3].role",
        UNANSWERED,
    );
    refused(
        &with_messages(json!([user(), calls(), user(), answer("a"), answer("b")])),
        "messages[2].role",
        UNANSWERED,
    );
    refused(
        &with_messages(json!([user(), calls(), answer("a"), calls(), answer("b")])),
        "messages[3].role",
        UNANSWERED,
    );
}

#[test]
fn answers_without_a_call() {
    let answer = |id: &str| json!({ "role": "tool", "tool_call_id": id, "content": "{}" });
    refused(
        &with("/messages/1", answer("a")),
        "messages[1].tool_call_id",
        NO_CALL,
    );
    refused(
        &with("/messages/6", answer("b")),
        "messages[6].tool_call_id",
        NO_CALL,
    );
    refused(
        &with("/messages/8", answer("a")),
        "messages[8].tool_call_id",
        NO_CALL,
    );
    refused(
        &without("/messages/5", "tool_call_id"),
        "messages[5].tool_call_id",
        "not a string",
    );
}

#[test]
fn ids_of_calls() {
    let at = "messages[4].tool_calls[1].id";
    refused(
        &with("/messages/4/tool_calls/1/id", json!("")),
        at,
        "1 to 40 characters are allowed",
    );
    refused(
        &with("/messages/4/tool_calls/1/id", json!("x".repeat(41))),
        at,
        "1 to 40 characters are allowed",
    );
    refused(
        &with("/messages/4/tool_calls/1/id", json!("a")),
        at,
        "used twice",
    );
    refused(
        &with("/messages/7/tool_calls/0/id", json!("a")),
        "messages[7].tool_calls[0].id",
        "used twice",
    );
    refused(
        &without("/messages/4/tool_calls/1", "id"),
        at,
        "not a string",
    );
}

#[test]
fn calls_of_the_wrong_shape() {
    refused(
        &with("/messages/4/tool_calls", json!([])),
        "messages[4].tool_calls",
        "empty",
    );
    refused(
        &with("/messages/4/tool_calls", Value::Null),
        "messages[4].tool_calls",
        "not an array",
    );
    refused(
        &with("/messages/4/tool_calls/0/type", json!("custom")),
        "messages[4].tool_calls[0].type",
        "not a function",
    );
    refused(
        &without("/messages/4/tool_calls/0", "function"),
        "messages[4].tool_calls[0].function.",
        "not an object",
    );
}

#[test]
fn arguments_of_calls() {
    let (place, at) = (
        "/messages/4/tool_calls/0/function/arguments",
        "messages[4].tool_calls[0].function.arguments",
    );
    refused(&with(place, json!({ "title": "Milk" })), at, "not a string");
    for nonsense in ["", "null", "[]", "\"text\"", "{\"title\":"] {
        refused(
            &with(place, json!(nonsense)),
            at,
            "not the text of a JSON object",
        );
    }
}

#[test]
fn names_of_tools() {
    for name in [
        "",
        "add task",
        "tasks.add",
        "añadir",
        "x".repeat(65).as_str(),
    ] {
        refused(
            &with("/tools/0/function/name", json!(name)),
            "tools[0].function.name",
            BAD_NAME,
        );
        refused(
            &with("/messages/4/tool_calls/0/function/name", json!(name)),
            "messages[4].tool_calls[0].function.name",
            BAD_NAME,
        );
    }
    assert_eq!(
        check(&with("/tools/0/function/name", json!("x".repeat(64)))),
        Ok(())
    );
    refused(
        &with("/tools/1/function/name", json!("add_task")),
        "tools[1].function.name",
        "used twice",
    );
}

#[test]
fn tools_of_the_wrong_shape() {
    refused(&with("/tools", json!([])), "tools", "1 to 128 are allowed");
    let many: Vec<Value> = (0..129)
        .map(|index| tool(&format!("tool_{index}")))
        .collect();
    refused(
        &with("/tools", json!(many)),
        "tools",
        "1 to 128 are allowed",
    );
    refused(
        &with("/tools/0/type", json!("web_search")),
        "tools[0]",
        "not a function",
    );
    refused(
        &without("/tools/0", "function"),
        "tools[0].function.",
        "not an object",
    );
    refused(
        &with("/tools/0/function/description", json!(1)),
        "tools[0].function.description",
        "not a string",
    );
    for schema in [json!("{}"), json!([]), json!(true), Value::Null] {
        refused(
            &with("/tools/0/function/parameters", schema),
            "tools[0].function.parameters",
            "not an object",
        );
    }
    refused(
        &with("/tools/0/function/parameters/type", json!("array")),
        "tools[0].function.parameters",
        "not the schema of an object",
    );
}

#[test]
fn a_transcript_without_an_end_to_answer() {
    let mut body = good();
    body["messages"]
        .as_array_mut()
        .expect("messages")
        .push(json!({ "role": "assistant", "content": "Done." }));
    refused(&body, "messages", "there is nothing to answer at the end");
    refused(
        &with_messages(json!([{ "role": "system", "content": "Be brief." }])),
        "messages",
        "there is nothing to answer at the end",
    );
}

#[test]
fn nul_anywhere() {
    for place in [
        "/model",
        "/messages/1/content",
        "/messages/5/content",
        "/tools/0/function/description",
    ] {
        refused(&with(place, json!("a\0b")), "body", "holds U+0000");
    }
}
