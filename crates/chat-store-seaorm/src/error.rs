//! Faults below the port, and their errors in the port's terms.

use std::sync::Arc;

use chat_domain::{StoreError, Unavailability};
use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr, sqlx};

use crate::postgres::errors as postgres;
use crate::sqlite::errors as sqlite;

/// A statement that failed, or a row with invalid values. Cheap to copy, because a failed batch
/// fails for each of its callers.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum StoreFault {
    /// SQLite refused or could not be asked.
    #[error(transparent)]
    Database(#[from] DbErr),
    /// PostgreSQL refused, or the connection to it broke.
    #[error(transparent)]
    Postgres(Arc<sqlx::Error>),
    /// PostgreSQL cannot be connected to.
    #[error("cannot connect to the database: {0}")]
    Connect(Arc<sqlx::Error>),
    /// A pooler before PostgreSQL does not keep prepared statements apart.
    #[error("the pooler before the database does not keep prepared statements: {0}")]
    Pooler(Arc<sqlx::Error>),
    /// The answer to a COMMIT is lost: it was done or not.
    #[error("no answer to COMMIT: {0}")]
    CommitOutcomeUnknown(#[source] Box<StoreFault>),
    /// It did not answer in time.
    #[error("no answer within the limit")]
    TimedOut,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// A file of the database is not in its place, or shorter than it was.
    #[error("a file of the database was deleted, moved, replaced or truncated")]
    FileReplaced,
    /// The database was found to be damaged before.
    #[error("the database is damaged")]
    Damaged,
    /// The file system takes no more, for a reason other than a full disk.
    #[error("no room: {0}")]
    NoRoom(#[source] Box<StoreFault>),
    /// The database takes no writes: it follows another one, or is set so.
    #[error("the database is a standby, or set to be read only")]
    ReadOnly,
    /// A row has an invalid value.
    #[error("{table}.{column} of row {row}: {problem}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's id, as far as it can be read.
        row: String,
        /// The problem.
        problem: String,
    },
    /// A command contradicts what is stored.
    #[error("{0}")]
    InvariantViolation(String),
}

impl StoreFault {
    /// The fault of an error of PostgreSQL.
    pub(crate) fn of(error: Arc<sqlx::Error>) -> Self {
        if postgres::is_poolers(&error) {
            Self::Pooler(error)
        } else {
            Self::Postgres(error)
        }
    }

    /// Why the whole store is unavailable, if the fault means that.
    pub(crate) fn unavailability(&self) -> Option<Unavailability> {
        match self {
            Self::TimedOut => Some(Unavailability::Timeout),
            Self::Closed | Self::FileReplaced | Self::Connect(_) | Self::Pooler(_) => {
                Some(Unavailability::Unreachable)
            }
            Self::ReadOnly => Some(Unavailability::ReadOnly),
            Self::Damaged => Some(Unavailability::Damaged),
            Self::NoRoom(_) => Some(Unavailability::Full),
            Self::Database(error) => unavailability(error),
            Self::Postgres(error) => postgres::unavailability(error),
            Self::CommitOutcomeUnknown(fault) => fault.unavailability(),
            Self::Corrupt { .. } | Self::InvariantViolation(_) => None,
        }
    }

    /// Whether the content of the database itself is damaged.
    pub(crate) fn is_damage(&self) -> bool {
        self.unavailability() == Some(Unavailability::Damaged)
    }

    /// Whether SQLite could not write, and does not say why.
    pub(crate) fn is_failed_write(&self) -> bool {
        matches!(self, Self::Database(error) if sqlite_code(error).is_some_and(sqlite::is_failed_write))
    }

    /// Whether the same may succeed later. Everything else fails again.
    pub(crate) fn is_transient(&self) -> bool {
        let is_victim = matches!(self, Self::Postgres(error) if postgres::is_conflict(error));
        is_victim
            || self
                .unavailability()
                .is_some_and(|kind| kind != Unavailability::Damaged)
    }

    /// Whether the connection was lost before anything was committed, or the transaction was
    /// another one's victim: it may be done again.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Postgres(error) => {
                postgres::is_transient(error)
                    || postgres::unavailability(error) == Some(Unavailability::Unreachable)
            }
            _ => false,
        }
    }
}

/// Whether an error of SQLite says that the content of the file is damaged.
pub(crate) fn is_damage(error: &DbErr) -> bool {
    sqlite_code(error).is_some_and(sqlite::is_damage)
}

fn unavailability(error: &DbErr) -> Option<Unavailability> {
    match error {
        DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => return Some(Unavailability::Timeout),
        DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed) => {
            return Some(Unavailability::Unreachable);
        }
        _ => {}
    }
    match cause(error)? {
        sqlx::Error::PoolTimedOut => Some(Unavailability::Timeout),
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed | sqlx::Error::Io(_) => {
            Some(Unavailability::Unreachable)
        }
        _ => sqlite::unavailability(sqlite_code(error)?),
    }
}

fn cause(error: &DbErr) -> Option<&sqlx::Error> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(cause))
        | DbErr::Exec(RuntimeErr::SqlxError(cause))
        | DbErr::Query(RuntimeErr::SqlxError(cause)) => Some(cause),
        _ => None,
    }
}

/// SQLite's extended result code.
fn sqlite_code(error: &DbErr) -> Option<i32> {
    match cause(error)? {
        sqlx::Error::Database(refusal) => refusal.code()?.parse().ok(),
        _ => None,
    }
}

impl From<StoreFault> for StoreError {
    fn from(fault: StoreFault) -> Self {
        match fault.unavailability() {
            Some(kind) => Self::Unavailable(kind, Box::new(fault)),
            // The conflict lasted longer than the retries.
            None if fault.is_transient() => {
                Self::Unavailable(Unavailability::Timeout, Box::new(fault))
            }
            None => Self::Internal(Box::new(fault)),
        }
    }
}
