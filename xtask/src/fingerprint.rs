//! Fingerprints of files, to decide whether something must be rebuilt.

use std::hash::{DefaultHasher, Hasher};
use std::path::Path;
use std::{fs, io};

/// Computes a fingerprint of the names and contents of all files below a folder, except those whose
/// relative path starts with one of `excluded`. A folder that does not exist has no files.
///
/// # Errors
/// A file cannot be read.
pub fn of_folder(folder: &Path, excluded: &[&str]) -> io::Result<u64> {
    let mut hasher = DefaultHasher::new();
    if folder.is_dir() {
        add(folder, "", excluded, &mut hasher)?;
    }
    Ok(hasher.finish())
}

fn add(
    folder: &Path,
    prefix: &str,
    excluded: &[&str],
    hasher: &mut DefaultHasher,
) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if excluded.contains(&name.as_str()) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            add(&entry.path(), &format!("{name}/"), excluded, hasher)?;
        } else {
            let content = fs::read(entry.path())?;
            hasher.write(name.as_bytes());
            hasher.write_usize(content.len());
            hasher.write(&content);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_shows_every_change_of_a_file() {
        let folder = std::env::temp_dir().join(format!("fingerprint-{}", std::process::id()));
        let fingerprint = || of_folder(&folder, &["left-out", "a/left-out"]).unwrap();
        let empty = fingerprint();
        fs::create_dir_all(folder.join("a")).unwrap();
        fs::write(folder.join("a/file"), "one").unwrap();
        let one = fingerprint();
        assert_ne!(one, empty);
        for path in ["left-out", "a/left-out"] {
            fs::write(folder.join(path), "any").unwrap();
            assert_eq!(fingerprint(), one, "{path}");
        }
        fs::write(folder.join("a/file"), "two").unwrap();
        assert_ne!(fingerprint(), one, "another content");
        fs::write(folder.join("a/file"), "one").unwrap();
        assert_eq!(fingerprint(), one, "written again");
        fs::rename(folder.join("a/file"), folder.join("a/other")).unwrap();
        assert_ne!(fingerprint(), one, "another name");
        fs::remove_dir_all(&folder).unwrap();
    }
}
