//! Connections that are kept for reuse.

use std::sync::Arc;

use deadpool::managed::{PoolError, TimeoutType};
use sqlx::Error;
use sqlx::postgres::PgConnectOptions;

use super::connections::Connections;
use super::session::Session;
use crate::error::StoreFault;
use crate::options::OpenOptions;

/// A pool of connections to one database. Cheap to copy.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    connections: Connections,
    begin: Arc<str>,
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
            begin: begin.into(),
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

    /// A connection in a transaction that will write.
    pub(crate) async fn begin(&self) -> Result<Session, StoreFault> {
        let mut session = self.session().await?;
        session.begin(&self.begin).await?;
        Ok(session)
    }

    /// Refuses further callers, and closes the idle connections.
    pub(crate) fn close(&self) {
        self.connections.pool.close();
    }
}
