//! Connections that are kept for reuse.

use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::{
    Manager, Metrics, Object, PoolError, QueueMode, RecycleResult, TimeoutType,
};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Error};

use super::session::Session;
use crate::fault::StoreFault;
use crate::open::OpenOptions;

/// A connection that was idle for longer is asked before it is used: networks forget connections
/// without telling.
const IDLE: Duration = Duration::from_secs(10);

/// How long that question may take.
const QUESTION: Duration = Duration::from_secs(1);

/// How much longer than the database's own limit for a statement its answer is waited for.
const GRACE: Duration = Duration::from_secs(1);

/// Connections to one database. Cheap to copy.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    connections: deadpool::managed::Pool<Connector>,
    begin: Arc<str>,
    /// How long a statement's answer is waited for. The database is asked to give up earlier, but
    /// what is silent does not hear that.
    patience: Duration,
}

/// Makes connections.
#[derive(Debug)]
pub(crate) struct Connector(PgConnectOptions);

impl Manager for Connector {
    type Type = PgConnection;
    type Error = Error;

    async fn create(&self) -> Result<PgConnection, Error> {
        self.0.connect().await
    }

    async fn recycle(
        &self,
        connection: &mut PgConnection,
        metrics: &Metrics,
    ) -> RecycleResult<Error> {
        if metrics.last_used() > IDLE {
            connection.ping().await?;
        }
        Ok(())
    }
}

impl Pool {
    /// A pool that connects when it is asked to.
    pub(crate) fn new(
        connect: PgConnectOptions,
        options: &OpenOptions,
    ) -> Result<Self, StoreFault> {
        let connections = deadpool::managed::Pool::builder(Connector(connect))
            .max_size(usize::try_from(options.connections.max(1)).unwrap_or(usize::MAX))
            // Those that are used stay warm.
            .queue_mode(QueueMode::Lifo)
            .wait_timeout(Some(options.acquire_timeout))
            .create_timeout(Some(options.connect_timeout))
            .recycle_timeout(Some(QUESTION))
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .map_err(|error| StoreFault::InvariantViolation(error.to_string()))?;
        let limit = options.statement_timeout.as_millis();
        let settings = [
            format!("statement_timeout = {limit}"),
            // Whoever is stopped in the middle of a transaction must not keep others from the rows
            // it has locked.
            format!("idle_in_transaction_session_timeout = {limit}"),
            // All that is written is found by index, so planning anew for each call gains nothing
            // and costs more than the rest.
            "plan_cache_mode = force_generic_plan".to_owned(),
            "enable_seqscan = off".to_owned(),
        ];
        let begin = settings.iter().fold("BEGIN".to_owned(), |text, setting| {
            text + "; SET LOCAL " + setting
        });
        Ok(Self {
            connections,
            begin: begin.into(),
            patience: options.statement_timeout + GRACE,
        })
    }

    /// A connection on which each statement is a transaction of its own.
    pub(crate) async fn session(&self) -> Result<Session, StoreFault> {
        let connection = self.connections.get().await.map_err(|error| match error {
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
        Ok(Session::new(connection, self.clone()))
    }

    /// A connection in a transaction that will write.
    pub(crate) async fn begin(&self) -> Result<Session, StoreFault> {
        let mut session = self.session().await?;
        session.begin(&self.begin).await?;
        Ok(session)
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Throws the idle connections away: one has broken, and most likely they all have.
    pub(super) fn distrust(&self) {
        self.connections.retain(|_, _| false);
    }

    /// Lets nobody in any more, and closes what is idle.
    pub(crate) fn close(&self) {
        self.connections.close();
    }
}

/// A connection out of the pool.
pub(super) type Borrowed = Object<Connector>;
