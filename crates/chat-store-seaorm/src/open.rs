//! Opening a store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chat_migrations::Comparison;
use sea_orm::{DatabaseConnection, DbErr};

use crate::fault::Fault;
use crate::sqlite;

/// How a store is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// Whether the schema is brought up to date; if not, one that is not up to date is refused.
    pub migrate: bool,
    /// How many connections read beside the one that writes; at least one.
    pub readers: u32,
    /// How many callers' transactions are committed as one at most; at least one.
    pub batch: usize,
    /// How long a call may take, waiting included.
    pub timeout: Duration,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { migrate: true, readers: 4, batch: 256, timeout: Duration::from_secs(10) }
    }
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The address is not one of a database that this store can use.
    #[error("not a usable database address (expected `sqlite://path`): {reason}")]
    Url {
        /// What is wrong with it.
        reason: String,
    },
    /// A file cannot be used.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// Another process serves this database.
    #[error("{path} is in use by another server", path = path.display())]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// The database's schema is older than this version's, and was not to be changed.
    #[error("the database lacks these migrations, and migrating is switched off: {}", .0.join(", "))]
    Pending(Vec<String>),
    /// A newer version of this program has changed the database's schema.
    #[error("the database belongs to a newer version, which applied these migrations: {}", .0.join(", "))]
    Newer(Vec<String>),
    /// The SQLite in this program may lose writes.
    #[error("SQLite {found} is older than {}, which repairs a fault that loses writes", oldest.map(|n| n.to_string()).join("."))]
    TooOld {
        /// The version in use.
        found: String,
        /// The first that is good.
        oldest: [u32; 3],
    },
    /// The database refused or failed.
    #[error("the database cannot be opened: {0}")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        Self::Database(Box::new(fault))
    }
}

impl From<DbErr> for OpenError {
    fn from(error: DbErr) -> Self {
        Self::Database(Box::new(error))
    }
}

/// An open database, ready for use.
pub(crate) struct Opened {
    pub(crate) lock: Arc<sqlite::FileLock>,
    pub(crate) writer: DatabaseConnection,
    pub(crate) readers: DatabaseConnection,
}

/// Takes the database for this process and brings it to where the store can use it.
pub(crate) async fn open(url: &str, options: &OpenOptions) -> Result<Opened, OpenError> {
    let lock = sqlite::FileLock::acquire(url, options.migrate)?.ok_or_else(|| OpenError::Pending(chat_migrations::names()))?;
    let writer = lock.writer(options.timeout).await?;
    match prepare(&writer, options.migrate).await {
        Ok(()) => {
            let readers = lock.readers(options.readers.max(1), options.timeout).await?;
            Ok(Opened { lock: Arc::new(lock), writer, readers })
        }
        Err(error) => {
            writer.close().await?;
            Err(error)
        }
    }
}

async fn prepare(writer: &DatabaseConnection, migrate: bool) -> Result<(), OpenError> {
    sqlite::check_version(writer).await?;
    let Comparison { pending, unknown } = chat_migrations::compare(writer).await?;
    if !unknown.is_empty() {
        return Err(OpenError::Newer(unknown));
    }
    if !pending.is_empty() {
        if !migrate {
            return Err(OpenError::Pending(pending));
        }
        tracing::info!(steps = ?pending, "migrating the database");
        chat_migrations::apply(writer).await?;
    }
    Ok(())
}
