//! The database's file and its side files: the lock on it, and whether it is the file it should be.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sea_orm::sqlx;
use sea_orm::sqlx::sqlite::SqliteConnectOptions;

use super::header::Header;
use super::leftover;
use super::paths::{id, with_suffix};
use crate::options::OpenError;

/// A database file that no other process serves, for as long as this value lives.
///
/// The lock is on the file itself, not on its name: links to it, and files next to it that are
/// deleted, make no difference. SQLite's own locks on it are of another kind (`fcntl`); they would
/// be given up if any descriptor of the file were closed in this process, so this one outlives the
/// connections.
#[derive(Debug)]
pub(super) struct FileLock {
    pub(super) path: PathBuf,
    pub(super) url: String,
    file: File,
    /// The length that the file had when it was last looked at.
    length: AtomicU64,
}

impl FileLock {
    /// Finds the file that `url` names, makes it if it is not there, and takes its lock, which the
    /// operating system gives back however the process ends. `None` if it is not there and must not
    /// be made.
    ///
    /// Refuses a file whose write-ahead log cannot be its own. Nothing but an empty file has been
    /// written when this returns.
    pub(super) fn acquire(url: &str, make: bool) -> Result<Option<Self>, OpenError> {
        let unusable = |reason: String| OpenError::Url { reason };
        let options: SqliteConnectOptions = url
            .parse()
            .map_err(|error: sqlx::Error| unusable(error.to_string()))?;
        let name = options.get_filename();
        if !url.starts_with("sqlite:") {
            return Err(unusable("it does not begin with `sqlite:`".to_owned()));
        }
        if name.as_os_str().is_empty() || url.contains(":memory:") || url.contains("mode=memory") {
            return Err(unusable("it names no file".to_owned()));
        }
        let file_error = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::File { path, source }
        };
        let is_missing = !name.exists();
        let folder_exists = name
            .parent()
            .is_some_and(|folder| folder.as_os_str().is_empty() || folder.exists());
        if is_missing && folder_exists {
            leftover::refuse(name).map_err(|refused| refused.into_error(file_error(name)))?;
        }
        if is_missing && !make {
            return Ok(None);
        }
        let path = resolved(name).map_err(file_error(name))?;
        let file = opened(&path).map_err(file_error(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path }),
            Err(TryLockError::Error(source)) => return Err(OpenError::File { path, source }),
        }
        let length = file.metadata().map_err(file_error(&path))?.len();
        let lock = Self {
            path,
            url: url.to_owned(),
            file,
            length: AtomicU64::new(length),
        };
        match lock.header().map_err(file_error(&lock.path))? {
            None => leftover::refuse(&lock.path)
                .map_err(|refused| refused.into_error(file_error(&lock.path)))?,
            Some(header) => leftover::refuse_foreign_log(&lock.path, &header)
                .map_err(|refused| refused.into_error(file_error(&lock.path)))?,
        }
        Ok(Some(lock))
    }

    /// The header of the file; `None` if it is empty.
    pub(super) fn header(&self) -> io::Result<Option<Header>> {
        Header::read(&self.file)
    }

    /// Whether the file is where it was and as long as it was: not deleted, moved away, replaced or
    /// truncated.
    pub(super) fn is_in_place(&self) -> bool {
        match (self.file.metadata(), fs::metadata(&self.path)) {
            (Ok(ours), Ok(there)) => {
                id(&ours) == id(&there) && self.is_as_long_as_it_was(ours.len())
            }
            _ => false,
        }
    }

    /// Another program may have shrunk the file by VACUUM: then the file has all pages that its
    /// header names.
    fn is_as_long_as_it_was(&self, length: u64) -> bool {
        let whole = length >= self.length.load(Ordering::Relaxed)
            || self
                .header()
                .is_ok_and(|header| header.is_some_and(|header| length >= header.length()));
        if whole {
            self.length.store(length, Ordering::Relaxed);
        }
        whole
    }

    /// Whether the file system has no room for what could not be written, although SQLite names
    /// another reason than a full disk: a quota is used up, or a file may not become larger. Tries
    /// to write as much, as far from the beginning, to a file of its own.
    pub(super) fn is_out_of_room(&self) -> bool {
        const PAGE: usize = 4096;
        let probe = with_suffix(&self.path, "-probe");
        let length = |suffix: &str| {
            fs::metadata(with_suffix(&self.path, suffix)).map_or(0, |file| file.len())
        };
        let write = || {
            // A crash may have left one.
            let _ = fs::remove_file(&probe);
            let file = File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&probe)?;
            file.write_all_at(&[1; PAGE], length("").max(length("-wal")))?;
            file.sync_all()
        };
        let written: io::Result<()> = write();
        let _ = fs::remove_file(&probe);
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        written
            .is_err_and(|error| matches!(error.kind(), FileTooLarge | QuotaExceeded | StorageFull))
    }

    /// Whether only the file itself is mounted, so that the files next to it lie on another file
    /// system.
    pub(super) fn is_mounted_alone(&self) -> bool {
        let folder = self
            .path
            .parent()
            .and_then(|folder| fs::metadata(folder).ok());
        let is_elsewhere = match (self.file.metadata(), folder) {
            (Ok(file), Some(folder)) => file.dev() != folder.dev(),
            _ => false,
        };
        is_elsewhere || is_mount_point(&self.path)
    }
}

/// Whether a file system, or a part of one, is mounted at exactly this path.
#[cfg(target_os = "linux")]
pub(super) fn is_mount_point(path: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS)
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn is_mount_point(_: &Path) -> bool {
    false
}

/// Opens the database file, and makes it for our eyes only if it is not there. A file that holds
/// something else is left as it is.
fn opened(path: &Path) -> io::Result<File> {
    if path.exists() && !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    Header::read(&file)?;
    Ok(file)
}

/// The file's full name. Makes the folder it is in.
fn resolved(name: &Path) -> io::Result<PathBuf> {
    if name.exists() {
        return name.canonicalize();
    }
    let folder = name
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let file = name.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    Ok(folder.canonicalize()?.join(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_its_folder_is_no_mount_point() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.db");
        let lock = FileLock::acquire(&format!("sqlite://{}", path.display()), true)
            .unwrap()
            .unwrap();
        assert!(!lock.is_mounted_alone());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_root_of_a_file_system_is_a_mount_point() {
        assert!(is_mount_point(Path::new("/")));
    }
}
