//! SQLite's result codes (<https://sqlite.org/rescode.html>).

use chat_domain::Unavailability;

/// A write failed for a reason other than `ENOSPC`.
const IOERR_WRITE: i32 = 778;

/// The shared-memory file of the write-ahead log could not grow.
const IOERR_SHMSIZE: i32 = 4874;

/// A checksum of the page, or of the file system, is wrong.
const IOERR_DATA: i32 = 8202;
const IOERR_CORRUPTFS: i32 = 8458;

/// Whether an extended result code says that the content of the file is damaged.
pub(crate) fn is_damage(code: i32) -> bool {
    const CORRUPT: i32 = 11;
    const NOTADB: i32 = 26;
    matches!(code & 0xff, CORRUPT | NOTADB) || matches!(code, IOERR_DATA | IOERR_CORRUPTFS)
}

/// Whether an extended result code says that a write failed, which a quota or a limit of file sizes
/// may have caused.
pub(crate) fn is_failed_write(code: i32) -> bool {
    code == IOERR_WRITE
}

/// Why the whole database is unavailable, if an extended result code means that.
pub(crate) fn unavailability(code: i32) -> Option<Unavailability> {
    if is_damage(code) {
        return Some(Unavailability::Damaged);
    }
    match code & 0xff {
        5 | 6 => Some(Unavailability::Timeout),
        8 | 14 => Some(Unavailability::ReadOnly),
        10 if code == IOERR_SHMSIZE => Some(Unavailability::Full),
        7 | 10 => Some(Unavailability::Unreachable),
        13 => Some(Unavailability::Full),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_codes_say_what_is_wrong_with_the_database() {
        assert_eq!(unavailability(13), Some(Unavailability::Full));
        assert_eq!(unavailability(4874), Some(Unavailability::Full));
        assert_eq!(unavailability(1032), Some(Unavailability::ReadOnly));
        assert_eq!(unavailability(517), Some(Unavailability::Timeout));
        assert_eq!(unavailability(778), Some(Unavailability::Unreachable));
        assert_eq!(unavailability(2067), None);
        assert_eq!(unavailability(1), None);
    }

    #[test]
    fn every_code_of_a_damaged_file_is_damage() {
        // SQLITE_CORRUPT with _VTAB, _SEQUENCE and _INDEX; SQLITE_NOTADB; SQLITE_IOERR_DATA and
        // _CORRUPTFS.
        for code in [11, 267, 523, 779, 26, 8202, 8458] {
            assert_eq!(
                unavailability(code),
                Some(Unavailability::Damaged),
                "{code}"
            );
        }
    }
}
