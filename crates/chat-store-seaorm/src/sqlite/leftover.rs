//! Side files that a killed server has left with its database.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::header::{Header, u32_at};
use super::paths::with_suffix;
use crate::options::OpenError;

/// The suffix of the write-ahead log's name.
pub(super) const LOG: &str = "-wal";

/// The suffix of the rollback journal's name. A database in write-ahead mode has one only while it
/// is made.
pub(super) const JOURNAL: &str = "-journal";

/// The length of a write-ahead log without entries (<https://sqlite.org/walformat.html>).
const LOG_HEADER: u64 = 32;

/// Why the side files of a database forbid to open it.
#[derive(Debug)]
pub(super) enum Refused {
    /// The database is missing or empty, and this file holds data of one.
    Leftover { path: PathBuf, leftover: PathBuf },
    /// The write-ahead log belongs to another state of the file.
    ForeignLog { path: PathBuf, log: PathBuf },
    /// A file cannot be read.
    Io(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Refused {
    pub(super) fn into_error(self, io: impl FnOnce(io::Error) -> OpenError) -> OpenError {
        match self {
            Self::Leftover { path, leftover } => OpenError::Leftover { path, leftover },
            Self::ForeignLog { path, log } => OpenError::Replaced { path, log },
            Self::Io(error) => io(error),
        }
    }
}

/// Refuses an empty or missing database with side files that hold data: SQLite would delete them.
pub(super) fn refuse(path: &Path) -> Result<(), Refused> {
    for (suffix, holds_data) in [(LOG, has_log(path)?), (JOURNAL, has_journal_of_data(path)?)] {
        if holds_data {
            return Err(Refused::Leftover {
                path: path.to_owned(),
                leftover: with_suffix(path, suffix),
            });
        }
    }
    Ok(())
}

/// Refuses a database whose header shows that the write-ahead log is not its own: SQLite
/// would lay the log over it.
pub(super) fn refuse_foreign_log(path: &Path, header: &Header) -> Result<(), Refused> {
    if header.is_write_ahead || !has_log(path)? {
        return Ok(());
    }
    Err(Refused::ForeignLog {
        path: path.to_owned(),
        log: with_suffix(path, LOG),
    })
}

/// Whether a write-ahead log with entries is there.
pub(super) fn has_log(path: &Path) -> io::Result<bool> {
    Ok(length(&with_suffix(path, LOG))? > LOG_HEADER)
}

/// Whether a rollback journal is there that would bring pages back.
pub(super) fn has_journal_of_data(path: &Path) -> io::Result<bool> {
    const MAGIC: &[u8] = &[0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
    const PAGES_BEFORE: usize = 16;
    let journal = with_suffix(path, JOURNAL);
    if length(&journal)? == 0 {
        return Ok(false);
    }
    let mut head = Vec::new();
    File::open(&journal)?
        .take(PAGES_BEFORE as u64 + 4)
        .read_to_end(&mut head)?;
    // A journal of the transaction that made the database: there was nothing before it.
    Ok(!(head.starts_with(MAGIC)
        && head.len() == PAGES_BEFORE + 4
        && u32_at(&head, PAGES_BEFORE) == 0))
}

fn length(path: &Path) -> io::Result<u64> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(suffix: &str, content: &[u8]) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.db");
        fs::write(with_suffix(&path, suffix), content).unwrap();
        refuse(&path).is_err()
    }

    #[test]
    fn files_that_hold_data_are_kept() {
        assert!(refused(LOG, &[0; 33]));
        assert!(refused(JOURNAL, b"anything"));
        let mut journal = vec![
            0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 9,
        ];
        assert!(refused(JOURNAL, &journal));
        // The journal of the transaction that made the database.
        journal[19] = 0;
        assert!(!refused(JOURNAL, &journal));
    }

    #[test]
    fn files_that_hold_no_data_are_no_obstacle() {
        assert!(!refused(LOG, &[]));
        assert!(!refused(LOG, &[0; 32]));
        assert!(!refused(JOURNAL, &[]));
        assert!(!refused("-shm", &[0; 32_768]));
    }
}
