//! Opening a database, leaving it, and coming back.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chat_domain::testing::prelude::*;
use chat_domain::{
    AgentData, BeginOutcome, BeginTurn, BusyPolicy, Claim, ConversationId, FinishReason, HeldTurn,
    IdempotencyKey, ItemBody, Message, MessageId, NewItem, Position, RawJson, Refusal, StoreError,
    Target, Timestamp, Title, ToolCall, ToolCallId, ToolExecutor, ToolOutcome, ToolResult, TurnId,
    TurnOutcome, TurnPage, Unavailability, UnknownCause, Usage, UserId, WorkerId,
};
use chat_store_seaorm::{OpenError, OpenOptions, SeaOrmStore};
use sea_orm::{ConnectionTrait, Database};
use uuid::Uuid;

fn url(file: &Path) -> String {
    format!("sqlite://{}", file.display())
}

async fn open(file: &Path) -> Result<SeaOrmStore, OpenError> {
    SeaOrmStore::open(&url(file), OpenOptions::default()).await
}

pub fn ann() -> UserId {
    UserId::new("ann").unwrap()
}

pub fn first_message(worker: WorkerId) -> BeginTurn {
    BeginTurn {
        owner: ann(),
        target: Target::New(
            ConversationId(Uuid::now_v7()),
            Title::new("Groceries").unwrap(),
        ),
        turn: TurnId(Uuid::now_v7()),
        message: MessageId(Uuid::now_v7()),
        text: "Add milk".to_owned(),
        at: Timestamp(1_770_069_600_123_456),
        worker,
        busy: BusyPolicy::Enqueue,
        queue_limit: 256,
        idempotency: Some(IdempotencyKey {
            key: "k".to_owned(),
            fingerprint: [1; 32],
        }),
        retry_of: None,
    }
}

pub async fn begin(store: &SeaOrmStore, begin: BeginTurn) -> HeldTurn {
    store
        .register(begin.worker, Duration::from_secs(3600))
        .await
        .unwrap();
    match store.begin(begin).await.unwrap() {
        BeginOutcome::Started(held) => held,
        other => panic!("not running: {other:?}"),
    }
}

pub fn answer() -> Vec<NewItem> {
    let message = Message::assistant(MessageId(Uuid::now_v7()), "Added.");
    vec![NewItem {
        at: Timestamp(7),
        body: ItemBody::Message(message),
    }]
}

#[tokio::test]
async fn a_restart_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chat.db");
    let store = open(&file).await.unwrap();
    let request = first_message(WorkerId(Uuid::now_v7()));
    let held = begin(&store, request.clone()).await;
    store
        .end_turn(
            &held.lease,
            answer(),
            TurnOutcome::Completed,
            Usage::default(),
            Timestamp(8),
        )
        .await
        .unwrap();
    let conversation = held.turn.conversation;
    let before = (
        store
            .logged_turns(&ann(), conversation, TurnPage::ALL)
            .await
            .unwrap(),
        store.conversation(&ann(), conversation).await.unwrap(),
    );
    store.close().await;

    let store = open(&file).await.unwrap();
    let after = (
        store
            .logged_turns(&ann(), conversation, TurnPage::ALL)
            .await
            .unwrap(),
        store.conversation(&ann(), conversation).await.unwrap(),
    );
    assert_eq!(before, after);
    let again = BeginTurn {
        turn: TurnId(Uuid::now_v7()),
        message: MessageId(Uuid::now_v7()),
        ..request
    };
    assert!(
        matches!(store.begin(again).await.unwrap(), BeginOutcome::Duplicate(turn) if turn.id == held.turn.id)
    );
}

#[tokio::test]
async fn turns_that_a_process_left_running_can_be_claimed_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chat.db");
    let store = open(&file).await.unwrap();
    let left = begin(&store, first_message(WorkerId(Uuid::now_v7()))).await;
    store.close().await;

    let store = open(&file).await.unwrap();
    let worker = WorkerId(Uuid::now_v7());
    store
        .register(worker, Duration::from_secs(3600))
        .await
        .unwrap();
    let claimed = store
        .claim(Claim {
            worker,
            limit: 10,
            holding: None,
        })
        .await
        .unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!((claimed[0].turn.id, claimed[0].attempt), (left.turn.id, 2));
    assert_eq!(claimed[0].items, left.items);
    let late = store
        .end_turn(
            &left.lease,
            answer(),
            TurnOutcome::Completed,
            Usage::default(),
            Timestamp(8),
        )
        .await;
    assert!(matches!(late, Err(StoreError::Refused(Refusal::LeaseLost))));
}

#[tokio::test]
async fn a_second_server_on_the_same_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chat.db");
    let store = open(&file).await.unwrap();
    let by_another_name = folder.path().join("link.db");
    std::os::unix::fs::symlink(&file, &by_another_name).unwrap();
    let hard_link = folder.path().join("hard.db");
    std::fs::hard_link(&file, &hard_link).unwrap();
    for name in [&file, &by_another_name, &hard_link] {
        let error = open(name).await.unwrap_err();
        assert!(matches!(&error, OpenError::InUse { .. }), "{error}");
        assert!(
            error.to_string().ends_with("is in use by another server"),
            "{error}"
        );
    }
    store.close().await;
    open(&file).await.unwrap();
}

#[tokio::test]
async fn a_schema_that_is_not_up_to_date_is_refused_if_it_may_not_be_changed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chat.db");
    let address = url(&file);
    let as_it_is = || {
        SeaOrmStore::open(
            &address,
            OpenOptions {
                migrate: false,
                ..OpenOptions::default()
            },
        )
    };
    let error = as_it_is().await.unwrap_err();
    assert!(
        matches!(&error, OpenError::Pending(steps) if *steps == chat_migrations::names()),
        "{error}"
    );
    assert!(!file.exists());
    std::fs::write(&file, []).unwrap();
    assert!(matches!(
        as_it_is().await.unwrap_err(),
        OpenError::Pending(_)
    ));
    open(&file).await.unwrap().close().await;
    as_it_is().await.unwrap();
}

/// Undoes the newest steps of the schema.
const OLDER: &str = "ALTER TABLE turns DROP COLUMN attempt_started_at; ALTER TABLE turns DROP COLUMN spent_us; \
                     ALTER TABLE tool_calls DROP COLUMN unknown_cause; ALTER TABLE turns DROP COLUMN finish_reason; ALTER TABLE turns DROP COLUMN turns_left_out; \
                     ALTER TABLE messages DROP COLUMN finish_reason; ALTER TABLE messages DROP COLUMN turns_left_out; \
                     ALTER TABLE messages DROP COLUMN agent_data; ALTER TABLE tool_calls DROP COLUMN agent_data; \
                     DELETE FROM seaql_migrations WHERE version IN ('m20261129_000001_answers', 'm20261129_000002_attempts')";

#[tokio::test]
async fn a_database_of_the_version_before_is_brought_up_to_date_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chat.db");
    let store = open(&file).await.unwrap();
    let held = begin(&store, first_message(WorkerId(Uuid::now_v7()))).await;
    let message = Message::assistant(MessageId(Uuid::now_v7()), "");
    let (arguments, agent_data) = (
        RawJson::from_valid("{}"),
        Some(AgentData::new("{}").unwrap()),
    );
    let (id, executor) = (ToolCallId(Uuid::now_v7()), ToolExecutor::Server);
    let call = ToolCall {
        id,
        message: message.id,
        tool: "list".to_owned(),
        arguments,
        executor,
        agent_data,
    };
    let (outcome, started_at, took) = (
        ToolOutcome::Unknown(UnknownCause::Stopped),
        Timestamp(7),
        Duration::ZERO,
    );
    let result = ToolResult {
        call: id,
        outcome,
        started_at,
        took,
    };
    let step = [
        ItemBody::Message(message),
        ItemBody::ToolCall(call),
        ItemBody::ToolResult(result),
    ];
    let step = step.map(|body| NewItem {
        at: Timestamp(7),
        body,
    });
    store.append_items(&held.lease, step.into()).await.unwrap();
    let mut expected = store
        .logged_turns(&ann(), held.turn.conversation, TurnPage::ALL)
        .await
        .unwrap();
    for item in expected.iter_mut().flat_map(|log| &mut log.items) {
        match &mut item.body {
            ItemBody::Message(message) => message.finish = None,
            ItemBody::ToolCall(call) => call.agent_data = None,
            ItemBody::ToolResult(result) => {
                result.outcome = ToolOutcome::Unknown(UnknownCause::Interrupted)
            }
        }
    }
    store.close().await;
    let db = Database::connect(url(&file)).await.unwrap();
    db.execute_unprepared(OLDER).await.unwrap();
    db.close().await.unwrap();

    let as_it_is = SeaOrmStore::open(
        &url(&file),
        OpenOptions {
            migrate: false,
            ..OpenOptions::default()
        },
    )
    .await;
    assert!(
        matches!(as_it_is.unwrap_err(), OpenError::Pending(steps) if steps == ["m20261129_000001_answers", "m20261129_000002_attempts"])
    );
    let store = open(&file).await.unwrap();
    assert_eq!(
        store
            .logged_turns(&ann(), held.turn.conversation, TurnPage::ALL)
            .await
            .unwrap(),
        expected
    );
    let worker = WorkerId(Uuid::now_v7());
    store
        .register(worker, Duration::from_secs(3600))
        .await
        .unwrap();
    let claimed = store
        .claim(Claim {
            worker,
            limit: 10,
            holding: None,
        })
        .await
        .unwrap()
        .pop()
        .unwrap();
    assert_eq!(
        (&claimed.items, claimed.spent),
        (&expected[0].items, Duration::ZERO)
    );
    let ended = store
        .end_turn(
            &claimed.lease,
            answer(),
            TurnOutcome::Completed,
            Usage::default(),
            Timestamp(8),
        )
        .await
        .unwrap();
    assert_eq!(
        (ended.turn.finish, ended.turn.turns_left_out),
        (Some(FinishReason::Complete), 0)
    );
}

/// A newer server has added a column and a table; this one starts, writes and reads.
#[tokio::test]
async fn a_schema_to_which_a_newer_version_added_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chat.db");
    open(&file).await.unwrap().close().await;
    let db = Database::connect(url(&file)).await.unwrap();
    for statement in [
        "ALTER TABLE turns ADD COLUMN future TEXT NOT NULL DEFAULT 'none'",
        "CREATE TABLE futures (id BLOB PRIMARY KEY)",
        "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m99990101_000001_future', 0)",
    ] {
        db.execute_unprepared(statement).await.unwrap();
    }
    db.close().await.unwrap();
    let store = open(&file).await.unwrap();
    let held = begin(&store, first_message(WorkerId(Uuid::now_v7()))).await;
    let view = store.view(&held.owner, held.turn.id, Position::START).await;
    assert_eq!(view.unwrap().items, held.items);
    store.close().await;
}

#[tokio::test]
async fn a_schema_that_a_newer_version_broke_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chat.db");
    open(&file).await.unwrap().close().await;
    let db = Database::connect(url(&file)).await.unwrap();
    db.execute_unprepared(
        "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m99990101_000001_future_breaking', 0)",
    )
    .await
    .unwrap();
    db.close().await.unwrap();
    let error = open(&file).await.unwrap_err();
    assert!(
        matches!(&error, OpenError::Newer(steps) if steps == &["m99990101_000001_future_breaking"]),
        "{error}"
    );
}

#[tokio::test]
async fn a_missing_certificate_is_named() {
    for name in ["sslrootcert", "sslcert", "sslkey"] {
        let address = format!(
            "postgres://chat@127.0.0.1:1/chat?sslmode=verify-full&{name}=/no/such%20file.pem"
        );
        let error = SeaOrmStore::open(&address, OpenOptions::default())
            .await
            .unwrap_err();
        let OpenError::File { path, .. } = &error else {
            panic!("{name}: {error}")
        };
        assert_eq!(path, Path::new("/no/such file.pem"), "{name}");
    }
}

#[tokio::test]
async fn addresses_that_name_no_file_are_refused() {
    for address in [
        "",
        "chat.db",
        "sqlite::memory:",
        "sqlite://",
        "sqlite://a.db?mode=memory",
    ] {
        let opened = SeaOrmStore::open(address, OpenOptions::default()).await;
        assert!(
            matches!(opened, Err(OpenError::Url { .. })),
            "{address}: {opened:?}"
        );
    }
}

#[tokio::test]
async fn the_folder_is_made_and_both_spellings_mean_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data/deep/chat.db");
    let store = open(&file).await.unwrap();
    assert!(file.exists());
    let other_spelling = format!("sqlite:{}?mode=rwc", file.display());
    assert!(matches!(
        SeaOrmStore::open(&other_spelling, OpenOptions::default()).await,
        Err(OpenError::InUse { .. })
    ));
    store.close().await;
    SeaOrmStore::open(&other_spelling, OpenOptions::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chat.db");
    std::fs::write(
        &file,
        "this is no database, but a text that is long enough to be taken for the header of one",
    )
    .unwrap();
    assert!(matches!(open(&file).await, Err(OpenError::File { .. })));
    assert!(matches!(
        open(folder.path()).await,
        Err(OpenError::File { .. })
    ));
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "a refused start leaves something behind"
    );
    std::fs::write(folder.path().join("plain"), []).unwrap();
    assert!(matches!(
        open(&folder.path().join("plain/chat.db")).await,
        Err(OpenError::File { .. })
    ));
}

#[tokio::test]
async fn a_new_database_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("chat.db")).await.unwrap();
    begin(&store, first_message(WorkerId(Uuid::now_v7()))).await;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o077,
            0,
            "{:?}",
            entry.file_name()
        );
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_once_the_file_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chat.db");
    let store = open(&file).await.unwrap();
    store.ping().await.unwrap();
    let elsewhere = folder.path().join("moved.db");
    std::fs::rename(&file, &elsewhere).unwrap();
    let away = |error: &StoreError| {
        matches!(
            error,
            StoreError::Unavailable(Unavailability::Unreachable, _)
        )
    };
    assert!(away(
        &store
            .begin(first_message(WorkerId(Uuid::now_v7())))
            .await
            .unwrap_err()
    ));
    assert!(away(&store.ping().await.unwrap_err()));
    // Another file in its place is not it.
    std::fs::write(&file, []).unwrap();
    assert!(away(&store.ping().await.unwrap_err()));
    std::fs::rename(&elsewhere, &file).unwrap();
    store.ping().await.unwrap();
    begin(&store, first_message(WorkerId(Uuid::now_v7()))).await;
    std::fs::remove_file(&file).unwrap();
    assert!(away(
        &store
            .begin(first_message(WorkerId(Uuid::now_v7())))
            .await
            .unwrap_err()
    ));
}

#[tokio::test]
async fn it_serves_callers_on_other_runtimes_and_outlives_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&folder.path().join("chat.db")).await.unwrap());
    let held = tokio::task::spawn_blocking({
        let store = Arc::clone(&store);
        move || {
            let other = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            other.block_on(async {
                let held = begin(&store, first_message(WorkerId(Uuid::now_v7()))).await;
                store
                    .view(&ann(), held.turn.id, Position::START)
                    .await
                    .unwrap();
                held
            })
        }
    })
    .await
    .unwrap();
    store
        .end_turn(
            &held.lease,
            answer(),
            TurnOutcome::Completed,
            Usage::default(),
            Timestamp(8),
        )
        .await
        .unwrap();
    assert_eq!(
        store
            .view(&ann(), held.turn.id, Position::START)
            .await
            .unwrap()
            .items
            .len(),
        2
    );
}
