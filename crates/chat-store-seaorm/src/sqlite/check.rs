//! The integrity check of a database that was not closed cleanly.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, Statement};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::error::StoreFault;

/// How long a server waits for the check before it serves. The check of a larger database continues
/// while the server works.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// How many instructions of SQLite's machine run between two looks at whether the check is still
/// wanted.
const INSTRUCTIONS: i32 = 10_000;

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The database is whole, as far as the check sees.
    Whole,
    /// The database is damaged, in this way.
    Damaged(String),
    /// The check was cancelled, or could not be done.
    Unknown(String),
}

/// A check that runs on a connection of its own.
#[derive(Debug)]
pub(super) struct Check {
    cancelled: Arc<AtomicBool>,
    work: JoinHandle<Finding>,
}

impl Check {
    /// Starts to check the database of this connection, and closes the connection at the end.
    pub(super) async fn start(connection: DatabaseConnection) -> Result<Self, DbErr> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let is_cancelled = Arc::clone(&cancelled);
        let conn_err = |error: sea_orm::sqlx::Error| {
            DbErr::Conn(sea_orm::RuntimeErr::SqlxError(Arc::new(error)))
        };
        let mut handled = connection
            .get_sqlite_connection_pool()
            .acquire()
            .await
            .map_err(conn_err)?;
        handled
            .lock_handle()
            .await
            .map_err(conn_err)?
            .set_progress_handler(INSTRUCTIONS, move || !is_cancelled.load(Ordering::Relaxed));
        drop(handled);
        let work = tokio::spawn(async move {
            let finding = check(&connection).await;
            if let Err(error) = connection.close().await {
                tracing::warn!(%error, "the connection of the integrity check did not close");
            }
            finding
        });
        Ok(Self { cancelled, work })
    }

    /// Waits for the finding, at most for `limit`; `None` if the check still runs then.
    pub(super) async fn finding(&mut self, limit: Duration) -> Option<Finding> {
        timeout(limit, &mut self.work)
            .await
            .ok()
            .map(|done| done.unwrap_or_else(|error| Finding::Unknown(error.to_string())))
    }

    /// Cancels the check.
    pub(super) fn cancel_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancelled)
    }
}

async fn check(connection: &DatabaseConnection) -> Finding {
    // The first problem is enough.
    let rows = connection
        .query_all_raw(Statement::from_string(
            sea_orm::DbBackend::Sqlite,
            "PRAGMA quick_check(1)",
        ))
        .await;
    match rows.map(|rows| rows.first().map(|row| row.try_get_by::<String, _>(0))) {
        Ok(Some(Ok(word))) if word == "ok" => Finding::Whole,
        Ok(Some(Ok(problem))) => Finding::Damaged(problem),
        Ok(Some(Err(error))) | Err(error) => {
            let fault = StoreFault::from(error);
            if fault.is_damage() {
                Finding::Damaged(fault.to_string())
            } else {
                Finding::Unknown(fault.to_string())
            }
        }
        Ok(None) => Finding::Unknown("no answer".to_owned()),
    }
}
