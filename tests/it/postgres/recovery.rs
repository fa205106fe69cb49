//! Replicas that die, shut down, or freeze.

use std::collections::HashMap;

use chat_test_postgres::database;
use chat_test_support::stub_agent::{Answer, Gate, StubAgent};
use chat_test_support::wait::until;
use futures_util::future::join_all;

use super::{home, ids, rows, turn};
use chat_tests::client::Event;
use chat_tests::witness::Witness;

const TURNS: usize = 24;

/// Returns an agent whose first answers wait for the gate. It calls the payment tool on request.
fn held_at_first(answers: usize, gate: &Gate) -> StubAgent {
    let held = gate.clone();
    StubAgent::start(move |recorded| {
        let last = recorded.messages().pop().unwrap();
        match (
            last["role"].as_str().unwrap(),
            last["content"].as_str().unwrap(),
        ) {
            ("user", "Pay") => Answer::calls([("pay", "{}")]),
            _ if recorded.number < answers => Answer::text(["Done."]).held(&held),
            _ => Answer::text(["Done."]),
        }
    })
}

/// Starts turns and waits until each is stored.
async fn begin(client: &chat_tests::client::Client, turns: usize) -> Vec<Event> {
    let streams = join_all((0..turns).map(|n| {
        let client = client.clone();
        async move {
            client
                .stream(None, &format!("m{n}"))
                .await
                .next()
                .await
                .unwrap()
        }
    }));
    streams.await
}

/// Returns how often the agent was asked to answer each message.
fn requests_per_message(agent: &StubAgent) -> HashMap<String, usize> {
    let mut requests_per_message = HashMap::new();
    for request in agent.requests() {
        *requests_per_message
            .entry(
                request.messages()[0]["content"]
                    .as_str()
                    .unwrap()
                    .to_owned(),
            )
            .or_default() += 1;
    }
    requests_per_message
}

#[tokio::test(flavor = "multi_thread")]
async fn each_turn_of_a_dead_replica_is_claimed_once() {
    let gate = Gate::new();
    let agent = held_at_first(TURNS, &gate);
    let database = database();
    let home = home(database.url(), &agent.base_url());
    let (a, b, c) = (home.start(), home.start(), home.start());
    let opened = begin(&a.client("ann"), TURNS).await;
    until("all turns at the agent", async || {
        agent.requests().len() == TURNS
    })
    .await;
    // Another message is queued behind a running turn.
    let (_, conversation) = ids(&opened[0]);
    let queued = b.client("ann").stream(Some(&conversation), "Later").await;
    a.kill();
    for (n, opened) in opened.iter().enumerate() {
        let (id, conversation) = ids(opened);
        let on = if n % 2 == 0 { &b } else { &c }.client("ann");
        assert_eq!(on.last_position_of(&id).await.name, "done");
        assert_eq!(
            on.transcript(&conversation).await[..2],
            [format!("user: m{n}"), "assistant: Done.".to_owned()]
        );
    }
    assert_eq!(queued.rest().await.last().unwrap().name, "done");
    gate.open();
    // The agent was asked once by the dead server, and once by its successor.
    let requests_per_message = requests_per_message(&agent);
    assert_eq!(requests_per_message.len(), TURNS);
    for (text, times) in requests_per_message {
        assert_eq!(times, if text == "m0" { 3 } else { 2 }, "{text}");
    }
    let taken_over = "SELECT count(*) FROM turns WHERE attempt = 2 AND status = 'completed'";
    assert_eq!(database.query(taken_over).unwrap(), TURNS.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_of_a_stopped_replica_continue_at_once() {
    let gate = Gate::new();
    let agent = held_at_first(TURNS, &gate);
    let database = database();
    // The lease is too long for a takeover by expiry.
    let home = home(database.url(), &agent.base_url())
        .set("CHAT_LEASE", "1h")
        .set("CHAT_SHUTDOWN_GRACE", "100ms");
    let (a, b) = (home.start(), home.start());
    let opened = begin(&a.client("ann"), TURNS).await;
    until("all turns at the agent", async || {
        agent.requests().len() == TURNS
    })
    .await;
    let (code, log) = tokio::task::spawn_blocking(move || a.terminate())
        .await
        .unwrap();
    assert_eq!(code, Some(0), "{log}");
    for opened in &opened {
        assert_eq!(
            b.client("ann").last_position_of(&ids(opened).0).await.name,
            "done"
        );
    }
    gate.open();
    assert!(
        requests_per_message(&agent)
            .values()
            .all(|times| *times == 2)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_replica_detects_its_lost_lease_and_writes_nothing() {
    let gate = Gate::new();
    let agent = held_at_first(8, &gate);
    let database = database();
    let (witness, home) = Witness::gated(home(database.url(), &agent.base_url()));
    let a = home.start();
    let opened = begin(&a.client("ann"), 8).await;
    until("eight requests to the agent", async || {
        agent.requests().len() == 8
    })
    .await;
    let mut paying = a.client("ann").stream(None, "Pay").await;
    let pay = paying.until("tool_call").await.swap_remove(0);
    let tool = witness.reached().await;
    a.signal("STOP");
    let b = home.start();
    let known = database
        .query("SELECT string_agg(quote_literal(id), ',') FROM workers")
        .unwrap();
    let on_b = b.client("ann");
    let mut turns: Vec<(String, String)> = opened.iter().map(ids).collect();
    turns.push(ids(&pay));
    for (id, _) in &turns {
        // The answers for A are held; those for B are not.
        assert_eq!(on_b.last_position_of(id).await.name, "done");
    }
    let before = rows(&database, "ann");
    // Now A receives everything that it waited for: answers, and the result of its call.
    gate.open();
    tool.release();
    a.signal("CONT");
    let others = format!("SELECT count(*) FROM workers WHERE id NOT IN ({known})");
    until("another worker in the database", async || {
        database.query(&others).unwrap() != "0"
    })
    .await;
    // The server continues under its new id.
    assert_eq!(
        a.client("bob").chat(None, "Are you there?").await["response"],
        "Done."
    );
    let (code, log) = tokio::task::spawn_blocking(move || a.terminate())
        .await
        .unwrap();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("lease lost"), "{log}");
    assert_eq!(
        rows(&database, "ann"),
        before,
        "the replica wrote after it lost its lease"
    );
    assert_eq!(witness.log(), ["begin pay", "end pay"]);
    let calls = on_b
        .get(&format!("/conversations/{}/tool-calls", ids(&pay).1))
        .await;
    assert_eq!(calls["tool_calls"][0]["status"], "unknown", "{calls}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_kills_its_servers_is_abandoned() {
    let gate = Gate::new();
    let held = gate.clone();
    let agent =
        StubAgent::start(move |recorded| {
            match recorded.messages().pop().unwrap()["content"].as_str() {
                Some("Poison") => Answer::text(["Never."]).held(&held),
                _ => Answer::text(["Hello."]),
            }
        });
    let database = database();
    let home = home(database.url(), &agent.base_url());
    // Each server dies after its request to the agent.
    let mut opened = None;
    for attempt in 1..=3 {
        let server = home.start();
        if opened.is_none() {
            opened = Some(
                server
                    .client("ann")
                    .stream(None, "Poison")
                    .await
                    .next()
                    .await
                    .unwrap(),
            );
        }
        until("the next attempt at the agent", async || {
            agent.requests().len() == attempt
        })
        .await;
        server.kill();
    }
    let (id, conversation) = ids(&opened.unwrap());
    let server = home.start();
    let ann = server.client("ann");
    let end = ann.last_position_of(&id).await;
    assert_eq!(
        (end.name.as_str(), &end.data["code"]),
        ("error", &"too_many_attempts".into()),
        "{end:?}"
    );
    assert_eq!(turn(&ann, &id).await["status"], "failed");
    assert_eq!(agent.requests().len(), 3);
    assert_eq!(
        ann.chat(Some(&conversation), "And now?").await["response"],
        "Hello."
    );
    gate.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_of_a_dead_replica_can_be_watched_and_cancelled() {
    let agent = StubAgent::start(|_| Answer::hanging());
    let database = database();
    let home = home(database.url(), &agent.base_url());
    let (a, b) = (home.start(), home.start());
    let opened = begin(&a.client("ann"), 1).await.swap_remove(0);
    until("a request to the agent", async || {
        agent.requests().len() == 1
    })
    .await;
    a.kill();
    let (id, conversation) = ids(&opened);
    let on_b = b.client("ann");
    let watching = chat_tests::client::Events::of(on_b.resume(&id, None).await);
    let cancelled = on_b
        .request(reqwest::Method::POST, &format!("/turns/{id}/cancel"))
        .send()
        .await
        .unwrap();
    assert_eq!(cancelled.status(), 200);
    let rest = watching.rest().await;
    assert_eq!(rest.last().unwrap().data["status"], "cancelled", "{rest:?}");
    assert_eq!(on_b.transcript(&conversation).await, ["user: m0"]);
}
