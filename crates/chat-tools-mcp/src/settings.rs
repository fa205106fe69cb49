//! Settings of MCP servers.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// An MCP server that runs as a child process.
#[derive(Clone, PartialEq, Eq)]
pub struct McpServer {
    /// Unique name: 1 to 32 characters of `a-z`, `A-Z`, `0-9`, `_` and `-`. It is logged, and is
    /// the prefix of tools whose own name is not available.
    pub name: String,
    /// Program: a path, or a name that is found in `PATH`.
    pub command: PathBuf,
    /// Arguments of the program.
    pub args: Vec<String>,
    /// Environment, in addition to `PATH`, `HOME`, `LANG`, `LC_ALL`, `TMPDIR` and `TZ`, which are
    /// inherited.
    pub env: BTreeMap<String, String>,
    /// Working directory. Default: that of this process.
    pub cwd: Option<PathBuf>,
    /// How long a call may take. Default 30 s.
    pub call_timeout: Duration,
    /// How long the server may take from the start of its process to its list of tools. Default 60
    /// s, because some programs are downloaded first.
    pub start_timeout: Duration,
}

impl McpServer {
    /// Creates settings with default timeouts and without arguments and environment.
    pub fn new(name: impl Into<String>, command: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            command: command.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            cwd: None,
            call_timeout: Duration::from_secs(30),
            start_timeout: Duration::from_secs(60),
        }
    }
}

/// Omits the arguments and the values of the environment, which may be secrets.
impl fmt::Debug for McpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("McpServer")
            .field("name", &self.name)
            .field("command", &self.command)
            .field("args", &self.args.len())
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .field("cwd", &self.cwd)
            .field("call_timeout", &self.call_timeout)
            .field("start_timeout", &self.start_timeout)
            .finish()
    }
}

/// Invalid settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The name is empty, too long, or contains other characters.
    #[error("the tool server name {0:?} is not 1 to 32 letters, digits, '_' or '-'")]
    InvalidName(String),
    /// Two servers have the same name.
    #[error("two tool servers are named {0:?}")]
    DuplicateName(String),
}

/// Validates the names.
pub(crate) fn validate(servers: &[McpServer]) -> Result<(), SettingsError> {
    let mut seen = HashSet::new();
    for McpServer { name, .. } in servers {
        let fits = (1..=32).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if !fits {
            return Err(SettingsError::InvalidName(name.clone()));
        }
        if !seen.insert(name) {
            return Err(SettingsError::DuplicateName(name.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_valid_and_unique() {
        let server = |name: &str| McpServer::new(name, "true");
        assert_eq!(validate(&[server("a"), server("b-_9")]), Ok(()));
        assert_eq!(
            validate(&[server("a"), server("a")]),
            Err(SettingsError::DuplicateName("a".into()))
        );
        for bad in ["", "a b", "ä", &"a".repeat(33)] {
            assert_eq!(
                validate(&[server(bad)]),
                Err(SettingsError::InvalidName(bad.into()))
            );
        }
    }

    #[test]
    fn debug_output_contains_no_secret() {
        let mut server = McpServer::new("a", "tool");
        server.args = vec!["--key=hunter2".into()];
        server.env.insert("API_KEY".into(), "hunter2".into());
        let shown = format!("{server:?}");
        assert!(
            shown.contains("API_KEY") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
}
