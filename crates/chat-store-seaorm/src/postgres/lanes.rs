//! The writers of PostgreSQL: several batches at once, each in a transaction of its own.
//!
//! Rows are locked before they are read, conversations in order of their ids, so that batches that meet wait for each other (see
//! `turns/load.rs`). While all lanes are busy, the next batch gathers; a lone caller never waits for company.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::pool::Pool;
use crate::batch::{self, Transact, write};
use crate::fault::Fault;
use crate::job::Job;
use crate::source::Source;
use crate::writer::WAITING;

/// How often a transaction that failed in passing is begun anew.
const TRIES: u32 = 5;

/// The pause before a transaction is begun anew, growing with each try.
const PAUSE: Duration = Duration::from_millis(20);

/// Does commands until it is dropped.
pub(crate) struct Lanes {
    jobs: mpsc::Sender<Job>,
    shared: Arc<Shared>,
    closing: CancellationToken,
}

struct Shared {
    source: Source,
    free: Arc<Semaphore>,
    lanes: u32,
    tasks: TaskTracker,
    runtime: Handle,
    limit: Duration,
}

impl Lanes {
    /// Lets so many `lanes` work beside each other, each on at most `batch` commands at once, for at most `limit`.
    pub(crate) fn start(pool: Pool, batch: usize, lanes: u32, limit: Duration) -> Self {
        let lanes = lanes.max(1);
        let (jobs, waiting) = mpsc::channel(WAITING);
        let shared = Arc::new(Shared {
            source: Source::Postgres(pool),
            free: Arc::new(Semaphore::new(usize::try_from(lanes).unwrap_or(1))),
            lanes,
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
            limit,
        });
        let closing = CancellationToken::new();
        shared.tasks.spawn(gather(Arc::clone(&shared), waiting, closing.clone(), batch));
        Self { jobs, shared, closing }
    }

    pub(crate) async fn send(&self, job: Job) -> Result<(), Fault> {
        if self.closing.is_cancelled() {
            return Err(Fault::Closed);
        }
        if job.is_other() {
            let shared = Arc::clone(&self.shared);
            self.shared.tasks.spawn_on(async move { shared.beside(job).await }, &self.shared.runtime);
            return Ok(());
        }
        self.jobs.send(job).await.map_err(|_| Fault::Closed)
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

/// Hands what waits to the next free lane.
async fn gather(shared: Arc<Shared>, mut waiting: mpsc::Receiver<Job>, closing: CancellationToken, batch: usize) {
    loop {
        let first = tokio::select! {
            first = waiting.recv() => first,
            () = closing.cancelled() => {
                // What was let in is done still.
                waiting.close();
                waiting.recv().await
            }
        };
        let Some(first) = first else { return };
        let Ok(lane) = Arc::clone(&shared.free).acquire_owned().await else { return };
        let mut jobs = vec![first];
        while jobs.len() < batch
            && let Ok(another) = waiting.try_recv()
        {
            jobs.push(another);
        }
        let work = Arc::clone(&shared);
        shared.tasks.spawn(async move {
            write(&*work, jobs).await;
            drop(lane);
        });
    }
}

impl Shared {
    /// Does a command that needs no lane.
    async fn beside(&self, job: Job) {
        // It decides by what was begun before it: that must have come to its end.
        let _all = if job.is_last() { self.free.acquire_many(self.lanes).await.ok() } else { None };
        write(self, vec![job]).await;
    }
}

#[async_trait]
impl Transact for Shared {
    /// Begins anew what failed in passing.
    async fn transact(&self, jobs: &mut [Job]) -> Result<(), Fault> {
        let deadline = Instant::now() + self.limit;
        let mut uncertain = false;
        let mut pause = Duration::ZERO;
        for tries in 1.. {
            let Err(fault) = batch::transact(&self.source, jobs, deadline.saturating_duration_since(Instant::now())).await else {
                return Ok(());
            };
            // A COMMIT without an answer was done or not. Done again under the same ids, it says which.
            uncertain |= matches!(fault, Fault::Uncertain(_));
            let worthwhile = if uncertain { fault.unavailability().is_some() } else { fault.is_passing() && tries < TRIES };
            if !(worthwhile && jobs.iter().all(Job::is_repeatable) && Instant::now() + pause < deadline) {
                return Err(fault);
            }
            tracing::warn!(error = %fault, tries, uncertain, "a transaction failed in passing; it is begun anew");
            sleep(pause).await;
            pause += PAUSE;
        }
        Ok(())
    }
}
