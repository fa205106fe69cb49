//! Connections to a database, whichever it is.

use async_trait::async_trait;
use sea_orm::QueryResult;

use crate::error::StoreFault;
use crate::sql::Sql;

/// A connection, in a transaction or not.
#[async_trait]
pub(crate) trait Connection: Send + Sync {
    /// Runs a statement; returns how many rows it changed.
    async fn execute(&self, sql: Sql) -> Result<u64, StoreFault>;

    /// Runs these statements, in any order; returns how many rows each of the updates has changed.
    async fn execute_all(
        &self,
        inserts: Vec<Sql>,
        updates: Vec<Sql>,
    ) -> Result<Vec<u64>, StoreFault>;

    /// Runs a query; returns its rows.
    async fn query(&self, sql: Sql) -> Result<Vec<QueryResult>, StoreFault>;

    /// Whether damage that a statement meets is of its rows alone, so that the transaction can go
    /// on without them. Otherwise it is of the whole database.
    fn confines_damage(&self) -> bool;
}

/// A connection in a transaction, which is rolled back when it is dropped.
#[async_trait]
pub(crate) trait Transaction: Connection {
    /// Makes durable what was done.
    async fn commit(self: Box<Self>) -> Result<(), StoreFault>;
}

impl Sql {
    /// Runs the statement; returns how many rows it changed.
    pub(crate) async fn execute(self, db: &dyn Connection) -> Result<u64, StoreFault> {
        db.execute(self).await
    }

    /// Runs the query; returns its rows.
    pub(crate) async fn query(self, db: &dyn Connection) -> Result<Vec<QueryResult>, StoreFault> {
        db.query(self).await
    }
}
