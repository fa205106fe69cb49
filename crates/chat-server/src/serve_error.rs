//! Why the server cannot start, or had to stop.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use chat_domain::StoreError;
use chat_store_seaorm::OpenError;

use crate::config::ConfigError;
use crate::dev::DevSecretError;
use crate::observer::chain;

/// Why the server cannot start, or had to stop.
#[derive(Debug)]
pub enum ServeError {
    /// The configuration is invalid.
    Config(ConfigError),
    /// The server cannot listen on the address.
    Address(SocketAddr, io::Error),
    /// The database cannot be opened.
    Database(OpenError),
    /// The secret of development mode cannot be read or made.
    DevSecret(DevSecretError),
    /// The store does not register this server as a worker.
    Worker(StoreError),
    /// A token for development mode cannot be signed.
    Token(jsonwebtoken::errors::Error),
    /// A call of the operating system failed that every server needs.
    System(io::Error),
    /// The worker stopped without a request.
    WorkerEnded,
}

impl ServeError {
    /// The code that the process exits with; `docs/configuration.md` lists them.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
            Self::Address(..) => 3,
            Self::Database(OpenError::InUse { .. }) => 5,
            Self::Database(OpenError::Pending(_)) => 6,
            Self::Database(OpenError::Url { .. }) => 2,
            Self::Database(_) | Self::DevSecret(_) => 4,
            Self::Worker(_) | Self::Token(_) | Self::System(_) | Self::WorkerEnded => 1,
        }
    }
}

/// One sentence: what is wrong, and what to do about it.
impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Address(address, error) => {
                let advice = match error.kind() {
                    ErrorKind::AddrInUse => {
                        "the port is in use; stop the program that uses it, or set CHAT_LISTEN to \
                         another one"
                    }
                    ErrorKind::AddrNotAvailable => {
                        "this machine has no such address; set CHAT_LISTEN to one that it has"
                    }
                    ErrorKind::PermissionDenied => {
                        "this user may not listen there; set CHAT_LISTEN to a port above 1023"
                    }
                    _ => return write!(f, "cannot listen on {address}: {error}"),
                };
                write!(f, "cannot listen on {address}: {advice}")
            }
            Self::Database(error) => {
                write!(f, "DATABASE_URL: {}", chain(error))?;
                write_database_advice(f, error)
            }
            Self::DevSecret(error) => error.fmt(f),
            Self::Worker(error) => write!(
                f,
                "the database does not register this server: {}",
                chain(error)
            ),
            Self::Token(error) => write!(f, "the token cannot be signed: {error}"),
            Self::System(error) => write!(f, "a call of the operating system failed: {error}"),
            Self::WorkerEnded => {
                f.write_str("the worker that runs the turns has stopped; see the log")
            }
        }
    }
}

impl std::error::Error for ServeError {}

impl From<ConfigError> for ServeError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// Adds advice for a problem with the database, if there is any.
fn write_database_advice(f: &mut fmt::Formatter<'_>, error: &OpenError) -> fmt::Result {
    match error {
        OpenError::InUse { .. } => {
            f.write_str("; stop that server, or give this server its own database")
        }
        OpenError::Pending(_) => f.write_str("; start once without --no-migrate to apply them"),
        OpenError::Damaged { .. } => f.write_str(
            "; nothing was changed. Restore a backup: delete the file and its neighbours that end \
             in -wal and -shm, then copy the backup to its place",
        ),
        OpenError::Replaced { log, .. } => write!(
            f,
            ": a server was killed, and the file was replaced afterwards, for example by a backup. \
             Nothing was changed. To use the file as it is, delete {} and its neighbour that ends \
             in -shm",
            log.display()
        ),
        OpenError::Leftover { leftover, .. } => write!(
            f,
            "; nothing was changed. Restore the database or its backup; if the file is a backup, \
             or to start with an empty database, delete {} first",
            leftover.display()
        ),
        OpenError::Pooler(_) => {
            f.write_str("; replace or configure the pooler, or connect to PostgreSQL without it")
        }
        OpenError::Encoding(_) => {
            f.write_str("; create another database with ENCODING 'UTF8' TEMPLATE template0")
        }
        _ => Ok(()),
    }
}
