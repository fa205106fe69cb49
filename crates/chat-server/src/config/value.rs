//! Parsing of each kind of setting.

use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use figment::value::{Num, Value};
use secrecy::{ExposeSecret, SecretString};

/// A kind of setting. Its form is text; a TOML file may also have numbers and booleans.
pub(super) trait Setting: Sized {
    /// The expected form, to complete "… is not …".
    const EXPECTED: &'static str;
    /// Whether the value must never be shown.
    const SECRET: bool = false;

    /// Parses a text.
    fn parse(text: &str) -> Option<Self>;

    /// The fault of an invalid text, to complete "… {fault}".
    fn fault(_text: &str) -> String {
        format!("is not {}", Self::EXPECTED)
    }

    /// The exact fault of an invalid value, without secrets. Empty if only the expected form is
    /// known.
    fn faults(_value: &Value) -> Vec<String> {
        Vec::new()
    }

    /// Reads the value of a layer.
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
        Value::Num(_, number) => number
            .to_i128()
            .map(|n| n.to_string())
            .or_else(|| number.to_u128().map(|n| n.to_string())),
        Value::Empty(..) | Value::Dict(..) | Value::Array(..) => None,
    }
}

impl<T: Setting> Setting for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    const SECRET: bool = T::SECRET;

    fn parse(text: &str) -> Option<Self> {
        T::parse(text).map(Some)
    }

    fn fault(text: &str) -> String {
        T::fault(text)
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

macro_rules! bounded {
    ($($(#[doc = $doc:literal])+ $name:ident($type:ty) up to $most:literal;)+) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub $type);

        impl Setting for $name {
            const EXPECTED: &'static str = concat!("a whole number from 1 to ", $most);

            fn parse(text: &str) -> Option<Self> {
                let number = text.trim().parse().ok()?;
                (1..=$most).contains(&number).then_some(Self(number))
            }
        }
    )+};
}

bounded! {
    /// A number of threads. 512 is the limit of actix-web.
    Threads(usize) up to 512;
    /// A number of connections to the database.
    Connections(u32) up to 256;
}

impl Setting for String {
    const EXPECTED: &'static str = "a text with more than white space";

    fn parse(text: &str) -> Option<Self> {
        (!text.trim().is_empty()).then(|| text.to_owned())
    }
}

impl Setting for SecretString {
    const EXPECTED: &'static str = "a text";
    const SECRET: bool = true;

    fn parse(text: &str) -> Option<Self> {
        Some(text.into())
    }
}

/// A number above 0 and its unit, `ms`, `s`, `m` or `h`.
impl Setting for Duration {
    const EXPECTED: &'static str = "a time above 0, such as 500ms, 10s, 5m or 1h";

    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split_unit(text)?;
        let duration = Self::from_millis(number.checked_mul(millis(unit)?)?);
        (!duration.is_zero() && duration <= MAX_DURATION).then_some(duration)
    }

    fn fault(text: &str) -> String {
        let unit_text = text
            .trim()
            .trim_start_matches(|char: char| char.is_ascii_digit());
        match unit_text.trim_start() {
            "" if !text.trim().is_empty() => "has no unit; write 500ms, 5s, 5m or 1h".to_owned(),
            unit if millis(unit).is_some()
                && text.contains(|char: char| matches!(char, '1'..='9')) =>
            {
                "is longer than a year".to_owned()
            }
            _ => format!("is not {}", Self::EXPECTED),
        }
    }
}

/// The longest time. Sums of times must not overflow.
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 3_600);

fn millis(unit: &str) -> Option<u64> {
    match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
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
    let (number, unit) = text.split_at(
        text.find(|char: char| !char.is_ascii_digit())
            .unwrap_or(text.len()),
    );
    Some((number.parse().ok()?, unit.trim_start()))
}

/// The kind of agent.
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
    /// Plain text.
    Text,
    /// One JSON object for each line.
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

/// The checked filter of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(pub String);

impl Setting for LogFilter {
    const EXPECTED: &'static str =
        "a level such as info, or levels by module such as info,chat_domain=debug";

    fn parse(text: &str) -> Option<Self> {
        tracing_subscriber::EnvFilter::builder().parse(text).ok()?;
        Some(Self(text.to_owned()))
    }
}

/// The secret for the signatures of tokens: at least 32 bytes, as RFC 7518 §3.2 requires for HS256.
#[derive(Clone, Debug)]
pub struct JwtSecret(SecretString);

impl JwtSecret {
    /// The secret; `None` if it is too short.
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

/// The address of the database. It may have a password, so it is never printed.
#[derive(Clone)]
pub struct DatabaseUrl(SecretString);

impl DatabaseUrl {
    /// The URL itself.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// A file next to the database that belongs to it: `chat.db` has `chat.db-tasks`. In the
    /// working directory if the database is not a file.
    pub fn sibling_file(&self, suffix: &str) -> PathBuf {
        let path = self
            .expose()
            .strip_prefix("sqlite:")
            .map(|rest| rest.strip_prefix("//").unwrap_or(rest));
        let path = path
            .and_then(|path| path.split('?').next())
            .filter(|path| !path.is_empty() && !path.contains(":memory:"));
        PathBuf::from(format!("{}-{suffix}", path.unwrap_or("chat")))
    }
}

impl DatabaseUrl {
    /// Whether several servers may use the database.
    pub fn is_shared(&self) -> bool {
        !self.expose().starts_with("sqlite:")
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl([REDACTED])")
    }
}

impl Setting for DatabaseUrl {
    const EXPECTED: &'static str = "a URL that begins with sqlite:// or postgres://, \
        such as sqlite:///var/lib/chat/chat.db or postgres://chat:password@localhost/chat";
    const SECRET: bool = true;

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        ["sqlite:", "postgres:", "postgresql:"]
            .iter()
            .any(|scheme| text.starts_with(scheme))
            .then(|| Self(text.into()))
    }
}

/// Suggestions for a first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestions(pub Vec<String>);

impl Suggestions {
    fn of(texts: impl Iterator<Item = String>) -> Option<Self> {
        let texts: Vec<_> = texts
            .map(|text| String::parse(text.trim()))
            .collect::<Option<_>>()?;
        (!texts.is_empty()).then_some(Self(texts))
    }
}

impl Setting for Suggestions {
    const EXPECTED: &'static str = "a list of texts, such as What can you do?|Write a letter";

    fn parse(text: &str) -> Option<Self> {
        Self::of(text.split('|').map(str::to_owned))
    }

    fn read(value: Option<&Value>) -> Option<Self> {
        match value? {
            Value::Array(_, texts) => {
                Self::of(texts.iter().map(|item| text(item).unwrap_or_default()))
            }
            value => Self::parse(&text(value)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_are_above_0() {
        assert_eq!(Duration::parse("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(Duration::parse(" 5 m "), Some(Duration::from_secs(300)));
        for wrong in [
            "",
            "10",
            "0s",
            "-1s",
            "1.5s",
            "10 parsecs",
            "99999999999999999999s",
            "18446744073709551615h",
            "9000h",
        ] {
            assert_eq!(Duration::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn faults_of_a_time_are_exact() {
        for bare in ["5", " 10 ", "0"] {
            assert!(Duration::fault(bare).starts_with("has no unit"), "{bare}");
        }
        for long in ["9000h", "99999999999999999999s", "18446744073709551615h"] {
            assert_eq!(Duration::fault(long), "is longer than a year", "{long}");
        }
        for wrong in ["", "0s", "00 m", "1.5s", "-1s", "soon", "10 parsecs"] {
            assert!(
                Duration::fault(wrong).starts_with("is not a time above 0"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn numbers_stay_within_their_bounds() {
        assert_eq!(
            (Threads::parse("1"), Threads::parse(" 512 ")),
            (Some(Threads(1)), Some(Threads(512)))
        );
        assert_eq!(Connections::parse("256"), Some(Connections(256)));
        for wrong in ["0", "513", "-1", "", "x", "99999999999999999999999"] {
            assert_eq!(
                (Threads::parse(wrong), Connections::parse(wrong)),
                (None, None),
                "{wrong}"
            );
        }
        assert_eq!(Connections::parse("257"), None);
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
    fn sibling_files_are_next_to_the_database() {
        let sibling = |url: &str| DatabaseUrl::parse(url).unwrap().sibling_file("tasks");
        assert_eq!(sibling("sqlite://chat.db"), PathBuf::from("chat.db-tasks"));
        assert_eq!(
            sibling("sqlite:///var/chat.db?mode=rwc"),
            PathBuf::from("/var/chat.db-tasks")
        );
        assert_eq!(sibling("sqlite::memory:"), PathBuf::from("chat-tasks"));
    }
}
