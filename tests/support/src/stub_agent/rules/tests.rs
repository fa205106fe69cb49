use serde_json::{Value, json};

use super::*;

fn call(id: &str) -> Value {
    json!({
        "id": id, "type": "function",
        "function": { "name": "add_task", "arguments": "{\"title\":\"Milk\"}" },
    })
}

fn tool(name: &str) -> Value {
    json!({
        "type": "function",
        "function": { "name": name, "description": "Does it.", "parameters": { "type": "object" } },
    })
}

/// Returns a valid request with every allowed member.
fn valid() -> Value {
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

/// Returns the valid request with one changed value.
fn with(pointer: &str, value: Value) -> Value {
    let mut body = valid();
    *body
        .pointer_mut(pointer)
        .expect("the place is in the valid request") = value;
    body
}

fn without(pointer: &str, member: &str) -> Value {
    let mut body = valid();
    let object = body
        .pointer_mut(pointer)
        .and_then(Value::as_object_mut)
        .expect("the place is an object of the valid request");
    object.remove(member).expect("the member is there");
    body
}

fn with_messages(messages: Value) -> Value {
    with("/messages", messages)
}

#[track_caller]
fn assert_rejected(body: &Value, at: &str, reason: &str) {
    let rejection = check(body).expect_err("an endpoint rejects this");
    assert_eq!((rejection.at.as_str(), rejection.reason), (at, reason));
}

const UNANSWERED: &str =
    "an assistant message with 'tool_calls' must be followed by all their answers";
const NO_CALL: &str = "answers no call of the preceding assistant message, or one a second time";
const BAD_NAME: &str = "does not match '^[a-zA-Z0-9_-]{1,64}$'";

#[test]
fn a_valid_request_is_accepted() {
    assert_eq!(check(&valid()), Ok(()));
    assert_eq!(
        check(&json!({ "model": "m", "messages": [{ "role": "user", "content": "Hello" }] })),
        Ok(())
    );
}

#[test]
fn invalid_bodies_are_rejected() {
    assert_eq!(
        check_request(b"{").expect_err("not JSON").reason,
        "not JSON"
    );
    assert_rejected(&json!([]), "body", "not an object");
    assert_rejected(&without("", "model"), "model", "not a string");
    assert_rejected(&with("/model", json!("")), "model", "empty");
    let mut unknown = valid();
    unknown["surprise"] = json!(1);
    assert_rejected(&unknown, "surprise", "unknown member");
}

#[test]
fn invalid_streaming_options_are_rejected() {
    assert_rejected(&with("/stream", json!("yes")), "stream", "not a boolean");
    assert_rejected(
        &with("/stream", json!(false)),
        "stream_options",
        "only allowed with stream",
    );
    assert_rejected(
        &without("", "stream"),
        "stream_options",
        "only allowed with stream",
    );
    assert_rejected(
        &with("/stream_options/include_usage", json!(1)),
        "stream_options.include_usage",
        "not a boolean",
    );
}

#[test]
fn missing_messages_are_rejected() {
    assert_rejected(&without("", "messages"), "messages", "not an array");
    assert_rejected(&with_messages(json!([])), "messages", "empty");
    assert_rejected(
        &with("/messages/1", json!("Hello")),
        "messages[1].",
        "not an object",
    );
}

#[test]
fn unknown_roles_are_rejected() {
    assert_rejected(
        &with("/messages/1/role", json!("human")),
        "messages[1].role",
        "unknown",
    );
    assert_rejected(
        &with("/messages/1/role", json!("function")),
        "messages[1].role",
        "unknown",
    );
    assert_rejected(
        &without("/messages/1", "role"),
        "messages[1].role",
        "not a string",
    );
}

#[test]
fn missing_or_empty_content_is_rejected() {
    for index in [0, 1, 2] {
        let at = format!("messages[{index}].content");
        assert_rejected(
            &with(&format!("/messages/{index}/content"), json!("")),
            &at,
            "empty",
        );
        assert_rejected(
            &with(&format!("/messages/{index}/content"), Value::Null),
            &at,
            "neither a string nor an array",
        );
        assert_rejected(
            &without(&format!("/messages/{index}"), "content"),
            &at,
            "neither a string nor an array",
        );
    }
    assert_rejected(
        &with("/messages/3/content", json!([])),
        "messages[3].content",
        "empty",
    );
    assert_rejected(
        &with("/messages/3/content/0/text", json!("")),
        "messages[3].content",
        "not a part with text",
    );
    assert_rejected(
        &with("/messages/5/content", Value::Null),
        "messages[5].content",
        "not a string",
    );
    assert_rejected(
        &with("/messages/7/content", json!(1)),
        "messages[7].content",
        "not a string",
    );
}

#[test]
fn unanswered_calls_are_rejected() {
    let user = || json!({ "role": "user", "content": "Hello" });
    let calls =
        || json!({ "role": "assistant", "content": null, "tool_calls": [call("a"), call("b")] });
    let answer = |id: &str| json!({ "role": "tool", "tool_call_id": id, "content": "{}" });
    assert_rejected(
        &with_messages(json!([user(), calls()])),
        "messages",
        UNANSWERED,
    );
    assert_rejected(
        &with_messages(json!([user(), calls(), answer("a")])),
        "messages",
        UNANSWERED,
    );
    assert_rejected(
        &with_messages(json!([user(), calls(), answer("a"), user()])),
        "messages[3].role",
        UNANSWERED,
    );
    assert_rejected(
        &with_messages(json!([user(), calls(), user(), answer("a"), answer("b")])),
        "messages[2].role",
        UNANSWERED,
    );
    assert_rejected(
        &with_messages(json!([user(), calls(), answer("a"), calls(), answer("b")])),
        "messages[3].role",
        UNANSWERED,
    );
}

#[test]
fn answers_without_a_call_are_rejected() {
    let answer = |id: &str| json!({ "role": "tool", "tool_call_id": id, "content": "{}" });
    assert_rejected(
        &with("/messages/1", answer("a")),
        "messages[1].tool_call_id",
        NO_CALL,
    );
    assert_rejected(
        &with("/messages/6", answer("b")),
        "messages[6].tool_call_id",
        NO_CALL,
    );
    assert_rejected(
        &with("/messages/8", answer("a")),
        "messages[8].tool_call_id",
        NO_CALL,
    );
    assert_rejected(
        &without("/messages/5", "tool_call_id"),
        "messages[5].tool_call_id",
        "not a string",
    );
}

#[test]
fn invalid_call_ids_are_rejected() {
    let at = "messages[4].tool_calls[1].id";
    assert_rejected(
        &with("/messages/4/tool_calls/1/id", json!("")),
        at,
        "1 to 40 characters are allowed",
    );
    assert_rejected(
        &with("/messages/4/tool_calls/1/id", json!("x".repeat(41))),
        at,
        "1 to 40 characters are allowed",
    );
    assert_rejected(
        &with("/messages/4/tool_calls/1/id", json!("a")),
        at,
        "duplicate",
    );
    assert_rejected(
        &with("/messages/7/tool_calls/0/id", json!("a")),
        "messages[7].tool_calls[0].id",
        "duplicate",
    );
    assert_rejected(
        &without("/messages/4/tool_calls/1", "id"),
        at,
        "not a string",
    );
}

#[test]
fn malformed_calls_are_rejected() {
    assert_rejected(
        &with("/messages/4/tool_calls", json!([])),
        "messages[4].tool_calls",
        "empty",
    );
    assert_rejected(
        &with("/messages/4/tool_calls", Value::Null),
        "messages[4].tool_calls",
        "not an array",
    );
    assert_rejected(
        &with("/messages/4/tool_calls/0/type", json!("custom")),
        "messages[4].tool_calls[0].type",
        "not a function",
    );
    assert_rejected(
        &without("/messages/4/tool_calls/0", "function"),
        "messages[4].tool_calls[0].function.",
        "not an object",
    );
}

#[test]
fn invalid_arguments_are_rejected() {
    let (place, at) = (
        "/messages/4/tool_calls/0/function/arguments",
        "messages[4].tool_calls[0].function.arguments",
    );
    assert_rejected(&with(place, json!({ "title": "Milk" })), at, "not a string");
    for nonsense in ["", "null", "[]", "\"text\"", "{\"title\":"] {
        assert_rejected(
            &with(place, json!(nonsense)),
            at,
            "not the text of a JSON object",
        );
    }
}

#[test]
fn invalid_tool_names_are_rejected() {
    for name in [
        "",
        "add task",
        "tasks.add",
        "añadir",
        "x".repeat(65).as_str(),
    ] {
        assert_rejected(
            &with("/tools/0/function/name", json!(name)),
            "tools[0].function.name",
            BAD_NAME,
        );
        assert_rejected(
            &with("/messages/4/tool_calls/0/function/name", json!(name)),
            "messages[4].tool_calls[0].function.name",
            BAD_NAME,
        );
    }
    assert_eq!(
        check(&with("/tools/0/function/name", json!("x".repeat(64)))),
        Ok(())
    );
    assert_rejected(
        &with("/tools/1/function/name", json!("add_task")),
        "tools[1].function.name",
        "duplicate",
    );
}

#[test]
fn malformed_tools_are_rejected() {
    assert_rejected(&with("/tools", json!([])), "tools", "1 to 128 are allowed");
    let many: Vec<Value> = (0..129)
        .map(|index| tool(&format!("tool_{index}")))
        .collect();
    assert_rejected(
        &with("/tools", json!(many)),
        "tools",
        "1 to 128 are allowed",
    );
    assert_rejected(
        &with("/tools/0/type", json!("web_search")),
        "tools[0]",
        "not a function",
    );
    assert_rejected(
        &without("/tools/0", "function"),
        "tools[0].function.",
        "not an object",
    );
    assert_rejected(
        &with("/tools/0/function/description", json!(1)),
        "tools[0].function.description",
        "not a string",
    );
    for schema in [json!("{}"), json!([]), json!(true), Value::Null] {
        assert_rejected(
            &with("/tools/0/function/parameters", schema),
            "tools[0].function.parameters",
            "not an object",
        );
    }
    assert_rejected(
        &with("/tools/0/function/parameters/type", json!("array")),
        "tools[0].function.parameters",
        "not the schema of an object",
    );
}

#[test]
fn a_transcript_without_a_message_to_answer_is_rejected() {
    let mut body = valid();
    body["messages"]
        .as_array_mut()
        .expect("messages")
        .push(json!({ "role": "assistant", "content": "Done." }));
    assert_rejected(&body, "messages", "there is nothing to answer at the end");
    assert_rejected(
        &with_messages(json!([{ "role": "system", "content": "Be brief." }])),
        "messages",
        "there is nothing to answer at the end",
    );
}

#[test]
fn nul_is_rejected_anywhere() {
    for place in [
        "/model",
        "/messages/1/content",
        "/messages/5/content",
        "/tools/0/function/description",
    ] {
        assert_rejected(&with(place, json!("a\0b")), "body", "holds U+0000");
    }
}
