//! Where PostgreSQL's programs are, and how they come there.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;
use crate::command::{is_root, run};

/// Where Debian keeps each major version's programs, in `VERSION/bin`.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The folder of PostgreSQL's programs: the newest of Debian's, else where `PATH` or `pg_config`
/// has them.
pub(crate) fn find() -> Result<PathBuf, Error> {
    newest(Path::new(DEBIAN)).or_else(on_path).or_else(configured).ok_or_else(|| {
        Error::new(
            "PostgreSQL's programs (initdb, postgres, pg_ctl, psql) are neither in /usr/lib/postgresql nor on the PATH; \
             install PostgreSQL 13 or newer (on Debian: apt-get install postgresql)",
        )
    })
}

/// Installs PostgreSQL where it is missing, if this is Debian (or one of its children) and we are
/// root.
///
/// # Errors
/// If it is missing and cannot be installed: a sentence that says what to do.
pub fn install_if_missing() -> Result<(), Error> {
    let Err(missing) = find() else { return Ok(()) };
    if !is_root()? || !Path::new("/etc/debian_version").exists() {
        return Err(missing);
    }
    eprintln!("PostgreSQL is missing; installing Debian's package `postgresql`");
    // The package would make a cluster of its own and start it: it is told not to, unless somebody
    // has decided about that already.
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
    // A configuration file that is there already is kept without a question.
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

fn newest(folder: &Path) -> Option<PathBuf> {
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

fn on_path() -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).find(|folder| is_complete(folder))
}

fn configured() -> Option<PathBuf> {
    let output = run(Command::new("pg_config").arg("--bindir")).ok()?;
    let folder = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    is_complete(&folder).then_some(folder)
}

/// Debian has folders with the clients alone.
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
    fn the_newest_complete_version_is_taken() {
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
        let found = newest(&versions);
        std::fs::remove_dir_all(&versions).unwrap();
        assert_eq!(found, Some(versions.join("15").join("bin")));
        assert_eq!(newest(&versions), None);
    }
}
