//! Tool calls and their answers.

use std::time::Duration;

use chat_domain::{CallError, ToolError, ToolErrorKind, Toolset};
use chat_tools_mcp::meta;
use serde_json::{Value, json};

use crate::support::{TestServer, call, eventually, invocation, kind};

#[tokio::test]
async fn a_call_has_its_arguments_and_metadata() {
    let server = TestServer::new("one");
    let tools = server.start();
    let invocation = invocation(
        "echo",
        r#"{"chat/user_id":"eve","n":18446744073709551615,"f":0.1}"#,
    );
    let answer = tools.call(invocation.clone()).await.unwrap();
    let answer: Value = serde_json::from_str(answer.0.as_str()).unwrap();
    assert_eq!(
        answer["arguments"],
        json!({ "chat/user_id": "eve", "n": u64::MAX, "f": 0.1 })
    );
    assert_eq!(answer["meta"][meta::USER_ID], "ann");
    assert_eq!(answer["meta"][meta::CALL_ID], invocation.call.to_string());
    assert_eq!(answer["meta"][meta::TURN_ID], invocation.turn.to_string());
    assert_eq!(
        answer["meta"][meta::CONVERSATION_ID],
        invocation.conversation.to_string()
    );
}

#[tokio::test]
async fn arguments_that_are_not_an_object_are_rejected() {
    let server = TestServer::new("one");
    let tools = server.start();
    for arguments in [r#""words""#, "[]", "null", r#"{"n":18446744073709551616}"#] {
        assert_eq!(
            kind(call(&tools, "echo", arguments).await),
            ToolErrorKind::InvalidArguments
        );
    }
    assert_eq!(
        kind(call(&tools, "no_such_tool", "{}").await),
        ToolErrorKind::UnknownTool
    );
    assert!(call(&tools, "echo", "{}").await.is_ok());
    assert_eq!(server.log(), ["start", "list", "call echo {}"]);
}

#[tokio::test]
async fn answers_and_errors_are_returned() {
    let server = TestServer::new("one");
    let tools = server.start();
    assert_eq!(
        call(&tools, "words", "{}").await.unwrap(),
        r#""just words""#
    );
    assert_eq!(
        call(&tools, "nul", "{}").await.unwrap(),
        r#"{"a\ufffd":"b\ufffdc"}"#
    );
    assert_eq!(
        call(&tools, "fail", "{}").await,
        Err(ToolError::new(ToolErrorKind::Failed, "it is broken").into())
    );
    assert_eq!(
        call(&tools, "refuse", "{}").await,
        Err(ToolError::new(ToolErrorKind::InvalidArguments, "not like this").into())
    );
    assert_eq!(call(&tools, "big", "{}").await.unwrap().len(), 10_000_002);
}

#[tokio::test]
async fn other_output_on_stdout_is_ignored() {
    let server = TestServer::new("one").with("garbage");
    let tools = server.start();
    assert_eq!(
        call(&tools, "words", "{}").await.unwrap(),
        r#""just words""#
    );
    assert_eq!(
        kind(call(&tools, "fail", "{}").await),
        ToolErrorKind::Failed
    );
}

#[tokio::test]
async fn a_call_timeout_cancels_the_call_with_unknown_outcome() {
    let mut server = TestServer::new("one");
    server.settings.call_timeout = Duration::from_millis(300);
    let tools = server.start();
    assert_eq!(call(&tools, "hang", "{}").await, Err(CallError::Unknown));
    assert_eq!(
        call(&tools, "cancelled", "{}").await.unwrap(),
        r#"{"requests":1}"#
    );
    assert_eq!(server.logged("call hang {}"), 1);
}

#[tokio::test]
async fn a_dropped_call_is_cancelled() {
    let server = TestServer::new("one");
    let tools = server.start();
    let hanging = call(&tools, "hang", "{}");
    let cancelled = call(&tools, "cancelled", "{}");
    // The second call is answered after the cancellation of the first arrived.
    let answer = {
        let hanging = Box::pin(hanging);
        let sent = eventually("the first call is at the server", async || {
            server.logged("call hang {}") > 0
        });
        tokio::select! {
            outcome = hanging => panic!("the call did not hang: {outcome:?}"),
            () = sent => {}
        }
        cancelled.await
    };
    assert_eq!(answer.unwrap(), r#"{"requests":1}"#);
}

#[tokio::test]
async fn a_server_that_stops_reading_causes_a_timeout() {
    let mut server = TestServer::new("one");
    server.settings.call_timeout = Duration::from_millis(300);
    let tools = server.start();
    call(&tools, "close_stdin", "{}").await.unwrap();
    // The text exceeds the size of a pipe, so that not even the cancellation can be written.
    let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(200_000));
    for _ in 0..2 {
        assert_eq!(
            kind(call(&tools, "echo", &long).await),
            ToolErrorKind::TimedOut
        );
    }
}

#[tokio::test]
async fn concurrent_calls_get_their_own_answers() {
    let server = TestServer::new("one");
    let tools = server.start();
    let calls = (0..100).map(|n| {
        let tools = &tools;
        async move {
            let answer = call(tools, "echo", &json!({ "n": n }).to_string())
                .await
                .unwrap();
            assert_eq!(
                serde_json::from_str::<Value>(&answer).unwrap()["arguments"]["n"],
                n
            );
        }
    });
    futures_util::future::join_all(calls).await;
}

#[tokio::test]
async fn the_outcome_is_unknown_if_the_server_dies() {
    let server = TestServer::new("one");
    let tools = server.start();
    assert_eq!(call(&tools, "die", "{}").await, Err(CallError::Unknown));
    assert_eq!(server.logged("call die {}"), 1, "the call was not repeated");
}

#[tokio::test]
async fn an_answer_over_the_limit_fails_at_once_and_the_next_call_works() {
    let mut server = TestServer::new("one");
    // The timeout is longer than the test, so only the size limit can end the call.
    server.settings.call_timeout = Duration::from_secs(3_600);
    let tools = server.start();
    assert_eq!(
        kind(call(&tools, "huge", "{}").await),
        ToolErrorKind::TooLarge
    );
    assert_eq!(
        call(&tools, "words", "{}").await.unwrap(),
        r#""just words""#
    );
}

/// Returns the outcomes of calls with this raw answer: for a tool that is not repeatable, and for
/// one that is.
async fn raw(answer: impl AsRef<[u8]>) -> [Result<String, CallError>; 2] {
    let mut server = TestServer::new("one").with_bytes("raw", answer);
    // If the answer were dropped, the test would hang.
    server.settings.call_timeout = Duration::from_secs(3_600);
    let tools = server.start();
    [
        call(&tools, "raw", "{}").await,
        call(&tools, "raw_read", "{}").await,
    ]
}

#[tokio::test]
async fn invalid_json_is_repaired() {
    let text = |text: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":$ID,"result":{{"content":[{{"type":"text","text":"{text}"}}]}}}}"#,
        ).into_bytes()
    };
    let structured = |json: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":$ID,"result":{{"content":[],"structuredContent":{json}}}}}"#
        )
        .into_bytes()
    };
    let mut invalid = text("a?");
    invalid
        .iter_mut()
        .filter(|byte| **byte == b'?')
        .for_each(|byte| *byte = 0xff);
    for (answer, expected) in [
        (text(r"half \ud83d here"), "\"half \u{FFFD} here\""),
        (structured(r#"{"x":NaN,"y":-Infinity}"#), r#"{"x":null,"y":null}"#),
        (invalid, "\"a\u{FFFD}\""),
        ([b"[".to_vec(), text("batch"), b"]".to_vec()].concat(), r#""batch""#),
        (
            br#"{"jsonrpc":"2.0","id":"$ID","error":null,"result":{"content":[{"type":"text","text":"id"}]}}"#.to_vec(),
            r#""id""#,
        ),
    ] {
        assert_eq!(
            raw(&answer).await, [Ok(expected.to_owned()), Ok(expected.to_owned())], "{}",
            String::from_utf8_lossy(&answer),
        );
    }
}

#[tokio::test]
async fn unusual_errors_are_failures() {
    for (error, message) in [
        (r#"{"code":"E_FAIL","message":"broken"}"#, "broken"),
        (r#"{"code":-32000}"#, r#"{"code":-32000}"#),
        (r#""broken""#, "broken"),
    ] {
        let answer = format!(r#"{{"jsonrpc":"2.0","id":$ID,"error":{error}}}"#);
        let failed = Err(ToolError::new(ToolErrorKind::Failed, message).into());
        assert_eq!(raw(answer).await, [failed.clone(), failed]);
    }
}

#[tokio::test]
async fn an_invalid_answer_is_unknown_unless_the_tool_is_repeatable() {
    for answer in [
        r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[{"type":"text","text":"cut off"#,
        r#"{"jsonrpc":"2.0","id":$ID,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[{"type":"text","text":"x"}],"isError":"perhaps"}}"#,
        r#"{"jsonrpc":"2.0","id":$ID}"#,
        r#"{"jsonrpc":"2.0","id":$ID,"result":null}"#,
    ] {
        let [unknown, failed] = raw(answer).await;
        assert_eq!(unknown, Err(CallError::Unknown), "{answer}");
        assert_eq!(kind(failed), ToolErrorKind::Failed, "{answer}");
    }
}

#[tokio::test]
async fn content_of_unknown_types_is_kept() {
    let answer = r#"{"id":$ID,"result":{"content":[{"type":"text","text":"see"},{"type":"chart","points":[1]},7]}}"#;
    let expected = r#"[{"text":"see","type":"text"},{"points":[1],"type":"chart"},{"text":"[unsupported content]","type":"text"}]"#;
    assert_eq!(
        raw(answer).await,
        [Ok(expected.to_owned()), Ok(expected.to_owned())]
    );
}
