//! What a turn costs on PostgreSQL: `cargo xtask bench postgres`, or `cargo bench -p chat-store-seaorm --bench postgres` with
//! `CHAT_TEST_POSTGRES_URL`.
//!
//! Compares the store with a client written by hand that sends the transactions a turn needs, each caller on a connection of its own, in the
//! same run. A turn is `begin_turn`, a read of the conversation so far, and `end_turn` with one assistant message.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod chat;

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chat_store_seaorm::OpenOptions;
use chat_test_postgres::database;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use uuid::Uuid;

use chat::{Chat, cpu, median};

/// How long each rate is measured, and how many times; the medians count.
const MEASURED: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;
const CALLERS: [u64; 3] = [1, 8, 32];
/// How many turns a conversation has.
const TURNS: u64 = 8;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        println!("callers   by hand turns/s   store turns/s   ratio   CPU µs/turn: by hand   store");
        for callers in CALLERS {
            let mut rounds = Vec::new();
            for _ in 0..ROUNDS {
                rounds.push((by_hand(callers).await, by_store(callers).await));
            }
            let rate = |of: fn(&(Measured, Measured)) -> f64| median(rounds.iter().map(of));
            println!(
                "{callers:>7}   {:>15.0}   {:>13.0}   {:>5.2}   {:>20.0}   {:>5.0}",
                rate(|(hand, _)| hand.rate),
                rate(|(_, store)| store.rate),
                rate(|(hand, store)| store.rate / hand.rate),
                rate(|(hand, _)| hand.cpu),
                rate(|(_, store)| store.cpu),
            );
        }
    });
}

struct Measured {
    /// Turns a second.
    rate: f64,
    /// Microseconds of CPU time of this process a turn.
    cpu: f64,
}

/// Lets so many callers have turns done, a conversation after another.
async fn measure<F: Future<Output = ()> + Send + 'static>(callers: Vec<impl Fn() -> F + Send + 'static>) -> Measured {
    let turns = Arc::new(AtomicU64::new(0));
    let (start, before) = (Instant::now(), cpu());
    let callers: Vec<_> = callers
        .into_iter()
        .map(|conversation| {
            let turns = Arc::clone(&turns);
            tokio::spawn(async move {
                while start.elapsed() < MEASURED {
                    conversation().await;
                    turns.fetch_add(TURNS, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let turns = turns.load(Ordering::Relaxed) as f64;
    Measured { rate: turns / start.elapsed().as_secs_f64(), cpu: (cpu() - before).as_secs_f64() * 1e6 / turns }
}

async fn by_store(callers: u64) -> Measured {
    let database = database();
    let chat = Chat::open(database.url(), OpenOptions::default()).await;
    let caller = |_| {
        let chat = chat.clone();
        move || {
            let chat = chat.clone();
            async move {
                let conversation = chat.turn(None, true).await;
                for _ in 1..TURNS {
                    chat.turn(Some(conversation), true).await;
                }
            }
        }
    };
    let measured = measure((0..callers).map(caller).collect()).await;
    chat.store.close().await;
    measured
}

async fn by_hand(callers: u64) -> Measured {
    let database = database();
    // The store makes the tables.
    Chat::open(database.url(), OpenOptions::default()).await.store.close().await;
    let mut all = Vec::new();
    for _ in 0..callers {
        let connection = Arc::new(tokio::sync::Mutex::new(connect(database.url()).await));
        all.push(move || {
            let connection = Arc::clone(&connection);
            async move { hand_written(&mut *connection.lock().await).await }
        });
    }
    measure(all).await
}

/// A conversation by the fewest statements that store what a turn is: the owner is checked, the rows are locked, ids and places are unique.
async fn hand_written(db: &mut PgConnection) {
    let conversation = Uuid::now_v7();
    for ordinal in 1..=TURNS as i64 {
        let (turn, position) = (Uuid::now_v7(), 2 * ordinal - 1);
        let mut begin = db.begin().await.unwrap();
        if ordinal == 1 {
            let insert = "INSERT INTO conversations (id, owner, title, created_at, updated_at, last_position, last_ordinal) VALUES ($1, 'ann', 'new', 1, 1, 1, 1)";
            sqlx::query(insert).bind(conversation).execute(&mut *begin).await.unwrap();
        } else {
            let lock = "UPDATE conversations SET last_position = $2, last_ordinal = $3, updated_at = 1 WHERE id = $1 AND owner = 'ann'";
            sqlx::query(lock).bind(conversation).bind(position).bind(ordinal).execute(&mut *begin).await.unwrap();
        }
        let insert = "INSERT INTO turns (id, conversation_id, owner, ordinal, status, holder, epoch, attempt, cancel_requested, superseded, \
                      input_tokens, output_tokens, created_at) VALUES ($1, $2, 'ann', $3, 'running', $1, 1, 1, FALSE, FALSE, 0, 0, 1)";
        sqlx::query(insert).bind(turn).bind(conversation).bind(ordinal).execute(&mut *begin).await.unwrap();
        message(&mut begin, conversation, turn, position, "user", &"x".repeat(300)).await;
        begin.commit().await.unwrap();

        let history = "SELECT id, turn_id, position, role, text, created_at FROM messages WHERE turn_id IN \
                       (SELECT id FROM turns WHERE conversation_id = $1 AND owner = 'ann' AND NOT superseded) ORDER BY position";
        let rows = sqlx::query(history).bind(conversation).fetch_all(&mut *db).await.unwrap();
        assert_eq!(rows.len() as i64, position);

        let mut end = db.begin().await.unwrap();
        let fence =
            "UPDATE turns SET status = 'completed', ended_at = 1 WHERE id = $1 AND epoch = 1 AND holder = $1 AND status = 'running'";
        assert_eq!(sqlx::query(fence).bind(turn).execute(&mut *end).await.unwrap().rows_affected(), 1);
        message(&mut end, conversation, turn, position + 1, "assistant", &"y".repeat(1500)).await;
        let place = "UPDATE conversations SET last_position = $2, updated_at = 1 WHERE id = $1";
        sqlx::query(place).bind(conversation).bind(position + 1).execute(&mut *end).await.unwrap();
        end.commit().await.unwrap();
    }
}

async fn message(db: &mut PgConnection, conversation: Uuid, turn: Uuid, position: i64, role: &str, text: &str) {
    let insert = "INSERT INTO messages (id, conversation_id, turn_id, position, role, text, created_at) VALUES ($1, $2, $3, $4, $5, $6, 1)";
    let insert = sqlx::query(insert).bind(Uuid::now_v7()).bind(conversation).bind(turn).bind(position).bind(role).bind(text);
    insert.execute(db).await.unwrap();
}

async fn connect(url: &str) -> PgConnection {
    PgConnectOptions::from_str(url).unwrap().disable_statement_logging().connect().await.unwrap()
}
