//! The task that a user's words refer to.

use super::history::{History, Task, WHICH, lines};

/// The task that was meant.
#[derive(Debug, PartialEq)]
pub(super) enum Meaning {
    Task(u64),
    /// The list of all tasks is needed to tell.
    NeedsList,
    /// The question to the user, or the reason why there is no such task.
    Unclear(String),
}

const ORDINALS: [&str; 10] = [
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth",
];
const PREFIXES: [&str; 7] = ["the ", "my ", "this ", "that ", "task ", "item ", "number "];
const SUFFIXES: [&str; 3] = [" one", " task", " item"];
const PREVIOUS: [&str; 8] = [
    "it",
    "that",
    "this",
    "that one",
    "this one",
    "the task",
    "that task",
    "this task",
];
const SEVERAL: [&str; 11] = [
    "all",
    "everything",
    "every",
    "both",
    "them",
    "of",
    "my",
    "the",
    "tasks",
    "items",
    "list",
];

/// Finds the task for words such as "task 2", "the first one", "it" or "milk".
///
/// A number is the task's own. An ordinal counts in the list that the agent showed last, "it" is
/// the task of the turn before, and anything else is a title or some of its words in a row. `tasks`
/// are all tasks, if they are known.
pub(super) fn resolve(words: &str, history: &History<'_>, tasks: Option<&[Task]>) -> Meaning {
    let full = normalize(words);
    let name = strip(&full);
    if let Ok(number) = name.parse() {
        return Meaning::Task(number);
    }
    if full.is_empty() || PREVIOUS.contains(&full.as_str()) {
        let previous = history.previous.filter(|_| !full.is_empty());
        let question = || Meaning::Unclear(format!("{WHICH} Say its number or its title."));
        return previous.map_or_else(question, Meaning::Task);
    }
    if name.split(' ').all(|word| SEVERAL.contains(&word)) {
        return Meaning::Unclear(format!("{WHICH} I change one task at a time."));
    }
    let all: Option<Vec<u64>> = tasks.map(|tasks| tasks.iter().map(|task| task.task_id).collect());
    let shown = Some(history.shown.clone())
        .filter(|shown| !shown.is_empty())
        .or(all);
    match (place(name), shown, tasks) {
        (_, None, _) | (None, _, None) => Meaning::NeedsList,
        (_, _, Some([])) => Meaning::Unclear("You have no tasks yet.".to_owned()),
        (Some(place), Some(ids), _) => {
            let id = match place {
                Place::Nth(nth) => nth.checked_sub(1).and_then(|at| ids.get(at)),
                Place::Last => ids.last(),
            };
            let too_few = || Meaning::Unclear(format!("{WHICH} The list is shorter than that."));
            id.copied().map_or_else(too_few, Meaning::Task)
        }
        (None, _, Some(tasks)) => titled(&full, name, tasks),
    }
}

/// The task whose title is `full`, or else contains the words of `name`.
fn titled(full: &str, name: &str, tasks: &[Task]) -> Meaning {
    let matching = |is_match: &dyn Fn(&str) -> bool| -> Vec<Task> {
        tasks
            .iter()
            .filter(|task| is_match(&normalize(&task.title)))
            .cloned()
            .collect()
    };
    let mut found = matching(&|title| title == full || title == name);
    if found.is_empty() {
        found = matching(&|title| format!(" {title} ").contains(&format!(" {name} ")));
    }
    match found.as_slice() {
        [task] => Meaning::Task(task.task_id),
        [] => {
            let question = format!("{WHICH} None has that title. Your tasks are:");
            Meaning::Unclear(lines(&question, tasks))
        }
        several => Meaning::Unclear(lines(WHICH, several)),
    }
}

/// A place in a list.
enum Place {
    /// Counted from 1.
    Nth(usize),
    Last,
}

fn place(name: &str) -> Option<Place> {
    if name == "last" {
        return Some(Place::Last);
    }
    let ordinal = ORDINALS
        .iter()
        .position(|ordinal| *ordinal == name)
        .map(|at| at + 1);
    let suffixes = ["st", "nd", "rd", "th"];
    let digits = || {
        suffixes
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix)?.parse().ok())
    };
    ordinal.or_else(digits).map(Place::Nth)
}

/// The words in lower case, without punctuation between them.
fn normalize(text: &str) -> String {
    let is_separator = |c: char| {
        c.is_whitespace() || c.is_ascii_punctuation() || matches!(c, '“' | '”' | '‘' | '’')
    };
    let text = text.to_lowercase();
    let words: Vec<&str> = text
        .split(is_separator)
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" ")
}

/// Removes articles and words for "task" around a name.
fn strip(name: &str) -> &str {
    let mut name = name;
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
        name = rest;
    }
    SUFFIXES
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks() -> Vec<Task> {
        let titles = [
            (1, "Buy milk"),
            (2, "Buy oat milk"),
            (4, "Call mom"),
            (5, "milk"),
        ];
        let task = |(task_id, title): (u64, &str)| Task {
            task_id,
            title: title.into(),
            completed: false,
        };
        titles.map(task).into()
    }

    #[test]
    fn words_refer_to_tasks() {
        let history = History {
            shown: vec![2, 4],
            previous: Some(5),
            ..History::default()
        };
        for (words, id) in [
            ("2", 2),
            ("task #7", 7),
            ("the task number 4", 4),
            ("the first one", 2),
            ("2nd", 4),
            ("my last task", 4),
            ("it", 5),
            ("That one.", 5),
            ("the milk", 5),
            ("oat milk", 2),
            ("\"BUY MILK\"", 1),
            ("mom task", 4),
        ] {
            assert_eq!(
                resolve(words, &history, Some(&tasks())),
                Meaning::Task(id),
                "{words}"
            );
        }
    }

    #[test]
    fn unclear_words_are_asked_about() {
        let history = History {
            shown: vec![2, 4],
            ..History::default()
        };
        for (words, expected) in [
            ("", "Which task do you mean? Say its number or its title."),
            ("it", "Which task do you mean? Say its number or its title."),
            (
                "all my tasks",
                "Which task do you mean? I change one task at a time.",
            ),
            (
                "the third one",
                "Which task do you mean? The list is shorter than that.",
            ),
            (
                "buy",
                "Which task do you mean?\n1. [ ] Buy milk\n2. [ ] Buy oat milk",
            ),
            (
                "ilk",
                "Which task do you mean? None has that title. Your tasks are:\n1. [ ] Buy milk",
            ),
            (
                "the 0th",
                "Which task do you mean? The list is shorter than that.",
            ),
            ("task one", "Which task do you mean? None has that title."),
            ("4 and 5", "Which task do you mean? None has that title."),
        ] {
            let meaning = resolve(words, &history, Some(&tasks()));
            assert!(
                matches!(&meaning, Meaning::Unclear(question) if question.starts_with(expected)),
                "{words}: {meaning:?}"
            );
        }
    }

    #[test]
    fn the_list_is_asked_for_if_it_is_needed() {
        let history = History::default();
        assert_eq!(resolve("the first one", &history, None), Meaning::NeedsList);
        assert_eq!(resolve("milk", &history, None), Meaning::NeedsList);
        assert_eq!(
            resolve("the last", &history, Some(&tasks())),
            Meaning::Task(5)
        );
        let none = Meaning::Unclear("You have no tasks yet.".to_owned());
        assert_eq!(resolve("the first one", &history, Some(&[])), none);
    }
}
