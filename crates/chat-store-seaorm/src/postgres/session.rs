//! A connection in use.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use sea_orm::QueryResult;
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::{Arguments, AssertSqlSafe, Error, Executor};
use tokio::sync::Mutex;
use tokio::time::timeout;
use uuid::Uuid;

use super::connections::{Borrowed, Connections};
use super::errors::unavailability;
use crate::connection::{Connection, Transaction};
use crate::error::StoreFault;
use crate::sql::{Bound, Dialect, Sql, Value};

/// A connection in use, in a transaction or not.
///
/// It goes back to its pool only if all that was done on it ended well. In any other case it is
/// closed: after an error or a dropped call its state in the database is unknown (a dropped
/// `BEGIN` of sqlx 0.9 would leave the next user inside a transaction that is never committed).
pub(crate) struct Session {
    /// `None` only while this is dropped.
    connection: Mutex<Option<Borrowed>>,
    connections: Connections,
    /// Whether the database has answered all that it was asked, and well.
    at_rest: AtomicBool,
    in_transaction: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(connection: Borrowed, connections: Connections) -> Self {
        Self {
            connection: Mutex::new(Some(connection)),
            connections,
            at_rest: AtomicBool::new(true),
            in_transaction: false,
        }
    }

    pub(super) async fn begin(&mut self, text: &str) -> Result<(), StoreFault> {
        self.in_transaction = true;
        self.simple(text.to_owned()).await
    }

    /// Runs statements that change rows as one, in one round trip. Returns how many rows each
    /// of the updates has changed.
    async fn execute_as_one(
        &self,
        inserts: Vec<Sql>,
        updates: Vec<Sql>,
    ) -> Result<Vec<u64>, StoreFault> {
        let count_of_updates = updates.len();
        let inserts = inserts
            .into_iter()
            .enumerate()
            .map(|(place, insert)| Sql::new(format!("i{place} AS (")).append(insert));
        let updates = updates.into_iter().enumerate().map(|(place, update)| {
            Sql::new(format!("u{place} AS ("))
                .append(update)
                .append(Sql::new(" RETURNING 1"))
        });
        let mut all = Sql::new("WITH ");
        for (place, statement) in inserts.chain(updates).enumerate() {
            if place > 0 {
                all = all.append(Sql::new(", "));
            }
            all = all.append(statement).append(Sql::new(")"));
        }
        let counts: Vec<_> = (0..count_of_updates)
            .map(|place| format!("(SELECT COUNT(*) FROM u{place})"))
            .collect();
        let counts = Sql::new(format!(" SELECT {}", counts.join(", ")));
        let rows = self.query(all.append(counts)).await?;
        let row = rows
            .first()
            .ok_or_else(|| StoreFault::InvariantViolation("a count without a row".to_owned()))?;
        let count = |place| -> Result<u64, StoreFault> {
            let count: i64 = row.try_get_by(place)?;
            Ok(count.unsigned_abs())
        };
        (0..count_of_updates).map(count).collect()
    }

    /// Runs statements that need no preparing.
    async fn simple(&self, text: String) -> Result<(), StoreFault> {
        self.ask(async move |connection| {
            connection.execute(sqlx::raw_sql(AssertSqlSafe(text))).await
        })
        .await
        .map(drop)
    }

    /// Asks the database, and waits for its answer as long as is reasonable.
    async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&mut PgConnection) -> Result<T, Error>,
    ) -> Result<T, StoreFault> {
        let mut connection = self.connection.lock().await;
        let connection = connection.as_mut().ok_or(StoreFault::Closed)?;
        self.at_rest.store(false, Ordering::Relaxed);
        let answer = timeout(self.connections.answer_time, question(connection)).await;
        match answer {
            Ok(Ok(answer)) => {
                self.at_rest.store(true, Ordering::Relaxed);
                Ok(answer)
            }
            Ok(Err(error)) => {
                if unavailability(&error).is_some() {
                    self.connections.close_idle();
                }
                Err(StoreFault::of(Arc::new(error)))
            }
            Err(_) => {
                self.connections.close_idle();
                Err(StoreFault::TimedOut)
            }
        }
    }
}

#[async_trait]
impl Connection for Session {
    async fn execute(&self, sql: Sql) -> Result<u64, StoreFault> {
        let (text, arguments) = rendered(sql)?;
        let done = self.ask(async move |connection| {
            sqlx::query_with(AssertSqlSafe(text), arguments)
                .execute(connection)
                .await
        });
        Ok(done.await?.rows_affected())
    }

    /// Runs several statements as one, in one round trip.
    async fn execute_all(
        &self,
        inserts: Vec<Sql>,
        updates: Vec<Sql>,
    ) -> Result<Vec<u64>, StoreFault> {
        match (inserts.len(), updates.len()) {
            (0, 0) => Ok(Vec::new()),
            (1, 0) | (0, 1) => {
                let mut changed = Vec::new();
                for insert in inserts {
                    self.execute(insert).await?;
                }
                for update in updates {
                    changed.push(self.execute(update).await?);
                }
                Ok(changed)
            }
            _ => self.execute_as_one(inserts, updates).await,
        }
    }

    async fn query(&self, sql: Sql) -> Result<Vec<QueryResult>, StoreFault> {
        let (text, arguments) = rendered(sql)?;
        let rows = self.ask(async move |connection| {
            sqlx::query_with(AssertSqlSafe(text), arguments)
                .fetch_all(connection)
                .await
        });
        Ok(rows.await?.into_iter().map(QueryResult::from).collect())
    }

    fn confines_damage(&self) -> bool {
        true
    }
}

#[async_trait]
impl Transaction for Session {
    async fn commit(mut self: Box<Self>) -> Result<(), StoreFault> {
        let committed = self.simple("COMMIT".to_owned()).await;
        self.in_transaction = committed.is_err();
        // Until it is answered, its outcome is unknown.
        committed.map_err(|fault| {
            if fault.unavailability().is_some() {
                StoreFault::CommitOutcomeUnknown(Box::new(fault))
            } else {
                fault
            }
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let keep = *self.at_rest.get_mut() && !self.in_transaction;
        if let Some(connection) = self.connection.get_mut().take()
            && !keep
        {
            // Out of the pool; dropped, the socket is closed, and the database undoes what was not
            // committed.
            drop(Borrowed::take(connection));
        }
    }
}

fn rendered(sql: Sql) -> Result<(String, PgArguments), StoreFault> {
    let (text, bound) = sql.render(Dialect::Postgres);
    let mut arguments = PgArguments::default();
    for bound in bound {
        let added = match bound {
            Bound::One(value) => add(&mut arguments, value),
            Bound::Column(column) => add_column(&mut arguments, column),
        };
        added.map_err(|error| {
            StoreFault::InvariantViolation(format!("a value cannot be sent: {error}"))
        })?;
    }
    Ok((text, arguments))
}

fn add(arguments: &mut PgArguments, value: Value) -> Result<(), sqlx::error::BoxDynError> {
    match value {
        Value::Bool(value) => arguments.add(value),
        Value::Number(value) => arguments.add(value),
        Value::Text(value) | Value::Json(value) => arguments.add(value),
        Value::Uuid(value) => arguments.add(value),
        Value::Bytes(value) => arguments.add(value),
    }
}

/// A column has values of one type: they come from one field of one kind of row.
fn add_column(
    arguments: &mut PgArguments,
    column: Vec<Value>,
) -> Result<(), sqlx::error::BoxDynError> {
    match column.first() {
        Some(Value::Bool(_)) => arguments.add(
            column
                .into_iter()
                .map(|value| {
                    if let Value::Bool(value) = value {
                        Some(value)
                    } else {
                        None
                    }
                })
                .collect::<Vec<_>>(),
        ),
        Some(Value::Number(_)) => arguments.add(
            column
                .into_iter()
                .map(|value| {
                    if let Value::Number(value) = value {
                        value
                    } else {
                        None
                    }
                })
                .collect::<Vec<_>>(),
        ),
        Some(Value::Text(_) | Value::Json(_)) => arguments.add(
            column
                .into_iter()
                .map(|value| {
                    if let Value::Text(value) | Value::Json(value) = value {
                        value
                    } else {
                        None
                    }
                })
                .collect::<Vec<Option<String>>>(),
        ),
        Some(Value::Uuid(_)) => arguments.add(
            column
                .into_iter()
                .map(|value| {
                    if let Value::Uuid(value) = value {
                        value
                    } else {
                        None
                    }
                })
                .collect::<Vec<Option<Uuid>>>(),
        ),
        Some(Value::Bytes(_)) => arguments.add(
            column
                .into_iter()
                .map(|value| {
                    if let Value::Bytes(value) = value {
                        value
                    } else {
                        None
                    }
                })
                .collect::<Vec<Option<Vec<u8>>>>(),
        ),
        None => arguments.add(Vec::<String>::new()),
    }
}
