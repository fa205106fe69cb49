//! What the agent says.

use chat_domain::ToolErrorKind;

use super::intent::{Change, Filter};
use super::memory::{Outcome, Task};
use super::plan::Question;

pub(crate) const GREETING: &str = "Hello! I keep your task list. Tell me what to add, or ask what is on your list.";
pub(crate) const WELCOME: &str = "You are welcome.";
pub(crate) const AS_IT_IS: &str = "All right, I leave everything as it is.";
pub(crate) const HELP: &str = "I keep your task list. You can say, for example:\n\
     - Add task: Buy groceries\n\
     - What is on my list?\n\
     - Complete the first one\n\
     - Rename task 2 to Buy oat milk\n\
     - Delete the last one";
pub(crate) const GOODBYE: &str = "Goodbye! I keep your list for you.";
pub(crate) const CANNOT_REOPEN: &str = "I cannot reopen a task: what is done stays done. But you can add it again as a new task.";
const ADD_WHAT: &str = "What should I add? Say, for example: Add task: Buy groceries";
const RENAME_HOW: &str = "What should the new title be? Say, for example: Rename task 2 to Buy oat milk";
pub(crate) const NOTHING_LEFT: &str = "Nothing is left to do.";
pub(crate) const NO_TASKS: &str = "You have no tasks yet.";
pub(crate) const AWAY: &str = "The task list is not available right now, so nothing was changed. Please try again in a moment.";

/// To what makes no sense here.
pub(crate) fn not_understood() -> String {
    format!("I did not understand that; I know only simple English.\n{HELP}")
}

/// After adding.
pub(crate) fn added(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done(task) => format!("Added '{}' to your tasks.", task.title),
        trouble => self::trouble(trouble),
    }
}

/// After listing, to show the list.
pub(crate) fn listed(filter: Filter, outcome: &Outcome) -> String {
    match (outcome, filter) {
        (Outcome::Listed(tasks), Filter::All) if tasks.is_empty() => NO_TASKS.to_owned(),
        (Outcome::Listed(tasks), Filter::Pending) if tasks.is_empty() => NOTHING_LEFT.to_owned(),
        (Outcome::Listed(tasks), Filter::Completed) if tasks.is_empty() => "You have not completed a task yet.".to_owned(),
        (Outcome::Listed(tasks), Filter::All) => format!("Here are your tasks:\n{}", lines(tasks)),
        (Outcome::Listed(tasks), Filter::Pending) => format!("This is left to do:\n{}", lines(tasks)),
        (Outcome::Listed(tasks), Filter::Completed) => format!("This is done:\n{}", lines(tasks)),
        (trouble, _) => self::trouble(trouble),
    }
}

/// After changing one.
pub(crate) fn changed(change: &Change, outcome: &Outcome) -> String {
    match (outcome, change) {
        (Outcome::Done(task), Change::Complete) => format!("Marked '{}' as done.", task.title),
        (Outcome::Already(task), _) => format!("'{}' was done already.", task.title),
        (Outcome::Done(task), Change::Rename(_)) => format!("Renamed task {} to '{}'.", task.id, task.title),
        (Outcome::Done(task), Change::Delete) => format!("Deleted '{}' from your tasks.", task.title),
        (trouble, _) => self::trouble(trouble),
    }
}

/// To find out what was meant.
pub(crate) fn asked(question: &Question) -> String {
    match question {
        Question::Which(change, tasks) => format!("Which one should I {}?\n{}", verb(change), lines(tasks)),
        Question::NoSuch(_, title, tasks) => {
            let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
            format!("I found no task like '{title}'. Your tasks are:\n{}", lines(tasks))
        }
        Question::NewTitle(_) => RENAME_HOW.to_owned(),
        Question::AddWhat => ADD_WHAT.to_owned(),
    }
}

/// When several were meant.
pub(crate) fn one_at_a_time(change: &Change) -> String {
    let example = match change {
        Change::Complete => "Complete task 2",
        Change::Rename(_) => "Rename task 2 to Buy oat milk",
        Change::Delete => "Delete task 2",
    };
    format!("I change one task at a time. Tell me which one, for example: {example}")
}

fn verb(change: &Change) -> &'static str {
    match change {
        Change::Complete => "complete",
        Change::Rename(_) => "rename",
        Change::Delete => "delete",
    }
}

/// When there is none at that place.
pub(crate) fn too_few(tasks: &[Task]) -> String {
    match tasks {
        [_] => "There is only one task on the list.".to_owned(),
        tasks => format!("There are only {} tasks on the list.", tasks.len()),
    }
}

/// When a tool did not do what it was asked for.
pub(crate) fn trouble(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Failed(Some(ToolErrorKind::Unavailable | ToolErrorKind::UnknownTool | ToolErrorKind::NotRun), _) => AWAY.to_owned(),
        Outcome::Failed(Some(ToolErrorKind::TimedOut), _) => "The task list took too long to answer. I do not know whether it did what \
             you asked for. Ask me to show your list before you try again."
            .to_owned(),
        Outcome::Failed(_, why) => format!("That did not work: {why}"),
        Outcome::Unknown => "I got no usable answer from the task list while it was working, so I do not know whether it did what \
             you asked for. Ask me to show your list before you try again."
            .to_owned(),
        Outcome::Listed(_) | Outcome::Done(_) | Outcome::Already(_) | Outcome::Unreadable => {
            "The task list gave an answer that I do not understand.".to_owned()
        }
    }
}

/// One line for each task, with its own number, so that the number can be used to speak of it.
fn lines(tasks: &[Task]) -> String {
    let line = |task: &Task| format!("{}. [{}] {}", task.id, if task.completed { 'x' } else { ' ' }, task.title);
    tasks.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The tasks of the list in an answer.
pub(crate) fn printed(answer: &str) -> Vec<Task> {
    let task = |line: &str| {
        let (id, rest) = line.split_once(". [")?;
        let (mark, title) = rest.split_once("] ")?;
        Some(Task { id: id.parse().ok()?, title: title.to_owned(), completed: mark == "x" })
    };
    answer.lines().filter_map(task).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_numbered_with_marks() {
        let tasks =
            vec![Task { id: 1, title: "Buy milk".into(), completed: true }, Task { id: 4, title: "Call mom".into(), completed: false }];
        assert_eq!(printed(&asked(&Question::Which(Change::Delete, tasks.clone()))), tasks);
        let no_such = Question::NoSuch(Change::Delete, "x\n9. [ ] y".into(), tasks.clone());
        assert_eq!(printed(&asked(&no_such)), tasks, "nothing is read from the user's own words");
        let said = listed(Filter::All, &Outcome::Listed(tasks));
        assert_eq!(said, "Here are your tasks:\n1. [x] Buy milk\n4. [ ] Call mom");
        assert_eq!(listed(Filter::All, &Outcome::Listed(Vec::new())), "You have no tasks yet.");
        assert!(printed(HELP).is_empty());
        assert_eq!(listed(Filter::Pending, &Outcome::Listed(Vec::new())), "Nothing is left to do.");
    }

    #[test]
    fn trouble_is_told_honestly() {
        let failed = |kind| trouble(&Outcome::Failed(Some(kind), "There is no task 9 on the list.".into()));
        assert_eq!(failed(ToolErrorKind::Failed), "That did not work: There is no task 9 on the list.");
        assert!(failed(ToolErrorKind::Unavailable).contains("nothing was changed"));
        assert!(failed(ToolErrorKind::TimedOut).contains("do not know"));
        assert!(trouble(&Outcome::Unknown).contains("do not know"));
    }
}
