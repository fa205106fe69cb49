//! Options and errors of opening a store.

use std::path::PathBuf;
use std::time::Duration;

use chat_migrations::{BREAKING, Comparison};
use sea_orm::DbErr;

use crate::error::StoreFault;

/// How a store is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// Whether the schema is brought up to date; if not, one that is not up to date is refused.
    pub migrate: bool,
    /// How many callers' transactions are committed as one at most; at least one.
    pub batch: usize,
    /// How long a call may take, waiting included.
    pub timeout: Duration,
    /// SQLite: how many connections read; at least one. Another one writes.
    pub readers: u32,
    /// PostgreSQL: how many connections there are at most; at least one.
    pub connections: u32,
    /// PostgreSQL: how long connecting may take.
    pub connect_timeout: Duration,
    /// PostgreSQL: how long a call may wait for a connection while all are in use.
    pub acquire_timeout: Duration,
    /// PostgreSQL: how long a statement may take, waiting for locks included. A transaction in
    /// which nothing is done for as long is undone.
    pub statement_timeout: Duration,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            migrate: true,
            batch: 256,
            timeout: Duration::from_secs(10),
            readers: 4,
            connections: 16,
            connect_timeout: Duration::from_secs(3),
            acquire_timeout: Duration::from_secs(6),
            statement_timeout: Duration::from_secs(3),
        }
    }
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The address is not one of a database that this store can use.
    #[error(
        "not a usable database address (expected `sqlite://path` or `postgres://user:password@host/database`): {reason}"
    )]
    Url {
        /// The problem.
        reason: String,
    },
    /// A file cannot be used.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The problem.
        source: std::io::Error,
    },
    /// Another process serves this database.
    #[error("{path} is in use by another server", path = path.display())]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// The content of the database's file is damaged.
    #[error("{path} is damaged: {problem}", path = path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// The first problem that was found.
        problem: String,
    },
    /// The database's file was replaced after a server that served it was killed: the write-ahead
    /// log belongs to the earlier file.
    #[error("{path} is not the file that its write-ahead log {log} belongs to", path = path.display(), log = log.display())]
    Replaced {
        /// The database.
        path: PathBuf,
        /// The write-ahead log.
        log: PathBuf,
    },
    /// The database's file is missing or empty, and a file next to it holds data.
    #[error("{path} is missing or empty, but {leftover} holds data of a database", path = path.display(), leftover = leftover.display())]
    Leftover {
        /// The database.
        path: PathBuf,
        /// The file that holds data.
        leftover: PathBuf,
    },
    /// The database's schema is older than this version's, and was not to be changed.
    #[error("the database lacks these migrations, and migrating is switched off: {}", .0.join(", "))]
    Pending(Vec<String>),
    /// A newer version of this program has changed the database's schema in a way that this version
    /// cannot use.
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
    /// A pooler before PostgreSQL does not keep prepared statements.
    #[error(
        "what is between this server and the database does not keep prepared statements apart (PgBouncer does from version 1.21 on, with max_prepared_statements above 0): {0}"
    )]
    Pooler(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database keeps text in another encoding than UTF-8.
    #[error("the database's encoding is {0}, but it must be UTF8")]
    Encoding(String),
    /// The database refused or failed.
    #[error("the database cannot be opened: {0}")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<StoreFault> for OpenError {
    fn from(fault: StoreFault) -> Self {
        match fault {
            StoreFault::Pooler(error) => Self::Pooler(Box::new(error)),
            fault => Self::Database(Box::new(fault)),
        }
    }
}

impl From<DbErr> for OpenError {
    fn from(error: DbErr) -> Self {
        Self::Database(Box::new(error))
    }
}

/// Whether a schema lacks steps that are to be applied; refuses one that this version cannot use.
///
/// A step that only a newer version knows is accepted: steps only add, and older versions leave new
/// columns and tables alone. A step that does more has a name that ends with [`BREAKING`].
pub(crate) fn must_migrate(
    Comparison { pending, unknown }: Comparison,
    migrate: bool,
) -> Result<bool, OpenError> {
    let is_breaking = |step: &String| step.ends_with(BREAKING);
    if unknown.iter().any(is_breaking) || !(unknown.is_empty() || pending.is_empty()) {
        return Err(OpenError::Newer(unknown));
    }
    if !unknown.is_empty() {
        tracing::warn!(
            migrations = unknown.join(", "),
            "the schema of the database is newer than this version"
        );
    }
    if pending.is_empty() {
        return Ok(false);
    }
    if !migrate {
        return Err(OpenError::Pending(pending));
    }
    Ok(true)
}
