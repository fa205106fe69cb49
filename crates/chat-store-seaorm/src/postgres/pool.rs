//! Connections that are kept for reuse.

use std::sync::Arc;

use async_trait::async_trait;
use deadpool::managed::{PoolError, TimeoutType};
use sqlx::Error;
use sqlx::postgres::PgConnectOptions;

use super::connections::Connections;
use super::session::Session;
use super::writer::Lanes;
use crate::backend::{Backend, Writer};
use crate::columns::{Columns, column};
use crate::connection::{Connection, Transaction};
use crate::error::StoreFault;
use crate::options::OpenOptions;
use crate::row::Row;
use crate::sql::Sql;

/// A pool of connections to one database.
#[derive(Debug)]
pub(crate) struct Pool {
    connections: Connections,
    /// The statements that begin a transaction.
    begin: String,
}

impl Pool {
    /// A pool that connects when it is asked to.
    pub(crate) fn new(
        connect: PgConnectOptions,
        options: &OpenOptions,
    ) -> Result<Self, StoreFault> {
        let limit = options.statement_timeout.as_millis();
        let settings = [
            format!("statement_timeout = {limit}"),
            // A process that is stopped in the middle of a transaction must not keep others from
            // the rows it has locked.
            format!("idle_in_transaction_session_timeout = {limit}"),
            // Every statement finds its rows by index, so a new plan for each call gains nothing
            // and costs more than the rest.
            "plan_cache_mode = force_generic_plan".to_owned(),
            "enable_seqscan = off".to_owned(),
        ];
        let begin = settings.iter().fold("BEGIN".to_owned(), |text, setting| {
            text + "; SET LOCAL " + setting
        });
        Ok(Self {
            connections: Connections::new(connect, options)?,
            begin,
        })
    }

    /// A connection on which each statement is a transaction of its own.
    pub(crate) async fn session(&self) -> Result<Session, StoreFault> {
        let connection = self
            .connections
            .pool
            .get()
            .await
            .map_err(|error| match error {
                PoolError::Timeout(TimeoutType::Wait) => StoreFault::TimedOut,
                PoolError::Timeout(_) => {
                    StoreFault::Connect(Arc::new(Error::Io(std::io::ErrorKind::TimedOut.into())))
                }
                PoolError::Backend(error) => StoreFault::Connect(Arc::new(error)),
                PoolError::Closed => StoreFault::Closed,
                error @ (PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_)) => {
                    StoreFault::InvariantViolation(error.to_string())
                }
            })?;
        Ok(Session::new(connection, self.connections.clone()))
    }
}

#[async_trait]
impl Backend for Pool {
    async fn begin(&self) -> Result<Box<dyn Transaction>, StoreFault> {
        let mut session = self.session().await?;
        session.begin(&self.begin).await?;
        Ok(Box::new(session))
    }

    async fn reader(&self) -> Result<Box<dyn Connection>, StoreFault> {
        Ok(Box::new(self.session().await?))
    }

    fn start_writer(self: Arc<Self>, options: &OpenOptions) -> Box<dyn Writer> {
        Box::new(Lanes::start(self, options))
    }

    fn is_exclusive(&self) -> bool {
        false
    }

    async fn ping(&self, connection: &dyn Connection) -> Result<(), StoreFault> {
        const SETTINGS: Columns = Columns::new(
            "settings",
            "CAST(current_setting('transaction_read_only') AS BOOLEAN) AS read_only",
        );
        // Reads the table, not only memory.
        let read = Sql::new("SELECT id FROM workers LIMIT 1");
        connection.query(read).await?;
        // A standby answers, too.
        let query = Sql::new("SELECT {columns}").text("columns", SETTINGS.text);
        let found = connection.query(query).await?;
        let is_read_only = found
            .first()
            .map(|row| Row::new(&SETTINGS, row).get(column!(SETTINGS, "read_only")));
        if is_read_only.transpose()?.unwrap_or(false) {
            return Err(StoreFault::ReadOnly);
        }
        Ok(())
    }

    async fn close(&self) {
        self.connections.pool.close();
    }
}
