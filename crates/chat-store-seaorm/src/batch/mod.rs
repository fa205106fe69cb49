//! Several callers' commands as one transaction, on either database.

mod load;
mod request;
mod save;
mod turns;

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;

use crate::backend::Backend;
use crate::error::StoreFault;

pub(crate) use request::{BatchedWrite, Command, CommandError, WriteRequest};

/// How many writes may be queued. A caller that comes then waits for room, within its own limit.
pub(crate) const QUEUE: usize = 1024;

/// Does a batch as a transaction.
#[async_trait]
pub(crate) trait TransactionRunner: Sync {
    /// Does all of these writes, or none. Does not answer their callers yet.
    async fn transact(&self, writes: &mut [BatchedWrite]) -> Result<(), StoreFault>;
}

/// Does these writes in one transaction, and answers their callers. If one of the writes fails the
/// transaction, each is done in its own.
pub(crate) async fn write(runner: &impl TransactionRunner, mut writes: Vec<BatchedWrite>) {
    // A caller that has gone away may have seen a timeout, and must not see the write done later.
    writes.retain(|write| !write.is_abandoned());
    if writes.is_empty() {
        return;
    }
    match runner.transact(&mut writes).await {
        Err(fault)
            if writes.len() > 1 && (fault.unavailability().is_none() || fault.is_damage()) =>
        {
            tracing::warn!(error = %fault, writes = writes.len(), "batch failed, doing each write by itself");
            for write in writes.drain(..) {
                let mut single = [write];
                let done = runner.transact(&mut single).await;
                let [write] = single;
                write.answer(done);
            }
        }
        done => writes
            .drain(..)
            .for_each(|write| write.answer(done.clone())),
    }
}

/// Does these writes in one transaction, within `limit`.
pub(crate) async fn transact(
    backend: &dyn Backend,
    writes: &mut [BatchedWrite],
    limit: Duration,
) -> Result<(), StoreFault> {
    let transaction = async {
        let transaction = backend.begin().await?;
        // In order of arrival: neighbours of the kind that can be done together are.
        for writes in writes.chunk_by_mut(|one, next| one.is_other() == next.is_other()) {
            for write in &mut *writes {
                if let BatchedWrite::Other(request) = write {
                    request.run(&*transaction).await?;
                }
            }
            turns::run(&*transaction, writes).await?;
        }
        transaction.commit().await
    };
    timeout(limit, transaction)
        .await
        .unwrap_or(Err(StoreFault::TimedOut))
}
