//! Rows that cannot be read: their turns end as failed, their queues continue, and nobody else is
//! kept from anything.

use std::time::Duration;

use chat_domain::testing::prelude::*;
use chat_domain::{
    BeginOutcome, BeginTurn, Claim, ConversationId, FailureKind, HeldTurn, MessageId, StoreError,
    Target, Timestamp, Turn, TurnFailure, TurnId, TurnOutcome, Usage, WorkerId,
};
use chat_store_seaorm::{OpenOptions, SeaOrmStore};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection};
use uuid::Uuid;

use crate::opening::{ann, answer, first_message};

const LEASE: Duration = Duration::from_secs(3600);

/// A store, and another connection to its database.
struct World {
    store: SeaOrmStore,
    connection: DatabaseConnection,
    _guard: Box<dyn std::any::Any>,
}

async fn sqlite() -> World {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("chat.db").display());
    World::open(&url, Box::new(folder)).await
}

async fn postgres() -> World {
    let database = chat_test_postgres::database();
    let url = database.url().to_owned();
    World::open(&url, Box::new(database)).await
}

impl World {
    async fn open(url: &str, guard: Box<dyn std::any::Any>) -> Self {
        let store = SeaOrmStore::open(url, OpenOptions::default())
            .await
            .unwrap();
        Self {
            store,
            connection: Database::connect(url).await.unwrap(),
            _guard: guard,
        }
    }

    async fn run(&self, sql: &str) {
        assert_eq!(
            self.connection
                .execute_unprepared(sql)
                .await
                .unwrap()
                .rows_affected(),
            1,
            "{sql}"
        );
    }

    async fn worker(&self, lease: Duration) -> WorkerId {
        let worker = WorkerId(Uuid::now_v7());
        self.store.register(worker, lease).await.unwrap();
        worker
    }

    async fn begin(&self, worker: WorkerId) -> HeldTurn {
        let begin = BeginTurn {
            idempotency: None,
            ..first_message(worker)
        };
        match self.store.begin(begin).await.unwrap() {
            BeginOutcome::Started(held) => held,
            other => panic!("not running: {other:?}"),
        }
    }

    async fn queue(&self, conversation: ConversationId, worker: WorkerId) -> (Turn, MessageId) {
        let begin = BeginTurn {
            idempotency: None,
            target: Target::Existing(conversation),
            ..first_message(worker)
        };
        match self.store.begin(begin.clone()).await.unwrap() {
            BeginOutcome::Stored(turn) => (turn, begin.message),
            other => panic!("not queued: {other:?}"),
        }
    }

    async fn claim(&self, worker: WorkerId) -> Vec<HeldTurn> {
        self.store
            .claim(Claim {
                worker,
                limit: 100,
                holding: None,
            })
            .await
            .unwrap()
    }

    async fn end(&self, held: &HeldTurn) -> Result<Option<HeldTurn>, StoreError> {
        let ended = self
            .store
            .end_turn(
                &held.lease,
                answer(),
                TurnOutcome::Completed,
                Usage::default(),
                Timestamp(8),
            )
            .await;
        ended.map(|ended| ended.next)
    }

    /// How a turn ended, by its row alone.
    async fn failure_of(&self, turn: TurnId) -> Option<String> {
        let backend = self.connection.get_database_backend();
        let literal = literal(backend, turn.0);
        let query =
            format!("SELECT failure_kind FROM turns WHERE ended_at IS NOT NULL AND id = {literal}");
        let row = self
            .connection
            .query_one_raw(sea_orm::Statement::from_string(backend, query))
            .await
            .unwrap();
        row.and_then(|row| row.try_get_by::<Option<String>, _>(0).unwrap())
    }

    fn id(&self, id: Uuid) -> String {
        literal(self.connection.get_database_backend(), id)
    }
}

fn literal(backend: sea_orm::DbBackend, id: Uuid) -> String {
    if backend == sea_orm::DbBackend::Sqlite {
        format!("x'{}'", id.simple())
    } else {
        format!("'{id}'")
    }
}

/// Damages that each make it impossible to load the running turn.
const DAMAGES: &[&str] = &[
    "UPDATE messages SET role = 'nobody' WHERE turn_id = ",
    "UPDATE turns SET owner = '' WHERE id = ",
    "UPDATE turns SET ordinal = -1 WHERE id = ",
];

async fn one_damaged_turn_keeps_no_worker_from_the_others(world: World) {
    let living = world.worker(LEASE).await;
    for damage in DAMAGES {
        let dead = world.worker(Duration::ZERO).await;
        let before = world.begin(dead).await;
        let damaged = world.begin(dead).await;
        let (queued, _) = world.queue(damaged.turn.conversation, dead).await;
        let behind = world.begin(dead).await;
        world
            .run(&format!("{damage}{}", world.id(damaged.turn.id.0)))
            .await;
        let mut claimed: Vec<_> = world.claim(living).await;
        claimed.sort_by_key(|held| held.turn.id);
        assert_eq!(
            claimed.iter().map(|held| held.turn.id).collect::<Vec<_>>(),
            [before.turn.id, behind.turn.id],
            "{damage}"
        );
        assert_eq!(
            world.failure_of(damaged.turn.id).await.as_deref(),
            Some("internal"),
            "{damage}"
        );
        let next = world.claim(living).await;
        assert_eq!(
            next.iter()
                .map(|held| (held.turn.id, held.attempt))
                .collect::<Vec<_>>(),
            [(queued.id, 1)],
            "{damage}"
        );
        for held in claimed.iter().chain(&next) {
            world.end(held).await.unwrap();
        }
        assert_eq!(world.claim(living).await, []);
    }
}

async fn a_turn_whose_successor_is_damaged_completes(world: World) {
    let worker = world.worker(LEASE).await;
    let first = world.begin(worker).await;
    let conversation = first.turn.conversation;
    let (damaged, message) = world.queue(conversation, worker).await;
    let (third, _) = world.queue(conversation, worker).await;
    world
        .run(&format!(
            "UPDATE messages SET role = 'nobody' WHERE id = {}",
            world.id(message.0)
        ))
        .await;
    assert_eq!(world.end(&first).await.unwrap(), None);
    assert_eq!(
        world
            .store
            .view(&ann(), first.turn.id, chat_domain::Position::START)
            .await
            .unwrap()
            .items
            .len(),
        2
    );
    assert_eq!(world.claim(worker).await, []);
    assert_eq!(
        world.failure_of(damaged.id).await.as_deref(),
        Some("internal")
    );
    let next = world.claim(worker).await;
    assert_eq!(
        next.iter().map(|held| held.turn.id).collect::<Vec<_>>(),
        [third.id]
    );
    assert_eq!(world.end(&next[0]).await.unwrap(), None);
    let (after, _) = (
        world
            .store
            .begin(BeginTurn {
                target: Target::Existing(conversation),
                ..first_message(worker)
            })
            .await
            .unwrap(),
        (),
    );
    assert!(matches!(after, BeginOutcome::Started(_)), "{after:?}");
}

async fn a_forced_end_needs_no_conversation(world: World) {
    let worker = world.worker(LEASE).await;
    let held = world.begin(worker).await;
    world.queue(held.turn.conversation, worker).await;
    world
        .run(&format!(
            "UPDATE conversations SET last_position = -5, owner = '' WHERE id = {}",
            world.id(held.turn.conversation.0)
        ))
        .await;
    let refused = world.end(&held).await;
    assert!(
        matches!(&refused, Err(error) if !error.is_transient()),
        "{refused:?}"
    );
    let failure = TurnFailure {
        kind: FailureKind::Internal,
        message: "It cannot be stored.".to_owned(),
    };
    world
        .store
        .force_end(&held.lease, failure, Timestamp(9))
        .await
        .unwrap();
    assert_eq!(
        world.failure_of(held.turn.id).await.as_deref(),
        Some("internal")
    );
    // Another conversation of the same worker continues.
    let other = world.begin(worker).await;
    world.end(&other).await.unwrap();
}

macro_rules! on_both {
    ($($case:ident)+) => {$(
        mod $case {
            #[tokio::test]
            async fn on_sqlite() {
                super::$case(super::sqlite().await).await;
            }

            #[tokio::test]
            async fn on_postgres() {
                super::$case(super::postgres().await).await;
            }
        }
    )+};
}

on_both! { one_damaged_turn_keeps_no_worker_from_the_others a_turn_whose_successor_is_damaged_completes a_forced_end_needs_no_conversation }
