//! Tests that need PostgreSQL: several processes on one database, and a network before it.

use std::sync::Arc;
use std::time::Duration;

use chat_domain::testing::prelude::*;
use chat_domain::{
    BeginOutcome, BeginTurn, Claim, HeldTurn, IdempotencyKey, Position, Refusal, StoreError,
    Target, Timestamp, Title, TurnId, TurnOutcome, TurnPage, Unavailability, Usage, WorkerId,
};
use chat_store_seaorm::{OpenError, OpenOptions, SeaOrmStore};
use chat_test_postgres::{Database, database};
use chat_test_support::proxy::{Cut, Lost, Proxy, Trap};
use chat_test_support::wait::until;
use futures_util::future::join_all;
use uuid::Uuid;

use crate::opening::{ann, answer, begin, first_message};

async fn open(url: &str) -> Arc<SeaOrmStore> {
    Arc::new(
        SeaOrmStore::open(url, OpenOptions::default())
            .await
            .unwrap(),
    )
}

/// Time limits that a test can wait for.
fn quick() -> OpenOptions {
    OpenOptions {
        timeout: Duration::from_secs(4),
        connect_timeout: Duration::from_millis(500),
        acquire_timeout: Duration::from_secs(2),
        statement_timeout: Duration::from_millis(500),
        ..OpenOptions::default()
    }
}

/// A store behind a network that does what the test wants.
async fn behind(proxy: &Proxy, database: &Database) -> SeaOrmStore {
    SeaOrmStore::open(&proxy.through(server(database), database.url()), quick())
        .await
        .unwrap()
}

fn server(database: &Database) -> std::net::SocketAddr {
    let authority = database
        .url()
        .split('@')
        .nth(1)
        .unwrap()
        .split('/')
        .next()
        .unwrap();
    authority.replace("localhost", "127.0.0.1").parse().unwrap()
}

fn fresh(like: &BeginTurn) -> BeginTurn {
    BeginTurn {
        idempotency: None,
        ..first_message(like.worker)
    }
}

async fn end(store: &SeaOrmStore, held: &HeldTurn) -> Result<(), StoreError> {
    store
        .end_turn(
            &held.lease,
            answer(),
            TurnOutcome::Completed,
            Usage::default(),
            Timestamp(8),
        )
        .await
        .map(drop)
}

fn unavailable<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> Unavailability {
    match answer {
        Err(StoreError::Unavailable(kind, _)) => kind,
        other => panic!("not unavailable: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_that_open_an_empty_database_at_once_migrate_it_once() {
    let database = database();
    let opened =
        join_all((0..6).map(|_| SeaOrmStore::open(database.url(), OpenOptions::default()))).await;
    for store in opened {
        store.unwrap().ping().await.unwrap();
    }
    assert_eq!(
        database
            .query("SELECT COUNT(*) FROM seaql_migrations")
            .unwrap()
            .trim(),
        chat_migrations::names().len().to_string()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_at_the_same_time_in_two_processes_gives_one_turn() {
    let database = database();
    let stores = [open(database.url()).await, open(database.url()).await];
    let worker = WorkerId(Uuid::now_v7());
    stores[0]
        .register(worker, Duration::from_secs(3600))
        .await
        .unwrap();
    for round in 0..20 {
        let key = Some(IdempotencyKey {
            key: format!("key {round}"),
            fingerprint: [round; 32],
        });
        let calls = (0..12).map(|number| {
            let store = Arc::clone(&stores[number % 2]);
            let begin = BeginTurn {
                idempotency: key.clone(),
                ..first_message(worker)
            };
            tokio::spawn(async move { store.begin(begin).await.unwrap() })
        });
        let mut turns = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            turns.push(match call.await.unwrap() {
                BeginOutcome::Started(held) => held.turn.id,
                BeginOutcome::Duplicate(turn) | BeginOutcome::Stored(turn) => turn.id,
            });
        }
        turns.dedup();
        assert_eq!(turns.len(), 1, "{turns:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_claim_each_turn_once_and_the_dead_one_learns_of_it() {
    let database = database();
    let stores = [open(database.url()).await, open(database.url()).await];
    let dead = WorkerId(Uuid::now_v7());
    let mut left = Vec::new();
    for _ in 0..40 {
        left.push(begin(&stores[0], fresh(&first_message(dead))).await);
    }
    database.query("UPDATE workers SET expires_at = 0").unwrap();
    let workers = [WorkerId(Uuid::now_v7()), WorkerId(Uuid::now_v7())];
    for (store, worker) in stores.iter().zip(workers) {
        store
            .register(worker, Duration::from_secs(3600))
            .await
            .unwrap();
    }
    let mut claimed = Vec::new();
    while claimed.len() < left.len() {
        let calls = (0..4).map(|number| {
            let claim = Claim {
                worker: workers[number % 2],
                limit: 7,
                holding: None,
            };
            let store = Arc::clone(&stores[number % 2]);
            tokio::spawn(async move { store.claim(claim).await.unwrap() })
        });
        for call in calls.collect::<Vec<_>>() {
            claimed.extend(
                call.await
                    .unwrap()
                    .into_iter()
                    .map(|held| (held.turn.id, held.lease.epoch, held.attempt)),
            );
        }
    }
    let mut expected: Vec<_> = left.iter().map(|held| (held.turn.id, 2, 2)).collect();
    expected.sort_by_key(|(turn, ..)| *turn);
    claimed.sort_by_key(|(turn, ..)| *turn);
    assert_eq!(claimed, expected);
    assert!(matches!(
        stores[0]
            .beat(dead, Duration::from_secs(10), Vec::new())
            .await,
        Err(StoreError::Refused(Refusal::LeaseLost))
    ));
    assert!(matches!(
        end(&stores[0], &left[0]).await,
        Err(StoreError::Refused(Refusal::LeaseLost))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_renews_its_lease_in_the_meantime_keeps_its_turns() {
    let database = database();
    let store = open(database.url()).await;
    let worker = WorkerId(Uuid::now_v7());
    let held = begin(&store, first_message(worker)).await;
    let other = WorkerId(Uuid::now_v7());
    store
        .register(other, Duration::from_secs(3600))
        .await
        .unwrap();
    for _ in 0..20 {
        database
            .query("UPDATE workers SET expires_at = 0 WHERE id <> gen_random_uuid()")
            .unwrap();
        let claim = Claim {
            worker: other,
            limit: 7,
            holding: None,
        };
        let (alive, claimed) = tokio::join!(
            store.beat(worker, Duration::from_secs(60), Vec::new()),
            store.claim(claim)
        );
        match (alive, claimed.unwrap().as_slice()) {
            (Ok(_), []) => {}
            // It was too late; then it knows.
            (Err(StoreError::Refused(Refusal::LeaseLost)), [claimed]) => {
                assert_eq!(claimed.turn.id, held.turn.id);
                return;
            }
            (alive, claimed) => panic!("{alive:?}, and of its turns {claimed:?}"),
        }
    }
    end(&store, &held).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_found_out() {
    let database = database();
    let proxy = Proxy::start(server(&database));
    let store = behind(&proxy, &database).await;
    let worker = WorkerId(Uuid::now_v7());
    store
        .register(worker, Duration::from_secs(3600))
        .await
        .unwrap();
    for lost in [Lost::Answer, Lost::Message] {
        let lose = || proxy.set_trap(Trap::commit(lost));
        let request = fresh(&first_message(worker));
        lose();
        let BeginOutcome::Started(held) = store.begin(request.clone()).await.unwrap() else {
            panic!("it does not run")
        };
        assert_eq!((held.turn.id, held.lease.epoch), (request.turn, 1));
        let [said] = <[_; 1]>::try_from(answer()).unwrap();
        lose();
        assert_eq!(
            store
                .append_items(&held.lease, vec![said])
                .await
                .unwrap()
                .len(),
            1
        );
        lose();
        end(&store, &held).await.unwrap();
        let conversation = held.turn.conversation;
        lose();
        store
            .rename(
                &ann(),
                conversation,
                &Title::new("New").unwrap(),
                Timestamp(9),
            )
            .await
            .unwrap();
        let logs = store
            .logged_turns(&ann(), conversation, TurnPage::ALL)
            .await
            .unwrap();
        assert_eq!(logs.len(), 1);
        let positions: Vec<_> = logs[0].items.iter().map(|item| item.position.0).collect();
        assert_eq!(positions, [1, 2, 3]);
        lose();
        store.delete(&ann(), conversation).await.unwrap();
        assert!(matches!(
            store.delete(&ann(), conversation).await,
            Err(StoreError::Refused(Refusal::NotFound))
        ));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_answer_is_lost_is_offered_again() {
    let database = database();
    let proxy = Proxy::start(server(&database));
    let store = behind(&proxy, &database).await;
    let held = begin(&store, first_message(WorkerId(Uuid::now_v7()))).await;
    store
        .deregister(held.lease.worker, vec![held.turn.id])
        .await
        .unwrap();
    let worker = WorkerId(Uuid::now_v7());
    store
        .register(worker, Duration::from_secs(3600))
        .await
        .unwrap();
    proxy.set_trap(Trap::commit(Lost::Answer));
    assert_eq!(
        unavailable(
            store
                .claim(Claim {
                    worker,
                    limit: 9,
                    holding: None
                })
                .await
        ),
        Unavailability::Unreachable
    );
    assert_eq!(
        store
            .claim(Claim {
                worker,
                limit: 9,
                holding: None
            })
            .await
            .unwrap(),
        []
    );
    let again = store
        .claim(Claim {
            worker,
            limit: 9,
            holding: Some(Vec::new()),
        })
        .await
        .unwrap();
    assert_eq!(
        again.iter().map(|again| again.turn.id).collect::<Vec<_>>(),
        [held.turn.id]
    );
}

/// sqlx 0.9 gives a connection whose `BEGIN` was dropped back to its pool inside an open
/// transaction: writes that the next user saw as stored are then rolled back.
#[tokio::test(flavor = "multi_thread")]
async fn callers_that_go_away_at_any_moment_undo_nothing_of_others() {
    let database = database();
    let store = Arc::new(
        SeaOrmStore::open(
            database.url(),
            OpenOptions {
                connections: 4,
                ..OpenOptions::default()
            },
        )
        .await
        .unwrap(),
    );
    let worker = WorkerId(Uuid::now_v7());
    store
        .register(worker, Duration::from_secs(3600))
        .await
        .unwrap();
    let callers = (0..8_u64).map(|caller| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut stored = Vec::new();
            for call in 0..60_u64 {
                let request = fresh(&first_message(worker));
                let turn = request.turn;
                let patience = Duration::from_micros(if call % 3 == 0 {
                    (caller * 700 + call * 97) % 6_000
                } else {
                    30_000_000
                });
                if let Ok(begun) = tokio::time::timeout(patience, store.begin(request)).await {
                    begun.unwrap();
                    stored.push(turn);
                }
                // Readers come and go too.
                let _ =
                    tokio::time::timeout(patience / 4, store.view(&ann(), turn, Position::START))
                        .await;
            }
            stored
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        for turn in caller.await.unwrap() {
            store.view(&ann(), turn, Position::START).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_reported_in_time_until_it_is_over() {
    let database = database();
    let proxy = Proxy::start(server(&database));
    let store = behind(&proxy, &database).await;
    let worker = WorkerId(Uuid::now_v7());
    let held = begin(&store, first_message(worker)).await;
    let turn: TurnId = held.turn.id;
    // The connections break, and no new ones come about.
    proxy.refuse();
    proxy.cut(Cut::Reset);
    assert_eq!(
        unavailable(store.begin(fresh(&first_message(worker))).await),
        Unavailability::Unreachable
    );
    assert_eq!(
        unavailable(store.view(&ann(), turn, Position::START).await),
        Unavailability::Unreachable
    );
    assert_eq!(unavailable(store.ping().await), Unavailability::Unreachable);
    proxy.forward();
    store.view(&ann(), turn, Position::START).await.unwrap();
    // They break, and new ones come about at once: nobody notices.
    proxy.cut(Cut::Reset);
    let BeginOutcome::Started(_) = store.begin(fresh(&first_message(worker))).await.unwrap() else {
        panic!("it does not run")
    };
    proxy.cut(Cut::Close);
    store.view(&ann(), turn, Position::START).await.unwrap();
    // Nothing is heard any more.
    proxy.silence();
    unavailable(store.begin(fresh(&first_message(worker))).await);
    unavailable(store.view(&ann(), turn, Position::START).await);
    proxy.forward();
    end(&store, &held).await.unwrap();
    store.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_have_locked_is_not_waited_for_for_ever() {
    let database = database();
    let store = SeaOrmStore::open(database.url(), quick()).await.unwrap();
    let worker = WorkerId(Uuid::now_v7());
    let held = begin(&store, first_message(worker)).await;
    let mut other = <sqlx::PgConnection as sqlx::Connection>::connect(database.url())
        .await
        .unwrap();
    let mut lock = sqlx::Connection::begin(&mut other).await.unwrap();
    sqlx::query("SELECT id FROM conversations FOR UPDATE")
        .execute(&mut *lock)
        .await
        .unwrap();
    assert_eq!(
        unavailable(end(&store, &held).await),
        Unavailability::Timeout
    );
    // Another conversation is not touched by it, and neither is a heartbeat.
    let BeginOutcome::Started(_) = store.begin(fresh(&first_message(worker))).await.unwrap() else {
        panic!("it does not run")
    };
    store
        .beat(worker, Duration::from_secs(60), Vec::new())
        .await
        .unwrap();
    lock.rollback().await.unwrap();
    end(&store, &held).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_can_only_be_read_is_read() {
    let database = database();
    let store = open(database.url()).await;
    let held = begin(&store, first_message(WorkerId(Uuid::now_v7()))).await;
    let read_only = |on| {
        database
            .query(&format!(
                "ALTER DATABASE {} SET default_transaction_read_only = {on}",
                name(&database)
            ))
            .unwrap()
    };
    store.close().await;
    read_only("on");
    let store = open(database.url()).await;
    assert_eq!(
        unavailable(end(&store, &held).await),
        Unavailability::ReadOnly
    );
    assert_eq!(
        store
            .logged_turns(&ann(), held.turn.conversation, TurnPage::ALL)
            .await
            .unwrap()
            .len(),
        1
    );
}

fn name(database: &Database) -> String {
    format!(
        "\"{}\"",
        database
            .url()
            .rsplit('/')
            .next()
            .unwrap()
            .split('?')
            .next()
            .unwrap()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn text_in_another_encoding_is_refused() {
    let other = database();
    let ascii = format!("{}_ascii", other.url().rsplit('/').next().unwrap());
    other.query(&format!("CREATE DATABASE \"{ascii}\" ENCODING SQL_ASCII LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")).unwrap();
    let url = format!("{}/{ascii}", other.url().rsplit_once('/').unwrap().0);
    let refused = SeaOrmStore::open(&url, OpenOptions::default()).await;
    other
        .query(&format!("DROP DATABASE \"{ascii}\" WITH (FORCE)"))
        .unwrap();
    assert!(
        matches!(&refused, Err(OpenError::Encoding(found)) if found == "SQL_ASCII"),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_server_is_reported_at_once_and_without_the_password() {
    let proxy = Proxy::start("127.0.0.1:1".parse().unwrap());
    proxy.refuse();
    let url = format!("postgres://ann:hunter2@{}/chat", proxy.address());
    let error = SeaOrmStore::open(&url, OpenOptions::default())
        .await
        .unwrap_err();
    let mut said = format!("{error} {error:?}");
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        said.push_str(&cause.to_string());
        source = cause.source();
    }
    assert!(matches!(error, OpenError::Database(_)), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    let wrong = SeaOrmStore::open(
        "postgres://ann:hunter2@localhost:notaport/chat",
        OpenOptions::default(),
    )
    .await
    .unwrap_err();
    assert!(
        matches!(wrong, OpenError::Url { .. }) && !format!("{wrong} {wrong:?}").contains("hunter2"),
        "{wrong:?}"
    );
}

/// Each of a conversation's turns begins with the conversation locked, whichever process begins it.
#[tokio::test(flavor = "multi_thread")]
async fn messages_to_one_conversation_from_two_processes_keep_order() {
    let database = database();
    let stores = [open(database.url()).await, open(database.url()).await];
    let worker = WorkerId(Uuid::now_v7());
    let first = begin(&stores[0], first_message(worker)).await;
    let conversation = first.turn.conversation;
    let calls = (0..100).map(|number| {
        let store = Arc::clone(&stores[number % 2]);
        let request = BeginTurn {
            target: Target::Existing(conversation),
            text: number.to_string(),
            ..fresh(&first_message(worker))
        };
        tokio::spawn(async move { store.begin(request).await.unwrap() })
    });
    for call in calls.collect::<Vec<_>>() {
        assert!(matches!(call.await.unwrap(), BeginOutcome::Stored(_)));
    }
    let mut current = Some(first);
    let mut ended = 0;
    while let Some(held) = current {
        let store = &stores[ended % 2];
        current = store
            .end_turn(
                &held.lease,
                answer(),
                TurnOutcome::Completed,
                Usage::default(),
                Timestamp(8),
            )
            .await
            .unwrap()
            .next;
        ended += 1;
    }
    assert_eq!(ended, 101);
    let logs = stores[1]
        .logged_turns(&ann(), conversation, TurnPage::ALL)
        .await
        .unwrap();
    let positions: Vec<_> = logs
        .iter()
        .flat_map(|log| log.items.iter().map(|item| item.position.0))
        .collect();
    assert_eq!(positions, (1..=202).collect::<Vec<_>>());
}

/// PostgreSQL checks a row again that was changed while a query waited for its lock; some queries
/// lose it then.
#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_that_changes_while_a_batch_waits_for_it_is_still_there() {
    let database = database();
    // One lane: what comes while it is busy is one batch.
    let store = Arc::new(
        SeaOrmStore::open(
            database.url(),
            OpenOptions {
                connections: 3,
                ..OpenOptions::default()
            },
        )
        .await
        .unwrap(),
    );
    let worker = WorkerId(Uuid::now_v7());
    let (mut held, mut locks) = (Vec::new(), Vec::new());
    for _ in 0..40 {
        held.push(begin(&store, fresh(&first_message(worker))).await);
    }
    let (busy, changed, ending) = (held[0].clone(), held[1].turn.conversation, held[2].clone());
    for conversation in [busy.turn.conversation, changed] {
        let mut other = <sqlx::PgConnection as sqlx::Connection>::connect(database.url())
            .await
            .unwrap();
        sqlx::query("BEGIN").execute(&mut other).await.unwrap();
        let change =
            sqlx::query("UPDATE conversations SET updated_at = updated_at + 1 WHERE id = $1")
                .bind(conversation.0);
        change.execute(&mut other).await.unwrap();
        locks.push(other);
    }
    let first = tokio::spawn({
        let store = Arc::clone(&store);
        async move { end(&store, &busy).await }
    });
    waits_for_a_lock(&database).await;
    let begins = tokio::spawn({
        let (store, target) = (Arc::clone(&store), Target::Existing(changed));
        async move {
            store
                .begin(BeginTurn {
                    target,
                    ..fresh(&first_message(worker))
                })
                .await
        }
    });
    let ends = tokio::spawn({
        let store = Arc::clone(&store);
        async move { end(&store, &ending).await }
    });
    sqlx::query("COMMIT").execute(&mut locks[0]).await.unwrap();
    first.await.unwrap().unwrap();
    waits_for_a_lock(&database).await;
    sqlx::query("COMMIT").execute(&mut locks[1]).await.unwrap();
    assert!(matches!(begins.await.unwrap(), Ok(BeginOutcome::Stored(_))));
    ends.await.unwrap().unwrap();
}

/// Returns when a transaction of a store waits for another's lock.
async fn waits_for_a_lock(database: &Database) {
    let waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until("a transaction that waits for a lock", async || {
        database.query(waiting).unwrap().trim() != "0"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_takes_no_writes_is_not_ready() {
    let database = database();
    let store = open(database.url()).await;
    store.ping().await.unwrap();
    let name = database.query("SELECT current_database()").unwrap();
    database
        .query(&format!(
            "ALTER DATABASE \"{}\" SET default_transaction_read_only = on",
            name.trim()
        ))
        .unwrap();
    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    database.query(others).unwrap();
    assert_eq!(unavailable(store.ping().await), Unavailability::ReadOnly);
}
