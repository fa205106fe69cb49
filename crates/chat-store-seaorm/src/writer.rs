//! The way for callers' commands to the database.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chat_domain::StoreError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::backend::Backend;
use crate::batch::{QUEUE, TransactionRunner, transact, write};
use crate::error::StoreFault;
use crate::job::{BatchedWrite, WriteRequest};
use crate::postgres::Lanes;
use crate::sqlite::Sqlite;

/// Does the commands. Its tasks end when it is dropped.
pub(crate) struct Writer {
    way: Way,
    timeout: Duration,
}

enum Way {
    /// One after another, in batches: SQLite lets one connection write at a time.
    One(One),
    /// Several concurrent batches.
    Lanes(Lanes),
}

impl Writer {
    /// Starts a writer.
    pub(crate) fn start(source: &Backend, batch: usize, lanes: u32, timeout: Duration) -> Self {
        let way = match source {
            Backend::Sqlite(sqlite) => Way::One(One::start(Arc::clone(sqlite), batch, timeout)),
            // The caller should get the error of the database, not only its own timeout.
            Backend::Postgres(pool) => Way::Lanes(Lanes::start(
                pool.clone(),
                batch,
                lanes,
                timeout - timeout / 8,
            )),
        };
        Self { way, timeout }
    }

    /// Has a command done; returns when it is durable. If the caller goes away, it is done or not
    /// done.
    pub(crate) async fn submit<C, A>(
        &self,
        command: C,
        job: impl FnOnce(WriteRequest<C, A>) -> BatchedWrite,
    ) -> Result<A, StoreError> {
        let (request, answer) = WriteRequest::new(command);
        let done = async {
            match &self.way {
                Way::One(one) => one.send(job(request)).await?,
                Way::Lanes(lanes) => lanes.send(job(request)).await?,
            }
            answer.await.map_err(|_| StoreFault::Closed)
        };
        timeout(self.timeout, done)
            .await
            .map_err(|_| StoreFault::TimedOut)??
    }

    /// Whether the task that does the commands has ended.
    pub(crate) fn is_gone(&self) -> bool {
        match &self.way {
            Way::One(one) => one.jobs.is_closed(),
            Way::Lanes(lanes) => lanes.is_closed(),
        }
    }

    /// Refuses further commands; returns when the accepted ones are done.
    pub(crate) async fn close(&self) {
        match &self.way {
            Way::One(one) => one.close().await,
            Way::Lanes(lanes) => lanes.close().await,
        }
    }
}

struct One {
    jobs: mpsc::Sender<BatchedWrite>,
    work: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl One {
    fn start(sqlite: Arc<Sqlite>, batch: usize, limit: Duration) -> Self {
        let (jobs, waiting) = mpsc::channel(QUEUE);
        let (close, closing) = oneshot::channel();
        let work = tokio::spawn(work(sqlite, waiting, closing, batch, limit));
        Self {
            jobs,
            work: Mutex::new(Some((close, work))),
        }
    }

    async fn send(&self, job: BatchedWrite) -> Result<(), StoreFault> {
        self.jobs.send(job).await.map_err(|_| StoreFault::Closed)
    }

    async fn close(&self) {
        let work = self
            .work
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some((close, work)) = work {
            // A writer that has ended already needs no telling.
            let _ = close.send(());
            let _ = work.await;
        }
    }
}

async fn work(
    sqlite: Arc<Sqlite>,
    mut waiting: mpsc::Receiver<BatchedWrite>,
    mut closing: oneshot::Receiver<()>,
    batch: usize,
    limit: Duration,
) {
    let alone = SingleTransactions {
        source: Backend::Sqlite(Arc::clone(&sqlite)),
        limit,
    };
    let mut jobs = Vec::new();
    let mut closed = false;
    loop {
        tokio::select! {
            _ = &mut closing, if !closed => {
                closed = true;
                waiting.close();
            }
            count = waiting.recv_many(&mut jobs, batch) => match count {
                0 => break,
                _ => write(&alone, std::mem::take(&mut jobs)).await,
            },
        }
    }
    sqlite.close().await;
}

/// One transaction after another.
struct SingleTransactions {
    source: Backend,
    limit: Duration,
}

#[async_trait]
impl TransactionRunner for SingleTransactions {
    async fn transact(&self, jobs: &mut [BatchedWrite]) -> Result<(), StoreFault> {
        // Data written to a file that has no name any more is lost with the process.
        self.source.check()?;
        transact(&self.source, jobs, self.limit)
            .await
            .map_err(|fault| self.source.explain(fault))?;
        // Callers must not be told of a success that a file has lost since.
        self.source.check()
    }
}
