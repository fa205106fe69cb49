//! The path of reads to the database.

use std::sync::Arc;
use std::time::Duration;

use chat_domain::StoreError;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::backend::Backend;
use crate::batch::CommandError;
use crate::connection::Connection;
use crate::error::StoreFault;

/// Runs reads on connections of a backend.
pub(crate) struct Reader {
    backend: Arc<dyn Backend>,
    runtime: Handle,
    timeout: Duration,
}

impl Reader {
    pub(crate) fn new(backend: Arc<dyn Backend>, timeout: Duration) -> Self {
        Self {
            backend,
            runtime: Handle::current(),
            timeout,
        }
    }

    /// Runs a read in a task of its own: a caller that goes away in the middle leaves no connection
    /// in an unknown state. It is run again if its connection turns out to be broken.
    pub(crate) async fn run<T, F>(
        &self,
        read: impl Fn(Box<dyn Connection>) -> F + Send + Sync + 'static,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, CommandError>> + Send + 'static,
    {
        let backend = Arc::clone(&self.backend);
        let work = async move {
            match read(backend.reader().await?).await {
                Err(CommandError::StoreFault(fault)) if fault.is_passing() => {
                    read(backend.reader().await?).await
                }
                done => done,
            }
        };
        match self.runtime.spawn(timeout(self.timeout, work)).await {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(CommandError::Refused(refusal)))) => Err(refusal.into()),
            Ok(Ok(Err(CommandError::StoreFault(fault)))) => Err(self.backend.explain(fault).into()),
            Ok(Err(_)) => Err(StoreFault::TimedOut.into()),
            Err(stopped) => {
                Err(StoreFault::InvariantViolation(format!("a read stopped: {stopped}")).into())
            }
        }
    }
}
