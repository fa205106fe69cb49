//! All that is SQLite's alone.

mod check;
mod connection;
pub(crate) mod errors;
mod file;
mod header;
mod leftover;
mod log;
mod mark;
mod paths;
mod writer;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sea_orm::sqlx::Connection as _;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr,
    SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use tokio::time::timeout;
use uuid::Uuid;

use self::check::{Check, Finding};
use self::file::FileLock;
use self::log::LogGuard;
use self::mark::Mark;
use self::writer::SqliteWriter;
use crate::backend::{Backend, Writer};
use crate::connection::{Connection, Transaction};
use crate::error::StoreFault;
use crate::options::{OpenError, OpenOptions, must_migrate};
use crate::sql::Sql;

/// Before this version a write-ahead log that is reset at the wrong moment can lose writes
/// (<https://sqlite.org/wal.html#walresetbug>).
const OLDEST: [u32; 3] = [3, 51, 3];

/// How long a statement waits for another process's lock, a back-up's for example.
const BUSY: Duration = Duration::from_secs(3);

/// How long closing waits for reads that are under way.
const LAST_READS: Duration = Duration::from_secs(1);

/// How much of the write-ahead log's file is kept after a checkpoint, in bytes.
const WAL_KEPT: u32 = 64 << 20;

/// How much of the database each connection keeps in memory, in KiB.
const CACHE: u32 = 16 << 10;

/// How many statements each connection keeps prepared.
const PREPARED: usize = 256;

/// How many rows a connection's thread may be ahead of us.
const ROWS_AHEAD: usize = 1024;

/// An open database file: one connection that writes, and others that read.
#[derive(Debug)]
pub(crate) struct Sqlite {
    pub(crate) writer: DatabaseConnection,
    pub(crate) readers: DatabaseConnection,
    is_damaged: Arc<AtomicBool>,
    cancel_check: Option<Arc<AtomicBool>>,
    /// Dropped last: see [`FileLock`].
    files: Mutex<Option<Files>>,
}

/// The files of an open database.
#[derive(Debug)]
struct Files {
    lock: FileLock,
    log: LogGuard,
}

impl Sqlite {
    /// Takes the database at `url` for this process and brings it to where the store can use it.
    pub(crate) async fn open(url: &str, options: &OpenOptions) -> Result<Self, OpenError> {
        let lock = FileLock::acquire(url, options.migrate)?
            .ok_or_else(|| OpenError::Pending(chat_migrations::names()))?;
        lock.open(options)
            .await
            .map_err(|error| lock.name_damage(error))?
            .serve(lock, options)
            .await
    }

    /// Whether the files are where they were and hold what they should: not deleted, moved away,
    /// replaced or truncated.
    pub(crate) fn is_in_place(&self) -> bool {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files
            .as_ref()
            .is_some_and(|Files { lock, log }| lock.is_in_place() && log.is_whole())
    }

    /// Whether the database is known to be damaged. Nothing is written to it any more.
    pub(crate) fn is_damaged(&self) -> bool {
        self.is_damaged.load(Ordering::Relaxed)
    }

    fn is_out_of_room(&self) -> bool {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files
            .as_ref()
            .is_some_and(|files| files.lock.is_out_of_room())
    }
}

#[async_trait]
impl Backend for Sqlite {
    async fn begin(&self) -> Result<Box<dyn Transaction>, StoreFault> {
        // Deferred transactions fail when they try to write after they have read.
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        Ok(Box::new(self.writer.begin_with_options(options).await?))
    }

    async fn reader(&self) -> Result<Box<dyn Connection>, StoreFault> {
        Ok(Box::new(self.readers.clone()))
    }

    fn start_writer(self: Arc<Self>, options: &OpenOptions) -> Box<dyn Writer> {
        Box::new(SqliteWriter::start(self, options))
    }

    fn is_exclusive(&self) -> bool {
        true
    }

    fn check(&self) -> Result<(), StoreFault> {
        if !self.is_in_place() {
            Err(StoreFault::FileReplaced)
        } else if self.is_damaged() {
            Err(StoreFault::Damaged)
        } else {
            Ok(())
        }
    }

    /// Records damage until the database is opened again.
    fn explain(&self, fault: StoreFault) -> StoreFault {
        if fault.is_damage() {
            // Pages that are missing because the file was cut are no damage: it may be put
            // back.
            if !self.is_in_place() {
                return StoreFault::FileReplaced;
            }
            note_damage(&self.is_damaged, &fault);
        } else if fault.is_failed_write() && self.is_out_of_room() {
            return StoreFault::NoRoom(Box::new(fault));
        }
        fault
    }

    async fn ping(&self, connection: &dyn Connection) -> Result<(), StoreFault> {
        // Reads a page of the file, not only memory.
        let read = Sql::new("SELECT id FROM workers LIMIT 1");
        connection.query(read).await.map(drop)
    }

    /// Moves the write-ahead log into the database's file first.
    async fn close(&self) {
        if let Some(cancel) = &self.cancel_check {
            cancel.store(true, Ordering::Relaxed);
        }
        // The last connection must be one that writes: others cannot move the log into the file.
        if timeout(LAST_READS, self.readers.close_by_ref())
            .await
            .is_err()
        {
            tracing::warn!("reads take too long, closing without them");
        }
        let Some(files) = self
            .files
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        else {
            return;
        };
        let is_sound = !self.is_damaged();
        let is_folded = is_sound && checkpoint(&self.writer).await;
        if let Err(error) = self.writer.close_by_ref().await {
            tracing::warn!(%error, "the writer's connection did not close");
        }
        if is_folded && let Err(error) = Mark::remove(&files.lock.path) {
            tracing::warn!(%error, "the mark of a serving server cannot be removed");
        }
    }
}

fn note_damage(is_damaged: &AtomicBool, problem: impl std::fmt::Display) {
    if !is_damaged.swap(true, Ordering::Relaxed) {
        tracing::error!(%problem, "the database is damaged; nothing more is written to it");
    }
}

/// Moves all of the write-ahead log into the database's file and empties the log. Returns whether
/// that was possible.
async fn checkpoint(writer: &DatabaseConnection) -> bool {
    let statement =
        sea_orm::Statement::from_string(DbBackend::Sqlite, "PRAGMA wal_checkpoint(TRUNCATE)");
    let busy = match writer.query_one_raw(statement).await {
        Ok(row) => row.map(|row| row.try_get_by::<i64, _>(0)),
        Err(error) => Some(Err(error)),
    };
    match busy {
        Some(Ok(0)) => return true,
        Some(Ok(_)) => tracing::warn!(
            "another program reads the database, so a part of it remains in its write-ahead log; keep the file that ends in -wal"
        ),
        Some(Err(error)) => {
            tracing::warn!(%error, "the write-ahead log cannot be moved into the database; keep the file that ends in -wal")
        }
        None => {}
    }
    false
}

/// A database whose schema is up to date, with the connection that writes.
struct Opened {
    writer: DatabaseConnection,
    check: Option<Check>,
}

impl Opened {
    /// Opens the connections that read, and marks the file as served.
    async fn serve(self, lock: FileLock, options: &OpenOptions) -> Result<Sqlite, OpenError> {
        let Self { writer, check } = self;
        let file_error = |source| OpenError::File {
            path: lock.path.clone(),
            source,
        };
        let served = async {
            // An earlier server's mark would not fit the number if this server is killed before it
            // leaves its own.
            Mark::remove(&lock.path).map_err(file_error)?;
            let number = Uuid::now_v7().as_u128() & 0x7fff_ffff;
            writer
                .execute_unprepared(&format!("PRAGMA user_version = {number}"))
                .await?;
            // The number must be in the file itself.
            if checkpoint(&writer).await {
                let header = lock.header().map_err(file_error)?;
                header
                    .map_or(Ok(()), |header| Mark::from(header).write(&lock.path))
                    .map_err(file_error)?;
            }
            let readers = lock
                .readers(options.readers.max(1), options.timeout)
                .await?;
            Ok::<_, OpenError>((readers, LogGuard::open(&lock.path).map_err(file_error)?))
        };
        let (readers, log) = match served.await {
            Ok(served) => served,
            Err(error) => {
                writer.close().await?;
                return Err(lock.name_damage(error));
            }
        };
        let is_damaged = Arc::new(AtomicBool::new(false));
        let cancel_check = check.as_ref().map(Check::cancel_flag);
        if let Some(check) = check {
            tokio::spawn(watch(check, Arc::clone(&is_damaged)));
        }
        if lock.is_mounted_alone() {
            tracing::warn!(
                path = %lock.path.display(),
                "the database file is mounted by itself, so its write-ahead log lies on another file system; mount the folder instead"
            );
        }
        Ok(Sqlite {
            writer,
            readers,
            is_damaged,
            cancel_check,
            files: Mutex::new(Some(Files { lock, log })),
        })
    }
}

/// Notes what a check finds after the server has begun to serve.
async fn watch(mut check: Check, is_damaged: Arc<AtomicBool>) {
    match check.finding(Duration::MAX).await {
        Some(Finding::Damaged(problem)) => note_damage(&is_damaged, problem),
        Some(Finding::Whole) => tracing::info!("the database is whole"),
        Some(Finding::Unknown(reason)) => {
            tracing::info!(reason, "the check of the database was not finished")
        }
        None => {}
    }
}

async fn prepare(writer: &DatabaseConnection, migrate: bool) -> Result<(), OpenError> {
    check_version(writer).await?;
    if must_migrate(chat_migrations::compare(writer).await?, migrate)? {
        tracing::info!("migrating the database");
        chat_migrations::apply(writer).await?;
    }
    Ok(())
}

impl FileLock {
    /// Checks the database if it was not closed cleanly, then opens it and brings its schema up to
    /// date.
    async fn open(&self, options: &OpenOptions) -> Result<Opened, OpenError> {
        let check = self.check(options).await?;
        let writer = self.writer(options.timeout).await?;
        match prepare(&writer, options.migrate).await {
            Ok(()) => Ok(Opened { writer, check }),
            Err(error) => {
                writer.close().await?;
                Err(error)
            }
        }
    }

    /// Checks the database if a write-ahead log was left with it. Returns the check if it takes
    /// longer than the server may wait.
    ///
    /// The connection only reads: whatever is wrong, the files stay as they are, so that a backup
    /// that was put next to the log of another database is not spoiled.
    async fn check(&self, options: &OpenOptions) -> Result<Option<Check>, OpenError> {
        let io_error = |source| OpenError::File {
            path: self.path.clone(),
            source,
        };
        let has_log = leftover::has_log(&self.path).map_err(io_error)?;
        let mark = Mark::read(&self.path);
        let is_same = match (mark, self.header().map_err(io_error)?) {
            (Some(mark), Some(header)) => mark == Mark::from(header),
            _ => true,
        };
        if has_log && !is_same {
            return Err(OpenError::Replaced {
                path: self.path.clone(),
                log: paths::with_suffix(&self.path, leftover::LOG),
            });
        }
        if !has_log && mark.is_some() && is_same {
            tracing::warn!(
                "the server before this one was killed, and its write-ahead log is missing; unless another program has moved it into the \
                 database, what was stored last is lost"
            );
        }
        if !has_log && (mark.is_none() || !is_same) {
            return Ok(None);
        }
        tracing::info!("database not closed cleanly, checking it");
        let mut check = Check::start(self.readers(1, options.timeout).await?).await?;
        match check.finding(check::LIMIT).await {
            Some(Finding::Whole) => Ok(None),
            Some(Finding::Damaged(problem)) => Err(OpenError::Damaged {
                path: self.path.clone(),
                problem,
            }),
            Some(Finding::Unknown(reason)) => Err(OpenError::Database(reason.into())),
            None => {
                tracing::warn!(limit = ?check::LIMIT, "database check takes long, continuing while the server runs");
                Ok(Some(check))
            }
        }
    }

    /// The same error, or the one that says that the file is damaged.
    fn name_damage(&self, error: OpenError) -> OpenError {
        match error {
            OpenError::Database(cause) => {
                let problem = match (
                    cause.downcast_ref::<DbErr>(),
                    cause.downcast_ref::<StoreFault>(),
                ) {
                    (Some(error), _) if crate::error::is_damage(error) => error.to_string(),
                    (_, Some(fault)) if fault.is_damage() => fault.to_string(),
                    _ => return OpenError::Database(cause),
                };
                OpenError::Damaged {
                    path: self.path.clone(),
                    problem,
                }
            }
            error => error,
        }
    }

    /// The one connection that writes.
    async fn writer(&self, timeout: Duration) -> Result<DatabaseConnection, DbErr> {
        self.connect(1, timeout, |options| {
            options
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
        })
        .await
    }

    /// Connections that read.
    async fn readers(&self, count: u32, timeout: Duration) -> Result<DatabaseConnection, DbErr> {
        self.connect(count, timeout, |options| options.read_only(true))
            .await
    }

    async fn connect(
        &self,
        count: u32,
        timeout: Duration,
        role: impl Fn(SqliteConnectOptions) -> SqliteConnectOptions + Send + Sync + 'static,
    ) -> Result<DatabaseConnection, DbErr> {
        let path = self.path.clone();
        let mut options = ConnectOptions::new(&self.url);
        options
            .max_connections(count)
            .min_connections(1)
            .acquire_timeout(timeout)
            .idle_timeout(None::<Duration>)
            .max_lifetime(None::<Duration>)
            .sqlx_logging(false)
            .record_stmt_in_spans(false)
            .test_before_acquire(false)
            .map_sqlx_sqlite_opts(move |options| {
                let options = options
                    .filename(&path)
                    .foreign_keys(true)
                    .busy_timeout(BUSY)
                    .statement_cache_capacity(PREPARED)
                    .row_buffer_size(ROWS_AHEAD)
                    .pragma("cache_size", format!("-{CACHE}"))
                    .pragma("journal_size_limit", WAL_KEPT.to_string());
                role(options)
            })
            // After a failed COMMIT, sqlx 0.9 still believes that the connection is inside a
            // transaction: it never works again.
            .map_sqlx_sqlite_before_acquire(|connection, _| {
                Box::pin(async move { Ok(!connection.is_in_transaction()) })
            });
        Database::connect(options).await
    }
}

/// Refuses a SQLite that may lose writes.
async fn check_version(writer: &DatabaseConnection) -> Result<(), OpenError> {
    let statement =
        sea_orm::Statement::from_string(DbBackend::Sqlite, "SELECT sqlite_version() AS version");
    let row = writer.query_one_raw(statement).await?;
    let found: String = row.map_or(Ok(String::new()), |row| row.try_get("", "version"))?;
    if is_new_enough(&found) {
        Ok(())
    } else {
        Err(OpenError::TooOld {
            found,
            oldest: OLDEST,
        })
    }
}

fn is_new_enough(version: &str) -> bool {
    let numbers: Result<Vec<u32>, _> = version.split('.').map(str::parse).collect();
    numbers.is_ok_and(|numbers| numbers.as_slice() >= OLDEST.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_sqlite_is_refused() {
        for (version, good) in [
            ("3.51.3", true),
            ("3.51.10", true),
            ("3.52.0", true),
            ("4.0.0", true),
        ] {
            assert_eq!(is_new_enough(version), good, "{version}");
        }
        for version in ["3.51.2", "3.50.99", "3.9.0", "", "nonsense"] {
            assert!(!is_new_enough(version), "{version}");
        }
    }
}
