//! Provider data that servers expect back, and request parts that they reject.

use chat_agent_http::ChatCompletionsAgent;
use chat_domain::transcript::{Call, Entry};
use chat_domain::{Agent, AgentData, AgentErrorKind, RawJson, StepEvent, StepRequest, ToolCallId};
use chat_test_support::stub_agent::{Answer, StubAgent, chunk};
use futures_util::StreamExt;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{agent, done, events, hello, request, says, settings, text, tool};

/// Runs a step that calls tools, and builds the request of the next step with the agent data.
async fn next_request(agent: &ChatCompletionsAgent, request: StepRequest) -> StepRequest {
    let (mut answer, mut calls, mut message_data) = (String::new(), Vec::new(), None);
    let mut stream = agent.step(request.clone()).await.expect("an answer");
    while let Some(event) = stream.next().await {
        match event.expect("an event") {
            StepEvent::Text(text) => answer += &text,
            StepEvent::ToolCall {
                tool,
                arguments,
                agent_data,
            } => {
                calls.push(Call {
                    id: ToolCallId(Uuid::from_u128(100 + calls.len() as u128)),
                    tool,
                    arguments,
                    agent_data,
                });
            }
            StepEvent::Done(end) => message_data = end.agent_data,
            other => panic!("unexpected {other:?}"),
        }
    }
    let mut next = request;
    let results: Vec<Entry> = calls
        .iter()
        .map(|call| Entry::ToolResult {
            call: call.id,
            content: "{}".into(),
        })
        .collect();
    next.transcript.0.push(Entry::Assistant {
        text: answer,
        calls,
        agent_data: message_data,
    });
    if results.is_empty() {
        next.transcript.0.push(says("Go on"));
    }
    next.transcript.0.extend(results);
    next
}

/// Returns the assistant's message in the second request, after these chunks.
async fn message_sent_back(chunks: Vec<Value>) -> Value {
    let answers = [Answer::chunks(chunks), Answer::text(["Done."])];
    let stub = StubAgent::with_answers(answers);
    let agent = agent(&stub.base_url());
    let next = next_request(&agent, hello()).await;
    // Another model gets none of the data.
    let other = StubAgent::start(|_| Answer::text(["Done."]));
    let mut elsewhere = settings(&other.base_url());
    elsewhere.model = "another".to_owned();
    events(
        &ChatCompletionsAgent::new(elsewhere).expect("usable settings"),
        next.clone(),
    )
    .await;
    let plain = other.requests()[0].messages()[1].clone();
    for member in [
        "reasoning_content",
        "reasoning",
        "reasoning_details",
        "extra_content",
    ] {
        assert!(!plain.to_string().contains(member), "{plain}");
    }
    for call in plain["tool_calls"].as_array().into_iter().flatten() {
        let id = call["id"].as_str().expect("an id");
        assert!(
            id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()),
            "{id}"
        );
    }
    events(&agent, next).await;
    stub.requests()[1].messages()[1].clone()
}

#[tokio::test]
async fn call_ids_are_sent_back_unchanged() {
    let back = message_sent_back(vec![
        chunk::call(0, "D681PevKs", "f", "{}"),
        chunk::call(1, "call:2", "g", "{}"),
        chunk::finish("tool_calls"),
    ])
    .await;
    assert_eq!(
        (&back["tool_calls"][0]["id"], &back["tool_calls"][1]["id"]),
        (&json!("D681PevKs"), &json!("call:2"))
    );
}

#[tokio::test]
async fn thought_signatures_are_sent_back() {
    let extra = json!({ "google": { "thought_signature": "c2ln" } });
    let call = json!({
        "index": 0, "id": "a", "extra_content": extra,
        "function": { "name": "f", "arguments": "{}" },
    });
    let back = message_sent_back(vec![chunk::fragment(call), chunk::finish("tool_calls")]).await;
    assert_eq!(back["tool_calls"][0]["extra_content"], extra);
    // The same applies to a message without calls.
    let back = message_sent_back(vec![
        chunk::delta(json!({ "content": "Hi", "extra_content": extra })),
        chunk::finish("stop"),
    ])
    .await;
    assert_eq!(back["extra_content"], extra);
}

#[tokio::test]
async fn reasoning_is_sent_back_with_its_calls() {
    for member in ["reasoning_content", "reasoning"] {
        let pieces = [json!({ member: "I look " }), json!({ member: "it up." })].map(chunk::delta);
        let with_call = pieces
            .iter()
            .cloned()
            .chain([chunk::call(0, "a", "f", "{}"), chunk::finish("tool_calls")])
            .collect();
        assert_eq!(message_sent_back(with_call).await[member], "I look it up.");
        let without = pieces
            .into_iter()
            .chain([chunk::text("Hi"), chunk::finish("stop")])
            .collect();
        assert_eq!(message_sent_back(without).await.get(member), None);
    }
}

#[tokio::test]
async fn reasoning_details_are_merged_and_sent_back() {
    let detail = |detail: Value| chunk::delta(json!({ "reasoning_details": [detail] }));
    let chunks = vec![
        detail(json!({ "type": "reasoning.text", "text": "I ", "index": 0, "signature": null })),
        detail(json!({ "type": "reasoning.text", "text": "look.", "index": 0, "signature": "s" })),
        detail(json!({ "type": "reasoning.encrypted", "data": "e", "index": 1 })),
        chunk::call(0, "a", "f", "{}"),
        chunk::finish("tool_calls"),
    ];
    let expected = json!([
        { "type": "reasoning.text", "text": "I look.", "index": 0, "signature": "s" },
        { "type": "reasoning.encrypted", "data": "e", "index": 1 },
    ]);
    assert_eq!(
        message_sent_back(chunks).await["reasoning_details"],
        expected
    );
}

#[tokio::test]
async fn reasoning_parts_of_the_content_are_sent_back() {
    let thought = |text: &str| {
        chunk::delta(json!({
            "content": [{ "type": "thinking", "thinking": [{ "type": "text", "text": text }] }],
        }))
    };
    let chunks = vec![
        thought("I "),
        thought("look."),
        chunk::text("One moment."),
        chunk::call(0, "a", "f", "{}"),
        chunk::finish("tool_calls"),
    ];
    let expected = json!([
        { "type": "thinking", "thinking": [{ "type": "text", "text": "I look." }] },
        { "type": "text", "text": "One moment." },
    ]);
    assert_eq!(message_sent_back(chunks).await["content"], expected);
}

#[tokio::test]
async fn data_over_the_size_limit_does_not_fail_the_step() {
    let long = "x".repeat(200_000);
    let chunks = vec![
        chunk::delta(json!({
            "reasoning_content": long, "reasoning_details": [{ "text": long }],
            "extra_content": { "a": long },
        })),
        chunk::call(0, &long, "f", "{}"),
        chunk::finish("tool_calls"),
    ];
    let back = message_sent_back(chunks).await;
    assert_eq!(
        back["reasoning_content"].as_str().map(str::len),
        Some(32 << 10)
    );
    assert_eq!(
        (back.get("reasoning_details"), back.get("extra_content")),
        (None, None)
    );
}

#[tokio::test]
async fn data_of_another_source_is_ignored() {
    for data in [
        "",
        "{}",
        "not JSON",
        r#"{"from":"x","id":"y"}"#,
        r#"{"from":7}"#,
    ] {
        let data = AgentData::new(data).ok();
        let call = Call {
            id: ToolCallId(Uuid::from_u128(1)),
            tool: "f".into(),
            arguments: RawJson::from_valid("{}"),
            agent_data: data.clone(),
        };
        let entries = [
            says("Hi"),
            Entry::Assistant {
                text: String::new(),
                calls: vec![call],
                agent_data: data,
            },
        ];
        let result = Entry::ToolResult {
            call: ToolCallId(Uuid::from_u128(1)),
            content: "{}".into(),
        };
        let stub = StubAgent::start(|_| Answer::text(["Done."]));
        let answered = events(
            &agent(&stub.base_url()),
            request(entries.into_iter().chain([result])),
        )
        .await;
        assert_eq!(answered, [text("Done."), done(1, 1)]);
    }
}

fn tool_names(body: &Value) -> Vec<String> {
    let tools = body["tools"].as_array().cloned().unwrap_or_default();
    tools
        .iter()
        .map(|tool| {
            tool["function"]["name"]
                .as_str()
                .expect("a name")
                .to_owned()
        })
        .collect()
}

#[tokio::test]
async fn a_rejected_member_is_omitted_from_then_on() {
    let refusals = [
        Answer::error(
            400,
            "",
            "Unrecognized request argument supplied: stream_options",
        ),
        Answer::json(
            422,
            &json!({
                "detail": [{
                    "type": "extra_forbidden", "loc": ["body", "stream_options"],
                    "msg": "Extra inputs are not permitted",
                }],
            }),
        ),
        Answer::json(
            400,
            &json!({
                "error": {
                    "message": "Unknown parameter", "param": "stream_options.include_usage",
                },
            }),
        ),
    ];
    for refusal in refusals {
        let stub = StubAgent::start(move |request| match request.json().get("stream_options") {
            Some(_) => refusal.clone(),
            None => Answer::text(["Hi"]),
        });
        let agent = agent(&stub.base_url());
        for _ in 0..2 {
            assert_eq!(
                events(&agent.clone(), hello()).await,
                [text("Hi"), done(1, 1)]
            );
        }
        assert_eq!(stub.requests().len(), 3, "rejected once, then remembered");
    }
}

#[tokio::test]
async fn a_rejected_tool_is_omitted_from_then_on() {
    type Refuse = fn(usize) -> Answer;
    let refusals: [Refuse; 4] = [
        |_| {
            Answer::error(
                400,
                "invalid_function_parameters",
                "Invalid schema for function 'bad_tool': object schema missing properties",
            )
        },
        |at| {
            Answer::json(
                400,
                &json!({
                    "error": {
                        "message": "Invalid schema",
                        "param": format!("tools[{at}].function.parameters"),
                    },
                }),
            )
        },
        |at| {
            Answer::json(
                422,
                &json!({ "detail": [{ "loc": ["body", "tools", at, "function"], "msg": "bad" }] }),
            )
        },
        |at| {
            let message = format!(
                "* GenerateContentRequest.tools[0].function_declarations[{at}].parameters: should \
                be non-empty"
            );
            Answer::json(
                400,
                &json!([{
                    "error": { "code": 400, "message": message, "status": "INVALID_ARGUMENT" },
                }]),
            )
        },
    ];
    for refuse in refusals {
        let stub = StubAgent::start(move |request| {
            match tool_names(&request.json())
                .iter()
                .position(|name| name == "bad_tool")
            {
                Some(at) => refuse(at),
                None => Answer::text(["Hi"]),
            }
        });
        let agent = agent(&stub.base_url());
        let mut request = hello();
        request.tools = vec![
            tool("good", "{}"),
            tool("bad_tool", "{}"),
            tool("other", "{}"),
        ];
        for _ in 0..2 {
            assert_eq!(
                events(&agent, request.clone()).await,
                [text("Hi"), done(1, 1)]
            );
        }
        let requests = stub.requests();
        assert_eq!(requests.len(), 3, "rejected once, then remembered");
        assert_eq!(tool_names(&requests[2].json()), ["good", "other"]);
    }
}

#[tokio::test]
async fn requests_to_a_server_that_rejects_everything_are_bounded() {
    let stub = StubAgent::start(|request| {
        let names = tool_names(&request.json());
        Answer::error(
            400,
            "",
            &format!(
                "the function '{}' is bad",
                names.first().map_or("none", String::as_str)
            ),
        )
    });
    let mut request = hello();
    request.tools = (0..100)
        .map(|number| tool(&format!("tool_{number}"), "{}"))
        .collect();
    assert_eq!(
        events(&agent(&stub.base_url()), request).await,
        [Err(AgentErrorKind::Misconfigured)]
    );
    assert!(stub.requests().len() < 40, "{}", stub.requests().len());
}

#[tokio::test]
async fn at_most_128_tools_are_sent() {
    let stub = StubAgent::start(|_| Answer::text(["Hi"]));
    let mut request = hello();
    request.tools = (0..140)
        .map(|number| tool(&format!("tool_{number}"), "{}"))
        .collect();
    assert_eq!(
        events(&agent(&stub.base_url()), request).await,
        [text("Hi"), done(1, 1)]
    );
    assert_eq!(tool_names(&stub.requests()[0].json()).len(), 128);
}
