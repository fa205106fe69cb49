//! Failures of agents, tools and databases: each has its error code, the message is kept, and the
//! conversation stays usable.

use chat_test_support::stub_agent::{Answer, StubAgent, chunk};
use chat_test_support::wait;
use serde_json::json;

use chat_tests::server::Home;
use chat_tests::witness::Witness;

/// Fails the first message with this answer, and answers the second.
async fn agent_fails(name: &str, first: Answer, status: u16, code: &str) {
    let agent = StubAgent::start(move |recorded| {
        match recorded.messages().last().unwrap()["content"].as_str() {
            Some("fails") => first.clone(),
            _ => Answer::text(["Back."]),
        }
    });
    let home = Home::with_agent(&agent.base_url())
        .set("CHAT_AGENT_TRIES", "1")
        .set("CHAT_AGENT_FIRST_BYTE_TIMEOUT", "300ms")
        .set("CHAT_AGENT_IDLE_TIMEOUT", "300ms");
    let server = home.start();
    let ann = server.client("ann");
    let (got, problem) = ann.try_chat("", None, "fails").await;
    assert_eq!(
        (got.as_u16(), &problem["code"]),
        (status, &code.into()),
        "{name}: {problem}"
    );
    assert!(
        problem["detail"].as_str().unwrap().len() > 20,
        "{name}: {problem}"
    );
    let conversation = problem["conversation_id"].as_str().unwrap();
    assert_eq!(
        ann.transcript(conversation).await[0],
        "user: fails",
        "{name}"
    );
    let reply = ann.chat(Some(conversation), "again").await;
    assert_eq!(reply["response"], "Back.", "{name}");
    assert!(
        agent
            .requests()
            .iter()
            .all(|request| request.rejection.is_none()),
        "{name}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_failures_have_codes_and_keep_the_message() {
    let half = format!("data: {}\n\n", chunk::text("Half")).len();
    let long = "This model's maximum context length is 8192 tokens.";
    let cases = [
        ("no first byte", Answer::hanging(), 504, "agent_timeout"),
        (
            "silence in the middle",
            Answer::text(["Half", "whole"]).hang_after(half),
            504,
            "agent_timeout",
        ),
        (
            "truncated",
            Answer::text(["Half", "whole"]).cut_after(half + 5),
            503,
            "agent_unavailable",
        ),
        (
            "overloaded",
            Answer::error(429, "rate_limit_exceeded", "Slow down").header("retry-after", "7"),
            503,
            "agent_overloaded",
        ),
        (
            "broken",
            Answer::error(500, "", "Oops"),
            503,
            "agent_unavailable",
        ),
        (
            "invalid key",
            Answer::error(401, "invalid_api_key", "No"),
            502,
            "agent_misconfigured",
        ),
        (
            "garbage",
            Answer::sse("data: {not json\n\n"),
            502,
            "agent_protocol_error",
        ),
        (
            "a web page",
            Answer::raw(200, "text/html", "<html>"),
            502,
            "agent_protocol_error",
        ),
        (
            "too long",
            Answer::error(400, "context_length_exceeded", long),
            422,
            "context_too_long",
        ),
        (
            "refused content",
            Answer::error(400, "content_filter", "No"),
            422,
            "agent_refused",
        ),
    ];
    for (name, answer, status, code) in cases {
        agent_fails(name, answer, status, code).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_agent_is_unavailable() {
    let gone = StubAgent::with_answers([]).base_url();
    let home = Home::with_agent(&gone).set("CHAT_AGENT_TRIES", "1");
    let server = home.start();
    let ann = server.client("ann");
    let (status, problem) = ann.try_chat("", None, "Hi").await;
    assert_eq!(
        (status.as_u16(), &problem["code"]),
        (503, &"agent_unavailable".into())
    );
    let conversation = problem["conversation_id"].as_str().unwrap();
    // A stream has status 200 already, so the same problem is its last event.
    let events = ann
        .stream(Some(conversation), "And now?")
        .await
        .rest()
        .await;
    let last = events.last().unwrap();
    assert_eq!(
        (last.name.as_str(), &last.data["code"], &last.data["status"]),
        ("error", &"agent_unavailable".into(), &503.into())
    );
    assert_eq!(
        ann.transcript(conversation).await,
        ["user: Hi", "user: And now?"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tool_failures_do_not_fail_the_turn() {
    for (tool, status, code) in [
        ("fail", "failed", "failed"),
        ("hang", "unknown", ""),
        ("die", "unknown", ""),
        ("big", "failed", "too_large"),
        ("missing", "failed", "unknown_tool"),
    ] {
        let agent = StubAgent::start(move |recorded| {
            let last = recorded.messages().pop().unwrap();
            match (
                last["role"].as_str().unwrap(),
                last["content"].as_str().unwrap_or_default(),
            ) {
                ("user", "look") => Answer::calls([("look", "{}")]),
                ("user", _) => Answer::calls([(tool, "{}")]),
                _ => Answer::text(["I see."]),
            }
        });
        let (witness, home) = Witness::new(Home::with_agent(&agent.base_url()).set(
            "CHAT_TOOL_TIMEOUT",
            if tool == "hang" { "500ms" } else { "20s" },
        ));
        let server = home.start();
        let ann = server.client("ann");
        let reply = ann.chat(None, "Do it").await;
        let call = &reply["tool_calls"][0];
        assert_eq!(
            (&call["tool_name"], &call["status"]),
            (&tool.into(), &status.into()),
            "{call}"
        );
        if status == "failed" {
            assert_eq!(call["error"]["code"], code, "{call}");
        }
        assert_eq!(reply["response"], "I see.");
        assert!(
            witness
                .log()
                .iter()
                .filter(|line| line.starts_with("begin"))
                .count()
                <= 1,
            "{tool} ran twice"
        );
        // A dead tool server is restarted.
        let conversation = reply["conversation_id"].as_str().unwrap();
        let reply = ann.chat(Some(conversation), "look").await;
        assert_eq!(
            reply["tool_calls"][0]["status"], "succeeded",
            "after {tool}: {reply}"
        );
        assert!(
            agent
                .requests()
                .iter()
                .all(|request| request.rejection.is_none()),
            "{tool}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_tool_calls_are_limited() {
    let agent = StubAgent::start(|_| Answer::calls([("look", "{}")]));
    let (_witness, home) =
        Witness::new(Home::with_agent(&agent.base_url()).set("CHAT_STEP_LIMIT", "3"));
    let server = home.start();
    let (status, problem) = server.client("ann").try_chat("", None, "Go").await;
    assert_eq!(
        (status.as_u16(), &problem["code"]),
        (502, &"step_limit".into())
    );
    assert_eq!(agent.requests().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_messages_until_there_is_room() {
    let agent = StubAgent::start(|_| Answer::text(["Hello."]));
    let home = Home::with_agent(&agent.base_url());
    let server = home.start();
    let ann = server.client("ann");
    let conversation = ann.chat(None, "Before").await["conversation_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let log = std::fs::metadata(home.path().join("chat.db-wal"))
        .unwrap()
        .len();
    server.limit_files(Some(log + 20_000));
    // Messages are stored while the files have room. The first message without room fails.
    let refused = wait::value("a message without room", async || {
        let (status, reply) = ann
            .try_chat("?messages=turn", Some(&conversation), &"x".repeat(5_000))
            .await;
        (status != 200).then_some((status.as_u16(), reply))
    });
    let (status, problem) = refused.await;
    assert_eq!(
        (status, &problem["code"]),
        (507, &"store_full".into()),
        "{problem}"
    );
    let before = ann.transcript(&conversation).await;
    assert_eq!(before[..2], ["user: Before", "assistant: Hello."]);
    server.limit_files(None);
    // A turn whose end could not be stored ends now. Then this message is answered.
    ann.chat(Some(&conversation), "After").await;
    let after = ann.transcript(&conversation).await;
    assert_eq!(after[..before.len()], before);
    assert_eq!(
        after[after.len() - 2..],
        ["user: After", "assistant: Hello."]
    );
    for pair in after.chunks(2) {
        assert_eq!(pair[1], "assistant: Hello.");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_database_fails_within_the_timeout() {
    let agent = StubAgent::start(|_| Answer::text(["Hello."]));
    let home = Home::with_agent(&agent.base_url()).set("CHAT_DATABASE_TIMEOUT", "500ms");
    let server = home.start();
    let ann = server.client("ann");
    let conversation = ann.chat(None, "Before").await["conversation_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let lock = crate::crashes::locked(&home).await;
    let (status, problem) = ann.try_chat("", Some(&conversation), "Stuck").await;
    assert_eq!(
        (status.as_u16(), &problem["code"]),
        (503, &"store_timeout".into()),
        "{problem}"
    );
    // Reads still work.
    assert_eq!(ann.transcript(&conversation).await.len(), 2);
    sqlx::Connection::close(lock).await.unwrap();
    wait::until("an answer after the lock", async || {
        ann.try_chat("", Some(&conversation), "After").await.0 == 200
    })
    .await;
    // An unacknowledged message is stored once or not at all, and every turn has ended.
    let transcript = ann.transcript(&conversation).await;
    assert!(
        transcript
            .iter()
            .filter(|line| *line == "user: Stuck")
            .count()
            <= 1,
        "{transcript:?}"
    );
    for pair in transcript.chunks(2) {
        assert_eq!(pair[1], "assistant: Hello.", "{transcript:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_and_answers_contain_no_secrets() {
    let agent = StubAgent::start(|recorded| {
        assert_eq!(
            recorded.header("authorization"),
            Some("Bearer sk-very-secret")
        );
        Answer::error(401, "invalid_api_key", "The key sk-very-secret is wrong")
    });
    let home = Home::with_agent(&agent.base_url())
        .set("CHAT_AGENT_API_KEY", "sk-very-secret")
        .set("CHAT_LOG_FILTER", "debug");
    let server = home.start();
    let ann = server.client("ann");
    let (status, problem) = ann.try_chat("", None, "my private words").await;
    assert_eq!(
        (status.as_u16(), &problem["code"]),
        (502, &json!("agent_misconfigured"))
    );
    assert!(!problem.to_string().contains("secret"), "{problem}");
    let (code, log) = server.terminate();
    assert_eq!(code, Some(0));
    assert!(
        log.contains("agent_misconfigured"),
        "the failure is not in the log:\n{log}"
    );
    for secret in [
        "very-secret",
        chat_tests::client::SECRET,
        "my private words",
        &chat_tests::client::token("ann")[..40],
    ] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}
