//! Development mode: a generated secret, and a printed token with a first request.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chat_domain::Timestamp;
use rustix::fs::OFlags;

use crate::auth;
use crate::config::JwtSecret;
use crate::sign_in::OneTimeCode;

/// The user of the printed token.
const USER: &str = "demo";

/// How long the printed token is valid.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The largest file of a secret, in bytes.
const MAX_BYTES: u64 = 4_096;

/// An error of development mode's secret.
#[derive(Debug, thiserror::Error)]
pub enum DevSecretError {
    /// The file cannot be read or written.
    #[error("cannot use {}, the file of development mode's secret: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// Users other than the file's owner may read or write it.
    #[error(
        "other users may read or write {}, the file of development mode's secret; delete the file, \
         and the server makes a new one",
        .0.display()
    )]
    Exposed(PathBuf),
    /// The file belongs to another user of this machine.
    #[error(
        "{}, the file of development mode's secret, belongs to another user; delete the file, and \
         the server makes a new one, or set CHAT_JWT_SECRET",
        .0.display()
    )]
    OtherOwner(PathBuf),
    /// The file is a symbolic link or not a regular file.
    #[error(
        "{}, the file of development mode's secret, is a symbolic link or not a regular file; delete \
         it",
        .0.display()
    )]
    NotAFile(PathBuf),
    /// The file has no secret of at least 32 bytes.
    #[error(
        "{} has no secret of at least 32 bytes; delete the file, and the server makes a new one",
        .0.display()
    )]
    Invalid(PathBuf),
    /// The operating system has no random numbers.
    #[error("cannot get random numbers: {0}")]
    Random(getrandom::Error),
}

/// Reads the secret in the file at `path`, or makes one if there is no file.
///
/// # Errors
/// See [`DevSecretError`].
pub fn secret(path: &Path) -> Result<JwtSecret, DevSecretError> {
    match read(path)? {
        Some(secret) => Ok(secret),
        None => {
            create(path)?;
            let gone = || io::Error::from(io::ErrorKind::NotFound);
            read(path)?.ok_or_else(|| DevSecretError::Io {
                path: path.to_owned(),
                error: gone(),
            })
        }
    }
}

/// Reads the secret in a file that no other user may read or write; `None` if there is no file.
fn read(path: &Path) -> Result<Option<JwtSecret>, DevSecretError> {
    let io = |error| DevSecretError::Io {
        path: path.to_owned(),
        error,
    };
    // Opening a pipe must not block.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(_) if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) => {
            return Err(DevSecretError::NotAFile(path.to_owned()));
        }
        Err(error) => return Err(io(error)),
    };
    // The checks apply to the opened file, even if another file has its name now.
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(DevSecretError::NotAFile(path.to_owned()));
    }
    if !is_owned_by(&metadata, rustix::process::geteuid().as_raw()) {
        return Err(DevSecretError::OtherOwner(path.to_owned()));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(DevSecretError::Exposed(path.to_owned()));
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(io)?;
    JwtSecret::new(text.trim_end())
        .map(Some)
        .ok_or_else(|| DevSecretError::Invalid(path.to_owned()))
}

/// Whether a file belongs to this user.
fn is_owned_by(file: &fs::Metadata, user: u32) -> bool {
    file.uid() == user
}

/// Writes a new secret to a draft and renames it, so that a crash leaves no incomplete file.
fn create(path: &Path) -> Result<(), DevSecretError> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(DevSecretError::Random)?;
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let written = || {
        // A crash may have left a draft. Removing a link does not touch its target.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // `create_new` follows no link and opens no existing file.
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let mut file: File = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(flags)
            .open(&draft)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    written().map_err(|error| DevSecretError::Io {
        path: draft.clone(),
        error,
    })
}

/// Makes the one-time code that signs a browser in.
///
/// # Errors
/// There are no random numbers.
pub fn code(secret: &JwtSecret) -> Result<OneTimeCode, DevSecretError> {
    OneTimeCode::new(secret.clone(), USER, LIFETIME).map_err(DevSecretError::Random)
}

/// The text printed at the start: the addresses, a token, and a first request for a shell.
///
/// # Errors
/// The token cannot be signed.
pub fn welcome(
    secret: &JwtSecret,
    code: &str,
    address: SocketAddr,
    now: Timestamp,
) -> Result<String, jsonwebtoken::errors::Error> {
    let token = auth::issue(secret, USER, now, LIFETIME)?;
    Ok(format!(
        r#"Development mode: for this machine only. Set CHAT_JWT_SECRET to serve others.

  Open the chat (the address signs one browser in, once):

    http://{address}/#code={code}

  Or try the API (the token is of user `{USER}`, good for 30 days):

    TOKEN={token}
    curl -s http://{address}/api/{USER}/chat -H "Authorization: Bearer $TOKEN" \
      -H 'Content-Type: application/json' -d '{{"message": "Add task: Buy groceries"}}'

  API documentation: http://{address}/docs
"#
    ))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_secret_is_made_once_and_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.db-dev-secret");
        let made = secret(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(secret(&path).unwrap().expose(), made.expose());
        assert_ne!(
            secret(&folder.path().join("another")).unwrap().expose(),
            made.expose()
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        secret(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(secret(&path), Err(DevSecretError::Exposed(_))));
    }

    #[test]
    fn a_planted_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        fs::set_permissions(&victim, Permissions::from_mode(0o644)).unwrap();
        let path = folder.path().join("secret");
        symlink(&victim, folder.path().join("secret.new")).unwrap();
        secret(&path).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(
            fs::metadata(&victim).unwrap().permissions().mode() & 0o777,
            0o644
        );
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
    }

    #[test]
    fn a_draft_of_a_crash_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret.new"), "half").unwrap();
        secret(&folder.path().join("secret")).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn other_than_a_regular_file_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("real");
        secret(&real).unwrap();
        let link = folder.path().join("link");
        symlink(&real, &link).unwrap();
        let dangling = folder.path().join("dangling");
        symlink(folder.path().join("nothing"), &dangling).unwrap();
        let directory = folder.path().join("directory");
        fs::create_dir(&directory).unwrap();
        let pipe = folder.path().join("pipe");
        assert!(
            std::process::Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        for path in [link, dangling, directory, pipe] {
            let refused = secret(&path);
            assert!(
                matches!(&refused, Err(DevSecretError::NotAFile(named)) if *named == path),
                "{}: {refused:?}",
                path.display()
            );
        }
        assert!(!folder.path().join("nothing").exists());
    }

    #[test]
    fn a_file_of_another_user_is_recognised() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = fs::metadata(folder.path()).unwrap();
        assert!(is_owned_by(&metadata, metadata.uid()));
        assert!(!is_owned_by(&metadata, metadata.uid() + 1));
    }

    #[test]
    fn a_secret_of_another_user_is_refused() {
        // A file that always belongs to root. For root itself, one is made that does not.
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own");
        secret(&own).unwrap();
        let foreign = match rustix::process::geteuid().as_raw() {
            0 => {
                std::os::unix::fs::chown(&own, Some(12_345), None).unwrap();
                own
            }
            _ => PathBuf::from("/etc/passwd"),
        };
        let refused = secret(&foreign);
        assert!(
            matches!(&refused, Err(DevSecretError::OtherOwner(named)) if *named == foreign),
            "{refused:?}"
        );
    }

    #[test]
    fn a_file_without_a_secret_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "short").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(secret(&path), Err(DevSecretError::Invalid(_))));
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = secret(Path::new("/no/such/folder/secret")).unwrap_err();
        assert!(
            error.to_string().contains("/no/such/folder/secret"),
            "{error}"
        );
    }
}
