//! The header of a database file (<https://sqlite.org/fileformat.html#the_database_header>).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// How every SQLite database begins.
const MAGIC: &[u8] = b"SQLite format 3\0";

const LENGTH: usize = 100;

/// The parts of the header that distinguish one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Whether the file is in write-ahead mode. Only such a file can have a write-ahead log.
    pub(super) is_write_ahead: bool,
    /// Changes with each change of the schema, and when the file is copied by SQLite.
    pub(super) schema_cookie: u32,
    /// Chosen by each server that serves the file.
    pub(super) user_version: u32,
    page_size: u64,
    pages: u64,
}

impl Header {
    /// Reads the header of a file; `None` if the file is empty.
    ///
    /// # Errors
    /// `InvalidData` if the file is no database.
    pub(super) fn read(file: &File) -> io::Result<Option<Self>> {
        let mut bytes = [0; LENGTH];
        let mut read = 0;
        while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, read as u64)? {
                0 => break,
                count => read += count,
            }
        }
        match read {
            0 => Ok(None),
            LENGTH if bytes.starts_with(MAGIC) => Ok(Some(Self::parse(&bytes))),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is not an SQLite database",
            )),
        }
    }

    fn parse(bytes: &[u8; LENGTH]) -> Self {
        let [.., write_version, read_version] = *bytes.first_chunk::<20>().unwrap_or(&[0; 20]);
        let page_size = match u16_at(bytes, 16) {
            1 => 65_536,
            size => u64::from(size),
        };
        Self {
            is_write_ahead: write_version == 2 || read_version == 2,
            schema_cookie: u32_at(bytes, 40),
            user_version: u32_at(bytes, 60),
            page_size,
            pages: u32_at(bytes, 28).into(),
        }
    }

    /// How long the file must be at least.
    pub(super) fn length(&self) -> u64 {
        self.page_size * self.pages
    }
}

/// A big-endian number.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    bytes
        .get(offset..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |number| u32::from_be_bytes(*number))
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    bytes
        .get(offset..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |number| u16::from_be_bytes(*number))
}
