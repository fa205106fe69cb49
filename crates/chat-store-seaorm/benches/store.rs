//! The cost of a turn: `cargo bench -p chat-store-seaorm --bench store`.
//!
//! Prints ratios of one run; absolute figures are the machine's. A turn is `begin_turn`, a read of
//! the conversation so far, and `end_turn` with one assistant message; conversations have up to
//! eight turns.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod chat;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chat_domain::ConversationId;
use chat_store_seaorm::OpenOptions;

use chat::{Chat, cpu, median};

/// How long each throughput is measured, and how many times; the medians count.
const MEASURED: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;
/// How many turns a conversation of the throughput runs has.
const TURNS: u64 = 8;
/// How many times each reading is repeated.
const READS: u32 = 200;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let wanted = |part: &str| {
        std::env::args()
            .skip(1)
            .all(|arg| arg.starts_with("--") || arg == part)
    };
    runtime.block_on(async {
        if wanted("throughput") {
            throughput().await;
        }
        if wanted("reading") {
            reading().await;
        }
        if wanted("growth") {
            growth().await;
        }
    });
}

async fn throughput() {
    let one = OpenOptions {
        batch: 1,
        ..OpenOptions::default()
    };
    let grouped = OpenOptions::default();
    let ways = [
        (1, "one by one", &one),
        (64, "one by one", &one),
        (1, "grouped", &grouped),
        (8, "grouped", &grouped),
        (64, "grouped", &grouped),
    ];
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let mut round = Vec::new();
        for (callers, _, options) in ways {
            round.push(measure(callers, options).await);
        }
        rounds.push(round);
    }
    println!("callers  commits      turns/s   ratio   CPU µs/turn");
    for (way, (callers, commits, _)) in ways.iter().enumerate() {
        // Ratios within a round: other load on the machine changes from round to round.
        let rate = median(rounds.iter().map(|round| round[way].0));
        let ratio = median(rounds.iter().map(|round| round[way].0 / round[0].0));
        let cpu = median(rounds.iter().map(|round| round[way].1));
        println!("{callers:>7}  {commits:<10} {rate:>9.0}  {ratio:>6.2}   {cpu:>11.0}");
    }
}

/// Turns a second, and microseconds of CPU time a turn.
async fn measure(callers: u64, options: &OpenOptions) -> (f64, f64) {
    let folder = tempfile::tempdir().unwrap();
    let chat = Chat::open(&url(folder.path()), options.clone()).await;
    let turns = Arc::new(AtomicU64::new(0));
    let (start, before) = (Instant::now(), cpu());
    let callers: Vec<_> = (0..callers)
        .map(|_| {
            let (chat, turns) = (chat.clone(), Arc::clone(&turns));
            tokio::spawn(async move {
                while start.elapsed() < MEASURED {
                    let conversation = chat.turn(None, true).await;
                    for _ in 1..TURNS {
                        chat.turn(Some(conversation), true).await;
                    }
                    turns.fetch_add(TURNS, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let turns = turns.load(Ordering::Relaxed) as f64;
    let result = (
        turns / start.elapsed().as_secs_f64(),
        (cpu() - before).as_secs_f64() * 1e6 / turns,
    );
    chat.store.close().await;
    result
}

async fn reading() {
    println!("\nmessages read   ms (mean of {READS})");
    let folder = tempfile::tempdir().unwrap();
    let chat = Chat::open(&url(folder.path()), OpenOptions::default()).await;
    for messages in [10, 100, 1_000, 5_000] {
        let conversation = chat.conversation(messages / 2).await;
        let start = Instant::now();
        for _ in 0..READS {
            let turns = chat.read(conversation).await;
            assert_eq!(turns, messages / 2);
        }
        println!(
            "{messages:>13}   {:.2}",
            start.elapsed().as_secs_f64() * 1e3 / f64::from(READS)
        );
    }
    chat.store.close().await;
}

async fn growth() {
    println!("\none caller, without reading    ms a turn");
    let folder = tempfile::tempdir().unwrap();
    let chat = Chat::open(&url(folder.path()), OpenOptions::default()).await;
    let timed = async |conversation: Option<ConversationId>| {
        let start = Instant::now();
        for _ in 0..READS {
            chat.turn(conversation, false).await;
        }
        start.elapsed().as_secs_f64() * 1e3 / f64::from(READS)
    };
    for messages in [10, 1_000, 5_000] {
        let conversation = chat.conversation(messages / 2).await;
        println!(
            "conversation of {messages:>5} messages   {:.2}",
            timed(Some(conversation)).await
        );
    }
    for queued in [10, 256, 1_000] {
        let conversation = chat.turn(None, false).await;
        let first = chat.begin(conversation, queued).await;
        for _ in 0..queued {
            chat.begin(conversation, queued).await;
        }
        let (mut held, start) = (first.unwrap(), Instant::now());
        for _ in 0..READS.min(queued) {
            held = chat.end(&held).await.unwrap();
            assert!(chat.begin(conversation, queued).await.is_none());
        }
        println!(
            "before {queued:>5} that wait            {:.2}",
            start.elapsed().as_secs_f64() * 1e3 / f64::from(READS.min(queued))
        );
    }
    for conversations in [1_000, 10_000] {
        let makers = (0..64).map(|_| {
            let chat = chat.clone();
            tokio::spawn(async move {
                for _ in 0..conversations / 64 {
                    chat.turn(None, false).await;
                }
            })
        });
        for maker in makers.collect::<Vec<_>>() {
            maker.await.unwrap();
        }
        println!(
            "among {conversations:>6} conversations   {:.2}",
            timed(None).await
        );
    }
    chat.store.close().await;
}

fn url(folder: &Path) -> String {
    format!("sqlite://{}", folder.join("chat.db").display())
}
