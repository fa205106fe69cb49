//! One connection to the database, as the rest of the store sees it.

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, QueryResult, Statement,
};

use crate::error::StoreFault;
use crate::postgres::Session;
use crate::sql::{Bound, Dialect, Sql, Value};

/// A connection, or an open transaction on one. A transaction that is dropped without
/// [`commit`](Self::commit) is undone.
pub(crate) enum Db {
    /// Connections to SQLite that read.
    Sqlite(DatabaseConnection),
    /// SQLite's one writing transaction.
    SqliteTransaction(DatabaseTransaction),
    /// A connection to PostgreSQL, in a transaction or not.
    Postgres(Session),
}

impl Db {
    /// Runs a statement; returns how many rows it changed.
    pub(crate) async fn execute(&self, sql: Sql) -> Result<u64, StoreFault> {
        match self {
            Self::Sqlite(db) => Ok(db.execute_raw(for_sqlite(sql)).await?.rows_affected()),
            Self::SqliteTransaction(db) => {
                Ok(db.execute_raw(for_sqlite(sql)).await?.rows_affected())
            }
            Self::Postgres(session) => session.execute(sql).await,
        }
    }

    /// Runs these statements, in any order; returns how many rows each of the updates has changed.
    pub(crate) async fn execute_all(
        &self,
        inserts: Vec<Sql>,
        updates: Vec<Sql>,
    ) -> Result<Vec<u64>, StoreFault> {
        if let (Self::Postgres(session), true) = (self, inserts.len() + updates.len() > 1) {
            return session.execute_as_one(inserts, updates).await;
        }
        for insert in inserts {
            self.execute(insert).await?;
        }
        let mut changed = Vec::new();
        for update in updates {
            changed.push(self.execute(update).await?);
        }
        Ok(changed)
    }

    /// Runs a query; returns its rows.
    pub(crate) async fn all(&self, sql: Sql) -> Result<Vec<QueryResult>, StoreFault> {
        match self {
            Self::Sqlite(db) => Ok(db.query_all_raw(for_sqlite(sql)).await?),
            Self::SqliteTransaction(db) => Ok(db.query_all_raw(for_sqlite(sql)).await?),
            Self::Postgres(session) => session.all(sql).await,
        }
    }

    /// Makes durable what was done.
    pub(crate) async fn commit(self) -> Result<(), StoreFault> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::SqliteTransaction(db) => Ok(db.commit().await?),
            Self::Postgres(session) => session.commit().await,
        }
    }
}

impl Sql {
    /// Runs it; returns how many rows it changed.
    pub(crate) async fn execute(self, db: &Db) -> Result<u64, StoreFault> {
        db.execute(self).await
    }

    /// Runs it; returns its rows.
    pub(crate) async fn all(self, db: &Db) -> Result<Vec<QueryResult>, StoreFault> {
        db.all(self).await
    }
}

fn for_sqlite(sql: Sql) -> Statement {
    let (text, bound) = sql.render(Dialect::Sqlite);
    let values = bound.into_iter().flat_map(|bound| match bound {
        Bound::One(value) => vec![value],
        Bound::Column(values) => values,
    });
    Statement::from_sql_and_values(DbBackend::Sqlite, text, values.map(sea_orm::Value::from))
}

impl From<Value> for sea_orm::Value {
    fn from(value: Value) -> Self {
        match value {
            Value::Bool(value) => value.into(),
            Value::Number(value) => value.into(),
            Value::Text(value) | Value::Json(value) => value.into(),
            Value::Uuid(value) => value.into(),
            Value::Bytes(value) => value.into(),
        }
    }
}
