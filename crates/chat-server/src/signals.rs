//! The signals of the operating system.
//!
//! | signal | effect |
//! |---|---|
//! | SIGTERM, SIGINT, SIGQUIT | graceful shutdown |
//! | SIGHUP | graceful shutdown; ignored if the process was started with `nohup` |
//! | SIGUSR1, SIGUSR2 | ignored, with a log line |
//! | SIGXFSZ | the write fails, as on a full disk |

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The number of SIGHUP, the same on every system.
const HANG_UP: u32 = 1;

/// The signals that this process handles.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hang_up: Option<Signal>,
    user_1: Signal,
    user_2: Signal,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// A handler cannot be installed.
    pub(crate) fn new() -> io::Result<Self> {
        let hang_up = if is_ignored(HANG_UP) {
            None
        } else {
            Some(signal(SignalKind::hangup())?)
        };
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hang_up,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for a signal that stops the process.
    pub(crate) async fn stop(&mut self) {
        loop {
            let hang_up = async {
                match &mut self.hang_up {
                    Some(hang_up) => hang_up.recv().await,
                    None => std::future::pending().await,
                }
            };
            let ignored = tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.quit.recv() => return,
                _ = hang_up => return,
                _ = self.user_1.recv() => "SIGUSR1",
                _ = self.user_2.recv() => "SIGUSR2",
            };
            tracing::info!(signal = ignored, "signal ignored");
        }
    }
}

/// Makes a write beyond the limit of file sizes fail, as on a full disk. Without a handler the
/// signal ends the process.
///
/// # Errors
/// The handler cannot be installed.
pub(crate) fn survive_file_size_limit() -> io::Result<()> {
    // The handler stays installed when the stream of signals is dropped.
    signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).map(drop)
}

/// Whether this process was started with a signal ignored, as `nohup` does. Always false on systems
/// other than Linux, which have no such information.
fn is_ignored(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored_mask(&status).is_some_and(|mask| mask >> (number - 1) & 1 == 1)
}

fn ignored_mask(status: &str) -> Option<u64> {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status_of_the_process() {
        assert_eq!(
            ignored_mask("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"),
            Some(0x1001)
        );
        assert_eq!(ignored_mask("Name:\tx\n"), None);
    }
}
