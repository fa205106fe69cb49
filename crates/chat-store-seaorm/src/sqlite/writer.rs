//! The writer of SQLite: one batch after another, because SQLite lets one connection write at a
//! time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::backend::{Backend, Writer};
use crate::batch::{self, BatchedWrite, QUEUE, TransactionRunner};
use crate::error::StoreFault;
use crate::options::OpenOptions;

/// Does writes until it is dropped.
pub(crate) struct SqliteWriter {
    queue: mpsc::Sender<BatchedWrite>,
    task: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl SqliteWriter {
    pub(crate) fn start(backend: Arc<dyn Backend>, options: &OpenOptions) -> Self {
        let (queue, queued) = mpsc::channel(QUEUE);
        let (close, closing) = oneshot::channel();
        let runner = SingleTransactions {
            backend,
            limit: options.timeout,
        };
        let task = tokio::spawn(run(runner, queued, closing, options.batch.max(1)));
        Self {
            queue,
            task: Mutex::new(Some((close, task))),
        }
    }
}

#[async_trait]
impl Writer for SqliteWriter {
    async fn send(&self, write: BatchedWrite) -> Result<(), StoreFault> {
        self.queue.send(write).await.map_err(|_| StoreFault::Closed)
    }

    fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    async fn close(&self) {
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some((close, task)) = task {
            // The receiver is gone if the task has ended already.
            let _ = close.send(());
            let _ = task.await;
        }
    }
}

async fn run(
    runner: SingleTransactions,
    mut queued: mpsc::Receiver<BatchedWrite>,
    mut closing: oneshot::Receiver<()>,
    batch: usize,
) {
    let mut writes = Vec::new();
    let mut closed = false;
    loop {
        tokio::select! {
            _ = &mut closing, if !closed => {
                closed = true;
                queued.close();
            }
            count = queued.recv_many(&mut writes, batch) => match count {
                0 => break,
                _ => batch::write(&runner, std::mem::take(&mut writes)).await,
            },
        }
    }
    runner.backend.close().await;
}

/// One transaction after another.
struct SingleTransactions {
    backend: Arc<dyn Backend>,
    limit: Duration,
}

#[async_trait]
impl TransactionRunner for SingleTransactions {
    async fn transact(&self, writes: &mut [BatchedWrite]) -> Result<(), StoreFault> {
        // Data written to a file that has no name any more is lost with the process.
        self.backend.check()?;
        batch::transact(&*self.backend, writes, self.limit)
            .await
            .map_err(|fault| self.backend.explain(fault))?;
        // The file may have been lost since: callers must not learn of a success.
        self.backend.check()
    }
}
