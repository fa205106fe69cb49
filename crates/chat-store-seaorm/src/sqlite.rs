//! All that is SQLite's alone.

use std::fs::{self, File, Metadata, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chat_domain::Unavailability;
use sea_orm::sqlx::Connection;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, SqliteTransactionMode, TransactionOptions,
    TransactionTrait,
};

use crate::db::Db;
use crate::open::{OpenError, OpenOptions, must_migrate};
use crate::sql::{Row, Sql};

pub(crate) const BACKEND: DbBackend = DbBackend::Sqlite;

/// Before this version a write-ahead log that is reset at the wrong moment can lose writes (<https://sqlite.org/wal.html#walresetbug>).
const OLDEST: [u32; 3] = [3, 51, 3];

/// How every SQLite database begins (<https://sqlite.org/fileformat.html>).
const HEADER: &[u8] = b"SQLite format 3\0";

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
        // Damaged (11) and not a database any more (26): the file is not what was opened.
        7 | 10 | 11 | 26 => Some(Unavailability::Unreachable),
        13 => Some(Unavailability::Full),
        _ => None,
    }
}

/// An open database file: one connection that writes, and others that read beside it.
#[derive(Debug)]
pub(crate) struct Sqlite {
    pub(crate) writer: DatabaseConnection,
    pub(crate) readers: DatabaseConnection,
    /// Dropped last: see [`FileLock`].
    lock: Mutex<Option<FileLock>>,
}

impl Sqlite {
    /// Takes the database at `url` for this process and brings it to where the store can use it.
    pub(crate) async fn open(url: &str, options: &OpenOptions) -> Result<Self, OpenError> {
        let lock = FileLock::acquire(url, options.migrate)?.ok_or_else(|| OpenError::Pending(chat_migrations::names()))?;
        let writer = lock.writer(options.timeout).await?;
        match prepare(&writer, options.migrate).await {
            Ok(()) => {
                let readers = lock.readers(options.readers.max(1), options.timeout).await?;
                Ok(Self { writer, readers, lock: Mutex::new(Some(lock)) })
            }
            Err(error) => {
                writer.close().await?;
                Err(error)
            }
        }
    }

    /// Whether the file is where it was: not deleted, not moved away, not replaced.
    pub(crate) fn is_in_place(&self) -> bool {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(FileLock::is_in_place)
    }

    pub(crate) async fn close_writer(&self) {
        if let Err(error) = self.writer.close_by_ref().await {
            tracing::warn!(%error, "the writer's connection did not close");
        }
    }

    /// Closes what is open still, and lets the file go.
    pub(crate) async fn close(&self) {
        if let Err(error) = self.readers.close_by_ref().await {
            tracing::warn!(%error, "the readers' connections did not close");
        }
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

async fn prepare(writer: &DatabaseConnection, migrate: bool) -> Result<(), OpenError> {
    check_version(&Db::Sqlite(writer.clone())).await?;
    if must_migrate(chat_migrations::compare(writer).await?, migrate)? {
        tracing::info!("migrating the database");
        chat_migrations::apply(writer).await?;
    }
    Ok(())
}

/// A database file that no other process serves, for as long as this value lives.
///
/// The lock is on the file itself, not on its name: links to it, and files beside it that are deleted, make no difference. SQLite's own
/// locks on it are of another kind (`fcntl`); they would be given up if any descriptor of the file were closed in this process, so this one
/// outlives the connections.
#[derive(Debug)]
struct FileLock {
    path: PathBuf,
    url: String,
    file: File,
}

impl FileLock {
    /// Finds the file that `url` names, makes it if it is not there, and takes its lock, which the operating system gives back however
    /// the process ends. `None` if it is not there and must not be made.
    fn acquire(url: &str, make: bool) -> Result<Option<Self>, OpenError> {
        let unusable = |reason: String| OpenError::Url { reason };
        let options: SqliteConnectOptions = url.parse().map_err(|error: sea_orm::sqlx::Error| unusable(error.to_string()))?;
        let name = options.get_filename();
        if !url.starts_with("sqlite:") {
            return Err(unusable("it does not begin with `sqlite:`".to_owned()));
        }
        if name.as_os_str().is_empty() || url.contains(":memory:") || url.contains("mode=memory") {
            return Err(unusable("it names no file".to_owned()));
        }
        if !make && !name.exists() {
            return Ok(None);
        }
        let path = resolved(name).map_err(|source| OpenError::File { path: name.to_owned(), source })?;
        let file = opened(&path).map_err(|source| OpenError::File { path: path.clone(), source })?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { path, url: url.to_owned(), file })),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path }),
            Err(TryLockError::Error(source)) => Err(OpenError::File { path, source }),
        }
    }

    /// Whether the file is where it was: not deleted, not moved away, not replaced.
    fn is_in_place(&self) -> bool {
        let id = |metadata: Metadata| (metadata.dev(), metadata.ino());
        match (self.file.metadata(), fs::metadata(&self.path)) {
            (Ok(ours), Ok(there)) => id(ours) == id(there),
            _ => false,
        }
    }

    /// The one connection that writes.
    async fn writer(&self, timeout: Duration) -> Result<DatabaseConnection, DbErr> {
        self.connect(1, timeout, |options| {
            options.create_if_missing(true).journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full)
        })
        .await
    }

    /// Connections that read beside it.
    async fn readers(&self, count: u32, timeout: Duration) -> Result<DatabaseConnection, DbErr> {
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

/// Opens the database file, and makes it for our eyes only if it is not there. What holds something else is left as it is.
fn opened(path: &Path) -> io::Result<File> {
    if path.exists() && !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let mut head = Vec::new();
    Read::by_ref(&mut file).take(HEADER.len() as u64).read_to_end(&mut head)?;
    if head.is_empty() || head == HEADER {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "it is not an SQLite database"))
}

/// The file's full name. Makes the folder it is in.
fn resolved(name: &Path) -> io::Result<PathBuf> {
    if name.exists() {
        return name.canonicalize();
    }
    let folder = name.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let file = name.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    Ok(folder.canonicalize()?.join(file))
}

/// Refuses a SQLite that may lose writes.
async fn check_version(db: &Db) -> Result<(), OpenError> {
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
        assert_eq!(unavailability(26), Some(Unavailability::Unreachable));
        assert_eq!(unavailability(2067), None);
        assert_eq!(unavailability(1), None);
    }
}
