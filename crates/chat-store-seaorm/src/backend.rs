//! Where connections come from, on either database.

use std::sync::Arc;

use crate::db::Db;
use crate::error::StoreFault;
use crate::options::{OpenError, OpenOptions};
use crate::postgres::{self, Pool};
use crate::sql::{Row, Sql};
use crate::sqlite::{self, Sqlite};

/// An open database. Cheap to copy.
#[derive(Clone)]
pub(crate) enum Backend {
    Sqlite(Arc<Sqlite>),
    Postgres(Pool),
}

impl Backend {
    /// Takes the database for this process, or joins the others that serve it, and brings it to
    /// where the store can use it.
    pub(crate) async fn open(url: &str, options: &OpenOptions) -> Result<Self, OpenError> {
        match url.split_once(':') {
            Some(("sqlite", _)) => Ok(Self::Sqlite(Arc::new(Sqlite::open(url, options).await?))),
            Some(("postgres" | "postgresql", _)) => {
                Ok(Self::Postgres(postgres::open(url, options).await?))
            }
            _ => Err(OpenError::Url {
                reason: "it begins with neither `sqlite:` nor `postgres:`".to_owned(),
            }),
        }
    }

    /// A transaction that will write.
    pub(crate) async fn begin(&self) -> Result<Db, StoreFault> {
        match self {
            Self::Sqlite(sqlite) => Ok(Db::SqliteTransaction(sqlite::begin(&sqlite.writer).await?)),
            Self::Postgres(pool) => Ok(Db::Postgres(pool.begin().await?)),
        }
    }

    /// A connection that reads; each statement sees what was committed when it began.
    pub(crate) async fn reader(&self) -> Result<Db, StoreFault> {
        match self {
            Self::Sqlite(sqlite) => Ok(Db::Sqlite(sqlite.readers.clone())),
            Self::Postgres(pool) => Ok(Db::Postgres(pool.session().await?)),
        }
    }

    /// Refuses a database to which nothing can be written durably.
    pub(crate) fn check(&self) -> Result<(), StoreFault> {
        match self {
            Self::Sqlite(sqlite) if !sqlite.is_in_place() => Err(StoreFault::FileReplaced),
            Self::Sqlite(sqlite) if sqlite.is_damaged() => Err(StoreFault::Damaged),
            _ => Ok(()),
        }
    }

    /// The fault that a caller gets: see [`Sqlite::explain`].
    pub(crate) fn explain(&self, fault: StoreFault) -> StoreFault {
        match self {
            Self::Sqlite(sqlite) => sqlite.explain(fault),
            Self::Postgres(_) => fault,
        }
    }

    /// Whether the database answers, and takes writes.
    pub(crate) async fn ping(&self, db: &Db) -> Result<(), StoreFault> {
        // A page of the file or the table, not only of the database's mind.
        Sql::new("SELECT id FROM workers LIMIT 1").all(db).await?;
        if matches!(self, Self::Postgres(_)) {
            // On a standby too.
            let found =
                Sql::new("SELECT CAST(current_setting('transaction_read_only') AS BOOLEAN)")
                    .all(db)
                    .await?;
            let row = found.first().map(|row| Row::new("settings", 0, row));
            if row.is_some_and(|row| row.get(0, "transaction_read_only").unwrap_or(false)) {
                return Err(StoreFault::ReadOnly);
            }
        }
        Ok(())
    }

    /// Closes all connections and lets the database go.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(sqlite) => sqlite.close().await,
            Self::Postgres(pool) => pool.close(),
        }
    }
}
