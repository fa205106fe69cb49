//! A message as words: lower-case and bare for comparing, with their places for quoting.

/// A word of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// In lower case, without the punctuation around it. Never empty.
    pub(crate) plain: String,
    /// Where it begins and ends in the message, punctuation included, in bytes.
    start: usize,
    end: usize,
}

/// A message and its words.
#[derive(Clone, Debug)]
pub(crate) struct Words<'a> {
    message: &'a str,
    words: Vec<Word>,
}

impl<'a> Words<'a> {
    /// Splits at white space, and after a colon that belongs to a word ("task:milk", but not "9:30" and "https://").
    pub(crate) fn of(message: &'a str) -> Self {
        let mut words = Vec::new();
        let mut start = None;
        let mut chars = message.char_indices().peekable();
        let mut before = ' ';
        while let Some((at, c)) = chars.next() {
            let next = chars.peek().map(|(_, next)| *next);
            let end = at + c.len_utf8();
            if c.is_whitespace() {
                words.extend(start.take().and_then(|start| word(message, start, at)));
            } else {
                start.get_or_insert(at);
                if c == ':' && before.is_alphabetic() && next.is_some_and(|next| next != '/') {
                    words.extend(start.take().and_then(|start| word(message, start, end)));
                }
            }
            before = c;
        }
        words.extend(start.and_then(|start| word(message, start, message.len())));
        Self { message, words }
    }

    pub(crate) fn all(&self) -> Phrase<'_> {
        Phrase { message: self.message, words: &self.words }
    }
}

fn word(message: &str, start: usize, end: usize) -> Option<Word> {
    let written = message.get(start..end)?.to_lowercase().replace('’', "'");
    let bare = written.trim_matches(|c: char| !c.is_alphanumeric() && c != '#').trim_end_matches('#');
    // A picture is a word too, but a dash is none.
    let plain = if bare.is_empty() { written.trim_matches(is_punctuation) } else { bare };
    (!plain.is_empty()).then(|| Word { plain: plain.to_owned(), start, end })
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || matches!(c, '–' | '—' | '…' | '“' | '”' | '„' | '‘' | '«' | '»' | '¿' | '¡')
}

/// Some words of a message, in a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phrase<'a> {
    message: &'a str,
    words: &'a [Word],
}

impl<'a> Phrase<'a> {
    pub(crate) fn is_empty(self) -> bool {
        self.words.is_empty()
    }

    pub(crate) fn plain(self) -> impl DoubleEndedIterator<Item = &'a str> + ExactSizeIterator {
        self.words.iter().map(|word| word.plain.as_str())
    }

    /// Whether it is these words.
    pub(crate) fn is(self, words: &str) -> bool {
        self.after(words).is_some_and(Self::is_empty)
    }

    pub(crate) fn is_any(self, phrases: &[&str]) -> bool {
        phrases.iter().any(|words| self.is(words))
    }

    /// What follows these words, if it begins with them.
    pub(crate) fn after(self, words: &str) -> Option<Self> {
        let mut rest = self.words;
        for expected in words.split(' ') {
            let (first, others) = rest.split_first()?;
            if first.plain != expected {
                return None;
            }
            rest = others;
        }
        Some(Self { words: rest, ..self })
    }

    /// What follows the first of these phrases that it begins with.
    pub(crate) fn after_any(self, phrases: &[&str]) -> Option<Self> {
        phrases.iter().find_map(|words| self.after(words))
    }

    /// What precedes these words, if it ends with them.
    pub(crate) fn before(self, words: &str) -> Option<Self> {
        let mut rest = self.words;
        for expected in words.rsplit(' ') {
            let (last, others) = rest.split_last()?;
            if last.plain != expected {
                return None;
            }
            rest = others;
        }
        Some(Self { words: rest, ..self })
    }

    pub(crate) fn before_any(self, phrases: &[&str]) -> Option<Self> {
        phrases.iter().find_map(|words| self.before(words))
    }

    /// Without these phrases at its start, however often they come.
    pub(crate) fn without_first(self, phrases: &[&str]) -> Self {
        std::iter::successors(Some(self), |rest| rest.after_any(phrases)).last().unwrap_or(self)
    }

    /// Without these phrases at its end, however often they come.
    pub(crate) fn without_last(self, phrases: &[&str]) -> Self {
        std::iter::successors(Some(self), |rest| rest.before_any(phrases)).last().unwrap_or(self)
    }

    /// Without a "please" or a ", thanks" at its end.
    pub(crate) fn without_courtesy(self) -> Self {
        let thanks = |rest: &Self| rest.written().ends_with([',', '.', '!', '-', '–', '—']);
        let shorter = self.before("please").or_else(|| self.before_any(&["thanks", "thank you"]).filter(thanks));
        shorter.map_or(self, Self::without_courtesy)
    }

    /// Whether a colon stands before it: then it is meant as it is written.
    pub(crate) fn is_announced(self) -> bool {
        let before = self.words.first().and_then(|first| self.message.get(..first.start));
        before.is_some_and(|before| before.trim_end().ends_with(':'))
    }

    /// Both sides of the first of these phrases, searched for from the second word on.
    pub(crate) fn split_at_any(self, phrases: &[&str]) -> Option<(Self, Self)> {
        (1..self.words.len()).find_map(|at| {
            let (left, right) = self.words.split_at_checked(at)?;
            let right = Self { words: right, ..self }.after_any(phrases)?;
            Some((Self { words: left, ..self }, right))
        })
    }

    /// Both sides of the first colon after one of its words.
    pub(crate) fn split_at_colon(self) -> Option<(Self, Self)> {
        (1..self.words.len()).find_map(|at| {
            let (left, right) = self.words.split_at_checked(at)?;
            let right = Self { words: right, ..self };
            right.is_announced().then_some((Self { words: left, ..self }, right))
        })
    }

    /// Whether these words are in it, in a row.
    pub(crate) fn holds(self, words: &str) -> bool {
        (0..self.words.len())
            .any(|at| self.words.get(at..).is_some_and(|words_from| Self { words: words_from, ..self }.after(words).is_some()))
    }

    pub(crate) fn holds_any(self, phrases: &[&str]) -> bool {
        phrases.iter().any(|words| self.holds(words))
    }

    /// As it was written.
    pub(crate) fn written(self) -> &'a str {
        match (self.words.first(), self.words.last()) {
            (Some(first), Some(last)) => self.message.get(first.start..last.end).unwrap_or_default(),
            _ => "",
        }
    }

    /// As it was written, as a title: without quotation marks around it and without a full stop, comma or the like at its end.
    /// Of a quoted part with more after it only that part, unless it was announced: "feed the cat" and then show my list.
    pub(crate) fn title(self) -> String {
        let written = self.written().trim_start_matches([':', '-', '–']).trim();
        let bare = written.trim_end_matches(['.', ',', ';', '!']);
        let title = match quoted_first(bare) {
            Some((quoted, "")) => quoted,
            Some((quoted, more)) if !self.is_announced() && !more.contains(['"', '“', '„', '`']) => quoted,
            _ => bare,
        };
        title.to_owned()
    }
}

/// The quotation that a text begins with, and what follows it.
fn quoted_first(text: &str) -> Option<(&str, &str)> {
    const QUOTES: [(char, char); 6] = [('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”'), ('‘', '’'), ('„', '“')];
    let (inner, close) = QUOTES.iter().find_map(|(open, close)| Some((text.strip_prefix(*open)?, *close)))?;
    // The mark in "mom's" is an apostrophe.
    let ends = |after: &str| !after.starts_with(char::is_alphanumeric);
    let (at, mark) = inner.match_indices(close).find(|(at, mark)| inner.get(at + mark.len()..).is_some_and(ends))?;
    let quoted = inner.get(..at)?.trim();
    let more = inner.get(at + mark.len()..)?.trim();
    (!quoted.is_empty()).then_some((quoted, more))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(message: &str) -> Vec<String> {
        Words::of(message).all().plain().map(str::to_owned).collect()
    }

    #[test]
    fn words_are_bare_and_small() {
        assert_eq!(plain("  Add: \"Buy GROCERIES\", please!  "), ["add", "buy", "groceries", "please"]);
        assert_eq!(plain("What’s on my to-do list?"), ["what's", "on", "my", "to-do", "list"]);
        assert_eq!(plain("task:milk at 9:30 see https://x.y"), ["task", "milk", "at", "9:30", "see", "https://x.y"]);
        assert_eq!(plain("#2 … — ??"), ["#2"]);
        assert_eq!(plain("party 🎉 !"), ["party", "🎉"]);
        assert_eq!(plain(" \n"), [""; 0]);
    }

    #[test]
    fn titles_are_as_written() {
        for (message, title) in [
            ("Buy groceries.", "Buy groceries"),
            ("\"Buy, then sell!\"", "Buy, then sell!"),
            ("‘Mom’s cake’", "Mom’s cake"),
            ("call  mom", "call  mom"),
            ("what? why?", "what? why?"),
            ("pay 10.50", "pay 10.50"),
            ("\"Buy 'milk'\"", "Buy 'milk'"),
            ("\"Write report\", \"Send invoice\"", "\"Write report\", \"Send invoice\""),
            ("\"feed the cat\" and then show me my list", "feed the cat"),
            ("'mom's cake' and more", "mom's cake"),
            ("“a“ b", "“a“ b"),
            ("\"half open", "\"half open"),
            ("say \"hi\"", "say \"hi\""),
        ] {
            assert_eq!(Words::of(message).all().title(), title);
        }
        let announced = Words::of("add: \"milk\" 🥛");
        assert_eq!(announced.all().after("add").unwrap().title(), "\"milk\" 🥛", "it is meant as it is written");
    }

    #[test]
    fn phrases_are_found() {
        let words = Words::of("rename the second one to Milk to go");
        let all = words.all();
        let (left, right) = all.after("rename").unwrap().split_at_any(&["into", "to"]).unwrap();
        assert_eq!((left.written(), right.written()), ("the second one", "Milk to go"));
        assert!(all.holds("milk to") && !all.holds("to milk go"));
        assert_eq!(all.before("to go").unwrap().plain().next_back(), Some("milk"));
        assert!(left.is("the second one") && !left.is("the second"));
        assert!(!right.is_announced() && Words::of("Add: x").all().after("add").unwrap().is_announced());
        let edit = Words::of("task 6: wash: the bike");
        let (which, title) = edit.all().split_at_colon().unwrap();
        assert_eq!((which.written(), title.written()), ("task 6:", "wash: the bike"));
        assert!(all.split_at_colon().is_none());
        for (message, left) in
            [("milk, thank you", "milk,"), ("milk please", "milk"), ("say thanks", "say thanks"), ("a, please. Thanks", "a,")]
        {
            assert_eq!(Words::of(message).all().without_courtesy().written(), left);
        }
        assert_eq!(left.without_first(&["the"]).without_last(&["one"]).written(), "second");
    }
}
