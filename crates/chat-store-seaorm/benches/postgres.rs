//! The cost of a turn on PostgreSQL: `cargo xtask bench postgres`, or `cargo bench -p
//! chat-store-seaorm --bench postgres` with `CHAT_TEST_POSTGRES_URL`.
//!
//! Compares the store with clients written by hand, each caller on a connection of its own, in the
//! same run: one sends the fewest statements that store a turn, the other the transactions that the
//! store sends, with all that they look up. A turn is `begin_turn`, a read of the conversation so
//! far, and `end_turn` with one assistant message.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod chat;

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chat_store_seaorm::OpenOptions;
use chat_test_postgres::database;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Row};
use uuid::Uuid;

use chat::{Chat, cpu, median};

/// How long each rate is measured, and how many times; the medians count.
const MEASURED: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;
const CALLERS: [u64; 3] = [1, 8, 32];
/// How many turns a conversation has.
const TURNS: u64 = 8;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        println!("          turns/s:                             ratio of the store to:   CPU µs/turn:");
        println!("callers   fewest   same transactions   store   fewest   same           fewest   same   store");
        for callers in CALLERS {
            let mut rounds = Vec::new();
            for _ in 0..ROUNDS {
                rounds.push([by_hand(callers, Client::Fewest).await, by_hand(callers, Client::Same).await, by_store(callers).await]);
            }
            let of = |value: fn(&[Measured; 3]) -> f64| median(rounds.iter().map(value));
            println!(
                "{callers:>7}   {:>6.0}   {:>17.0}   {:>5.0}   {:>6.2}   {:>4.2}   {:>14.0}   {:>4.0}   {:>5.0}",
                of(|[fewest, _, _]| fewest.rate),
                of(|[_, same, _]| same.rate),
                of(|[_, _, store]| store.rate),
                of(|[fewest, _, store]| store.rate / fewest.rate),
                of(|[_, same, store]| store.rate / same.rate),
                of(|[fewest, _, _]| fewest.cpu),
                of(|[_, same, _]| same.cpu),
                of(|[_, _, store]| store.cpu),
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
async fn measure<F: Future<Output = ()> + Send + 'static>(
    callers: Vec<impl Fn() -> F + Send + 'static>,
) -> Measured {
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
    Measured {
        rate: turns / start.elapsed().as_secs_f64(),
        cpu: (cpu() - before).as_secs_f64() * 1e6 / turns,
    }
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

/// The statements of a client written by hand.
#[derive(Clone, Copy)]
enum Client {
    /// The fewest statements that store what a turn is: the owner is checked, the rows are locked,
    /// ids and places are unique.
    Fewest,
    /// The statements of the store, which also looks whether the turn was begun before, what runs
    /// and waits in the conversation, whether the turn was cancelled and its message stored before,
    /// and reads a conversation with its turns and tool calls.
    Same,
}

async fn by_hand(callers: u64, client: Client) -> Measured {
    let database = database();
    // The store makes the tables.
    Chat::open(database.url(), OpenOptions::default())
        .await
        .store
        .close()
        .await;
    let mut all = Vec::new();
    for _ in 0..callers {
        let connection = Arc::new(tokio::sync::Mutex::new(connect(database.url()).await));
        all.push(move || {
            let connection = Arc::clone(&connection);
            async move { conversation(&mut *connection.lock().await, client).await }
        });
    }
    measure(all).await
}

async fn conversation(db: &mut PgConnection, client: Client) {
    let conversation = Uuid::now_v7();
    for ordinal in 1..=TURNS as i64 {
        let (turn, position) = (Uuid::now_v7(), 2 * ordinal - 1);
        begin(db, client, conversation, turn, ordinal, position).await;
        assert_eq!(read(db, client, conversation).await as i64, position);
        end(db, client, conversation, turn, position + 1).await;
    }
}

async fn begin(
    db: &mut PgConnection,
    client: Client,
    conversation: Uuid,
    turn: Uuid,
    ordinal: i64,
    position: i64,
) {
    let mut begin = db.begin().await.unwrap();
    if ordinal > 1 && matches!(client, Client::Same) {
        lock(&mut begin, conversation).await;
    }
    if matches!(client, Client::Same) {
        let known = "SELECT EXISTS (SELECT 1 FROM turns WHERE id = $1), \
                     (SELECT id FROM turns WHERE conversation_id = $2 AND status = 'running'), \
                     (SELECT COUNT(*) FROM turns WHERE conversation_id = $2 AND ended_at IS NULL)";
        let known = sqlx::query_as::<_, (bool, Option<Uuid>, i64)>(known)
            .bind(turn)
            .bind(conversation);
        assert_eq!(
            known.fetch_one(&mut *begin).await.unwrap(),
            (false, None, 0)
        );
    }
    if ordinal == 1 {
        let insert = "INSERT INTO conversations (id, owner, title, created_at, updated_at, last_position, last_ordinal) VALUES ($1, 'ann', 'new', 1, 1, 1, 1)";
        sqlx::query(insert)
            .bind(conversation)
            .execute(&mut *begin)
            .await
            .unwrap();
    } else {
        let place = "UPDATE conversations SET last_position = $2, last_ordinal = $3, updated_at = 1 WHERE id = $1 AND owner = 'ann'";
        sqlx::query(place)
            .bind(conversation)
            .bind(position)
            .bind(ordinal)
            .execute(&mut *begin)
            .await
            .unwrap();
    }
    let insert = "INSERT INTO turns (id, conversation_id, owner, ordinal, status, holder, epoch, attempt, cancel_requested, superseded, \
                  input_tokens, output_tokens, created_at) VALUES ($1, $2, 'ann', $3, 'running', $1, 1, 1, FALSE, FALSE, 0, 0, 1)";
    sqlx::query(insert)
        .bind(turn)
        .bind(conversation)
        .bind(ordinal)
        .execute(&mut *begin)
        .await
        .unwrap();
    message(
        &mut begin,
        Uuid::now_v7(),
        conversation,
        turn,
        position,
        "user",
        &"x".repeat(300),
    )
    .await;
    begin.commit().await.unwrap();
}

/// How many messages a conversation has.
async fn read(db: &mut PgConnection, client: Client, conversation: Uuid) -> usize {
    const TURNS: &str =
        "SELECT id FROM turns WHERE conversation_id = $1 AND owner = 'ann' AND NOT superseded";
    let messages = format!(
        "SELECT id, turn_id, position, role, text, created_at FROM messages WHERE turn_id IN ({TURNS})"
    );
    let query = match client {
        Client::Fewest => format!("{messages} ORDER BY position"),
        Client::Same => format!(
            "SELECT id, NULL, ordinal, status, failure_message, created_at, ended_at FROM turns \
             WHERE conversation_id = $1 AND owner = 'ann' AND NOT superseded \
             UNION ALL SELECT id, turn_id, position, role, text, created_at, NULL FROM messages WHERE turn_id IN ({TURNS}) \
             UNION ALL SELECT id, turn_id, position, tool, CAST(arguments AS TEXT), created_at, result_at FROM tool_calls WHERE turn_id IN ({TURNS})"
        ),
    };
    let rows = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(conversation)
        .fetch_all(&mut *db)
        .await
        .unwrap();
    rows.iter()
        .filter(|row| row.get::<Option<Uuid>, _>(1).is_some())
        .count()
}

async fn end(db: &mut PgConnection, client: Client, conversation: Uuid, turn: Uuid, position: i64) {
    let id = Uuid::now_v7();
    let mut end = db.begin().await.unwrap();
    if matches!(client, Client::Same) {
        lock(&mut end, conversation).await;
        let known = "SELECT status, cancel_requested, EXISTS (SELECT 1 FROM messages WHERE id = $2), \
                     (SELECT id FROM turns WHERE conversation_id = $3 AND status = 'queued' AND ended_at IS NULL ORDER BY ordinal LIMIT 1) \
                     FROM turns WHERE id = $1";
        let known = sqlx::query_as::<_, (String, bool, bool, Option<Uuid>)>(known)
            .bind(turn)
            .bind(id)
            .bind(conversation);
        assert_eq!(
            known.fetch_one(&mut *end).await.unwrap(),
            ("running".to_owned(), false, false, None)
        );
    }
    let fence = "UPDATE turns SET status = 'completed', ended_at = 1 WHERE id = $1 AND epoch = 1 AND holder = $1 AND status = 'running'";
    assert_eq!(
        sqlx::query(fence)
            .bind(turn)
            .execute(&mut *end)
            .await
            .unwrap()
            .rows_affected(),
        1
    );
    message(
        &mut end,
        id,
        conversation,
        turn,
        position,
        "assistant",
        &"y".repeat(1500),
    )
    .await;
    let place = "UPDATE conversations SET last_position = $2, updated_at = 1 WHERE id = $1";
    sqlx::query(place)
        .bind(conversation)
        .bind(position)
        .execute(&mut *end)
        .await
        .unwrap();
    end.commit().await.unwrap();
}

async fn lock(db: &mut PgConnection, conversation: Uuid) {
    let lock = "SELECT last_position, last_ordinal FROM conversations WHERE id = $1 AND owner = 'ann' FOR NO KEY UPDATE";
    sqlx::query(lock)
        .bind(conversation)
        .fetch_one(db)
        .await
        .unwrap();
}

async fn message(
    db: &mut PgConnection,
    id: Uuid,
    conversation: Uuid,
    turn: Uuid,
    position: i64,
    role: &str,
    text: &str,
) {
    let insert = "INSERT INTO messages (id, conversation_id, turn_id, position, role, text, created_at) VALUES ($1, $2, $3, $4, $5, $6, 1)";
    let insert = sqlx::query(insert)
        .bind(id)
        .bind(conversation)
        .bind(turn)
        .bind(position)
        .bind(role)
        .bind(text);
    insert.execute(db).await.unwrap();
}

async fn connect(url: &str) -> PgConnection {
    PgConnectOptions::from_str(url)
        .unwrap()
        .disable_statement_logging()
        .connect()
        .await
        .unwrap()
}
