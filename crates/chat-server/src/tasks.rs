//! Work that outlives its request.

use std::future::Future;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// Spawns work on the shared multi-thread runtime and knows when all of it is done.
///
/// A worker thread of actix-web has a runtime of its own, which ends with the thread, and drops a
/// handler when the client resets its connection. Work that must not be interrupted runs here.
#[derive(Clone, Debug)]
pub struct Tasks {
    runtime: Handle,
    tracker: TaskTracker,
}

/// A task panicked. The panic itself is in the log.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a task panicked")]
pub struct TaskFault;

impl Tasks {
    /// Tasks of this runtime.
    pub fn new(runtime: Handle) -> Self {
        Self {
            runtime,
            tracker: TaskTracker::new(),
        }
    }

    /// Tasks of the same runtime that are awaited separately.
    #[must_use]
    pub fn separate(&self) -> Self {
        Self::new(self.runtime.clone())
    }

    /// Runs `task` to its end, whatever becomes of the caller.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn_on(task, &self.runtime);
    }

    /// Runs `work` to its end, even if the future is dropped, and returns its result.
    ///
    /// # Errors
    /// `work` panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, TaskFault> {
        self.tracker
            .spawn_on(work, &self.runtime)
            .await
            .map_err(|_| TaskFault)
    }

    /// Waits until all spawned tasks have ended.
    pub async fn finished(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_of_a_dropped_future_runs_to_its_end() {
        let tasks = Tasks::new(Handle::current());
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let (done, mut seen) = tokio::sync::oneshot::channel::<()>();
        let mut work = Box::pin(tasks.run(async move {
            wait.await.unwrap();
            done.send(()).unwrap();
        }));
        assert!(futures_util::poll!(&mut work).is_pending());
        drop(work);
        go.send(()).unwrap();
        tasks.finished().await;
        assert_eq!(seen.try_recv(), Ok(()));
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let tasks = Tasks::new(Handle::current());
        assert!(tasks.run(async { panic!("on purpose") }).await.is_err());
        assert_eq!(tasks.run(async { 7 }).await.unwrap(), 7);
    }
}
