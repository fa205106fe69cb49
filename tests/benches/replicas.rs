//! How soon one server hears of what happens at another, on one PostgreSQL, with the default
//! settings.
//!
//! For each turn: it starts at A and is watched at A and B; the agent says something; it is
//! cancelled at B.
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

/// How many turns are measured, and how many at once.
const TURNS: usize = 400;
const AT_ONCE: usize = 16;

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
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    println!("{TURNS} turns, {AT_ONCE} at once; milliseconds\n");
    println!("| | 50 % | 90 % | 99 % | all |\n|---|---|---|---|---|");
    let rows = [
        "from a text at A to it at B",
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
    let said = Instant::now();
    at_b.until("text").await;
    let heard = said.elapsed();
    let asked = Instant::now();
    let cancel = async {
        let answer = on_b
            .request(Method::POST, &format!("/turns/{id}/cancel"))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        asked.elapsed()
    };
    let end = async |events: Events| {
        let rest = events.rest().await;
        assert_eq!(rest.last().unwrap().data["status"], "cancelled");
        asked.elapsed()
    };
    let (answered, at_a, at_b) = futures_util::future::join3(cancel, end(at_a), end(at_b)).await;
    [heard, answered, at_a, at_b]
}
