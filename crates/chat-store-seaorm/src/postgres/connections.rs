//! The connections of a pool, and how they are made.

use std::time::Duration;

use deadpool::managed::{Manager, Metrics, Object, QueueMode, RecycleResult};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Error};

use crate::error::StoreFault;
use crate::options::OpenOptions;

/// A connection that was idle for longer is tested before use, because networks drop idle
/// connections silently.
const IDLE: Duration = Duration::from_secs(10);

/// How long that test may take.
const QUESTION: Duration = Duration::from_secs(1);

/// How much longer than the database's own limit for a statement its answer is waited for.
const GRACE: Duration = Duration::from_secs(1);

/// Connections to one database. Cheap to copy.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    pub(super) pool: deadpool::managed::Pool<Connector>,
    /// How long an answer to a statement may take. The database's own timeout is shorter, but
    /// a silent network does not tell it.
    pub(super) answer_time: Duration,
}

/// A connection out of the pool.
pub(super) type Borrowed = Object<Connector>;

impl Connections {
    pub(super) fn new(
        connect: PgConnectOptions,
        options: &OpenOptions,
    ) -> Result<Self, StoreFault> {
        let pool = deadpool::managed::Pool::builder(Connector(connect))
            .max_size(usize::try_from(options.connections.max(1)).unwrap_or(usize::MAX))
            // Those that are used stay warm.
            .queue_mode(QueueMode::Lifo)
            .wait_timeout(Some(options.acquire_timeout))
            .create_timeout(Some(options.connect_timeout))
            .recycle_timeout(Some(QUESTION))
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .map_err(|error| StoreFault::InvariantViolation(error.to_string()))?;
        Ok(Self {
            pool,
            answer_time: options.statement_timeout + GRACE,
        })
    }

    /// Closes the idle connections: one has broken, and most likely they all have.
    pub(super) fn close_idle(&self) {
        self.pool.retain(|_, _| false);
    }
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
