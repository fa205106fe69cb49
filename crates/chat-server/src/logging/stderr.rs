//! Standard error as the destination of log lines: a line that cannot be written is dropped and
//! counted.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Log lines that could not be written since the process started.
static LOST: AtomicU64 = AtomicU64::new(0);
/// The value of [`LOST`] when it was last reported.
static REPORTED: AtomicU64 = AtomicU64::new(0);
/// Whether the last failed write may have written the start of its line.
static TORN: AtomicBool = AtomicBool::new(false);

/// The number of log lines that could not be written since the process started.
pub fn lost_lines() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Writes a message to standard error and ignores errors, unlike `eprintln!`, which panics.
pub fn write_to_stderr(message: &str) {
    let _ = io::stderr().write_all(message.as_bytes());
}

/// A writer of one log line.
pub(super) fn line_writer() -> LineWriter {
    LineWriter
}

/// Writes whole log lines to standard error. Never returns an error.
pub(super) struct LineWriter;

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match write_line(&mut io::stderr().lock(), line) {
            Ok(()) => report_lost_lines(),
            Err(_) => {
                LOST.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_line(out: &mut impl Write, line: &[u8]) -> io::Result<()> {
    if TORN.load(Ordering::Relaxed) {
        out.write_all(b"\n")?;
        TORN.store(false, Ordering::Relaxed);
    }
    out.write_all(line)
        .inspect_err(|_| TORN.store(true, Ordering::Relaxed))
}

/// Logs how many lines were lost since the last report. Its own line calls this function again,
/// with nothing left to report.
fn report_lost_lines() {
    let total = lost_lines();
    let lines = total.saturating_sub(REPORTED.swap(total, Ordering::Relaxed));
    if lines > 0 {
        tracing::error!(lines, total, "log lines lost, the log could not be written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Accepts a number of bytes, then fails.
    struct Small(Vec<u8>, usize);

    impl Write for Small {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.1 - self.0.len());
            if taken == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_after_a_torn_one_begins_on_a_new_line() {
        let mut disk = Small(Vec::new(), 6);
        assert!(write_line(&mut disk, b"one\n").is_ok());
        assert!(write_line(&mut disk, b"two\n").is_err());
        assert_eq!(disk.0, b"one\ntw");
        assert!(write_line(&mut disk, b"lost\n").is_err());
        disk.1 = 100;
        assert!(write_line(&mut disk, b"three\n").is_ok());
        assert!(write_line(&mut disk, b"four\n").is_ok());
        assert_eq!(disk.0, b"one\ntw\nthree\nfour\n");
    }
}
