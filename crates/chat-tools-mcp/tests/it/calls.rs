//! One call and its answer.

use std::time::Duration;

use chat_domain::{CallError, ToolError, ToolErrorKind, Toolset};
use chat_tools_mcp::meta;
use serde_json::{Value, json};

use crate::support::{TestServer, call, eventually, invocation, kind};

#[tokio::test]
async fn arguments_arrive_and_who_asks_is_told_beside_them() {
    let server = TestServer::new("one");
    let tools = server.start();
    let asked = invocation(
        "echo",
        r#"{"chat/user_id":"eve","n":18446744073709551615,"f":0.1}"#,
    );
    let heard = tools.call(asked.clone()).await.unwrap();
    let heard: Value = serde_json::from_str(heard.0.as_str()).unwrap();
    assert_eq!(
        heard["arguments"],
        json!({ "chat/user_id": "eve", "n": u64::MAX, "f": 0.1 })
    );
    assert_eq!(heard["meta"][meta::USER_ID], "ann");
    assert_eq!(heard["meta"][meta::CALL_ID], asked.call.to_string());
    assert_eq!(heard["meta"][meta::TURN_ID], asked.turn.to_string());
    assert_eq!(
        heard["meta"][meta::CONVERSATION_ID],
        asked.conversation.to_string()
    );
}

#[tokio::test]
async fn what_is_not_an_object_never_reaches_the_server() {
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
async fn answers_and_failures_are_told() {
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
async fn garbage_on_stdout_is_passed_over() {
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
async fn a_call_that_takes_too_long_is_cancelled_and_its_outcome_unknown() {
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
async fn a_call_that_is_dropped_is_cancelled() {
    let server = TestServer::new("one");
    let tools = server.start();
    let hanging = call(&tools, "hang", "{}");
    let cancelled = call(&tools, "cancelled", "{}");
    // The second call is answered when the first one's cancel has come.
    let answer = {
        let hanging = Box::pin(hanging);
        let sent = eventually("the first call is at the server", async || {
            server.logged("call hang {}") > 0
        });
        tokio::select! {
            outcome = hanging => panic!("it was to hang, but {outcome:?}"),
            () = sent => {}
        }
        cancelled.await
    };
    assert_eq!(answer.unwrap(), r#"{"requests":1}"#);
}

#[tokio::test]
async fn a_server_that_stops_reading_costs_no_more_than_the_time_out() {
    let mut server = TestServer::new("one");
    server.settings.call_timeout = Duration::from_millis(300);
    let tools = server.start();
    call(&tools, "close_stdin", "{}").await.unwrap();
    // More than a pipe holds, so that not even the cancel can be written.
    let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(200_000));
    for _ in 0..2 {
        assert_eq!(
            kind(call(&tools, "echo", &long).await),
            ToolErrorKind::TimedOut
        );
    }
}

#[tokio::test]
async fn many_calls_run_at_once_and_get_their_own_answers() {
    let server = TestServer::new("one");
    let tools = server.start();
    let calls = (0..100).map(|n| {
        let tools = &tools;
        async move {
            let heard = call(tools, "echo", &json!({ "n": n }).to_string())
                .await
                .unwrap();
            assert_eq!(
                serde_json::from_str::<Value>(&heard).unwrap()["arguments"]["n"],
                n
            );
        }
    });
    futures_util::future::join_all(calls).await;
}

#[tokio::test]
async fn a_death_in_the_middle_leaves_the_outcome_unknown() {
    let server = TestServer::new("one");
    let tools = server.start();
    assert_eq!(call(&tools, "die", "{}").await, Err(CallError::Unknown));
    assert_eq!(
        server.logged("call die {}"),
        1,
        "it was asked once, and never again"
    );
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_told_at_once_and_the_next_one_works() {
    let mut server = TestServer::new("one");
    // Longer than a test may take.
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

/// What comes of an answer with these bytes, for a tool that is not repeatable and for one that is.
async fn raw(answer: impl AsRef<[u8]>) -> [Result<String, CallError>; 2] {
    let mut server = TestServer::new("one").with_bytes("raw", answer);
    // An answer that is dropped would hang the test.
    server.settings.call_timeout = Duration::from_secs(3_600);
    let tools = server.start();
    [
        call(&tools, "raw", "{}").await,
        call(&tools, "raw_read", "{}").await,
    ]
}

#[tokio::test]
async fn lines_that_are_not_quite_json_are_mended() {
    let text = |text: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":$ID,"result":{{"content":[{{"type":"text","text":"{text}"}}]}}}}"#).into_bytes()
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
        (br#"{"jsonrpc":"2.0","id":"$ID","error":null,"result":{"content":[{"type":"text","text":"id"}]}}"#.to_vec(), r#""id""#),
    ] {
        assert_eq!(raw(&answer).await, [Ok(expected.to_owned()), Ok(expected.to_owned())], "{}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn odd_errors_are_failures() {
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
async fn an_answer_that_cannot_be_understood_is_unknown_unless_its_tool_is_repeatable() {
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
