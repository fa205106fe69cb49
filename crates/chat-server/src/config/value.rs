//! How each kind of setting is written.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use chat_tools_mcp::McpServer;
use figment::value::{Num, Value};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// A kind of setting. It is written as text; a TOML file may also write numbers and booleans as such.
pub(super) trait Setting: Sized {
    /// What is expected, fit for "… is not …".
    const EXPECTED: &'static str;
    /// Whether the value must never be shown.
    const SECRET: bool = false;

    /// The setting that this text stands for.
    fn parse(text: &str) -> Option<Self>;

    /// The setting, from what a layer holds.
    fn read(value: Option<&Value>) -> Option<Self> {
        Self::parse(&text(value?)?)
    }
}

/// A scalar as text.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Char(_, char) => Some(char.to_string()),
        Value::Bool(_, bool) => Some(bool.to_string()),
        Value::Num(_, Num::F32(number)) => Some(number.to_string()),
        Value::Num(_, Num::F64(number)) => Some(number.to_string()),
        Value::Num(_, number) => number.to_i128().map(|n| n.to_string()).or_else(|| number.to_u128().map(|n| n.to_string())),
        Value::Empty(..) | Value::Dict(..) | Value::Array(..) => None,
    }
}

impl<T: Setting> Setting for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    const SECRET: bool = T::SECRET;

    fn parse(text: &str) -> Option<Self> {
        T::parse(text).map(Some)
    }

    fn read(value: Option<&Value>) -> Option<Self> {
        match value {
            None => Some(None),
            value => T::read(value).map(Some),
        }
    }
}

macro_rules! by_from_str {
    ($($type:ty: $expected:literal),+ $(,)?) => {$(
        impl Setting for $type {
            const EXPECTED: &'static str = $expected;

            fn parse(text: &str) -> Option<Self> {
                text.trim().parse().ok()
            }
        }
    )+};
}

by_from_str! {
    SocketAddr: "an address with a port, such as 127.0.0.1:8080 or [::1]:8080",
    NonZeroU32: "a whole number from 1 to 4294967295",
    NonZeroUsize: "a whole number, 1 or more",
    bool: "true or false",
    AgentKind: "demo or openai",
    LogFormat: "text or json",
}

impl Setting for String {
    const EXPECTED: &'static str = "a text";

    fn parse(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl Setting for SecretString {
    const EXPECTED: &'static str = "a text";
    const SECRET: bool = true;

    fn parse(text: &str) -> Option<Self> {
        Some(text.into())
    }
}

/// Longer than nothing: a number and its unit, `ms`, `s`, `m` or `h`.
impl Setting for Duration {
    const EXPECTED: &'static str = "a time longer than nothing, such as 500ms, 10s, 5m or 1h";

    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split_unit(text)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        let duration = Self::from_millis(number.checked_mul(millis)?);
        // Over a year is a mistake, and sums of times must not overflow.
        (!duration.is_zero() && duration <= Self::from_secs(365 * 24 * 3_600)).then_some(duration)
    }
}

/// A number of bytes, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub usize);

impl Setting for Bytes {
    const EXPECTED: &'static str = "a number of bytes, such as 65536, 64KiB or 1MiB";

    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split_unit(text)?;
        let bytes = match unit {
            "" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            _ => return None,
        };
        let total = usize::try_from(number.checked_mul(bytes)?).ok()?;
        (total > 0).then_some(Self(total))
    }
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len()));
    Some((number.parse().ok()?, unit.trim_start()))
}

/// What answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentKind {
    /// Offline rules.
    Demo,
    /// A server that speaks OpenAI's chat completions.
    OpenAi,
}

impl FromStr for AgentKind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "demo" => Ok(Self::Demo),
            "openai" => Ok(Self::OpenAi),
            _ => Err(()),
        }
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(()),
        }
    }
}

/// What is logged, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(pub String);

impl Setting for LogFilter {
    const EXPECTED: &'static str = "a level such as info, or levels by module such as info,chat_domain=debug";

    fn parse(text: &str) -> Option<Self> {
        tracing_subscriber::EnvFilter::builder().parse(text).ok()?;
        Some(Self(text.to_owned()))
    }
}

/// A secret that tokens are signed with: at least 32 bytes, as RFC 7518 §3.2 asks of HS256.
#[derive(Clone, Debug)]
pub struct JwtSecret(SecretString);

impl JwtSecret {
    /// Takes the secret; `None` if it is too short.
    pub fn new(secret: &str) -> Option<Self> {
        (secret.len() >= 32).then(|| Self(secret.into()))
    }

    /// The secret itself.
    pub fn expose(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }
}

impl Setting for JwtSecret {
    const EXPECTED: &'static str = "at least 32 bytes long";
    const SECRET: bool = true;

    fn parse(text: &str) -> Option<Self> {
        Self::new(text)
    }
}

/// Where the database is. May hold a password, so it is never printed.
#[derive(Clone)]
pub struct DatabaseUrl(SecretString);

impl DatabaseUrl {
    /// The URL itself.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// A file beside the database, for what belongs to it: `chat.db` has `chat.db-tasks`. In the working directory if the
    /// database is no file.
    pub fn beside(&self, suffix: &str) -> PathBuf {
        let path = self.expose().strip_prefix("sqlite:").map(|rest| rest.strip_prefix("//").unwrap_or(rest));
        let path = path.and_then(|path| path.split('?').next()).filter(|path| !path.is_empty() && !path.contains(":memory:"));
        PathBuf::from(format!("{}-{suffix}", path.unwrap_or("chat")))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl([REDACTED])")
    }
}

impl Setting for DatabaseUrl {
    const EXPECTED: &'static str = "a database URL, such as sqlite://chat.db";
    const SECRET: bool = true;

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        text.starts_with("sqlite:").then(|| Self(text.into()))
    }
}

/// MCP servers that are started as child processes.
#[derive(Clone, Debug, Default)]
pub struct McpServers(pub Vec<McpServer>);

/// How a server is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenServer {
    name: String,
    command: PathBuf,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

impl From<Vec<WrittenServer>> for McpServers {
    fn from(servers: Vec<WrittenServer>) -> Self {
        let server = |WrittenServer { name, command, args, env }| McpServer { args, env, ..McpServer::new(name, command) };
        Self(servers.into_iter().map(server).collect())
    }
}

impl Setting for McpServers {
    const EXPECTED: &'static str = "a list of MCP servers, each with `name`, `command` and perhaps `args` and `env`";
    const SECRET: bool = true;

    fn parse(text: &str) -> Option<Self> {
        Some(serde_json::from_str::<Vec<WrittenServer>>(text).ok()?.into())
    }

    fn read(value: Option<&Value>) -> Option<Self> {
        match value? {
            value @ Value::Array(..) => Some(value.deserialize::<Vec<WrittenServer>>().ok()?.into()),
            value => Self::parse(&text(value)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_are_longer_than_nothing() {
        assert_eq!(Duration::parse("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(Duration::parse(" 5 m "), Some(Duration::from_secs(300)));
        for wrong in ["", "10", "0s", "-1s", "1.5s", "10 parsecs", "99999999999999999999s", "18446744073709551615h", "9000h"] {
            assert_eq!(Duration::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_may_have_units() {
        assert_eq!(Bytes::parse("65536"), Some(Bytes(65_536)));
        assert_eq!(Bytes::parse("1MiB"), Some(Bytes(1 << 20)));
        for wrong in ["", "0", "1MB", "KiB", "18446744073709551615MiB"] {
            assert_eq!(Bytes::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn files_stand_beside_the_database() {
        let beside = |url: &str| DatabaseUrl::parse(url).unwrap().beside("tasks");
        assert_eq!(beside("sqlite://chat.db"), PathBuf::from("chat.db-tasks"));
        assert_eq!(beside("sqlite:///var/chat.db?mode=rwc"), PathBuf::from("/var/chat.db-tasks"));
        assert_eq!(beside("sqlite::memory:"), PathBuf::from("chat-tasks"));
    }

    #[test]
    fn mcp_servers_are_written_as_json() {
        let one = r#"{"name": "a", "command": "x", "env": {"TOKEN": "hunter2"}}"#;
        let servers = McpServers::parse(&format!("[{one}]")).unwrap();
        assert_eq!(servers.0.len(), 1);
        assert!(!format!("{servers:?}").contains("hunter2"));
        for wrong in [one, r#"[{"name": "a"}]"#, r#"[{"name": "a", "command": "x", "url": "y"}]"#, "files"] {
            assert!(McpServers::parse(wrong).is_none(), "{wrong}");
        }
    }
}
