//! Finds and installs PostgreSQL's programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;
use crate::command::{is_root, run};

/// Debian's folder of versions. The programs of each are in `VERSION/bin`.
const DEBIAN: &str = "/usr/lib/postgresql";

/// Returns the folder of PostgreSQL's programs: Debian's newest version, else the folder on `PATH`
/// or from `pg_config`.
pub(crate) fn find() -> Result<PathBuf, Error> {
    find_newest(Path::new(DEBIAN))
        .or_else(find_on_path)
        .or_else(find_by_pg_config)
        .ok_or_else(|| {
            Error::new(
                "PostgreSQL's programs (initdb, postgres, pg_ctl, psql) are neither in \
            /usr/lib/postgresql nor on the PATH; \
             install PostgreSQL 13 or newer (on Debian: apt-get install postgresql)",
            )
        })
}

/// Installs PostgreSQL if it is missing, the system is Debian or a derivative, and this process is
/// root.
///
/// # Errors
/// PostgreSQL is missing and cannot be installed. The message says what to do.
pub fn install_if_missing() -> Result<(), Error> {
    let Err(missing) = find() else { return Ok(()) };
    if !is_root()? || !Path::new("/etc/debian_version").exists() {
        return Err(missing);
    }
    eprintln!("PostgreSQL is missing; installing Debian's package `postgresql`");
    // By default the package creates and starts a cluster. This setting prevents that unless the
    // system already has one.
    let folder = Path::new("/etc/postgresql-common");
    let settings = folder.join("createcluster.conf");
    if !settings.exists() {
        std::fs::create_dir_all(folder).map_err(Error::io(folder.display()))?;
        std::fs::write(&settings, "create_main_cluster = false\n")
            .map_err(Error::io(settings.display()))?;
    }
    let apt = |arguments: &[&str]| {
        run(Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt(&["update"])?;
    // An existing configuration file is kept without a prompt.
    apt(&[
        "install",
        "-y",
        "--no-install-recommends",
        "-o",
        "Dpkg::Options::=--force-confold",
        "postgresql",
    ])?;
    find().map(drop)
}

fn find_newest(folder: &Path) -> Option<PathBuf> {
    let versions = std::fs::read_dir(folder).ok()?.flatten();
    let numbered = versions.filter_map(|entry| {
        Some((
            entry.file_name().to_str()?.parse::<u32>().ok()?,
            entry.path().join("bin"),
        ))
    });
    numbered
        .filter(|(_, bin)| is_complete(bin))
        .max()
        .map(|(_, bin)| bin)
}

fn find_on_path() -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).find(|folder| is_complete(folder))
}

fn find_by_pg_config() -> Option<PathBuf> {
    let output = run(Command::new("pg_config").arg("--bindir")).ok()?;
    let folder = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    is_complete(&folder).then_some(folder)
}

/// Whether the folder has the server. Some of Debian's folders have the clients only.
fn is_complete(folder: &Path) -> bool {
    ["initdb", "postgres", "pg_ctl", "psql", "pg_basebackup"]
        .iter()
        .all(|program| folder.join(program).exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder;

    #[test]
    fn the_newest_complete_version_is_found() {
        let versions = std::env::temp_dir().join(folder::random_name().unwrap());
        for (version, programs) in [
            (
                "9",
                &["initdb", "postgres", "pg_ctl", "psql", "pg_basebackup"][..],
            ),
            (
                "15",
                &["initdb", "postgres", "pg_ctl", "psql", "pg_basebackup"],
            ),
            ("17", &["psql", "pg_basebackup"]),
            ("common", &[]),
        ] {
            let bin = versions.join(version).join("bin");
            std::fs::create_dir_all(&bin).unwrap();
            for program in programs {
                std::fs::write(bin.join(program), "").unwrap();
            }
        }
        let found = find_newest(&versions);
        std::fs::remove_dir_all(&versions).unwrap();
        assert_eq!(found, Some(versions.join("15").join("bin")));
        assert_eq!(find_newest(&versions), None);
    }
}
