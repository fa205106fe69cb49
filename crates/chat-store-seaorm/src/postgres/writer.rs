//! The writers of PostgreSQL: several batches at once, each in a transaction of its own.
//!
//! Rows are locked before they are read, conversations in order of their ids, so that batches that
//! meet wait for each other (see `batch/load.rs`). While all lanes are busy, the next batch
//! gathers; a single caller never waits for others.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backend::{Backend, Writer};
use crate::batch::{self, BatchedWrite, QUEUE, TransactionRunner};
use crate::error::StoreFault;
use crate::options::OpenOptions;

/// How many batches are written at the same time, at most: more of them are smaller, and each costs
/// its round trips.
const MAX_LANES: u32 = 8;

/// How many connections there are for each lane: reads need some too.
const CONNECTIONS: u32 = 3;

/// How often a transaction is retried after a transient failure.
const TRIES: u32 = 5;

/// The pause before a transaction is retried, growing with each try.
const PAUSE: Duration = Duration::from_millis(20);

/// Does commands until it is dropped.
pub(crate) struct Lanes {
    queue: mpsc::Sender<BatchedWrite>,
    shared: Arc<Shared>,
    closing: CancellationToken,
}

struct Shared {
    backend: Arc<dyn Backend>,
    queued: Mutex<mpsc::Receiver<BatchedWrite>>,
    /// One for each lane; a holder of all of them is alone.
    permits: Semaphore,
    lanes: u32,
    tasks: TaskTracker,
    runtime: Handle,
    limit: Duration,
}

impl Lanes {
    /// Starts as many lanes as there are connections for, each of which does a batch at a time.
    pub(crate) fn start(backend: Arc<dyn Backend>, options: &OpenOptions) -> Self {
        let lanes = (options.connections / CONNECTIONS).clamp(1, MAX_LANES);
        let (queue, queued) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared {
            backend,
            queued: Mutex::new(queued),
            permits: Semaphore::new(usize::try_from(lanes).unwrap_or(1)),
            lanes,
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
            // The caller should get the error of the database, not only its own timeout.
            limit: options.timeout - options.timeout / 8,
        });
        let closing = CancellationToken::new();
        let batch = options.batch.max(1);
        for _ in 0..lanes {
            shared
                .tasks
                .spawn(keep(Arc::clone(&shared), closing.clone(), batch));
        }
        Self {
            queue,
            shared,
            closing,
        }
    }
}

#[async_trait]
impl Writer for Lanes {
    async fn send(&self, write: BatchedWrite) -> Result<(), StoreFault> {
        if self.closing.is_cancelled() {
            return Err(StoreFault::Closed);
        }
        if write.is_other() {
            let shared = Arc::clone(&self.shared);
            self.shared.tasks.spawn_on(
                async move { shared.write_without_lane(write).await },
                &self.shared.runtime,
            );
            return Ok(());
        }
        self.queue.send(write).await.map_err(|_| StoreFault::Closed)
    }

    fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    async fn close(&self) {
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
    let mut writes = Vec::new();
    loop {
        let mut queued = shared.queued.lock().await;
        let count = tokio::select! {
            count = queued.recv_many(&mut writes, batch) => count,
            () = closing.cancelled() => {
                // Accepted commands are still done.
                queued.close();
                queued.recv_many(&mut writes, batch).await
            }
        };
        let Ok(_permit) = shared.permits.acquire().await else {
            return;
        };
        drop(queued);
        if count == 0 {
            return;
        }
        batch::write(&*shared, std::mem::take(&mut writes)).await;
    }
}

impl Shared {
    /// Does a write that shares no batch with others.
    async fn write_without_lane(&self, write: BatchedWrite) {
        // Such a write decides by those that were begun before it, which must have ended.
        let _all = if write.is_last() {
            self.permits.acquire_many(self.lanes).await.ok()
        } else {
            None
        };
        batch::write(self, vec![write]).await;
    }
}

#[async_trait]
impl TransactionRunner for Shared {
    /// Retries after transient failures.
    async fn transact(&self, writes: &mut [BatchedWrite]) -> Result<(), StoreFault> {
        let deadline = Instant::now() + self.limit;
        let mut uncertain = false;
        let mut pause = Duration::ZERO;
        for tries in 1.. {
            let Err(fault) = batch::transact(
                &*self.backend,
                writes,
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
                && writes.iter().all(BatchedWrite::is_repeatable)
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
