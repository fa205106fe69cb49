//! Threads: paging during writes, concurrent use of both APIs, stopping, and recovery after a
//! crash.

use std::collections::HashSet;

use chat_test_support::stub_agent::{Answer, Gate, StubAgent};
use chat_test_support::wait;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::client::{ChatKit, input, text, thread_of};
use chat_tests::client::line;
use chat_tests::server::Home;

/// Returns an agent that echoes the last message.
fn echo() -> StubAgent {
    StubAgent::start(|recorded| {
        let last = recorded.messages().pop().unwrap();
        Answer::text(["Re ", last["content"].as_str().unwrap()])
    })
}

/// Returns the conversation id of a thread in the native API.
fn conversation(thread: &str) -> String {
    uuid::Uuid::try_parse(thread.strip_prefix("thr_").unwrap())
        .unwrap()
        .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_threads_are_listed_page_by_page() {
    let agent = echo();
    let server = Home::with_agent(&agent.base_url()).start();
    let ann = ChatKit::new(&server, "ann");
    let mut made = Vec::new();
    for batch in 0..10 {
        let texts: Vec<String> = (0..20).map(|n| format!("thread {batch} {n}")).collect();
        made.extend(
            join_all(texts.iter().map(|text| ann.create(text)))
                .await
                .iter()
                .map(|events| thread_of(events)),
        );
    }
    let ids = |threads: &[Value]| -> Vec<String> {
        threads
            .iter()
            .map(|thread| thread["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let newest = ids(&ann.all("threads.list", json!({ "order": "desc" })).await);
    let mut oldest = ids(&ann.all("threads.list", json!({ "order": "asc" })).await);
    assert_eq!(
        (newest.len(), newest.iter().collect::<HashSet<_>>()),
        (200, made.iter().collect())
    );
    oldest.reverse();
    assert_eq!(newest, oldest);

    // While other threads change, are renamed and deleted, and new ones are created, each of the
    // rest is listed exactly once.
    let first = ann
        .ask("threads.list", json!({ "limit": 9999, "order": "desc" }))
        .await;
    let seen = ids(first["data"].as_array().unwrap());
    assert!(
        seen.len() < 200
            && first["has_more"] == true
            && first["after"] == seen[seen.len() - 1].as_str()
    );
    ann.add(&newest[150], "more").await;
    ann.ask(
        "threads.update",
        json!({ "thread_id": newest[151], "title": "Renamed" }),
    )
    .await;
    ann.ask(
        "threads.delete",
        json!({ "thread_id": seen[seen.len() - 1] }),
    )
    .await;
    ann.create("new").await;
    let rest = ids(&ann
        .all(
            "threads.list",
            json!({ "order": "desc", "after": first["after"] }),
        )
        .await);
    assert_eq!([seen, rest].concat(), newest);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_callers_use_one_thread_over_both_apis() {
    let agent = echo();
    let server = Home::with_agent(&agent.base_url()).start();
    let (chatkit, native) = (ChatKit::new(&server, "ann"), server.client("ann"));
    let thread = thread_of(&chatkit.create("m").await);
    let id = conversation(&thread);
    let callers = (0..20).map(|caller| {
        let (chatkit, native, thread, id) = (
            ChatKit::new(&server, "ann"),
            native.clone(),
            thread.clone(),
            id.clone(),
        );
        tokio::spawn(async move {
            for n in 0..4 {
                let message = format!("m{caller}.{n}");
                let answered = if caller % 2 == 0 {
                    let events = chatkit.add(&thread, &message).await;
                    assert_eq!(text(&events[0]["item"]), message);
                    text(&events.last().unwrap()["item"])
                } else {
                    native.chat(Some(&id), &message).await["response"]
                        .as_str()
                        .unwrap()
                        .to_owned()
                };
                assert_eq!(answered, format!("Re {message}"));
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    join_all(callers).await.into_iter().for_each(Result::unwrap);

    let transcript = native.transcript(&id).await;
    assert_eq!(
        (
            transcript.len(),
            transcript.iter().collect::<HashSet<_>>().len()
        ),
        (162, 162)
    );
    let oldest = chatkit
        .all("items.list", json!({ "thread_id": thread, "order": "asc" }))
        .await;
    let lines: Vec<String> = oldest
        .iter()
        .map(|item| {
            format!(
                "{}: {}",
                item["type"].as_str().unwrap().trim_end_matches("_message"),
                text(item)
            )
        })
        .collect();
    assert_eq!(lines, transcript);
    for pair in transcript.chunks(2) {
        assert_eq!(
            pair[1],
            format!("assistant: Re {}", pair[0].strip_prefix("user: ").unwrap())
        );
    }
    let mut newest = chatkit
        .all(
            "items.list",
            json!({ "thread_id": thread, "order": "desc" }),
        )
        .await;
    newest.reverse();
    assert_eq!(newest, oldest);
    // A front end loads the first page of a thread, and then the rest.
    let loaded = chatkit
        .ask("threads.get_by_id", json!({ "thread_id": thread }))
        .await;
    let first = loaded["items"]["data"].as_array().unwrap().clone();
    let rest = chatkit
        .all(
            "items.list",
            json!({ "thread_id": thread, "order": "asc", "after": first[first.len() - 1]["id"] }),
        )
        .await;
    assert_eq!([first, rest].concat(), oldest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_continues_over_both_apis() {
    let gate = Gate::new();
    let held = gate.clone();
    let agent = StubAgent::start(move |recorded| {
        if recorded.number == 0 {
            Answer::text(["Hello."]).held(&held)
        } else {
            Answer::text(["Bye."])
        }
    });
    let server = Home::with_agent(&agent.base_url()).start();
    let (chatkit, native) = (ChatKit::new(&server, "ann"), server.client("ann"));
    let mut stream = chatkit
        .open("threads.create", json!({ "input": input("Hi") }))
        .await;
    let thread = thread_of(&stream.until("stream_options").await);
    let id = conversation(&thread);
    // The native API shows the front end's turn while it runs, and streams its answer.
    let page = native.get(&format!("/conversations/{id}/messages")).await;
    let turn = page["messages"][0]["turn_id"].as_str().unwrap().to_owned();
    assert_eq!(page["messages"][0]["turn_status"], "running");
    let reader = native.clone();
    let end = tokio::spawn(async move { reader.last_position_of(&turn).await });
    gate.open();
    assert_eq!(text(&stream.rest().await.pop().unwrap()["item"]), "Hello.");
    assert_eq!(end.await.unwrap().name, "done");
    native.chat(Some(&id), "Go").await;
    let items = chatkit
        .all("items.list", json!({ "thread_id": thread, "order": "asc" }))
        .await;
    assert_eq!(
        items.iter().map(text).collect::<Vec<_>>(),
        ["Hi", "Hello.", "Go", "Bye."]
    );
    let listed = native.get("/conversations").await;
    assert_eq!(listed["conversations"][0]["id"], id.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_a_stream_stops_the_turn_and_a_crash_does_not() {
    let half = format!(
        "data: {}\n\n",
        chat_test_support::stub_agent::chunk::text("Half")
    )
    .len();
    let agent = StubAgent::start(move |recorded| match recorded.number {
        0 | 1 => Answer::text(["Half", "whole"]).hang_after(half),
        _ => Answer::text(["Whole."]),
    });
    let home = Home::with_agent(&agent.base_url());
    let server = home.start();
    let ann = ChatKit::new(&server, "ann");
    let mut stream = ann
        .open("threads.create", json!({ "input": input("One") }))
        .await;
    let stopped = thread_of(
        &stream
            .until("assistant_message.content_part.text_delta")
            .await,
    );
    drop(stream);
    let listed = async || {
        ann.all(
            "items.list",
            json!({ "thread_id": stopped, "order": "asc" }),
        )
        .await
    };
    let items = wait::value("the stopped turn's items", async || {
        Some(listed().await).filter(|items| items.len() == 3)
    })
    .await;
    assert_eq!(
        (text(&items[1]), &items[2]["task"]["title"]),
        ("Half".to_owned(), &json!("Stopped"))
    );
    let messages = server
        .client("ann")
        .get(&format!(
            "/conversations/{}/messages",
            conversation(&stopped)
        ))
        .await;
    assert_eq!(messages["messages"][1]["turn_status"], "cancelled");
    assert_eq!(line(&messages["messages"][1]), "assistant: Half");

    let mut stream = ann
        .open("threads.create", json!({ "input": input("Two") }))
        .await;
    let cut = thread_of(
        &stream
            .until("assistant_message.content_part.text_delta")
            .await,
    );
    server.kill();
    assert!(stream.rest().await.is_empty());
    let server = home.start();
    let ann = ChatKit::new(&server, "ann");
    // The front end reloads the thread until it contains the answer.
    let listed = async || {
        ann.all("items.list", json!({ "thread_id": cut, "order": "asc" }))
            .await
    };
    let items = wait::value("the answer after the crash", async || {
        Some(listed().await).filter(|items| items.len() == 2)
    })
    .await;
    assert_eq!(text(&items[1]), "Whole.");
}
