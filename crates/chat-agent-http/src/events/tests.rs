use chat_domain::AgentErrorKind::{self, Protocol, Refused, Unavailable};
use chat_domain::{FinishReason, RawJson, StepEnd, Usage};
use chat_test_support::stub_agent::chunk;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::failure::truncated;
use crate::mask::Mask;
use crate::tool_names::ToolNames;

fn answer() -> Answer {
    Answer::new(ToolNames::default(), "here".to_owned(), Mask::default())
}

fn pieces_of(pieces: impl IntoIterator<Item = Vec<u8>>) -> ByteStream {
    let pieces: Vec<_> = pieces
        .into_iter()
        .map(|piece| Ok(Bytes::from(piece)))
        .collect();
    stream::iter(pieces).boxed()
}

async fn events_of(
    pieces: impl IntoIterator<Item = Vec<u8>>,
) -> Vec<Result<StepEvent, AgentErrorKind>> {
    read_pieces(pieces_of(pieces), answer())
        .map(|event| event.map(without_data).map_err(|error| error.kind))
        .collect()
        .await
}

/// Removes the agent data from an event.
fn without_data(event: StepEvent) -> StepEvent {
    match event {
        StepEvent::ToolCall {
            tool, arguments, ..
        } => StepEvent::ToolCall {
            tool,
            arguments,
            agent_data: None,
        },
        StepEvent::Done(end) => StepEvent::Done(StepEnd {
            agent_data: None,
            ..end
        }),
        other => other,
    }
}

fn text(text: &str) -> Result<StepEvent, AgentErrorKind> {
    Ok(StepEvent::Text(text.to_owned()))
}

fn call(tool: &str, arguments: &str) -> Result<StepEvent, AgentErrorKind> {
    Ok(StepEvent::ToolCall {
        tool: tool.to_owned(),
        arguments: RawJson::from_valid(arguments),
        agent_data: None,
    })
}

fn done(input_tokens: u64, output_tokens: u64) -> Result<StepEvent, AgentErrorKind> {
    ended(FinishReason::Complete, input_tokens, output_tokens)
}

fn ended(
    finish: FinishReason,
    input_tokens: u64,
    output_tokens: u64,
) -> Result<StepEvent, AgentErrorKind> {
    let usage = Usage {
        input_tokens,
        output_tokens,
    };
    Ok(StepEvent::Done(StepEnd {
        usage,
        finish,
        agent_data: None,
    }))
}

fn sse(chunks: impl IntoIterator<Item = Value>) -> Vec<u8> {
    chunks
        .into_iter()
        .map(|chunk| format!("data: {chunk}\n\n"))
        .collect::<String>()
        .into_bytes()
}

/// A stream with every form that the format allows: a byte order mark, comments, three kinds of
/// line ends, other fields, data over several lines, characters of one to four bytes.
fn all_forms() -> Vec<u8> {
    let mut body = String::from("\u{feff}: ping\r\n\r\n");
    for piece in ["Hé", "llo ", "🦀", "日本"] {
        body += &format!("event: x\r\nid: 1\r\ndata:{}\r\n\r\n", chunk::text(piece));
    }
    body += &format!(
        ": ping\n\ndata: {}\n\n",
        chunk::call(0, "c1", "f", "{\"ä\"")
    );
    body += &format!("retry: 10\rdata: {}\r\r", chunk::arguments(0, ":1}"));
    body += "data: {\"choices\":[\ndata: {\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n";
    body += &format!("data: {}\n\ndata: [DONE]\n\n", chunk::usage(3, 4));
    body.into_bytes()
}

fn all_forms_events() -> Vec<Result<StepEvent, AgentErrorKind>> {
    vec![
        text("Hé"),
        text("llo "),
        text("🦀"),
        text("日本"),
        call("f", "{\"ä\":1}"),
        done(3, 4),
    ]
}

#[tokio::test]
async fn a_stream_may_be_split_anywhere() {
    let body = all_forms();
    for cut in 0..=body.len() {
        let (before, after) = body.split_at(cut);
        assert_eq!(
            events_of([before.to_vec(), after.to_vec()]).await,
            all_forms_events(),
            "cut at {cut}"
        );
    }
    for size in [1, 2, 3, 7] {
        assert_eq!(
            events_of(body.chunks(size).map(<[u8]>::to_vec)).await,
            all_forms_events(),
            "pieces of {size}"
        );
    }
}

#[tokio::test]
async fn a_truncated_stream_is_an_error_after_its_events() {
    let body = all_forms();
    let whole_from = String::from_utf8_lossy(&body)
        .find("\"tool_calls\"}]}\n\n")
        .expect("the finish reason")
        + "\"tool_calls\"}]}".len();
    for end in 0..body.len() {
        let mut events = events_of([body[..end].to_vec()]).await;
        let last = events.pop().expect("an end");
        assert_eq!(events[..], all_forms_events()[..events.len()], "{end}");
        // After the finish reason only the usage can be missing.
        if end >= whole_from {
            assert!(matches!(last, Ok(StepEvent::Done(_))), "{end}: {last:?}");
        } else {
            assert_eq!(last, Err(Unavailable), "{end}");
        }
    }
}

#[tokio::test]
async fn a_lost_connection_after_the_finish_reason_is_ignored() {
    let connection_lost = || stream::iter([Err(truncated())]);
    let finished = pieces_of([sse([chunk::text("Hi"), chunk::finish("stop")])])
        .chain(connection_lost())
        .boxed();
    let events: Vec<_> = read_pieces(finished, answer())
        .map(|event| event.map(without_data).map_err(|error| error.kind))
        .collect()
        .await;
    assert_eq!(events, [text("Hi"), done(0, 0)]);
    let unfinished = pieces_of([sse([chunk::text("Hi")])])
        .chain(connection_lost())
        .boxed();
    let events: Vec<_> = read_pieces(unfinished, answer())
        .map(|event| event.map(without_data).map_err(|error| error.kind))
        .collect()
        .await;
    assert_eq!(events, [text("Hi"), Err(Unavailable)]);
}

#[tokio::test]
async fn events_after_the_end_mark_are_ignored() {
    let body = [
        sse([chunk::text("Hi")]),
        b"data: [DONE]\n\n".to_vec(),
        sse([chunk::text("again")]),
    ]
    .concat();
    assert_eq!(events_of([body]).await, [text("Hi"), done(0, 0)]);
}

#[tokio::test]
async fn text_events_are_not_empty_and_contain_no_nul() {
    let pieces = [
        chunk::delta(json!({ "role": "assistant", "content": "" })),
        chunk::text("a\0b"),
        chunk::delta(json!({ "content": null })),
    ];
    assert_eq!(
        events_of([sse(pieces), sse([chunk::finish("stop")])]).await,
        [text("a\u{FFFD}b"), done(0, 0)]
    );
}

#[tokio::test]
async fn a_refusal_of_the_model_is_text() {
    let body = sse([
        chunk::delta(json!({ "refusal": "I cannot." })),
        chunk::finish("stop"),
    ]);
    assert_eq!(events_of([body]).await, [text("I cannot."), done(0, 0)]);
}

#[tokio::test]
async fn calls_follow_the_text_for_every_finish_reason() {
    for reason in ["stop", "tool_calls", "function_call", "eos", "anything"] {
        let body = sse([
            chunk::call(0, "x", "f", "{\"a\""),
            chunk::text("One moment."),
            chunk::arguments(0, ":1}"),
            chunk::finish(reason),
        ]);
        assert_eq!(
            events_of([body]).await,
            [text("One moment."), call("f", "{\"a\":1}"), done(0, 0)],
            "{reason}"
        );
    }
}

#[tokio::test]
async fn a_call_truncated_by_the_length_limit_has_invalid_arguments() {
    let body = sse([
        chunk::call(0, "x", "f", "{\"a\""),
        chunk::finish("length"),
        chunk::usage(1, 2),
    ]);
    assert_eq!(
        events_of([body]).await,
        [call("f", r#""{\"a\"""#), ended(FinishReason::Length, 1, 2)]
    );
}

#[tokio::test]
async fn the_last_usage_wins() {
    let running = json!({
        "choices": [{ "delta": { "content": "Hi" } }],
        "usage": { "prompt_tokens": 5, "completion_tokens": 1 },
    });
    let last = json!({ "choices": null, "usage": { "prompt_tokens": 5, "completion_tokens": 2 } });
    assert_eq!(
        events_of([sse([running, chunk::finish("stop"), last])]).await,
        [text("Hi"), done(5, 2)]
    );
}

#[tokio::test]
async fn other_choices_are_ignored() {
    let other = json!({
        "choices": [{ "index": 1, "delta": { "content": "no" }, "finish_reason": "stop" }],
    });
    assert_eq!(
        events_of([sse([other.clone(), chunk::text("yes"), other])]).await,
        [text("yes"), Err(Unavailable)]
    );
}

#[tokio::test]
async fn a_filtered_answer_is_refused() {
    let filtered = events_of([sse([chunk::text("Well"), chunk::finish("content_filter")])]).await;
    assert_eq!(
        filtered,
        [text("Well"), ended(FinishReason::ContentFilter, 0, 0)]
    );
    // The filter removed the whole answer.
    assert_eq!(
        events_of([sse([chunk::finish("content_filter")])]).await,
        [Err(Refused)]
    );
}

#[tokio::test]
async fn an_error_in_the_stream_ends_it() {
    let error = json!({
        "error": { "message": "boom", "code": "context_length_exceeded" },
        "choices": [{ "delta": { "content": "" } }],
    });
    assert_eq!(
        events_of([sse([chunk::text("Well"), error, chunk::text("no")])]).await,
        [
            text("Well"),
            Err(AgentErrorKind::ContextTooLong { limit: None })
        ]
    );
    let flat = json!({ "object": "error", "message": "boom", "code": 503 });
    assert_eq!(
        events_of([sse([flat])]).await,
        [Err(AgentErrorKind::Overloaded { retry_after: None })]
    );
}

#[tokio::test]
async fn invalid_answers_are_protocol_errors() {
    for garbage in [
        "data: <html>\n\n",
        "data: {\"choices\":7}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":true}}]}\n\n",
        "data: [DONE]\n\n",
    ] {
        assert_eq!(
            events_of([garbage.as_bytes().to_vec()]).await,
            [Err(Protocol)],
            "{garbage}"
        );
    }
    let nameless = sse([chunk::call(0, "x", "", "{}"), chunk::finish("stop")]);
    assert_eq!(events_of([nameless]).await, [Err(Protocol)]);
}

#[tokio::test]
async fn an_event_over_the_size_limit_is_rejected() {
    let endless =
        std::iter::once(b"data: ".to_vec()).chain(std::iter::repeat_n(vec![b'x'; 1 << 16], 18));
    assert_eq!(events_of(endless).await, [Err(Protocol)]);
    let endless_line = std::iter::repeat_n(vec![b'x'; 1 << 16], 18);
    assert_eq!(events_of(endless_line).await, [Err(Protocol)]);
}

#[tokio::test]
async fn the_size_limit_is_per_event() {
    let piece = "x".repeat(1 << 16);
    let chunks = std::iter::repeat_n(chunk::text(&piece), 40).chain([chunk::finish("stop")]);
    let events = events_of(sse(chunks).chunks(10_000).map(<[u8]>::to_vec)).await;
    assert_eq!(events.len(), 41);
    assert_eq!(events.last(), Some(&done(0, 0)));
}

#[tokio::test]
async fn an_answer_may_be_one_document() {
    let whole = json!({
        "object": "chat.completion",
        "choices": [{ "index": 0, "finish_reason": "tool_calls", "message": {
            "role": "assistant", "content": "Hé", "tool_calls": [{
                "id": "x", "type": "function", "function": { "name": "f", "arguments": "{}" },
            }],
        } }],
        "usage": { "prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7 },
    });
    let events_of = |body: Vec<u8>| async move {
        let pieces = pieces_of(body.chunks(3).map(<[u8]>::to_vec));
        read_pieces(pieces, answer())
            .map(|event| event.map(without_data).map_err(|error| error.kind))
            .collect::<Vec<_>>()
            .await
    };
    assert_eq!(
        events_of(whole.to_string().into_bytes()).await,
        [text("Hé"), call("f", "{}"), done(5, 2)]
    );
    assert_eq!(events_of(b"{}".to_vec()).await, [Err(Protocol)]);
    assert_eq!(
        events_of(b"{\"choices\":[".to_vec()).await,
        [Err(Unavailable)]
    );
    assert_eq!(events_of(b"\xff".to_vec()).await, [Err(Unavailable)]);
    assert_eq!(
        events_of(br#"{"error":{"code":"invalid_api_key"}}"#.to_vec()).await,
        [Err(AgentErrorKind::Misconfigured)]
    );
}

#[tokio::test]
async fn a_document_over_the_size_limit_is_rejected() {
    let endless = pieces_of(std::iter::repeat_n(vec![b' '; 1 << 20], 9));
    let events: Vec<_> = read_pieces(endless, answer())
        .map(|event| event.map(without_data).map_err(|error| error.kind))
        .collect()
        .await;
    assert_eq!(events, [Err(Protocol)]);
}

#[tokio::test]
async fn renamed_tools_get_their_original_names() {
    let sent = crate::tool_names::wire_name("tasks.add").into_owned();
    let body = sse([
        chunk::call(0, "x", &sent, "{}"),
        chunk::call(1, "y", "other", "{}"),
        chunk::finish("stop"),
    ]);
    let answer = Answer::new(
        ToolNames::new(["tasks.add"].into_iter()),
        "here".to_owned(),
        Mask::default(),
    );
    let events: Vec<_> = read_pieces(pieces_of([body]), answer)
        .map(|event| event.map(without_data).map_err(|error| error.kind))
        .collect()
        .await;
    assert_eq!(
        events,
        [call("tasks.add", "{}"), call("other", "{}"), done(0, 0)]
    );
}

fn all_of(body: &[u8]) -> Vec<Result<StepEvent, AgentErrorKind>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(events_of(body.chunks(97).map(<[u8]>::to_vec)))
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let events = all_of(&bytes);
        prop_assert!(matches!(events.last(), Some(Err(_))));
    }

    #[test]
    fn a_corrupted_stream_is_an_error_or_an_answer(
        at in 0_usize..600,
        byte: u8,
        removed in 0_usize..8,
    ) {
        let mut body = all_forms();
        let at = at.min(body.len() - 1);
        body[at] = byte;
        body.drain(at..(at + removed).min(body.len()));
        let events = all_of(&body);
        let ends = events.iter().filter(
            |event| matches!(event, Err(_) | Ok(StepEvent::Done(_))),
        ).count();
        prop_assert_eq!(ends, 1);
        prop_assert!(matches!(events.last(), Some(Err(_) | Ok(StepEvent::Done(_)))));
    }
}
