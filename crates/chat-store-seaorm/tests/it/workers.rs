//! Rows of workers that died.

use std::time::Duration;

use chat_domain::testing::prelude::*;
use chat_domain::{Claim, Refusal, StoreError, WorkerId};
use chat_store_seaorm::{OpenOptions, SeaOrmStore};
use chat_test_postgres::database;
use sea_orm::{ConnectionTrait, Database};
use uuid::Uuid;

use crate::opening::{begin, first_message};

const LEASE: Duration = Duration::from_secs(3_600);

async fn registered(store: &SeaOrmStore) -> WorkerId {
    let worker = WorkerId(Uuid::now_v7());
    store.register(worker, LEASE).await.unwrap();
    worker
}

/// `age` sets the time at which all leases ended, in microseconds before now.
async fn dead_idle_workers_are_forgotten(store: &SeaOrmStore, age: impl AsyncFn(u64)) {
    let idle = registered(store).await;
    let held = begin(store, first_message(WorkerId(Uuid::now_v7()))).await;
    let is_known = async |worker| {
        !matches!(
            store.beat(worker, Duration::ZERO, Vec::new()).await,
            Err(StoreError::Refused(Refusal::LeaseLost))
        )
    };

    // Not long enough.
    age(200_000_000).await;
    registered(store).await;
    assert!(is_known(idle).await);

    age(400_000_000).await;
    let living = registered(store).await;
    assert!(!is_known(idle).await);
    // One that holds a turn is forgotten when somebody takes the turn.
    let claimed = store
        .claim(Claim {
            worker: living,
            limit: 10,
            holding: None,
        })
        .await
        .unwrap();
    assert_eq!(
        claimed
            .iter()
            .map(|claimed| claimed.turn.id)
            .collect::<Vec<_>>(),
        [held.turn.id]
    );
    assert!(!is_known(held.lease.worker).await);
    assert!(is_known(living).await);
}

#[tokio::test]
async fn dead_idle_workers_are_forgotten_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("chat.db").display());
    let store = SeaOrmStore::open(&url, OpenOptions::default())
        .await
        .unwrap();
    let other = Database::connect(&url).await.unwrap();
    let age = async |age: u64| {
        let sql = format!(
            "UPDATE workers SET expires_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER) - {age}"
        );
        other.execute_unprepared(&sql).await.unwrap();
    };
    dead_idle_workers_are_forgotten(&store, age).await;
}

#[tokio::test]
async fn dead_idle_workers_are_forgotten_on_postgres() {
    let database = database();
    let store = SeaOrmStore::open(database.url(), OpenOptions::default())
        .await
        .unwrap();
    let age = async |age: u64| {
        let now = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)";
        database
            .query(&format!("UPDATE workers SET expires_at = {now} - {age}"))
            .unwrap();
    };
    dead_idle_workers_are_forgotten(&store, age).await;
}
