//! The write-ahead log of a database that is served (<https://sqlite.org/walformat.html>).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::leftover::LOG;
use super::paths::{id, with_suffix};

/// The file of the log's index, which SQLite shares between processes.
pub(super) const INDEX: &str = "-shm";

/// The part of the index that says what the log holds.
const INDEX_HEADER: usize = 48;

const LOG_HEADER: u64 = 32;
const FRAME_HEADER: u64 = 24;

/// Where the log's header has the numbers that change whenever the log begins again.
const SALTS: u64 = 16;

/// The log and its index, as they were when the database was opened.
///
/// Its descriptor of the index must not be closed before SQLite's connections: see
/// the lock of the file.
#[derive(Debug)]
pub(super) struct LogGuard {
    path: PathBuf,
    log: File,
    index: File,
}

impl LogGuard {
    /// The log of a database that has an open connection.
    pub(super) fn open(database: &Path) -> io::Result<Self> {
        let path = with_suffix(database, LOG);
        Ok(Self {
            log: File::open(&path)?,
            index: File::open(with_suffix(database, INDEX))?,
            path,
        })
    }

    /// Whether the log is in its place and holds what the index says: not deleted, moved away,
    /// replaced or truncated.
    pub(super) fn is_whole(&self) -> bool {
        self.look().unwrap_or(false)
    }

    fn look(&self) -> io::Result<bool> {
        let there = fs::metadata(&self.path)?;
        if id(&self.log.metadata()?) != id(&there) {
            return Ok(false);
        }
        let mut index = [0; INDEX_HEADER];
        self.index.read_exact_at(&mut index, 0)?;
        let index = IndexHeader::parse(&index);
        if index.frames == 0 {
            return Ok(true);
        }
        let mut salts = [0; 8];
        self.log.read_exact_at(&mut salts, SALTS)?;
        Ok(salts == index.salts
            && there.len() >= LOG_HEADER + index.frames * (FRAME_HEADER + index.page_size))
    }
}

struct IndexHeader {
    frames: u64,
    page_size: u64,
    salts: [u8; 8],
}

impl IndexHeader {
    /// The numbers are in the machine's own byte order; the salts as the log has them.
    fn parse(bytes: &[u8; INDEX_HEADER]) -> Self {
        let page_size = u32::from(u16::from_ne_bytes(at(bytes, 14)));
        Self {
            frames: u32::from_ne_bytes(at(bytes, 16)).into(),
            page_size: ((page_size & 0xfe00) + ((page_size & 1) << 16)).into(),
            salts: at(bytes, 32),
        }
    }
}

fn at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes
        .get(offset..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .unwrap_or([0; N])
}
