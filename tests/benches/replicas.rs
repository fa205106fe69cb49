//! Measures how soon a server shows what happens on another one, with one PostgreSQL and default
//! settings.
//!
//! Each turn starts at A and is watched at A and B; the agent sends a text; the turn is cancelled
//! at B.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use chat_test_postgres::{Cluster, Options};
use chat_test_support::stub_agent::{Answer, Gate, StubAgent, chunk};
use futures_util::{StreamExt, stream};
use reqwest::Method;

use chat_tests::client::{Client, Events};
use chat_tests::server::Home;

/// Number of turns, and how many run concurrently.
const TURNS: usize = 400;
const CONCURRENT: usize = 16;

#[tokio::main]
async fn main() {
    let cluster = Cluster::start(Options {
        durable: true,
        ..Options::default()
    })
    .unwrap();
    cluster.create_database("chat").unwrap();
    let event = |text: &str| format!("data: {}\n\n", chunk::text(text)).len();
    let (first, both) = (event("One, "), event("One, ") + event("two."));
    let gates: Arc<Vec<Gate>> = Arc::new((0..TURNS).map(|_| Gate::new()).collect());
    let theirs = gates.clone();
    let agent = StubAgent::start(move |recorded| {
        let number: usize = recorded.messages().pop().unwrap()["content"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        Answer::text(["One, ", "two."])
            .held_after(first, &theirs[number])
            .hang_after(both)
    });
    let home = Home::with_agent(&agent.base_url()).set("DATABASE_URL", cluster.url("chat"));
    let (a, b) = (home.start(), home.start());
    let measured: Vec<[Duration; 4]> = stream::iter(0..TURNS)
        .map(|turn| measure(a.client("ann"), b.client("ann"), turn, &gates[turn]))
        .buffer_unordered(CONCURRENT)
        .collect()
        .await;
    println!("{TURNS} turns, {CONCURRENT} at once; milliseconds\n");
    println!("| | 50 % | 90 % | 99 % | all |\n|---|---|---|---|---|");
    let rows = [
        "from a text at A to the same text at B",
        "from a cancel at B to its answer",
        "from a cancel at B to the end at A",
        "from a cancel at B to the end at B",
    ];
    for (column, row) in rows.into_iter().enumerate() {
        let mut times: Vec<Duration> = measured.iter().map(|times| times[column]).collect();
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() * percent).div_ceil(100) - 1].as_millis();
        println!(
            "| {row} | {} | {} | {} | {} |",
            at(50),
            at(90),
            at(99),
            at(100)
        );
    }
}

async fn measure(on_a: Client, on_b: Client, turn: usize, gate: &Gate) -> [Duration; 4] {
    let mut at_a = on_a.stream(None, &turn.to_string()).await;
    let seen = at_a.until("text").await;
    let id = seen[0].data["turn_id"].as_str().unwrap();
    let mut at_b = Events::of(on_b.resume(id, None).await);
    at_b.until("text").await;
    gate.open();
    at_a.until("text").await;
    let text_at = Instant::now();
    at_b.until("text").await;
    let text_delay = text_at.elapsed();
    let cancel_at = Instant::now();
    let cancel = async {
        let answer = on_b
            .request(Method::POST, &format!("/turns/{id}/cancel"))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        cancel_at.elapsed()
    };
    let end = async |events: Events| {
        let rest = events.rest().await;
        assert_eq!(rest.last().unwrap().data["status"], "cancelled");
        cancel_at.elapsed()
    };
    let (answer_delay, at_a, at_b) =
        futures_util::future::join3(cancel, end(at_a), end(at_b)).await;
    [text_delay, answer_delay, at_a, at_b]
}
