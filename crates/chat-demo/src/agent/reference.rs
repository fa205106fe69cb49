//! Which task somebody means.

use super::words::Phrase;

/// Which task somebody means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    /// The task of this number.
    Number(u64),
    /// The one at this place of the list that was shown, from 1.
    Nth(usize),
    /// The last of the list that was shown.
    Last,
    /// The one that was spoken of.
    It,
    /// All of them, or more than one.
    Several,
    /// The one of this title, or a part of it.
    Title(String),
}

const KINDS: [&str; 12] = ["task", "item", "todo", "to-do", "to do", "entry", "reminder", "one", "thing", "number", "no", "nr"];
const NUMBERED: [&str; 8] = ["task number", "item number", "task", "item", "number", "no", "nr", "#"];
const ARTICLES: [&str; 6] = ["the", "my", "a", "an", "that", "this"];
const FROM_LIST: [&str; 16] = [
    "from my list",
    "from the list",
    "from my tasks",
    "from my todo list",
    "from my to-do list",
    "off my list",
    "off the list",
    "off my todo list",
    "off my to-do list",
    "on my list",
    "on the list",
    "in my list",
    "in the list",
    "of my list",
    "of the list",
    "from it",
];
const FIRST: [&str; 12] =
    ["zeroth", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh"];
const ONE: [&str; 11] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];

impl Reference {
    /// What a phrase such as "the second one", "task 3", "it" or "the milk" means. None if it says nothing.
    pub(crate) fn of(phrase: Phrase<'_>) -> Option<Self> {
        let phrase = phrase.without_last(&FROM_LIST);
        if phrase.is_empty() {
            return None;
        }
        if phrase.is_any(&["it", "that", "this", "that one", "this one", "the one", "the task", "this task", "that task", "the same"]) {
            return Some(Self::It);
        }
        if phrase.is_any(&["all", "everything", "them", "them all", "all of them", "both", "both of them", "my list", "the list", "list"])
            || phrase
                .after_any(&["all", "every", "all of"])
                .is_some_and(|rest| rest.without_first(&ARTICLES).is_any(&["tasks", "task", "items", "todos", "one"]))
        {
            return Some(Self::Several);
        }
        if is_several(phrase) {
            return Some(Self::Several);
        }
        if let Some(number) = numbered(phrase.without_first(&ARTICLES)) {
            return Some(number);
        }
        let bare = phrase.without_first(&ARTICLES);
        place(bare.without_last(&KINDS)).or_else(|| {
            let called = bare.after_any(&["task called", "task named", "task titled", "item called", "one called", "task", "item"]);
            let title = called.unwrap_or(bare);
            let shorter = title.without_last(&["task", "item", "todo", "one", "entry", "reminder"]);
            let title = if shorter.is_empty() { title } else { shorter }.title();
            (!title.is_empty()).then_some(Self::Title(title))
        })
    }
}

/// "2 and 3", "tasks 2, 3", "the first and the last", "5 and delete 6": but "salt and pepper" may be a title.
fn is_several(phrase: Phrase<'_>) -> bool {
    let number = |word: &str| word.trim_start_matches('#').parse::<u64>().is_ok();
    let mut numbers = phrase.without_first(&ARTICLES).without_first(&["tasks", "items", "numbers", "todos", "task", "item"]).plain();
    if numbers.len() > 1 && numbers.all(number) {
        return true;
    }
    let first =
        phrase.split_at_any(&["and", "&", "or", "then"]).map(|(first, _)| first.without_first(&["tasks", "items", "numbers", "both"]));
    first.is_some_and(|first| !first.is_empty() && !matches!(Reference::of(first), None | Some(Reference::Title(_))))
}

/// "2", "#2", "task 2", "number two".
fn numbered(phrase: Phrase<'_>) -> Option<Reference> {
    let rest = phrase.without_first(&NUMBERED);
    let said_so = rest.plain().len() < phrase.plain().len();
    let mut words = rest.plain();
    let (word, None) = (words.next()?, words.next()) else { return None };
    let number = match word.trim_start_matches('#').parse() {
        Ok(number) => number,
        Err(_) if said_so => ONE.iter().position(|one| *one == word)?.try_into().ok()?,
        Err(_) => return None,
    };
    Some(Reference::Number(number))
}

/// "first", "2nd", "last".
fn place(phrase: Phrase<'_>) -> Option<Reference> {
    if phrase.is_any(&["last", "latest", "final", "bottom", "newest", "most recent", "very last"]) {
        return Some(Reference::Last);
    }
    if phrase.is_any(&["top", "very first"]) {
        return Some(Reference::Nth(1));
    }
    let mut words = phrase.plain();
    let (word, None) = (words.next()?, words.next()) else { return None };
    let digits = ["st", "nd", "rd", "th"].iter().find_map(|ending| word.strip_suffix(ending)?.parse().ok());
    digits.or_else(|| FIRST.iter().position(|first| *first == word)).filter(|nth| *nth > 0).map(Reference::Nth)
}

#[cfg(test)]
mod tests {
    use super::super::words::Words;
    use super::*;

    #[test]
    fn phrases_mean_tasks() {
        use Reference::{It, Last, Nth, Number, Several};
        let title = |title: &str| Reference::Title(title.into());
        for (phrase, expected) in [
            ("2", Number(2)),
            ("#12", Number(12)),
            ("task 3", Number(3)),
            ("Task #3", Number(3)),
            ("the task number 4", Number(4)),
            ("number two", Number(2)),
            ("2 from my list", Number(2)),
            ("the first one", Nth(1)),
            ("first", Nth(1)),
            ("the 2nd task", Nth(2)),
            ("my third to-do", Nth(3)),
            ("the 21st", Nth(21)),
            ("the top one", Nth(1)),
            ("the last one", Last),
            ("last task on my list", Last),
            ("the newest", Last),
            ("it", It),
            ("That one.", It),
            ("the task", It),
            ("everything", Several),
            ("all of them", Several),
            ("all my tasks", Several),
            ("every task", Several),
            ("tasks 5 and 6", Several),
            ("5 and 6", Several),
            ("5, 6", Several),
            ("tasks 1, 2 and 3", Several),
            ("task 5 and task 6", Several),
            ("5 and delete 6", Several),
            ("the first and the last one", Several),
            ("it and the other", Several),
            ("salt and pepper", title("salt and pepper")),
            ("the milk", title("milk")),
            ("milk from my list", title("milk")),
            ("\"Buy the Milk\"", title("Buy the Milk")),
            ("the task called Buy milk", title("Buy milk")),
            ("the groceries task", title("groceries")),
            ("Call mom.", title("Call mom")),
            ("first aid kit", title("first aid kit")),
            ("2 eggs", title("2 eggs")),
            ("the zeroth", title("zeroth")),
        ] {
            assert_eq!(Reference::of(Words::of(phrase).all()), Some(expected), "{phrase}");
        }
        assert_eq!(Reference::of(Words::of("").all()), None);
    }
}
