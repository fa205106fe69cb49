//! The small values everything else is made of: ids, owners, places, times.

use std::fmt;

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
    /// Names a tool call. It is ours: agents' own call ids may be missing, empty or repeated.
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

/// An item's place in its conversation: 1, 2, 3 … without gaps. [`Position::START`] stands before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// Before the first item.
    pub const START: Self = Self(0);
}

/// A turn's place in its conversation: 1, 2, 3 … in the order in which their messages arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ordinal(pub u64);

/// Microseconds since the Unix epoch, UTC. For people: order never comes from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// Valid JSON text, carried byte for byte. The domain never looks into it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RawJson(String);

impl RawJson {
    /// Takes text that the caller knows to be valid JSON, from its own JSON library or from a store.
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

/// Replaces U+0000, which no database keeps alike, by U+FFFD. For text from agents and tools;
/// a user's text with U+0000 is refused instead.
pub fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{FFFD}") } else { text }
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
    fn nul_becomes_the_replacement_character() {
        assert_eq!(without_nul("a\0b".into()), "a\u{FFFD}b");
        assert_eq!(without_nul("ab".into()), "ab");
    }
}
