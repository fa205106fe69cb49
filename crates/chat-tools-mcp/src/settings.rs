//! Which servers there are, and how to start them.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// An MCP server to be run as a child process.
#[derive(Clone, PartialEq, Eq)]
pub struct McpServer {
    /// Its name: 1 to 32 characters of `a-z`, `A-Z`, `0-9`, `_` and `-`. For the log, and for tools
    /// whose own name is taken.
    pub name: String,
    /// The program: a path, or a name to be found in `PATH`.
    pub command: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment, besides `PATH`, `HOME`, `LANG`, `LC_ALL`, `TMPDIR` and `TZ`, which it gets
    /// from this process.
    pub env: BTreeMap<String, String>,
    /// Its working directory; that of this process unless changed.
    pub cwd: Option<PathBuf>,
    /// How long a call may take. 30 s unless changed.
    pub call_timeout: Duration,
    /// How long it may take from the start of the process to its list of tools. 60 s unless
    /// changed: a program that is downloaded first needs as long.
    pub start_timeout: Duration,
}

impl McpServer {
    /// A server without arguments and further environment, with the usual time-outs.
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

/// Shows neither the arguments nor the values of the environment: they may be secrets.
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

/// Settings that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A name that is empty, too long, or holds other characters.
    #[error("the tool server name {0:?} is not 1 to 32 letters, digits, '_' or '-'")]
    Name(String),
    /// Two servers of one name.
    #[error("two tool servers are called {0:?}")]
    TwiceNamed(String),
}

/// Checks what the types do not.
pub(crate) fn check(servers: &[McpServer]) -> Result<(), SettingsError> {
    let mut seen = HashSet::new();
    for McpServer { name, .. } in servers {
        let fits = (1..=32).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if !fits {
            return Err(SettingsError::Name(name.clone()));
        }
        if !seen.insert(name) {
            return Err(SettingsError::TwiceNamed(name.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_unique() {
        let server = |name: &str| McpServer::new(name, "true");
        assert_eq!(check(&[server("a"), server("b-_9")]), Ok(()));
        assert_eq!(
            check(&[server("a"), server("a")]),
            Err(SettingsError::TwiceNamed("a".into()))
        );
        for bad in ["", "a b", "ä", &"a".repeat(33)] {
            assert_eq!(check(&[server(bad)]), Err(SettingsError::Name(bad.into())));
        }
    }

    #[test]
    fn debug_shows_no_secret() {
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
