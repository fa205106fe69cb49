//! Interrupted and resumed streams.

use chat_test_support::stub_agent::{Answer, Gate, StubAgent};

use chat_tests::client::{Event, Events, parse, text};
use chat_tests::server::Home;
use chat_tests::witness::Witness;

/// Removes differences that do not matter: the division of text into deltas, and the initial state
/// of the turn.
pub fn normalize(events: &[Event]) -> Vec<Event> {
    let mut normalize: Vec<Event> = Vec::new();
    for event in events.iter().filter(|event| event.name != "turn") {
        let mut event = event.clone();
        event.id = None;
        match normalize.last_mut() {
            Some(last)
                if event.name == "text"
                    && last.name == "text"
                    && last.data["message_id"] == event.data["message_id"] =>
            {
                let joined = format!(
                    "{}{}",
                    last.data["delta"].as_str().unwrap(),
                    event.data["delta"].as_str().unwrap()
                );
                last.data["delta"] = joined.into();
            }
            _ => normalize.push(event),
        }
    }
    normalize
}

/// Returns the complete events in the first bytes of a stream.
fn received(bytes: &[u8]) -> Vec<Event> {
    let whole = bytes
        .windows(2)
        .rposition(|two| two == b"\n\n")
        .map_or(0, |end| end + 2);
    std::str::from_utf8(&bytes[..whole])
        .unwrap()
        .split_inclusive("\n\n")
        .filter_map(parse)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_can_be_resumed_after_any_byte() {
    let agent =
        StubAgent::start(
            |recorded| match recorded.messages().last().unwrap()["role"].as_str() {
                Some("user") => {
                    use chat_test_support::stub_agent::chunk;
                    Answer::chunks([
                        chunk::text("Ich schaue "),
                        chunk::text("nach 日本 🦀"),
                        chunk::call(0, "c", "look", "{}"),
                        chunk::finish("tool_calls"),
                    ])
                }
                _ => Answer::text(["Es ist ", "grün."]),
            },
        );
    let (_witness, home) = Witness::new(Home::with_agent(&agent.base_url()));
    let server = home.start();
    let ann = server.client("ann");
    let response = ann
        .message("", None, "Wie ist es?")
        .header("accept", "text/event-stream")
        .send()
        .await
        .unwrap();
    let bytes = response.bytes().await.unwrap();
    let whole = received(&bytes);
    let expected = normalize(&whole);
    assert_eq!(whole[0].name, "turn");
    assert_eq!(expected.last().unwrap().name, "done");
    let turn = whole[0].data["turn_id"].as_str().unwrap().to_owned();

    // Every byte at the boundaries of events, and some within each event.
    let ends: Vec<usize> = bytes
        .windows(2)
        .enumerate()
        .filter(|(_, two)| *two == b"\n\n")
        .map(|(at, _)| at + 2)
        .collect();
    let mut cuts: Vec<usize> = ends
        .iter()
        .flat_map(|end| [end - 2, end - 1, *end, end + 1, end + 7, end + 60])
        .collect();
    cuts.extend([0, 1, 30]);
    cuts.retain(|cut| *cut <= bytes.len());
    cuts.sort_unstable();
    cuts.dedup();
    let before = server;
    let check = async |ann: &chat_tests::client::Client, cuts: &[usize]| {
        for cut in cuts {
            let mut seen = received(&bytes[..*cut]);
            let last = seen.iter().rev().find_map(|event| event.id.clone());
            let response = ann.resume(&turn, last.as_deref()).await;
            if response.status() == 204 {
                assert_eq!(*cut, bytes.len(), "204 before the end");
            } else {
                if last.is_none() {
                    seen.clear();
                }
                seen.extend(Events::of(response).rest().await);
            }
            assert_eq!(
                normalize(&seen),
                expected,
                "cut at {cut} of {}",
                bytes.len()
            );
        }
    };
    check(&ann, &cuts).await;
    before.kill();
    let after = home.start();
    check(&after.client("ann"), &cuts).await;
    // The cursor may be in the query instead.
    let last = whole[whole.len() - 2].id.clone().unwrap();
    let response = after
        .client("ann")
        .request(
            reqwest::Method::GET,
            &format!("/turns/{turn}/events?after={last}"),
        )
        .send()
        .await
        .unwrap();
    assert_eq!(Events::of(response).rest().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_stream_is_resumed_exactly() {
    let gate = Gate::new();
    let held = gate.clone();
    let first = format!(
        "data: {}\n\n",
        chat_test_support::stub_agent::chunk::text("One, ")
    );
    let agent = StubAgent::start(move |_| {
        Answer::text(["One, ", "two, ", "three."]).held_after(first.len(), &held)
    });
    let server = Home::with_agent(&agent.base_url()).start();
    let ann = server.client("ann");
    let mut events = ann.stream(None, "Count").await;
    let mut seen = events.until("text").await;
    drop(events);
    let turn = seen[0].data["turn_id"].as_str().unwrap().to_owned();
    let mut other = Events::of(ann.resume(&turn, None).await);
    let mut watched = other.until("text").await;
    let resumed = ann.resume(&turn, seen.last().unwrap().id.as_deref()).await;
    gate.open();
    seen.extend(Events::of(resumed).rest().await);
    watched.extend(other.rest().await);
    assert_eq!(text(&seen), "One, two, three.");
    assert_eq!(normalize(&seen), normalize(&watched));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_ends_the_stream_and_keeps_the_text() {
    let first = format!(
        "data: {}\n\n",
        chat_test_support::stub_agent::chunk::text("One, ")
    );
    let agent = StubAgent::start(move |_| Answer::text(["One, ", "two."]).hang_after(first.len()));
    let server = Home::with_agent(&agent.base_url()).start();
    let ann = server.client("ann");
    let mut events = ann.stream(None, "Count").await;
    let seen = events.until("text").await;
    let turn = seen[0].data["turn_id"].as_str().unwrap();
    let cancel = async || {
        chat_tests::client::read(
            ann.request(reqwest::Method::POST, &format!("/turns/{turn}/cancel"))
                .send()
                .await
                .unwrap(),
        )
        .await
    };
    let (status, observed) = cancel().await;
    assert_eq!(
        (status.as_u16(), &observed["status"]),
        (200, &"running".into()),
        "{observed}"
    );
    let rest = events.rest().await;
    assert_eq!(rest.last().unwrap().data["status"], "cancelled");
    assert_eq!(
        ann.transcript(seen[0].data["conversation_id"].as_str().unwrap())
            .await,
        ["user: Count", "assistant: One, "]
    );
    assert_eq!(cancel().await.1["status"], "cancelled");
}
