//! Basic value types: ids, owners, positions, times.

use std::fmt;
use std::time::Duration;

use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}

ids! {
    /// Names a conversation.
    ConversationId,
    /// Names a turn.
    TurnId,
    /// Names a message.
    MessageId,
    /// Names a tool call. The server chooses it: agents' own call ids may be missing, empty or
    /// repeated.
    ToolCallId,
    /// Names one run of one server process, never reused.
    WorkerId,
}

/// The user a conversation belongs to: an opaque name of 1 to 128 bytes without control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(String);

impl UserId {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 128;

    /// Checks the name; `None` if it is empty, too long or holds a control character.
    pub fn new(name: impl Into<String>) -> Option<Self> {
        let name = name.into();
        let fits = (1..=Self::MAX_BYTES).contains(&name.len());
        (fits && !name.chars().any(char::is_control)).then_some(Self(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An item's place in its conversation: 1, 2, 3 … without gaps. [`Position::START`] is before
/// the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// Before the first item.
    pub const START: Self = Self(0);

    /// After all items.
    pub const END: Self = Self(u64::MAX);
}

/// A turn's place in its conversation: 1, 2, 3 … in the order in which their messages arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ordinal(pub u64);

/// Microseconds since the Unix epoch, UTC. For display; never used for ordering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The time this much later, at most the latest that can be represented.
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(micros(time)))
    }

    /// The time this much earlier, at least the earliest that can be represented.
    pub fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(micros(time)))
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// Valid JSON text, carried byte for byte. The domain never looks into it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RawJson(String);

impl RawJson {
    /// Takes text that the caller knows to be valid JSON, from its own JSON library or from a
    /// store.
    pub fn from_valid(json: impl Into<String>) -> Self {
        Self(json.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Opaque text (JSON) that an agent adapter attaches to a message or a tool call, and gets back
/// with it in later requests: a provider's call ids, signatures, reasoning. The domain and the
/// stores never look into it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AgentData(String);

impl AgentData {
    /// The longest text, in bytes.
    pub const MAX_BYTES: usize = 64 << 10;

    /// Checks the text.
    ///
    /// # Errors
    /// It is longer than [`MAX_BYTES`](Self::MAX_BYTES), or holds U+0000, which no database stores.
    /// An adapter logs this and does without the data: it never fails a step.
    pub fn new(json: impl Into<String>) -> Result<Self, AgentDataError> {
        let json = json.into();
        if json.len() > Self::MAX_BYTES {
            return Err(AgentDataError::TooLong { bytes: json.len() });
        }
        if json.contains('\0') {
            Err(AgentDataError::Nul)
        } else {
            Ok(Self(json))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why text cannot be [`AgentData`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentDataError {
    /// It is too long.
    #[error(
        "{bytes} bytes are more than the {} that are kept",
        AgentData::MAX_BYTES
    )]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// It holds U+0000.
    #[error("it contains U+0000")]
    Nul,
}

/// An enum each of whose variants has a stable name.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $code:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every variant.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable name: stored in databases and shown to clients.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }

            /// The variant with this name.
            pub fn from_code(code: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|kind| kind.code() == code)
            }
        }
    };
}
pub(crate) use codes;

/// Replaces U+0000, which databases treat differently, by U+FFFD. For text from agents and tools; a
/// user's text with U+0000 is refused instead.
pub fn without_nul(text: String) -> String {
    if text.contains('\0') {
        text.replace('\0', "\u{FFFD}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_ids_are_bounded_printable_text() {
        assert!(UserId::new("").is_none());
        assert!(UserId::new("a\nb").is_none());
        assert!(UserId::new("é".repeat(64)).is_some());
        assert!(UserId::new("é".repeat(65)).is_none());
    }

    #[test]
    fn agent_data_is_bounded() {
        let longest = "x".repeat(AgentData::MAX_BYTES);
        assert_eq!(
            AgentData::new(longest.clone()).map(|data| data.as_str().len()),
            Ok(AgentData::MAX_BYTES)
        );
        assert_eq!(
            AgentData::new(longest + "x"),
            Err(AgentDataError::TooLong {
                bytes: AgentData::MAX_BYTES + 1
            })
        );
        assert_eq!(AgentData::new("a\0b"), Err(AgentDataError::Nul));
    }

    #[test]
    fn nul_becomes_the_replacement_character() {
        assert_eq!(without_nul("a\0b".into()), "a\u{FFFD}b");
        assert_eq!(without_nul("ab".into()), "ab");
    }
}
