//! One call and its answer.

use std::time::Duration;

use chat_domain::{CallError, ToolError, ToolErrorKind, Toolset};
use chat_tools_mcp::meta;
use serde_json::{Value, json};

use crate::support::{TestServer, call, invocation, kind};

#[tokio::test]
async fn arguments_arrive_and_who_asks_is_told_beside_them() {
    let server = TestServer::new("one");
    let tools = server.start();
    let asked = invocation("echo", r#"{"chat/user_id":"eve","n":18446744073709551615,"f":0.1}"#);
    let heard = tools.call(asked.clone()).await.unwrap();
    let heard: Value = serde_json::from_str(heard.0.as_str()).unwrap();
    assert_eq!(heard["arguments"], json!({ "chat/user_id": "eve", "n": u64::MAX, "f": 0.1 }));
    assert_eq!(heard["meta"][meta::USER_ID], "ann");
    assert_eq!(heard["meta"][meta::CALL_ID], asked.call.to_string());
    assert_eq!(heard["meta"][meta::TURN_ID], asked.turn.to_string());
    assert_eq!(heard["meta"][meta::CONVERSATION_ID], asked.conversation.to_string());
}

#[tokio::test]
async fn what_is_not_an_object_never_reaches_the_server() {
    let server = TestServer::new("one");
    let tools = server.start();
    for arguments in [r#""words""#, "[]", "null", r#"{"n":18446744073709551616}"#] {
        assert_eq!(kind(call(&tools, "echo", arguments).await), ToolErrorKind::InvalidArguments);
    }
    assert_eq!(kind(call(&tools, "no_such_tool", "{}").await), ToolErrorKind::UnknownTool);
    assert!(call(&tools, "echo", "{}").await.is_ok());
    assert_eq!(server.log(), ["start", "call echo {}"]);
}

#[tokio::test]
async fn answers_and_failures_are_told() {
    let server = TestServer::new("one");
    let tools = server.start();
    assert_eq!(call(&tools, "words", "{}").await.unwrap(), r#""just words""#);
    assert_eq!(call(&tools, "nul", "{}").await.unwrap(), r#"{"a\ufffd":"b\ufffdc"}"#);
    assert_eq!(call(&tools, "fail", "{}").await, Err(ToolError::new(ToolErrorKind::Failed, "it is broken").into()));
    assert_eq!(call(&tools, "refuse", "{}").await, Err(ToolError::new(ToolErrorKind::InvalidArguments, "not like this").into()));
    assert_eq!(call(&tools, "big", "{}").await.unwrap().len(), 10_000_002);
}

#[tokio::test]
async fn garbage_on_stdout_is_passed_over() {
    let server = TestServer::new("one").with("garbage");
    let tools = server.start();
    assert_eq!(call(&tools, "words", "{}").await.unwrap(), r#""just words""#);
    assert_eq!(kind(call(&tools, "fail", "{}").await), ToolErrorKind::Failed);
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_given_up_and_cancelled() {
    let mut server = TestServer::new("one");
    server.settings.call_timeout = Duration::from_millis(300);
    let tools = server.start();
    assert_eq!(kind(call(&tools, "hang", "{}").await), ToolErrorKind::TimedOut);
    assert_eq!(call(&tools, "cancelled", "{}").await.unwrap(), r#"{"requests":1}"#);
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
        let sent = async {
            while server.logged("call hang {}") == 0 {
                tokio::task::yield_now().await;
            }
        };
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
        assert_eq!(kind(call(&tools, "echo", &long).await), ToolErrorKind::TimedOut);
    }
}

#[tokio::test]
async fn many_calls_run_at_once_and_get_their_own_answers() {
    let server = TestServer::new("one");
    let tools = server.start();
    let calls = (0..100).map(|n| {
        let tools = &tools;
        async move {
            let heard = call(tools, "echo", &json!({ "n": n }).to_string()).await.unwrap();
            assert_eq!(serde_json::from_str::<Value>(&heard).unwrap()["arguments"]["n"], n);
        }
    });
    futures_util::future::join_all(calls).await;
}

#[tokio::test]
async fn a_death_in_the_middle_leaves_the_outcome_unknown() {
    let server = TestServer::new("one");
    let tools = server.start();
    assert_eq!(call(&tools, "die", "{}").await, Err(CallError::Unknown));
    assert_eq!(server.logged("call die {}"), 1, "it was asked once, and never again");
}
