//! All that is SQLite's alone.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chat_domain::Unavailability;
use sea_orm::sqlx::Connection;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, SqliteTransactionMode,
    TransactionOptions, TransactionTrait,
};

use crate::open::OpenError;
use crate::sql::{Row, Sql};

pub(crate) const BACKEND: DbBackend = DbBackend::Sqlite;

/// The database's clock, in microseconds since the Unix epoch. It ticks in milliseconds.
pub(crate) const NOW: &str = "CAST(unixepoch('subsec') * 1000000 AS INTEGER)";

/// Before this version a write-ahead log that is reset at the wrong moment can lose writes (<https://sqlite.org/wal.html#walresetbug>).
const OLDEST: [u32; 3] = [3, 51, 3];

/// How long a statement waits for another process's lock, a back-up's for example.
const BUSY: Duration = Duration::from_secs(3);

/// How much of the write-ahead log's file is kept after a checkpoint, in bytes.
const WAL_KEPT: u32 = 64 << 20;

/// How much of the database each connection keeps in memory, in KiB.
const CACHE: u32 = 16 << 10;

/// How many statements each connection keeps prepared.
const PREPARED: usize = 256;

/// How many rows a connection's thread may be ahead of us.
const ROWS_AHEAD: usize = 1024;

/// Positional placeholders: SQLite searches the list of all names for each one that is named.
pub(crate) fn write_placeholder(text: &mut String) {
    text.push('?');
}

/// Begins a transaction that will write. Deferred ones fail when they try to write after they have read.
pub(crate) async fn begin(db: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    let mode = Some(SqliteTransactionMode::Immediate);
    db.begin_with_options(TransactionOptions { sqlite_transaction_mode: mode, ..TransactionOptions::default() }).await
}

/// What an extended result code (<https://sqlite.org/rescode.html>) says of the whole database.
pub(crate) fn unavailability(code: i32) -> Option<Unavailability> {
    const IOERR_SHMSIZE: i32 = 4874;
    match code & 0xff {
        5 | 6 => Some(Unavailability::Timeout),
        8 | 14 => Some(Unavailability::ReadOnly),
        // The shared-memory file of the write-ahead log could not grow.
        10 if code == IOERR_SHMSIZE => Some(Unavailability::Full),
        7 | 10 => Some(Unavailability::Unreachable),
        13 => Some(Unavailability::Full),
        _ => None,
    }
}

/// A database file that no other process serves, for as long as this value lives.
#[derive(Debug)]
pub(crate) struct FileLock {
    path: PathBuf,
    url: String,
    _lock: File,
}

impl FileLock {
    /// Finds the file that `url` names and takes its lock, which the operating system gives back however the process ends.
    pub(crate) fn acquire(url: &str) -> Result<Self, OpenError> {
        let unusable = |reason: String| OpenError::Url { reason };
        let options: SqliteConnectOptions = url.parse().map_err(|error: sea_orm::sqlx::Error| unusable(error.to_string()))?;
        let name = options.get_filename();
        if !url.starts_with("sqlite:") {
            return Err(unusable("it does not begin with `sqlite:`".to_owned()));
        }
        if name.as_os_str().is_empty() || url.contains(":memory:") || url.contains("mode=memory") {
            return Err(unusable("it names no file".to_owned()));
        }
        let path = resolved(name).map_err(|source| OpenError::File { path: name.to_owned(), source })?;
        let mut lock_name = path.clone().into_os_string();
        lock_name.push(".lock");
        let lock_path = PathBuf::from(lock_name);
        let failed = |source| OpenError::File { path: lock_path.clone(), source };
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, url: url.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path }),
            Err(TryLockError::Error(source)) => Err(OpenError::File { path: lock_path, source }),
        }
    }

    /// Whether the database is there already.
    pub(crate) fn exists(&self) -> bool {
        self.path.exists()
    }

    /// The one connection that writes.
    pub(crate) async fn writer(&self, timeout: Duration) -> Result<DatabaseConnection, DbErr> {
        self.connect(1, timeout, |options| {
            options.create_if_missing(true).journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full)
        })
        .await
    }

    /// Connections that read beside it.
    pub(crate) async fn readers(&self, count: u32, timeout: Duration) -> Result<DatabaseConnection, DbErr> {
        self.connect(count, timeout, |options| options.read_only(true)).await
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
            // After a failed COMMIT, sqlx 0.9 goes on believing that the connection is inside a transaction: it never works again.
            .map_sqlx_sqlite_before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }));
        Database::connect(options).await
    }
}

/// The file's one name, so that all who mean it meet at one lock. Makes the folder it is in.
fn resolved(name: &Path) -> std::io::Result<PathBuf> {
    if name.exists() {
        return name.canonicalize();
    }
    let folder = name.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let file = name.file_name().ok_or(std::io::ErrorKind::InvalidFilename)?;
    Ok(folder.canonicalize()?.join(file))
}

/// Refuses a SQLite that may lose writes.
pub(crate) async fn check_version(db: &impl ConnectionTrait) -> Result<(), OpenError> {
    let rows = Sql::new("SELECT sqlite_version()").all(db).await?;
    let found = rows.first().map_or(Ok(String::new()), |row| Row::new("sqlite", 0, row).get(0, "version"))?;
    if is_new_enough(&found) { Ok(()) } else { Err(OpenError::TooOld { found, oldest: OLDEST }) }
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
        for (version, good) in [("3.51.3", true), ("3.51.10", true), ("3.52.0", true), ("4.0.0", true)] {
            assert_eq!(is_new_enough(version), good, "{version}");
        }
        for version in ["3.51.2", "3.50.99", "3.9.0", "", "nonsense"] {
            assert!(!is_new_enough(version), "{version}");
        }
    }

    #[test]
    fn result_codes_say_what_is_wrong_with_the_database() {
        assert_eq!(unavailability(13), Some(Unavailability::Full));
        assert_eq!(unavailability(4874), Some(Unavailability::Full));
        assert_eq!(unavailability(1032), Some(Unavailability::ReadOnly));
        assert_eq!(unavailability(517), Some(Unavailability::Timeout));
        assert_eq!(unavailability(778), Some(Unavailability::Unreachable));
        assert_eq!(unavailability(2067), None);
        assert_eq!(unavailability(1), None);
    }
}
