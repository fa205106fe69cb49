//! The mark of a server that serves a database: shows afterwards whether the file is still the
//! one that was served.
//!
//! Each server writes a number of its own into the header of the file, and the header's numbers
//! into a side file, which it removes when it has closed the database in order. A backup that
//! is put in the place of the file has another number, or (if SQLite copied it) another schema
//! cookie.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::header::Header;
use super::paths::with_suffix;

/// The suffix of the mark's name.
const SUFFIX: &str = "-serving";

/// The most that is read of a mark.
const LIMIT: u64 = 64;

/// The numbers of a header that stay as they are while a server serves the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    schema_cookie: u32,
    user_version: u32,
}

impl From<Header> for Mark {
    fn from(header: Header) -> Self {
        Self {
            schema_cookie: header.schema_cookie,
            user_version: header.user_version,
        }
    }
}

impl Mark {
    /// The mark that a server has left, because it was killed or is still running; `None` if there
    /// is none or it cannot be understood.
    pub(super) fn read(database: &Path) -> Option<Self> {
        let mut text = String::new();
        File::open(path(database))
            .ok()?
            .take(LIMIT)
            .read_to_string(&mut text)
            .ok()?;
        let (schema_cookie, user_version) = text.trim().split_once(' ')?;
        Some(Self {
            schema_cookie: schema_cookie.parse().ok()?,
            user_version: user_version.parse().ok()?,
        })
    }

    /// Writes the mark next to the database.
    pub(super) fn write(self, database: &Path) -> io::Result<()> {
        Self::remove(database)?;
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path(database))?;
        writeln!(file, "{} {}", self.schema_cookie, self.user_version)?;
        file.sync_all()
    }

    /// Removes the mark, if there is one.
    pub(super) fn remove(database: &Path) -> io::Result<()> {
        match fs::remove_file(path(database)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn path(database: &Path) -> PathBuf {
    with_suffix(database, SUFFIX)
}
