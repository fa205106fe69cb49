//! Connections to SQLite.

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, QueryResult, Statement};

use crate::connection::{Connection, Transaction};
use crate::error::StoreFault;
use crate::sql::{Bound, Dialect, Sql, Value};

#[async_trait]
impl<C: ConnectionTrait + Send + Sync> Connection for C {
    async fn execute(&self, sql: Sql) -> Result<u64, StoreFault> {
        Ok(self.execute_raw(statement(sql)).await?.rows_affected())
    }

    async fn execute_all(
        &self,
        inserts: Vec<Sql>,
        updates: Vec<Sql>,
    ) -> Result<Vec<u64>, StoreFault> {
        for insert in inserts {
            Connection::execute(self, insert).await?;
        }
        let mut changed = Vec::new();
        for update in updates {
            changed.push(Connection::execute(self, update).await?);
        }
        Ok(changed)
    }

    async fn query(&self, sql: Sql) -> Result<Vec<QueryResult>, StoreFault> {
        Ok(self.query_all_raw(statement(sql)).await?)
    }

    fn confines_damage(&self) -> bool {
        false
    }
}

#[async_trait]
impl Transaction for DatabaseTransaction {
    async fn commit(self: Box<Self>) -> Result<(), StoreFault> {
        Ok((*self).commit().await?)
    }
}

fn statement(sql: Sql) -> Statement {
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
