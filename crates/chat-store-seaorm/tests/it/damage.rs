//! Database files that are damaged, replaced or left behind by a server that was killed.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use chat_domain::testing::prelude::*;
use chat_domain::{Claim, ConversationPage, StoreError, TurnPage, Unavailability, WorkerId};
use chat_store_seaorm::{OpenError, OpenOptions, SeaOrmStore};
use chat_test_support::wait::until;
use sea_orm::{ConnectionTrait, Database, Statement};
use tempfile::TempDir;
use uuid::Uuid;

use crate::opening::{ann, begin, first_message};

const LOG: &str = "-wal";
const INDEX: &str = "-shm";
const MARK: &str = "-serving";

fn url(file: &Path) -> String {
    format!("sqlite://{}", file.display())
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    format!("{}{suffix}", file.display()).into()
}

async fn open(file: &Path) -> Result<SeaOrmStore, OpenError> {
    SeaOrmStore::open(&url(file), OpenOptions::default()).await
}

/// A folder with a database, and a store that serves it.
struct Served {
    _folder: TempDir,
    file: PathBuf,
    store: SeaOrmStore,
}

impl Served {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("chat.db");
        let store = open(&file).await.unwrap();
        Self {
            _folder: folder,
            file,
            store,
        }
    }

    /// Stores messages in conversations of their own.
    async fn say(&self, count: usize) {
        for _ in 0..count {
            self.try_say().await.unwrap();
        }
    }

    async fn try_say(&self) -> Result<(), StoreError> {
        let mut message = first_message(WorkerId(Uuid::now_v7()));
        message.idempotency = None;
        message.text = "x".repeat(3_000);
        self.store.begin(message).await.map(drop)
    }

    /// Runs a statement as another program would.
    async fn run(&self, sql: &str) {
        let other = Database::connect(url(&self.file)).await.unwrap();
        other.execute_unprepared(sql).await.unwrap();
        other.close().await.unwrap();
    }

    /// The files as a server that is killed at this moment leaves them.
    fn killed(&self) -> Left {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("chat.db");
        for suffix in ["", LOG, INDEX, MARK] {
            fs::copy(with_suffix(&self.file, suffix), with_suffix(&file, suffix)).unwrap();
        }
        Left {
            _folder: folder,
            file,
        }
    }
}

struct Left {
    _folder: TempDir,
    file: PathBuf,
}

async fn count(store: &SeaOrmStore) -> usize {
    store
        .list(&ann(), ConversationPage::last_active(None, 10_000))
        .await
        .unwrap()
        .len()
}

fn unavailable<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> Unavailability {
    match answer {
        Err(StoreError::Unavailable(kind, _)) => kind,
        other => panic!("not unavailable: {other:?}"),
    }
}

fn snapshot(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    // The index is no data: SQLite makes it again from the log.
    files.retain(|path| !path.display().to_string().ends_with(INDEX));
    files
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

#[tokio::test]
async fn a_closed_database_is_one_file() {
    let served = Served::new().await;
    served.say(20).await;
    assert!(fs::metadata(with_suffix(&served.file, LOG)).unwrap().len() > 0);
    served.store.close().await;
    for suffix in [LOG, INDEX, MARK] {
        assert!(!with_suffix(&served.file, suffix).exists(), "{suffix}");
    }
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("chat.db");
    fs::copy(&served.file, &copy).unwrap();
    assert_eq!(count(&open(&copy).await.unwrap()).await, 20);
}

#[tokio::test]
async fn a_dropped_store_closes_its_database_too() {
    let served = Served::new().await;
    served.say(3).await;
    drop(served.store);
    until("the end of the dropped store", async || {
        !with_suffix(&served.file, MARK).exists()
    })
    .await;
    assert!(!with_suffix(&served.file, LOG).exists());
}

#[tokio::test]
async fn a_database_of_a_killed_server_is_checked_and_served() {
    let served = Served::new().await;
    served.say(20).await;
    let left = served.killed();
    let store = open(&left.file).await.unwrap();
    assert_eq!(count(&store).await, 20);
}

/// Opens what is left, which must be refused without a change; then, as the refusal says, without
/// the log.
async fn is_refused_until_the_log_is_deleted(left: &Left, messages: usize) {
    let before = snapshot(left.file.parent().unwrap());
    let error = open(&left.file).await.unwrap_err();
    assert!(
        matches!(&error, OpenError::Replaced { path, log } if *path == left.file && *log == with_suffix(&left.file, LOG)),
        "{error:?}"
    );
    assert!(
        before == snapshot(left.file.parent().unwrap()),
        "a refused start has changed a file"
    );
    fs::remove_file(with_suffix(&left.file, LOG)).unwrap();
    fs::remove_file(with_suffix(&left.file, INDEX)).unwrap();
    let store = open(&left.file).await.unwrap();
    assert_eq!(count(&store).await, messages);
    store.close().await;
}

#[tokio::test]
async fn a_backup_next_to_the_log_of_a_killed_server_is_refused() {
    for later in [1, 1_500] {
        let served = Served::new().await;
        served.say(5).await;
        let backups = tempfile::tempdir().unwrap();
        let backup = backups.path().join("backup.db");
        served
            .run(&format!("VACUUM INTO '{}'", backup.display()))
            .await;
        served.say(later).await;
        let left = served.killed();
        fs::copy(&backup, &left.file).unwrap();
        is_refused_until_the_log_is_deleted(&left, 5).await;
    }
}

#[tokio::test]
async fn a_copy_of_a_closed_database_next_to_a_later_log_is_refused() {
    let served = Served::new().await;
    served.say(5).await;
    let Served {
        _folder,
        file,
        store,
    } = served;
    store.close().await;
    let backup = with_suffix(&file, ".backup");
    fs::copy(&file, &backup).unwrap();
    let store = open(&file).await.unwrap();
    let served = Served {
        _folder,
        file,
        store,
    };
    served.say(1).await;
    let left = served.killed();
    fs::copy(&backup, &left.file).unwrap();
    is_refused_until_the_log_is_deleted(&left, 5).await;
}

/// Overwrites the root page of a table.
async fn damage(file: &Path, table: &str) {
    let db = Database::connect(format!("{}?mode=ro", url(file)))
        .await
        .unwrap();
    let number = |sql: String| {
        let db = db.clone();
        async move {
            let row = db
                .query_one_raw(Statement::from_string(sea_orm::DbBackend::Sqlite, sql))
                .await
                .unwrap()
                .unwrap();
            u64::try_from(row.try_get_by::<i64, _>(0).unwrap()).unwrap()
        }
    };
    let page = number(format!(
        "SELECT rootpage FROM sqlite_schema WHERE name = '{table}'"
    ))
    .await;
    let size = number("PRAGMA page_size".to_owned()).await;
    db.close().await.unwrap();
    let garbage = vec![0xa5; usize::try_from(size).unwrap()];
    File::options()
        .write(true)
        .open(file)
        .unwrap()
        .write_all_at(&garbage, (page - 1) * size)
        .unwrap();
}

#[tokio::test]
async fn a_damaged_database_of_a_killed_server_is_refused() {
    let served = Served::new().await;
    served.say(5).await;
    // A copy whose log no longer has the page that will be damaged.
    served.run("PRAGMA wal_checkpoint(TRUNCATE)").await;
    damage(&served.file, "messages").await;
    served.say_to_others().await;
    let left = served.killed();
    let before = snapshot(left.file.parent().unwrap());
    let error = open(&left.file).await.unwrap_err();
    assert!(
        matches!(&error, OpenError::Damaged { path, .. } if *path == left.file),
        "{error:?}"
    );
    assert!(
        before == snapshot(left.file.parent().unwrap()),
        "a refused start has changed a file"
    );
}

impl Served {
    /// Writes to the log without touching messages.
    async fn say_to_others(&self) {
        self.store
            .register(WorkerId(Uuid::now_v7()), std::time::Duration::from_secs(1))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn nothing_more_is_stored_in_a_database_that_turns_out_to_be_damaged() {
    let served = Served::new().await;
    served.say(5).await;
    let held = begin(&served.store, first_message(WorkerId(Uuid::now_v7()))).await;
    let Served {
        _folder,
        file,
        store,
    } = served;
    store.close().await;
    damage(&file, "messages").await;
    let served = Served {
        _folder,
        store: open(&file).await.unwrap(),
        file,
    };
    served.store.ping().await.unwrap();
    served.say_to_others().await;
    let read = served
        .store
        .logged_turns(&ann(), held.turn.conversation, TurnPage::ALL)
        .await;
    assert_eq!(unavailable(read), Unavailability::Damaged);
    assert_eq!(
        unavailable(served.store.ping().await),
        Unavailability::Damaged
    );
    assert_eq!(unavailable(served.try_say().await), Unavailability::Damaged);
    let worker = served
        .store
        .register(WorkerId(Uuid::now_v7()), std::time::Duration::from_secs(1))
        .await;
    assert_eq!(unavailable(worker), Unavailability::Damaged);
    // Readable rows are still read.
    assert_eq!(count(&served.store).await, 6);
    served.store.close().await;
}

#[tokio::test]
async fn a_turn_that_a_damaged_file_holds_is_not_ended_in_it() {
    let served = Served::new().await;
    begin(&served.store, first_message(WorkerId(Uuid::now_v7()))).await;
    let Served {
        _folder,
        file,
        store,
    } = served;
    store.close().await;
    damage(&file, "messages").await;
    let store = open(&file).await.unwrap();
    let worker = WorkerId(Uuid::now_v7());
    store
        .register(worker, std::time::Duration::from_secs(3_600))
        .await
        .unwrap();
    let claimed = store
        .claim(Claim {
            worker,
            limit: 10,
            holding: None,
        })
        .await;
    assert_eq!(unavailable(claimed), Unavailability::Damaged);
    assert_eq!(unavailable(store.ping().await), Unavailability::Damaged);
}

#[tokio::test]
async fn a_damaged_database_that_was_closed_in_order_is_refused_if_it_cannot_be_opened() {
    let served = Served::new().await;
    served.say(5).await;
    served.store.close().await;
    let length = fs::metadata(&served.file).unwrap().len();
    File::options()
        .write(true)
        .open(&served.file)
        .unwrap()
        .set_len(length - 4096)
        .unwrap();
    let error = open(&served.file).await.unwrap_err();
    assert!(
        matches!(&error, OpenError::Damaged { path, .. } if *path == served.file),
        "{error:?}"
    );
}

/// Does something to the files of a server at work; nothing may be acknowledged then.
async fn is_noticed(what: &str, harm: impl FnOnce(&Path)) -> Served {
    let served = Served::new().await;
    served.say(5).await;
    served.store.ping().await.unwrap();
    harm(&served.file);
    assert_eq!(
        unavailable(served.store.ping().await),
        Unavailability::Unreachable,
        "{what}"
    );
    assert_eq!(
        unavailable(served.try_say().await),
        Unavailability::Unreachable,
        "{what}"
    );
    served
}

#[tokio::test]
async fn nothing_is_acknowledged_once_the_log_is_gone_or_cut() {
    let copy = |log: &Path| fs::copy(log, with_suffix(log, ".copy")).unwrap();
    is_noticed("replaced", |file| {
        let log = with_suffix(file, LOG);
        copy(&log);
        fs::rename(with_suffix(&log, ".copy"), log).unwrap();
    })
    .await;
    is_noticed("emptied", |file| {
        File::options()
            .write(true)
            .open(with_suffix(file, LOG))
            .unwrap()
            .set_len(0)
            .unwrap()
    })
    .await;
    is_noticed("cut", |file| {
        let log = File::options()
            .write(true)
            .open(with_suffix(file, LOG))
            .unwrap();
        log.set_len(log.metadata().unwrap().len() - 1).unwrap();
    })
    .await;
    is_noticed("overwritten", |file| {
        File::options()
            .write(true)
            .open(with_suffix(file, LOG))
            .unwrap()
            .write_all_at(&[0; 32], 0)
            .unwrap();
    })
    .await;
    // A graceful shutdown saves the messages that were acknowledged before the log was deleted.
    let served = is_noticed("deleted", |file| {
        fs::remove_file(with_suffix(file, LOG)).unwrap()
    })
    .await;
    served.store.close().await;
    assert_eq!(count(&open(&served.file).await.unwrap()).await, 5);
}

#[tokio::test]
async fn nothing_is_acknowledged_once_the_database_is_truncated() {
    for length in [0, 4096, 8192] {
        let served = Served::new().await;
        served.say(5).await;
        File::options()
            .write(true)
            .open(&served.file)
            .unwrap()
            .set_len(length)
            .unwrap();
        assert_eq!(
            unavailable(served.store.ping().await),
            Unavailability::Unreachable,
            "{length}"
        );
        assert_eq!(
            unavailable(served.try_say().await),
            Unavailability::Unreachable,
            "{length}"
        );
        // A reader may be the first to notice. It does not take the missing pages for damage, which
        // would be final.
        let page = ConversationPage::last_active(None, 10);
        if let Err(error) = served.store.list(&ann(), page).await {
            assert_eq!(
                unavailable::<()>(Err(error)),
                Unavailability::Unreachable,
                "{length}"
            );
        }
    }
}

#[tokio::test]
async fn other_programs_may_tidy_up_while_a_server_works() {
    let served = Served::new().await;
    served.say(100).await;
    for sql in [
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "DELETE FROM turns",
        "VACUUM",
        "PRAGMA wal_checkpoint(TRUNCATE)",
    ] {
        served.run(sql).await;
        served.store.ping().await.unwrap();
        served.say(1).await;
    }
}

#[tokio::test]
async fn an_empty_or_missing_database_next_to_the_files_of_another_is_refused() {
    let served = Served::new().await;
    served.say(5).await;
    for (suffix, is_missing) in [
        (LOG, true),
        (LOG, false),
        ("-journal", true),
        ("-journal", false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("chat.db");
        let leftover = with_suffix(&file, suffix);
        fs::copy(with_suffix(&served.file, LOG), &leftover).unwrap();
        if !is_missing {
            fs::write(&file, []).unwrap();
        }
        let before = snapshot(folder.path());
        for migrate in [true, false] {
            let error = SeaOrmStore::open(
                &url(&file),
                OpenOptions {
                    migrate,
                    ..OpenOptions::default()
                },
            )
            .await
            .unwrap_err();
            assert!(
                matches!(&error, OpenError::Leftover { leftover: named, .. } if *named == leftover),
                "{error:?}"
            );
            assert!(
                before == snapshot(folder.path()),
                "a refused start has changed a file"
            );
        }
        fs::remove_file(&leftover).unwrap();
        open(&file).await.unwrap();
    }
}
