//! The one writer: commits many callers' commands as one transaction.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chat_domain::StoreError;
use sea_orm::DatabaseConnection;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::fault::Fault;
use crate::job::{Job, Submission};
use crate::sqlite::FileLock;
use crate::{sqlite, turns};

/// How many jobs may wait. Whoever comes then waits to be let in, within its own limit.
const WAITING: usize = 1024;

/// The way to the writer. The writer ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Writer {
    jobs: mpsc::Sender<Job>,
    timeout: Duration,
    work: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl Writer {
    /// Starts a writer.
    pub(crate) fn start(db: DatabaseConnection, lock: Arc<FileLock>, batch: usize, timeout: Duration) -> Self {
        let (jobs, waiting) = mpsc::channel(WAITING);
        let (close, closing) = oneshot::channel();
        let work = tokio::spawn(work(db, lock, waiting, closing, batch, timeout));
        Self { jobs, timeout, work: Mutex::new(Some((close, work))) }
    }

    /// Has a command done; returns when it is durable. If the caller goes away, it is done or not done.
    pub(crate) async fn submit<C, A>(&self, command: C, job: impl FnOnce(Submission<C, A>) -> Job) -> Result<A, StoreError> {
        let (submission, answer) = Submission::new(command);
        let done = async {
            self.jobs.send(job(submission)).await.map_err(|_| Fault::Closed)?;
            answer.await.map_err(|_| Fault::Closed)
        };
        timeout(self.timeout, done).await.map_err(|_| Fault::TimedOut)??
    }

    /// Whether there is nobody any more who would do a command.
    pub(crate) fn is_gone(&self) -> bool {
        self.jobs.is_closed()
    }

    /// Lets nobody in any more; returns when what was let in is done.
    pub(crate) async fn close(&self) {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((close, work)) = work {
            // A writer that has ended already needs no telling.
            let _ = close.send(());
            let _ = work.await;
        }
    }
}

async fn work(
    db: DatabaseConnection,
    lock: Arc<FileLock>,
    mut waiting: mpsc::Receiver<Job>,
    mut closing: oneshot::Receiver<()>,
    batch: usize,
    limit: Duration,
) {
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
                // What is written to a file without a name is lost with the process.
                _ if !lock.is_in_place() => jobs.drain(..).for_each(|job| job.tell(Err(Fault::Misplaced))),
                _ => write(&db, &mut jobs, limit).await,
            },
        }
    }
    if let Err(error) = db.close().await {
        tracing::warn!(%error, "the writer's connection did not close");
    }
}

/// Does these jobs in one transaction; if one of them spoils it, each in its own. Leaves none.
async fn write(db: &DatabaseConnection, jobs: &mut Vec<Job>, limit: Duration) {
    // Nobody waits for these any more; whoever has seen that they came to nothing must not see them done later.
    jobs.retain(|job| !job.is_abandoned());
    if jobs.is_empty() {
        return;
    }
    match transact(db, jobs, limit).await {
        Err(fault) if jobs.len() > 1 && fault.unavailability().is_none() => {
            tracing::warn!(error = %fault, jobs = jobs.len(), "a batch failed; doing its jobs one by one");
            for job in jobs.drain(..) {
                let mut alone = [job];
                let done = transact(db, &mut alone, limit).await;
                let [job] = alone;
                job.tell(done);
            }
        }
        done => jobs.drain(..).for_each(|job| job.tell(done.clone())),
    }
}

async fn transact(db: &DatabaseConnection, jobs: &mut [Job], limit: Duration) -> Result<(), Fault> {
    let transaction = async {
        let db = sqlite::begin(db).await?;
        // In order of arrival: neighbours of the kind that can be done together are.
        for jobs in jobs.chunk_by_mut(|one, next| one.is_other() == next.is_other()) {
            for job in &mut *jobs {
                if let Job::Other(submission) = job {
                    submission.run(&db).await?;
                }
            }
            turns::run(&db, jobs).await?;
        }
        Ok(db.commit().await?)
    };
    timeout(limit, transaction).await.unwrap_or(Err(Fault::TimedOut))
}
