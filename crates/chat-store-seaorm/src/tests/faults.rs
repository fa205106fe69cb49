//! Commands that spoil their batch, callers that go away, connections and disks that fail.

use std::pin::pin;

use async_trait::async_trait;
use chat_domain::Refusal;
use chat_domain::testing::prelude::*;
use chat_domain::{Claim, Position, TurnPage, Unavailability};
use sea_orm::sqlx::Connection as _;
use sea_orm::{ConnectionTrait, DatabaseConnection, TransactionTrait};
use tempfile::TempDir;

use super::*;
use crate::OpenOptions;
use crate::batch::{Command, CommandError};
use crate::connection::Connection;
use crate::sqlite::Sqlite;

/// A store, and its writing connection.
async fn store_with(options: OpenOptions) -> (TempDir, Arc<SeaOrmStore>, DatabaseConnection) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("chat.db").display());
    let sqlite = Sqlite::open(&url, &options).await.unwrap();
    let writer = sqlite.writer.clone();
    (
        folder,
        Arc::new(
            SeaOrmStore::start(Arc::new(sqlite), &options)
                .await
                .unwrap(),
        ),
        writer,
    )
}

async fn store() -> (TempDir, Arc<SeaOrmStore>, DatabaseConnection) {
    store_with(OpenOptions::default()).await
}

fn unavailable<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> Unavailability {
    match answer {
        Err(StoreError::Unavailable(kind, _)) => kind,
        other => panic!("not unavailable: {other:?}"),
    }
}

/// Polls a call once, which is enough to send it, and drops it.
async fn sent_and_dropped(call: impl Future<Output = Result<BeginOutcome, StoreError>>) {
    let mut call = pin!(call);
    tokio::select! {
        biased;
        _ = &mut call => panic!("it was answered at once"),
        () = std::future::ready(()) => {}
    }
}

async fn exists(store: &SeaOrmStore, begin: &BeginTurn) -> bool {
    match store.view(&ann(), begin.turn, Position::START).await {
        Ok(view) => {
            assert_eq!(view.items.len(), 1);
            true
        }
        Err(StoreError::Refused(Refusal::NotFound)) => false,
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_command_that_spoils_its_batch_fails_alone() {
    let (_folder, store, writer) = store().await;
    let worker = enrolled(&store).await;
    let used = first_message(worker);
    running(store.begin(used.clone()).await.unwrap());
    // While the writer waits for its connection, callers queue up.
    let busy = writer.begin().await.unwrap();
    let calls: Vec<_> = (0..21)
        .map(|number| {
            let mut begin = first_message(worker);
            if number == 7 {
                begin.message = used.message;
            }
            let call = tokio::spawn({
                let (store, begin) = (Arc::clone(&store), begin.clone());
                async move { store.begin(begin).await }
            });
            (number, begin, call)
        })
        .collect();
    tokio::task::yield_now().await;
    busy.rollback().await.unwrap();
    for (number, begin, call) in calls {
        let answer = call.await.unwrap();
        if number == 7 {
            assert!(matches!(answer, Err(StoreError::Internal(_))), "{answer:?}");
        } else {
            running(answer.unwrap());
        }
        assert_eq!(exists(&store, &begin).await, number != 7);
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_nobody_along() {
    let (_folder, store, writer) = store().await;
    let worker = enrolled(&store).await;
    let busy = writer.begin().await.unwrap();
    let gone: Vec<_> = (0..10).map(|_| first_message(worker)).collect();
    for begin in &gone {
        sent_and_dropped(store.begin(begin.clone())).await;
    }
    let staying = first_message(worker);
    let stays = tokio::spawn({
        let (store, begin) = (Arc::clone(&store), staying.clone());
        async move { store.begin(begin).await }
    });
    busy.rollback().await.unwrap();
    running(stays.await.unwrap().unwrap());
    assert!(exists(&store, &staying).await);
    // Theirs are done wholly or not at all, and can be repeated.
    for begin in &gone {
        exists(&store, begin).await;
        running(store.begin(begin.clone()).await.unwrap());
        assert!(exists(&store, begin).await);
    }
}

#[tokio::test]
async fn a_turn_whose_caller_went_away_is_offered_to_the_next_claim_or_never_begins() {
    let (_folder, store, _writer) = store().await;
    let worker = enrolled(&store).await;
    let begin = first_message(worker);
    // On this runtime the writer does not continue before the test waits: both commands are in one
    // batch.
    sent_and_dropped(store.begin(begin.clone())).await;
    let offered = store
        .claim(Claim {
            worker,
            limit: 10,
            holding: Some(Vec::new()),
        })
        .await
        .unwrap();
    let offered: Vec<_> = offered.iter().map(|held| held.turn.id).collect();
    let later = store
        .claim(Claim {
            worker,
            limit: 10,
            holding: None,
        })
        .await
        .unwrap();
    assert_eq!(later, []);
    assert_eq!(offered.contains(&begin.turn), exists(&store, &begin).await);
}

#[tokio::test]
async fn reading_goes_on_while_the_writer_is_busy() {
    let (_folder, store, writer) = store().await;
    let worker = enrolled(&store).await;
    let held = turn(&store, first_message(worker).target, worker).await;
    let busy = writer.begin().await.unwrap();
    busy.execute_unprepared("UPDATE turns SET status = 'failed'")
        .await
        .unwrap();
    let turns = store
        .logged_turns(&ann(), held.turn.conversation, TurnPage::ALL)
        .await
        .unwrap();
    assert_eq!(turns[0].items.len(), 5);
    busy.rollback().await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_reported_until_there_is_room() {
    let (_folder, store, writer) = store().await;
    let worker = enrolled(&store).await;
    let mut stored = Vec::new();
    for _ in 0..3 {
        // Holds for this connection alone; a connection that failed must be replaced, and finds
        // room again.
        let pages = writer
            .query_one_raw(statement("PRAGMA page_count"))
            .await
            .unwrap()
            .unwrap()
            .try_get_by::<i64, _>(0)
            .unwrap();
        writer
            .execute_unprepared(&format!("PRAGMA max_page_count = {}", pages + 20))
            .await
            .unwrap();
        loop {
            let begin = BeginTurn {
                text: "x".repeat(4_000),
                ..first_message(worker)
            };
            match store.begin(begin.clone()).await {
                Ok(_) => stored.push(begin),
                failed => {
                    assert_eq!(unavailable(failed), Unavailability::Full);
                    assert!(!exists(&store, &begin).await);
                    running(store.begin(begin.clone()).await.unwrap());
                    stored.push(begin);
                    break;
                }
            }
            assert!(stored.len() < 1_000, "the disk never fills up");
        }
    }
    for begin in &stored {
        assert!(exists(&store, begin).await);
    }
}

fn statement(sql: &str) -> sea_orm::Statement {
    sea_orm::Statement::from_string(sea_orm::DbBackend::Sqlite, sql)
}

#[tokio::test]
async fn a_database_that_can_only_be_read_is_read() {
    let (_folder, store, writer) = store().await;
    let worker = enrolled(&store).await;
    let held = turn(&store, first_message(worker).target, worker).await;
    writer
        .execute_unprepared("PRAGMA query_only = ON")
        .await
        .unwrap();
    let refused = at_once(&store, 5, move |store, _| async move {
        store.begin(first_message(worker)).await
    })
    .await;
    for answer in refused {
        assert_eq!(unavailable(answer), Unavailability::ReadOnly);
    }
    assert_eq!(
        store
            .logged_turns(&ann(), held.turn.conversation, TurnPage::ALL)
            .await
            .unwrap()
            .len(),
        1
    );
    writer
        .execute_unprepared("PRAGMA query_only = OFF")
        .await
        .unwrap();
    running(store.begin(first_message(worker)).await.unwrap());
}

#[tokio::test]
async fn a_connection_left_inside_a_transaction_is_thrown_away() {
    let (_folder, store, writer) = store().await;
    let worker = enrolled(&store).await;
    let mut connection = writer.get_sqlite_connection_pool().acquire().await.unwrap();
    std::mem::forget(connection.begin().await.unwrap());
    drop(connection);
    let begin = first_message(worker);
    running(store.begin(begin.clone()).await.unwrap());
    assert!(exists(&store, &begin).await);
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    let timeout = Duration::from_millis(300);
    let (_folder, store, writer) = store_with(OpenOptions {
        timeout,
        ..OpenOptions::default()
    })
    .await;
    let worker = enrolled(&store).await;
    let busy = writer.begin().await.unwrap();
    let refused = at_once(&store, 3, move |store, _| async move {
        store.begin(first_message(worker)).await
    })
    .await;
    for answer in refused {
        assert_eq!(unavailable(answer), Unavailability::Timeout);
    }
    busy.rollback().await.unwrap();
    running(store.begin(first_message(worker)).await.unwrap());
}

#[tokio::test]
async fn a_row_that_cannot_be_is_named() {
    let (_folder, store, writer) = store().await;
    let worker = enrolled(&store).await;
    let begin = first_message(worker);
    let spoiled = running(store.begin(begin.clone()).await.unwrap());
    let sound = running(store.begin(first_message(worker)).await.unwrap());
    writer
        .execute_unprepared(&format!(
            "UPDATE messages SET role = 'nobody' WHERE text = '{}'",
            begin.text
        ))
        .await
        .unwrap();
    writer
        .execute_unprepared("UPDATE messages SET role = 'user' WHERE rowid = 2")
        .await
        .unwrap();
    let error = store
        .logged_turns(&ann(), spoiled.turn.conversation, TurnPage::ALL)
        .await
        .unwrap_err();
    let StoreError::Internal(cause) = error else {
        panic!("{error:?}")
    };
    assert_eq!(
        cause.to_string(),
        format!(
            "messages.role of row {}: unknown code \"nobody\"",
            begin.message
        )
    );
    assert_eq!(
        store
            .logged_turns(&ann(), sound.turn.conversation, TurnPage::ALL)
            .await
            .unwrap()
            .len(),
        1
    );
}

/// Ends the writer's task in the middle.
struct Panic;

#[async_trait]
impl Command for Panic {
    type Answer = ();

    async fn run(&self, _db: &dyn Connection) -> Result<(), CommandError> {
        panic!("as the test wants it")
    }
}

#[tokio::test]
async fn a_store_without_its_writer_does_not_answer() {
    let (_folder, store, _writer) = store().await;
    let worker = enrolled(&store).await;
    store.ping().await.unwrap();
    assert_eq!(
        unavailable(store.write(Panic).await),
        Unavailability::Unreachable
    );
    assert_eq!(unavailable(store.ping().await), Unavailability::Unreachable);
    assert_eq!(
        unavailable(store.begin(first_message(worker)).await),
        Unavailability::Unreachable
    );
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let (_folder, store, _writer) = store().await;
    let worker = enrolled(&store).await;
    store.close().await;
    assert_eq!(
        unavailable(store.begin(first_message(worker)).await),
        Unavailability::Unreachable
    );
    assert_eq!(unavailable(store.ping().await), Unavailability::Unreachable);
    store.close().await;
}
