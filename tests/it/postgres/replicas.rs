//! Every replica answers every request.

use chat_test_postgres::database;
use chat_test_support::stub_agent::{Answer, Gate, StubAgent, chunk};
use futures_util::future::join_all;
use reqwest::Method;

use super::{home, ids};
use crate::concurrency::{assert_answered_in_sequence, echo};
use crate::streams::normalize;
use chat_tests::client::{Client, Events, read, text};
use chat_tests::witness::Witness;

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_watched_and_resumed_at_another_replica() {
    let (gate, first) = (Gate::new(), format!("data: {}\n\n", chunk::text("One, ")));
    let held = gate.clone();
    let agent =
        StubAgent::start(move |recorded| {
            match recorded.messages().last().unwrap()["role"].as_str() {
                Some("user") => Answer::calls([("pay", "{}")]),
                _ => Answer::text(["One, ", "two, ", "three."]).held_after(first.len(), &held),
            }
        });
    let database = database();
    let (_witness, home) = Witness::new(home(database.url(), &agent.base_url()));
    let (a, b) = (home.start(), home.start());
    let (on_a, on_b) = (a.client("ann"), b.client("ann"));
    let mut events = on_a.stream(None, "Count").await;
    let mut seen = events.until("text").await;
    let (id, _) = ids(&seen[0]);
    // Another client sees the incomplete answer, disconnects, and returns, at either replica.
    let mut watching = Events::of(on_b.resume(&id, None).await);
    let mut watched = watching.until("text").await;
    assert_eq!(text(&watched), "One, ");
    drop(watching);
    let last = watched.last().unwrap().id.clone();
    let resumed = [
        Events::of(on_b.resume(&id, last.as_deref()).await),
        Events::of(on_a.resume(&id, last.as_deref()).await),
    ];
    gate.open();
    seen.extend(events.rest().await);
    assert_eq!(seen.last().unwrap().name, "done");
    for resumed in resumed {
        let mut whole = watched.clone();
        whole.extend(resumed.rest().await);
        assert_eq!(normalize(&whole), normalize(&seen));
    }
    // Both replicas show past events equally, from any cursor.
    watched = Events::of(on_b.resume(&id, None).await).rest().await;
    assert_eq!(normalize(&watched), normalize(&seen));
    for event in watched.iter().filter(|event| event.id.is_some()) {
        let (one, other) = (
            on_a.resume(&id, event.id.as_deref()).await,
            on_b.resume(&id, event.id.as_deref()).await,
        );
        assert_eq!(one.status(), other.status());
        assert_eq!(one.bytes().await.unwrap(), other.bytes().await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_cancelled_at_another_replica() {
    let first = format!("data: {}\n\n", chunk::text("One, "));
    let agent =
        StubAgent::start(move |recorded| {
            match recorded.messages().pop().unwrap()["content"].as_str() {
                Some("Count") => Answer::text(["One, ", "two."]).hang_after(first.len()),
                Some("Pay") => Answer::calls([("pay", "{}"), ("fail", "{}")]),
                _ => Answer::text(["Well."]),
            }
        });
    let database = database();
    let (_witness, home) = Witness::new(home(database.url(), &agent.base_url()));
    let (a, b) = (home.start(), home.start());
    let (on_a, on_b) = (a.client("ann"), b.client("ann"));
    let mut events = on_a.stream(None, "Count").await;
    let seen = events.until("text").await;
    let (id, conversation) = ids(&seen[0]);
    let mut queued = on_b.stream(Some(&conversation), "Pay").await;
    let queued_id = ids(&queued.next().await.unwrap()).0;
    let cancel = |client: &Client, id: &str| {
        client
            .request(Method::POST, &format!("/turns/{id}/cancel"))
            .send()
    };
    assert_eq!(read(cancel(&on_b, &id).await.unwrap()).await.0, 200);
    assert_eq!(
        events.rest().await.last().unwrap().data["status"],
        "cancelled"
    );
    assert_eq!(
        on_b.transcript(&conversation).await[..2],
        ["user: Count", "assistant: One, "]
    );
    // A turn that was queued at B runs at A.
    assert_eq!(queued.rest().await.last().unwrap().name, "done");
    let retried = on_b
        .request(Method::POST, &format!("/turns/{queued_id}/retry"))
        .send()
        .await
        .unwrap();
    assert_eq!(read(retried).await.0, 200);
    assert_eq!(
        read(cancel(&on_a, &id).await.unwrap()).await.1["status"],
        "cancelled"
    );

    let mut paths = vec![
        "/conversations".to_owned(),
        format!("/turns/{id}"),
        format!("/turns/{queued_id}"),
    ];
    for below in ["", "/messages", "/messages?limit=1", "/tool-calls"] {
        paths.push(format!("/conversations/{conversation}{below}"));
    }
    for path in paths {
        assert_eq!(on_a.get(&path).await, on_b.get(&path).await, "{path}");
    }
    assert_eq!(
        on_a.transcript(&conversation).await,
        on_b.transcript(&conversation).await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_at_two_replicas_are_answered_in_sequence() {
    let agent = echo();
    let database = database();
    let home = home(database.url(), &agent.base_url());
    let (a, b) = (home.start(), home.start());
    assert_answered_in_sequence(&[&a, &b], &agent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_gives_one_turn_at_all_replicas() {
    let agent = StubAgent::start(|recorded| {
        Answer::text([format!("Answer {}.", recorded.number).as_str()])
    });
    let database = database();
    let home = home(database.url(), &agent.base_url());
    let (a, b) = (home.start(), home.start());
    let (on_a, on_b) = (a.client("ann"), b.client("ann"));
    for n in 0..10 {
        let send = |client: &Client| {
            let request = client
                .message("", None, &format!("m{n}"))
                .header("idempotency-key", format!("k{n}"))
                .send();
            async { read(request.await.unwrap()).await }
        };
        let replies = join_all((0..4).flat_map(|_| [send(&on_a), send(&on_b)])).await;
        assert_eq!(replies[0].0, 200, "{}", replies[0].1);
        assert!(
            replies.iter().all(|reply| *reply == replies[0]),
            "{replies:?}"
        );
        let other = on_b
            .message("", None, "Another")
            .header("idempotency-key", format!("k{n}"))
            .send()
            .await
            .unwrap();
        assert_eq!(read(other).await.1["code"], "idempotency_mismatch");
    }
    assert_eq!(agent.requests().len(), 10);
    assert_eq!(database.query("SELECT count(*) FROM turns").unwrap(), "10");
}
