//! Waiting with a limit: a test that waits in vain fails, and says what it waited for.
#![allow(clippy::panic, reason = "only for tests")]

use std::fmt::Display;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

/// The longest that a test waits for one thing. The test runner's own limit, which names no reason,
/// is longer.
pub const LIMIT: Duration = Duration::from_secs(120);

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Returns what `work` gives.
///
/// # Panics
/// If that takes longer than [`LIMIT`].
pub async fn within<T>(what: impl Display, work: impl Future<Output = T>) -> T {
    match timeout(LIMIT, work).await {
        Ok(done) => done,
        Err(_) => in_vain(what),
    }
}

/// Looks until the condition holds.
///
/// # Panics
/// If that takes longer than [`LIMIT`].
pub async fn until(what: impl Display, mut condition: impl AsyncFnMut() -> bool) {
    let holds = async {
        while !condition().await {
            sleep(PAUSE).await;
        }
    };
    within(what, holds).await;
}

/// Looks until there is a value.
///
/// # Panics
/// If that takes longer than [`LIMIT`].
pub async fn value<T>(what: impl Display, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            match look().await {
                Some(value) => return value,
                None => sleep(PAUSE).await,
            }
        }
    };
    within(what, found).await
}

/// Looks until there is a value, and blocks the thread meanwhile.
///
/// # Panics
/// If that takes longer than [`LIMIT`].
pub fn value_blocking<T>(what: impl Display, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Some(value) => return value,
            None if begun.elapsed() > LIMIT => in_vain(what),
            None => thread::sleep(PAUSE),
        }
    }
}

/// Receives the next value, and blocks the thread meanwhile; `None` if nobody can send one any
/// more.
///
/// # Panics
/// If that takes longer than [`LIMIT`].
pub fn receive<T>(what: impl Display, receiver: &Receiver<T>) -> Option<T> {
    match receiver.recv_timeout(LIMIT) {
        Ok(value) => Some(value),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => in_vain(what),
    }
}

/// Kills a process that still runs after [`LIMIT`], so that whoever reads what it says comes to an
/// end. Dropping it calls it off.
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
                    "waited in vain for process {id}, which is killed ({} s)",
                    LIMIT.as_secs()
                );
                let _ = Command::new("kill").args(["-KILL", &id]).status();
            }
        });
        Self { _called_off }
    }
}

fn in_vain(what: impl Display) -> ! {
    panic!("waited in vain for {what} ({} s)", LIMIT.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "waited in vain for the end of the world (120 s)")]
    async fn a_wait_in_vain_says_for_what() {
        until("the end of the world", async || false).await;
    }

    #[tokio::test]
    async fn a_wait_ends_when_the_condition_holds() {
        let mut looks = 0;
        let found = value("the third look", async || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(found.await, 3);
    }
}
