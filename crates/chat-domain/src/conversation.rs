//! Conversations and the titles of conversations.

use crate::{ConversationId, InvalidInput, Timestamp, UserId};

/// One user's log of items, seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// The user it belongs to.
    pub owner: UserId,
    /// Its title.
    pub title: Title,
    /// When it was begun.
    pub created_at: Timestamp,
    /// When something last happened in it: a message came, a turn ended, it was renamed.
    pub updated_at: Timestamp,
}

/// The title of a conversation: 1 to 200 characters, trimmed, without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Title(String);

impl Title {
    /// The longest title, in Unicode scalar values.
    pub const MAX_CHARS: usize = 200;
    /// The longest title that is made from a message.
    const MADE_CHARS: usize = 60;

    /// A title that its owner chose.
    ///
    /// # Errors
    /// [`InvalidInput::Title`] if nothing is left after trimming, it is too long or holds a control
    /// character.
    pub fn new(text: &str) -> Result<Self, InvalidInput> {
        let text = text.trim();
        let fits = (1..=Self::MAX_CHARS).contains(&text.chars().count());
        if !fits || text.chars().any(char::is_control) {
            return Err(InvalidInput::Title);
        }
        Ok(Self(text.to_owned()))
    }

    /// A title from a conversation's first message: its first line that says something, cut at a
    /// word, at most 60 characters.
    pub fn from_message(text: &str) -> Self {
        let words = |line: &str| {
            let visible: String = line
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect();
            visible.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let line = text
            .lines()
            .map(words)
            .find(|line| !line.is_empty())
            .unwrap_or_else(|| "…".to_owned());
        if line.chars().count() <= Self::MADE_CHARS {
            return Self(line);
        }
        let head: String = line.chars().take(Self::MADE_CHARS - 1).collect();
        let next_starts_a_word = line.chars().nth(Self::MADE_CHARS - 1) == Some(' ');
        let kept = match head.rsplit_once(' ') {
            Some((words, _)) if !next_starts_a_word => words,
            _ => head.trim_end(),
        };
        Self(format!("{kept}…"))
    }

    /// A title that a store kept.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_the_first_line_cut_at_a_word() {
        let title = |text: &str| Title::from_message(text).0;
        assert_eq!(title("Add task: Buy groceries"), "Add task: Buy groceries");
        assert_eq!(title("\n \u{a0}\n  Hello \t there\nmore"), "Hello there");
        assert_eq!(title(&"word ".repeat(12)), "word ".repeat(12).trim_end());
        assert_eq!(
            title(&"word ".repeat(13)),
            format!("{}…", "word ".repeat(12).trim_end())
        );
        assert_eq!(
            title(&"letters ".repeat(13)),
            format!("{}…", "letters ".repeat(7).trim_end())
        );
        assert_eq!(title(&"x".repeat(61)), format!("{}…", "x".repeat(59)));
        assert_eq!(
            title(&format!("{} yz", "x".repeat(59))),
            format!("{}…", "x".repeat(59))
        );
        for text in [&"é ".repeat(70), &"日本".repeat(50), "\u{7}"] {
            let title = title(text);
            assert!((1..=60).contains(&title.chars().count()), "{title}");
        }
    }

    #[test]
    fn a_chosen_title_is_trimmed_and_bounded() {
        assert_eq!(Title::new("  Groceries ").unwrap().as_str(), "Groceries");
        assert_eq!(
            Title::new(&"é".repeat(200))
                .unwrap()
                .as_str()
                .chars()
                .count(),
            200
        );
        for bad in ["", " \u{2003}\t", "a\u{0}b", "a\nb", &"é".repeat(201)] {
            assert_eq!(Title::new(bad), Err(InvalidInput::Title));
        }
    }
}
