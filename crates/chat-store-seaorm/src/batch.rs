//! Doing several callers' commands as one transaction, on either database.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;

use crate::backend::Backend;
use crate::error::StoreFault;
use crate::job::BatchedWrite;
use crate::turns;

/// How many writes may be queued. A caller that comes then waits for room, within its own limit.
pub(crate) const QUEUE: usize = 1024;

/// How a batch is done.
#[async_trait]
pub(crate) trait TransactionRunner: Sync {
    /// Does all of these jobs, or none. Does not answer their callers yet.
    async fn transact(&self, jobs: &mut [BatchedWrite]) -> Result<(), StoreFault>;
}

/// Does these jobs in one transaction, and answers their callers. If one of them fails it, each is
/// done in its own.
pub(crate) async fn write(way: &impl TransactionRunner, mut jobs: Vec<BatchedWrite>) {
    // Their callers do not wait any more; a caller that saw a job fail must not see it
    // done later.
    jobs.retain(|job| !job.is_abandoned());
    if jobs.is_empty() {
        return;
    }
    match way.transact(&mut jobs).await {
        Err(fault) if jobs.len() > 1 && (fault.unavailability().is_none() || fault.is_damage()) => {
            tracing::warn!(error = %fault, jobs = jobs.len(), "a batch failed; doing its jobs one by one");
            for job in jobs.drain(..) {
                let mut alone = [job];
                let done = way.transact(&mut alone).await;
                let [job] = alone;
                job.tell(done);
            }
        }
        done => jobs.drain(..).for_each(|job| job.tell(done.clone())),
    }
}

/// Does these jobs in one transaction, within `limit`.
pub(crate) async fn transact(
    source: &Backend,
    jobs: &mut [BatchedWrite],
    limit: Duration,
) -> Result<(), StoreFault> {
    let transaction = async {
        let db = source.begin().await?;
        // In order of arrival: neighbours of the kind that can be done together are.
        for jobs in jobs.chunk_by_mut(|one, next| one.is_other() == next.is_other()) {
            for job in &mut *jobs {
                if let BatchedWrite::Other(request) = job {
                    request.run(&db).await?;
                }
            }
            turns::run(&db, jobs).await?;
        }
        db.commit().await
    };
    timeout(limit, transaction)
        .await
        .unwrap_or(Err(StoreFault::TimedOut))
}
