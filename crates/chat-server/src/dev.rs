//! Development mode: a secret of our own, and all that is needed for a first request, printed.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chat_domain::Timestamp;

use crate::auth;
use crate::config::JwtSecret;
use crate::sign_in::OneTimeCode;

/// The user of the printed token.
const USER: &str = "demo";

/// How long the printed token is valid.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Why development mode has no secret.
#[derive(Debug, thiserror::Error)]
pub enum DevSecretError {
    /// The file cannot be read or written.
    #[error("the file {} of development mode's secret cannot be used: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Others than the file's owner may read or write it.
    #[error("others may read or write {}, which holds development mode's secret; delete it, and a new one is made", .0.display())]
    Exposed(PathBuf),
    /// The file does not hold a secret of at least 32 bytes.
    #[error("{} does not hold a secret of at least 32 bytes; delete it, and a new one is made", .0.display())]
    Broken(PathBuf),
    /// The operating system has no random numbers.
    #[error("there are no random numbers: {0}")]
    Random(getrandom::Error),
}

/// The secret in the file at `path`; makes one if there is no file yet.
///
/// # Errors
/// See [`DevSecretError`].
pub fn secret(path: &Path) -> Result<JwtSecret, DevSecretError> {
    let io = |error| DevSecretError::Io { path: path.to_owned(), error };
    match fs::metadata(path) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => return Err(DevSecretError::Exposed(path.to_owned())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path)?,
        Err(error) => return Err(io(error)),
    }
    let text = fs::read_to_string(path).map_err(io)?;
    JwtSecret::new(text.trim_end()).ok_or_else(|| DevSecretError::Broken(path.to_owned()))
}

/// Writes a new secret under another name first, so that a crash leaves no half of it.
fn create(path: &Path) -> Result<(), DevSecretError> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(DevSecretError::Random)?;
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let written = || {
        let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    written().map_err(|error| DevSecretError::Io { path: path.to_owned(), error })
}

/// The code that signs a browser in.
///
/// # Errors
/// There are no random numbers.
pub fn code(secret: &JwtSecret) -> Result<OneTimeCode, DevSecretError> {
    OneTimeCode::new(secret.clone(), USER, LIFETIME).map_err(DevSecretError::Random)
}

/// What is printed at start: where everything is, a token, and a first request ready to be pasted into a shell.
///
/// # Errors
/// The token cannot be signed.
pub fn welcome(secret: &JwtSecret, code: &str, address: SocketAddr, now: Timestamp) -> Result<String, jsonwebtoken::errors::Error> {
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
    use super::*;

    #[test]
    fn the_secret_is_made_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.db-dev-secret");
        let made = secret(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(secret(&path).unwrap().expose(), made.expose());
        assert_ne!(secret(&folder.path().join("another")).unwrap().expose(), made.expose());
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
    fn a_file_that_holds_no_secret_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "short").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(secret(&path), Err(DevSecretError::Broken(_))));
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = secret(Path::new("/no/such/folder/secret")).unwrap_err();
        assert!(error.to_string().contains("/no/such/folder/secret"), "{error}");
    }
}
