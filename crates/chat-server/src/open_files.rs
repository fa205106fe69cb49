//! The limit of open files, and the limit of connections that follows from it.

use crate::config::{Config, HttpLimits};

/// Enough for ten thousand clients, each with a connection to an agent, and for everything else.
const WANTED_FILES: u64 = 65_536;

/// With fewer files a warning is logged.
const NEEDED_FILES: u64 = 16_384;

/// Files for everything but clients: the database, the tools, the listener, the log.
const RESERVED_FILES: u64 = 128;

/// The lowest limit of connections.
const MIN_CONNECTIONS: usize = 16;

/// Raises the limit of open files, because each client is an open file and the usual limit is too
/// low for thousands. Returns how many files this process may open.
pub(crate) fn raise_limit() -> Option<u64> {
    match rlimit::increase_nofile_limit(WANTED_FILES) {
        Ok(limit) => {
            if limit < NEEDED_FILES {
                tracing::warn!(
                    limit,
                    needed = NEEDED_FILES,
                    "low limit of open files, raise it for thousands of clients (ulimit -n)"
                );
            }
            Some(limit)
        }
        Err(error) => {
            tracing::warn!(%error, "limit of open files not raised");
            None
        }
    }
}

/// The limits of the settings. Without a limit of connections there, as many connections as the
/// open files allow.
pub(crate) fn http_limits(config: &Config, open_files: Option<u64>) -> HttpLimits {
    let mut limits = config.http_limits();
    let Some(allowed) = open_files.map(max_connections) else {
        return limits;
    };
    match config.connection_limit {
        None => limits.connections = limits.connections.min(allowed),
        Some(limit) if limit.get() > allowed => tracing::warn!(
            limit,
            allowed,
            "CHAT_CONNECTION_LIMIT too high for the limit of open files (ulimit -n)"
        ),
        Some(_) => {}
    }
    limits
}

/// Half of the files are for clients: the turn of each client may need a connection to the agent.
fn max_connections(open_files: u64) -> usize {
    let connections = open_files.saturating_sub(RESERVED_FILES) / 2;
    usize::try_from(connections)
        .unwrap_or(usize::MAX)
        .max(MIN_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_files_are_for_connections() {
        assert_eq!(max_connections(65_536), 32_704);
        assert_eq!(max_connections(1_024), 448);
        assert_eq!(max_connections(64), MIN_CONNECTIONS);
        assert!(max_connections(u64::MAX) > 1 << 40);
    }
}
