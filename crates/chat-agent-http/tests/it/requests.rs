//! The form of requests.

use chat_agent_http::ChatCompletionsAgent;
use chat_domain::transcript::{Call, Entry};
use chat_domain::{RawJson, StepRequest, ToolCallId};
use chat_test_support::stub_agent::{Answer, Recorded, StubAgent};
use uuid::Uuid;

use crate::support::{agent, call, done, events, hello, request, says, settings, tool};

fn answers(text: &str) -> Entry {
    Entry::Assistant {
        text: text.to_owned(),
        calls: Vec::new(),
        agent_data: None,
    }
}

fn calls<'a>(text: &str, calls: impl IntoIterator<Item = (u128, &'a str, &'a str)>) -> Entry {
    let call = |(id, tool, arguments): (u128, &str, &str)| Call {
        id: ToolCallId(Uuid::from_u128(id)),
        tool: tool.to_owned(),
        arguments: RawJson::from_valid(arguments),
        agent_data: None,
    };
    Entry::Assistant {
        text: text.to_owned(),
        calls: calls.into_iter().map(call).collect(),
        agent_data: None,
    }
}

fn result(id: u128, content: &str) -> Entry {
    Entry::ToolResult {
        call: ToolCallId(Uuid::from_u128(id)),
        content: content.to_owned(),
    }
}

/// Returns the request as the stub server recorded it.
async fn sent(request: StepRequest) -> Recorded {
    let stub = StubAgent::start(|_| Answer::text(["Done."]));
    let mut settings = settings(&stub.base_url());
    settings.instructions = Some("Be brief.".to_owned());
    let agent = ChatCompletionsAgent::new(settings).expect("usable settings");
    let events = events(&agent, request).await;
    let recorded = stub.requests().remove(0);
    assert_eq!(recorded.rejection, None);
    assert!(events.last().is_some_and(|last| last.is_ok()), "{events:?}");
    recorded
}

/// Returns turns with every kind of transcript entry.
fn turns() -> Vec<Vec<Entry>> {
    vec![
        vec![says("Hello"), answers("Hello. 🦀")],
        vec![
            says("Add \"milk\"\nand eggs"),
            calls(
                "",
                [
                    (1, "add_task", r#"{ "title": "milk", "n": 1.0e2 }"#),
                    (2, "add_task", r#"{"title":"eggs"}"#),
                ],
            ),
            result(1, r#"{"task_id":1}"#),
            result(2, "Error (timed_out): no answer"),
            calls("Once more.", [(3, "tasks.add", r#""{\"title\":""#)]),
            result(3, ""),
            answers("Added."),
        ],
        vec![says("Thanks")],
    ]
}

fn tools() -> Vec<chat_domain::ToolSpec> {
    vec![
        tool(
            "add_task",
            r#"{ "type": "object", "properties": { "title": {"type":"string"} }, "required": ["title"] }"#,
        ),
        tool("tasks.add", r#"{"type":"object"}"#),
    ]
}

#[tokio::test]
async fn a_transcript_with_tools() {
    let mut request = request(turns().concat());
    request.tools = tools();
    let recorded = sent(request).await;
    insta::assert_json_snapshot!(recorded.json());
    let body = String::from_utf8(recorded.body.to_vec()).expect("UTF-8");
    for verbatim in [
        r#""parameters":{ "type": "object", "properties": { "title": {"type":"string"} }, "required": ["title"] }"#,
        r#""arguments":"{ \"title\": \"milk\", \"n\": 1.0e2 }""#,
    ] {
        assert!(body.contains(verbatim), "{verbatim} is not in {body}");
    }
}

#[tokio::test]
async fn requests_of_consecutive_turns_share_their_prefix() {
    let turns = turns();
    let mut bodies = Vec::new();
    for count in 1..=turns.len() {
        let mut entries = turns[..count].concat();
        if count < turns.len() {
            // While a turn runs, its last answer is not in the transcript.
            entries.pop();
        }
        let mut request = request(entries);
        request.tools = tools();
        bodies.push(sent(request).await.body);
    }
    for pair in bodies.windows(2) {
        let shared = pair[0].strip_suffix(b"]}").expect("the messages come last");
        assert!(
            pair[1].starts_with(shared),
            "{:?} does not begin like {:?}",
            pair[1],
            pair[0]
        );
    }
}

#[tokio::test]
async fn a_request_without_tools_instructions_and_key_is_minimal() {
    let stub = StubAgent::start(|_| Answer::text(["Hello"]));
    events(&agent(&stub.base_url()), hello()).await;
    let recorded = stub.requests().remove(0);
    let expected = r#"{"model":"stub-model","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Hello"}]}"#;
    assert_eq!(recorded.body, expected);
    assert_eq!(recorded.header("authorization"), None);
    assert_eq!(recorded.header("content-type"), Some("application/json"));
    assert_eq!(
        recorded.header("accept"),
        Some("text/event-stream, application/json")
    );
}

#[tokio::test]
async fn a_tool_with_an_invalid_schema_is_omitted() {
    let mut with_bad = hello();
    with_bad.tools = vec![
        tool("bad", "[]"),
        tool("good", "{}"),
        tool("worse", "{\"type\":"),
    ];
    let names: Vec<_> = sent(with_bad).await.json()["tools"]
        .as_array()
        .expect("tools")
        .iter()
        .map(|tool| tool["function"]["name"].clone())
        .collect();
    assert_eq!(names, ["good"]);
    let mut only_bad = hello();
    only_bad.tools = vec![tool("bad", "[]")];
    assert!(sent(only_bad).await.json().get("tools").is_none());
}

#[tokio::test]
async fn tool_names_make_a_round_trip() {
    let stub = StubAgent::start(|request| {
        let name = request.json()["tools"][0]["function"]["name"]
            .as_str()
            .expect("a name")
            .to_owned();
        Answer::calls([(name.as_str(), "{}"), ("ünknown tool", "{}")])
    });
    let agent = agent(&stub.base_url());
    let mut request = hello();
    request.tools = vec![tool("tasks.add", "{}")];
    assert_eq!(
        events(&agent, request).await,
        [
            call("tasks.add", "{}"),
            call("ünknown tool", "{}"),
            done(1, 2)
        ]
    );
    // The model reads the name it used, in a form that the server accepts.
    let entries = [
        says("Hello"),
        calls("", [(1, "tasks.add", "{}"), (2, "ünknown tool", "{}")]),
        result(1, "{}"),
        result(2, "no such tool"),
    ];
    let sent = sent(crate::support::request(entries)).await;
    let names = sent.messages()[2]["tool_calls"]
        .as_array()
        .expect("calls")
        .iter()
        .map(|call| call["function"]["name"].clone())
        .collect::<Vec<_>>();
    assert_eq!(
        names[0],
        stub.requests()[0].json()["tools"][0]["function"]["name"]
    );
}

#[tokio::test]
async fn a_transcript_that_no_server_accepts_is_an_error() {
    let stub = StubAgent::with_answers([]);
    let events = events(
        &agent(&stub.base_url()),
        request([says("Hello"), calls("", [(1, "f", "{}")])]),
    )
    .await;
    assert_eq!(events, [Err(chat_domain::AgentErrorKind::Misconfigured)]);
    assert!(stub.requests()[0].rejection.is_some());
}
