//! Waiting with a limit: a test that waits too long fails and names the awaited condition.
#![allow(clippy::panic, reason = "only for tests")]

use std::fmt::Display;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

/// Limit of one wait. The test runner's own timeout, which gives no reason, is longer.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Poll interval.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Returns the result of `work`.
///
/// # Panics
/// Panics if `work` takes longer than [`LIMIT`].
pub async fn within<T>(what: impl Display, work: impl Future<Output = T>) -> T {
    match timeout(LIMIT, work).await {
        Ok(done) => done,
        Err(_) => timed_out(what),
    }
}

/// Polls until the condition is true.
///
/// # Panics
/// Panics if that takes longer than [`LIMIT`].
pub async fn until(what: impl Display, mut condition: impl AsyncFnMut() -> bool) {
    let holds = async {
        while !condition().await {
            sleep(POLL_INTERVAL).await;
        }
    };
    within(what, holds).await;
}

/// Polls until there is a value.
///
/// # Panics
/// Panics if that takes longer than [`LIMIT`].
pub async fn value<T>(what: impl Display, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            match look().await {
                Some(value) => return value,
                None => sleep(POLL_INTERVAL).await,
            }
        }
    };
    within(what, found).await
}

/// Polls until there is a value, and blocks the thread.
///
/// # Panics
/// Panics if that takes longer than [`LIMIT`].
pub fn value_blocking<T>(what: impl Display, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        match look() {
            Some(value) => return value,
            None if started.elapsed() > LIMIT => timed_out(what),
            None => thread::sleep(POLL_INTERVAL),
        }
    }
}

/// Receives the next value, and blocks the thread. Returns `None` if all senders are gone.
///
/// # Panics
/// Panics if that takes longer than [`LIMIT`].
pub fn receive<T>(what: impl Display, receiver: &Receiver<T>) -> Option<T> {
    match receiver.recv_timeout(LIMIT) {
        Ok(value) => Some(value),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => timed_out(what),
    }
}

/// Kills a process that still runs after [`LIMIT`], so that reading its output ends. Dropping the
/// watchdog disarms it.
#[derive(Debug)]
pub struct Watchdog {
    _called_off: Sender<()>,
}

impl Watchdog {
    /// Watches a child of this process.
    pub fn of(child: &Child) -> Self {
        let (_called_off, calls) = channel::<()>();
        let id = child.id().to_string();
        thread::spawn(move || {
            if calls.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                eprintln!(
                    "timed out after {} s: killing process {id}",
                    LIMIT.as_secs()
                );
                let _ = Command::new("kill").args(["-KILL", &id]).status();
            }
        });
        Self { _called_off }
    }
}

fn timed_out(what: impl Display) -> ! {
    panic!("timed out after {} s waiting for {what}", LIMIT.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "timed out after 120 s waiting for the end of the world")]
    async fn a_timeout_names_the_awaited_condition() {
        until("the end of the world", async || false).await;
    }

    #[tokio::test]
    async fn a_wait_ends_when_the_condition_is_true() {
        let mut looks = 0;
        let found = value("the third look", async || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(found.await, 3);
    }
}
