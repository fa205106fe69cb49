//! The writers of PostgreSQL: several batches at once, each in a transaction of its own.
//!
//! Rows are locked before they are read, conversations in order of their ids, so that batches that
//! meet wait for each other (see `turns/load.rs`). While all lanes are busy, the next batch
//! gathers; a lone caller never waits for company.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::pool::Pool;
use crate::backend::Backend;
use crate::batch::{self, QUEUE, TransactionRunner, write};
use crate::error::StoreFault;
use crate::job::BatchedWrite;

/// How often a transaction is retried after a transient failure.
const TRIES: u32 = 5;

/// The pause before a transaction is retried, growing with each try.
const PAUSE: Duration = Duration::from_millis(20);

/// Does commands until it is dropped.
pub(crate) struct Lanes {
    jobs: mpsc::Sender<BatchedWrite>,
    shared: Arc<Shared>,
    closing: CancellationToken,
}

struct Shared {
    source: Backend,
    waiting: Mutex<mpsc::Receiver<BatchedWrite>>,
    /// One for each lane; a holder of all of them is alone.
    permits: Semaphore,
    lanes: u32,
    tasks: TaskTracker,
    runtime: Handle,
    limit: Duration,
}

impl Lanes {
    /// Starts so many `lanes`, each of which does at most `batch` commands at once, within
    /// `limit`.
    pub(crate) fn start(pool: Pool, batch: usize, lanes: u32, limit: Duration) -> Self {
        let lanes = lanes.max(1);
        let (jobs, waiting) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared {
            source: Backend::Postgres(pool),
            waiting: Mutex::new(waiting),
            permits: Semaphore::new(usize::try_from(lanes).unwrap_or(1)),
            lanes,
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
            limit,
        });
        let closing = CancellationToken::new();
        for _ in 0..lanes {
            shared
                .tasks
                .spawn(keep(Arc::clone(&shared), closing.clone(), batch));
        }
        Self {
            jobs,
            shared,
            closing,
        }
    }

    pub(crate) async fn send(&self, job: BatchedWrite) -> Result<(), StoreFault> {
        if self.closing.is_cancelled() {
            return Err(StoreFault::Closed);
        }
        if job.is_other() {
            let shared = Arc::clone(&self.shared);
            self.shared.tasks.spawn_on(
                async move { shared.beside(job).await },
                &self.shared.runtime,
            );
            return Ok(());
        }
        self.jobs.send(job).await.map_err(|_| StoreFault::Closed)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.jobs.is_closed()
    }

    pub(crate) async fn close(&self) {
        self.closing.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

/// Keeps a lane in use: a mistake in one batch must not end it for all that come later.
async fn keep(shared: Arc<Shared>, closing: CancellationToken, batch: usize) {
    while tokio::spawn(lane(Arc::clone(&shared), closing.clone(), batch))
        .await
        .is_err_and(|stopped| stopped.is_panic())
    {}
}

/// Does the queued commands, until no caller can send any more.
async fn lane(shared: Arc<Shared>, closing: CancellationToken, batch: usize) {
    let mut jobs = Vec::new();
    loop {
        let mut waiting = shared.waiting.lock().await;
        let count = tokio::select! {
            count = waiting.recv_many(&mut jobs, batch) => count,
            () = closing.cancelled() => {
                // Accepted commands are still done.
                waiting.close();
                waiting.recv_many(&mut jobs, batch).await
            }
        };
        let Ok(_permit) = shared.permits.acquire().await else {
            return;
        };
        drop(waiting);
        if count == 0 {
            return;
        }
        write(&*shared, std::mem::take(&mut jobs)).await;
    }
}

impl Shared {
    /// Does a command that needs no lane.
    async fn beside(&self, job: BatchedWrite) {
        // It decides by what was begun before it: that must have come to its end.
        let _all = if job.is_last() {
            self.permits.acquire_many(self.lanes).await.ok()
        } else {
            None
        };
        write(self, vec![job]).await;
    }
}

#[async_trait]
impl TransactionRunner for Shared {
    /// Retries after transient failures.
    async fn transact(&self, jobs: &mut [BatchedWrite]) -> Result<(), StoreFault> {
        let deadline = Instant::now() + self.limit;
        let mut uncertain = false;
        let mut pause = Duration::ZERO;
        for tries in 1.. {
            let Err(fault) = batch::transact(
                &self.source,
                jobs,
                deadline.saturating_duration_since(Instant::now()),
            )
            .await
            else {
                return Ok(());
            };
            // A COMMIT without an answer was done or not. Done again under the same ids, it says
            // which.
            uncertain |= matches!(fault, StoreFault::CommitOutcomeUnknown(_));
            let worthwhile = if uncertain {
                fault.unavailability().is_some()
            } else {
                fault.is_passing() && tries < TRIES
            };
            if !(worthwhile
                && jobs.iter().all(BatchedWrite::is_repeatable)
                && Instant::now() + pause < deadline)
            {
                return Err(fault);
            }
            tracing::warn!(error = %fault, tries, uncertain, "transient transaction failure, retrying");
            sleep(pause).await;
            pause += PAUSE;
        }
        Ok(())
    }
}
