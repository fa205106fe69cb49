//! `kill -9` at each step of a turn, and a new process on the same file. The tool server's log
//! shows the tool runs.

use chat_test_support::stub_agent::{Answer, Gate, Recorded, StubAgent, chunk};
use sqlx::{ConnectOptions, Connection};

use chat_tests::server::Home;
use chat_tests::witness::Witness;

/// Calls the tool once, and answers when it has the result.
fn pays(recorded: &Recorded) -> Answer {
    match recorded.messages().last().unwrap()["role"].as_str() {
        Some("user") => Answer::calls([("pay", "{}")]),
        _ => Answer::text(["It is ", "paid."]),
    }
}

/// Asserts that after a crash the message is stored once, its turn ends, and the conversation
/// continues.
async fn assert_recovers(home: &Home, conversation: &str, turn: &str, transcript: &[&str]) {
    let server = home.start();
    let ann = server.client("ann");
    assert_eq!(ann.last_position_of(turn).await.name, "done");
    assert_eq!(ann.transcript(conversation).await, transcript);
    let reply = ann.chat(Some(conversation), "Go on").await;
    assert_eq!(
        reply["messages"].as_array().unwrap().len(),
        transcript.len() + 2
    );
}

/// Holds the database's write lock, as a slow disk would.
pub async fn locked(home: &Home) -> sqlx::SqliteConnection {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(home.database());
    let mut connection = options.disable_statement_logging().connect().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE")
        .execute(&mut connection)
        .await
        .unwrap();
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_message_is_stored() {
    let agent = StubAgent::start(|_| Answer::text(["Hello."]));
    let home = Home::with_agent(&agent.base_url());
    let server = home.start();
    let ann = server.client("ann");
    let conversation = ann.chat(None, "First").await["conversation_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let lock = locked(&home).await;
    let sending = tokio::spawn(
        ann.message("", Some(&conversation), "Second")
            .header("idempotency-key", "second")
            .send(),
    );
    // The server has the request when it answers this one, which is sent later over another
    // connection.
    server.client("ann").get("/conversations").await;
    server.kill();
    assert!(
        sending.await.unwrap().is_err(),
        "acknowledged before it was stored"
    );
    lock.close().await.unwrap();
    // The message was not acknowledged, so it may be stored or not. A retry stores it once.
    let server = home.start();
    let ann = server.client("ann");
    let again = ann
        .message("", Some(&conversation), "Second")
        .header("idempotency-key", "second")
        .send()
        .await
        .unwrap();
    assert_eq!(again.status(), 200);
    assert_eq!(
        ann.transcript(&conversation).await,
        [
            "user: First",
            "assistant: Hello.",
            "user: Second",
            "assistant: Hello."
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_agent_answers() {
    let gate = Gate::new();
    let held = gate.clone();
    let agent = StubAgent::start(move |_| Answer::text(["Hello."]).held(&held));
    let home = Home::with_agent(&agent.base_url());
    let server = home.start();
    let mut events = server.client("ann").stream(None, "Hi").await;
    let opened = events.until("message").await.swap_remove(0).data;
    server.kill();
    gate.open();
    let (conversation, turn) = (
        opened["conversation_id"].as_str().unwrap(),
        opened["turn_id"].as_str().unwrap(),
    );
    assert_recovers(
        &home,
        conversation,
        turn,
        &["user: Hi", "assistant: Hello."],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_during_the_answer() {
    // The crash comes in the middle of the text, and after all of it except the end mark.
    let event = |text: &str| format!("data: {}\n\n", chunk::text(text)).len();
    for bytes in [event("Hel"), event("Hel") + event("lo.")] {
        let gate = Gate::new();
        let held = gate.clone();
        let agent = StubAgent::start(move |recorded| {
            let answer = Answer::text(["Hel", "lo."]);
            if recorded.number == 0 {
                answer.held_after(bytes, &held)
            } else {
                answer
            }
        });
        let home = Home::with_agent(&agent.base_url());
        let server = home.start();
        let ann = server.client("ann");
        let mut events = ann.stream(None, "Hi").await;
        let received = events.until("text").await;
        let opened = &received[0].data;
        let (conversation, turn) = (
            opened["conversation_id"].as_str().unwrap(),
            opened["turn_id"].as_str().unwrap(),
        );
        server.kill();
        let server = home.start();
        // A client that saw a part of the text gets an event that discards it, and the new
        // text.
        let last = received.last().unwrap().id.as_deref();
        let resumed = chat_tests::client::Events::of(server.client("ann").resume(turn, last).await)
            .rest()
            .await;
        assert_eq!(resumed[0].name, "discarded");
        assert_eq!(chat_tests::client::text(&resumed), "Hello.");
        server.kill();
        assert_recovers(
            &home,
            conversation,
            turn,
            &["user: Hi", "assistant: Hello."],
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_a_tool_runs() {
    let agent = StubAgent::start(pays);
    let (witness, home) = Witness::gated(Home::with_agent(&agent.base_url()));
    let server = home.start();
    let mut events = server.client("ann").stream(None, "Pay").await;
    let opened = events.until("tool_call").await.swap_remove(0).data;
    let held = witness.reached().await;
    server.kill();
    held.release();
    let (conversation, turn) = (
        opened["conversation_id"].as_str().unwrap(),
        opened["turn_id"].as_str().unwrap(),
    );
    let server = home.start();
    let ann = server.client("ann");
    assert_eq!(ann.last_position_of(turn).await.name, "done");
    let calls = ann
        .get(&format!("/conversations/{conversation}/tool-calls"))
        .await;
    assert_eq!(calls["tool_calls"][0]["status"], "unknown", "{calls}");
    assert_eq!(
        ann.transcript(conversation).await,
        ["user: Pay", "assistant: It is paid."]
    );
    // The agent received the outcome, and the tool ran once.
    let result = agent.requests().last().unwrap().messages().pop().unwrap();
    assert!(
        result["content"]
            .as_str()
            .unwrap()
            .contains("Outcome unknown"),
        "{result}"
    );
    assert_eq!(
        witness
            .log()
            .iter()
            .filter(|line| *line == "begin pay")
            .count(),
        1
    );
    assert!(
        agent
            .requests()
            .iter()
            .all(|request| request.rejection.is_none())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_a_repeatable_tool_runs() {
    let agent =
        StubAgent::start(
            |recorded| match recorded.messages().last().unwrap()["role"].as_str() {
                Some("user") => Answer::calls([("look", "{}")]),
                _ => Answer::text(["Seen."]),
            },
        );
    let (witness, home) = Witness::gated(Home::with_agent(&agent.base_url()));
    let server = home.start();
    let mut events = server.client("ann").stream(None, "Look").await;
    let opened = events.until("tool_call").await.swap_remove(0).data;
    let held = witness.reached().await;
    server.kill();
    held.release();
    let (conversation, turn) = (
        opened["conversation_id"].as_str().unwrap(),
        opened["turn_id"].as_str().unwrap(),
    );
    let server = home.start();
    let ann = server.client("ann");
    // The tool is repeatable, so it runs again with the same call id.
    witness.reached().await.release();
    assert_eq!(ann.last_position_of(turn).await.name, "done");
    assert_eq!(
        ann.transcript(conversation).await,
        ["user: Look", "assistant: Seen."]
    );
    let runs: Vec<_> = witness
        .lines()
        .into_iter()
        .filter(|line| line.starts_with("begin"))
        .collect();
    assert_eq!(runs.len(), 2);
    assert_eq!(runs[0], runs[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_storing_a_call_and_running_it() {
    let agent = StubAgent::start(|recorded| {
        match recorded.messages().last().unwrap()["content"].as_str() {
            Some("Look") => Answer::calls([("look", "{}")]),
            Some("Pay") => Answer::calls([("pay", "{}")]),
            _ => Answer::text(["Well."]),
        }
    });
    let (witness, home) = Witness::new(Home::with_agent(&agent.base_url()));
    let server = home.start();
    // The frozen tool server cannot receive the call, and dies with the chat server.
    server.client("ann").chat(None, "Look").await;
    let frozen = server.freeze_tools();
    let mut events = server.client("ann").stream(None, "Pay").await;
    let opened = events.until("tool_call").await.swap_remove(0).data;
    server.kill();
    frozen.kill();
    let looked = ["begin look", "end look"];
    assert_eq!(witness.log(), looked);
    let (conversation, turn) = (
        opened["conversation_id"].as_str().unwrap(),
        opened["turn_id"].as_str().unwrap(),
    );
    let server = home.start();
    let ann = server.client("ann");
    assert_eq!(ann.last_position_of(turn).await.name, "done");
    let calls = ann
        .get(&format!("/conversations/{conversation}/tool-calls"))
        .await;
    assert_eq!(calls["tool_calls"][0]["status"], "unknown", "{calls}");
    assert_eq!(
        ann.transcript(conversation).await,
        ["user: Pay", "assistant: Well."]
    );
    assert_eq!(
        witness.log(),
        looked,
        "a call that may have run was repeated"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_the_result_of_a_tool() {
    let gate = Gate::new();
    let held = gate.clone();
    let agent =
        StubAgent::start(move |recorded| {
            match recorded.messages().last().unwrap()["role"].as_str() {
                Some("user") => Answer::calls([("pay", "{}")]),
                _ => Answer::text(["It is paid."]).held(&held),
            }
        });
    let (witness, home) = Witness::new(Home::with_agent(&agent.base_url()));
    let server = home.start();
    let mut events = server.client("ann").stream(None, "Pay").await;
    let opened = events.until("tool_result").await.swap_remove(0).data;
    server.kill();
    gate.open();
    let (conversation, turn) = (
        opened["conversation_id"].as_str().unwrap(),
        opened["turn_id"].as_str().unwrap(),
    );
    assert_recovers(
        &home,
        conversation,
        turn,
        &["user: Pay", "assistant: It is paid."],
    )
    .await;
    // One run belongs to the interrupted turn, the other to the next turn.
    assert_eq!(
        witness.log(),
        ["begin pay", "end pay", "begin pay", "end pay"]
    );
    let calls = witness
        .lines()
        .iter()
        .filter(|line| line.starts_with("begin"))
        .cloned()
        .collect::<std::collections::HashSet<_>>();
    assert_eq!(calls.len(), 2, "one call ran twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_end_is_stored() {
    let gate = Gate::new();
    let held = gate.clone();
    let agent = StubAgent::start(move |recorded| {
        let answer = Answer::text(["Hello."]);
        if recorded.number == 0 {
            answer.held_after(0, &held)
        } else {
            answer
        }
    });
    let home = Home::with_agent(&agent.base_url());
    let server = home.start();
    let mut events = server.client("ann").stream(None, "Hi").await;
    let opened = events.until("message").await.swap_remove(0).data;
    let lock = locked(&home).await;
    gate.open();
    // The whole answer was streamed as text, but it is not stored, so its end was not.
    let received = events.until("text").await;
    assert!(received.iter().all(|event| event.name == "text"));
    server.kill();
    assert!(events.next().await.is_none());
    lock.close().await.unwrap();
    let (conversation, turn) = (
        opened["conversation_id"].as_str().unwrap(),
        opened["turn_id"].as_str().unwrap(),
    );
    assert_recovers(
        &home,
        conversation,
        turn,
        &["user: Hi", "assistant: Hello."],
    )
    .await;
}
