//! What to do next: a function of the turns so far.

use serde_json::{Value, json};

use super::intent::{Change, Filter, Intent};
use super::memory::{Memory, Outcome, Task, Turn};
use super::reference::Reference;
use super::wording;
use super::words::Words;

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Next {
    /// Say this and be done.
    Say(String),
    /// Ask which of these tasks was meant, and be done.
    Ask(Change, Vec<Task>),
    /// Call a tool.
    Call(&'static str, Value),
}

/// How many answers like "the second" in a row are followed back to their question.
const QUESTIONS: usize = 3;

/// What to do next in the last of these turns.
pub(crate) fn next(turns: &[Turn<'_>]) -> Next {
    next_within(turns, QUESTIONS)
}

fn next_within(turns: &[Turn<'_>], questions: usize) -> Next {
    let Some((turn, earlier)) = turns.split_last() else { return Next::Say(wording::HELP.to_owned()) };
    match &turn.intent() {
        Intent::Greet => Next::Say(wording::GREETING.to_owned()),
        Intent::Thank => Next::Say(wording::WELCOME.to_owned()),
        Intent::Decline => Next::Say(wording::AS_IT_IS.to_owned()),
        Intent::Leave => Next::Say(wording::GOODBYE.to_owned()),
        Intent::Help => Next::Say(wording::HELP.to_owned()),
        Intent::Reopen => Next::Say(wording::CANNOT_REOPEN.to_owned()),
        Intent::Unknown => Next::Say(wording::not_understood()),
        Intent::Add(None) => Next::Say(wording::ADD_WHAT.to_owned()),
        Intent::Add(Some(title)) => call(turn, "add_task", || json!({ "title": title }), wording::added),
        Intent::List(filter) => {
            call(turn, "list_tasks", || json!({ "status": status(*filter) }), |outcome| wording::listed(*filter, outcome))
        }
        Intent::Change(Change::Rename(None), _) => Next::Say(wording::RENAME_HOW.to_owned()),
        Intent::Change(_, Some(Reference::All)) => Next::Say(wording::ONE_AT_A_TIME.to_owned()),
        // "Done!" is said of what was spoken of. But nothing is deleted that was not named.
        Intent::Change(Change::Delete, None) => {
            apply(turn, &Change::Delete, |tasks| find(&Change::Delete, &Reference::It, &Memory::default(), tasks))
        }
        Intent::Change(change, which) => {
            let which = which.as_ref().unwrap_or(&Reference::It);
            apply(turn, change, |tasks| find(change, which, &Memory::of(earlier), tasks))
        }
        Intent::Only(which) => match earlier.last().filter(|_| questions > 0).map(|_| next_within(earlier, questions - 1)) {
            Some(Next::Ask(change, among)) => apply(turn, &change, |_| find_among(&change, which, &among)),
            _ => Next::Say(wording::not_understood()),
        },
    }
}

/// Calls a tool, or tells what came of it.
fn call(turn: &Turn<'_>, tool: &'static str, arguments: impl FnOnce() -> Value, told: impl FnOnce(&Outcome) -> String) -> Next {
    match turn.outcome(tool) {
        Some(outcome) => Next::Say(told(&outcome)),
        None => Next::Call(tool, arguments()),
    }
}

/// The task that was meant, as far as that can be said.
#[derive(Debug, PartialEq)]
enum Found {
    One(u64),
    /// Which one cannot be said without seeing the list.
    NeedsList,
    Several(Vec<Task>),
    /// None, and why.
    None(String),
}

/// Changes the task that `find` finds, which is given the tasks if this turn has listed them.
fn apply(turn: &Turn<'_>, change: &Change, find: impl FnOnce(Option<&[Task]>) -> Found) -> Next {
    let tool = match change {
        Change::Complete => "complete_task",
        Change::Rename(_) => "update_task",
        Change::Delete => "delete_task",
    };
    if let Some(outcome) = turn.outcome(tool) {
        return Next::Say(wording::changed(change, &outcome));
    }
    let tasks = match turn.outcome("list_tasks") {
        None => None,
        Some(Outcome::Listed(tasks)) => Some(tasks),
        Some(trouble) => return Next::Say(wording::trouble(&trouble)),
    };
    match find(tasks.as_deref()) {
        Found::One(id) => Next::Call(
            tool,
            match change {
                Change::Rename(title) => json!({ "task_id": id, "title": title }),
                Change::Complete | Change::Delete => json!({ "task_id": id }),
            },
        ),
        Found::NeedsList => Next::Call("list_tasks", json!({ "status": "all" })),
        Found::Several(tasks) => Next::Ask(change.clone(), tasks),
        Found::None(why) => Next::Say(why),
    }
}

fn find(change: &Change, which: &Reference, memory: &Memory, tasks: Option<&[Task]>) -> Found {
    match (which, tasks) {
        (Reference::Number(id), _) => Found::One(*id),
        (Reference::It, _) if memory.mentioned.is_some() => memory.mentioned.map_or(Found::NeedsList, Found::One),
        (Reference::Nth(_) | Reference::Last, _) if !memory.shown.is_empty() => find_among(change, which, &memory.shown),
        // Nobody knows what "it" is: even if there is only one task, it may be another than the one meant.
        (Reference::It, Some(tasks)) if !tasks.is_empty() => Found::Several(open_to(change, tasks.iter().collect())),
        (_, Some(tasks)) => find_among(change, which, tasks),
        (_, None) => Found::NeedsList,
    }
}

fn find_among(change: &Change, which: &Reference, tasks: &[Task]) -> Found {
    let one = |task: Option<&Task>| task.map_or_else(|| Found::None(wording::too_few(tasks)), |task| Found::One(task.id));
    match which {
        _ if tasks.is_empty() => Found::None(wording::NO_TASKS.to_owned()),
        Reference::Number(id) => Found::One(*id),
        Reference::Nth(nth) => one(nth.checked_sub(1).and_then(|at| tasks.get(at))),
        Reference::Last => one(tasks.last()),
        Reference::All => Found::None(wording::ONE_AT_A_TIME.to_owned()),
        Reference::It => choice(change, tasks.iter().collect(), || wording::NO_TASKS.to_owned()),
        Reference::Title(title) => choice(change, titled(title, tasks), || wording::no_such(title, tasks)),
    }
}

/// One of these.
fn choice(change: &Change, tasks: Vec<&Task>, none: impl FnOnce() -> String) -> Found {
    match open_to(change, tasks).as_slice() {
        [] => Found::None(none()),
        [task] => Found::One(task.id),
        several => Found::Several(several.to_vec()),
    }
}

/// Those that may be meant: what is done already is not completed again while something else may be meant.
fn open_to(change: &Change, mut tasks: Vec<&Task>) -> Vec<Task> {
    if *change == Change::Complete && tasks.iter().any(|task| !task.completed) {
        tasks.retain(|task| !task.completed);
    }
    tasks.into_iter().cloned().collect()
}

/// The tasks of exactly this title; else those it is a part of; else those that have all its words.
fn titled<'a>(title: &str, tasks: &'a [Task]) -> Vec<&'a Task> {
    let plain = |text: &str| Words::of(text).all().plain().collect::<Vec<_>>().join(" ");
    let wanted = plain(title);
    if wanted.is_empty() {
        return Vec::new();
    }
    let matching = |matches: &dyn Fn(&str) -> bool| tasks.iter().filter(|task| matches(&plain(&task.title))).collect::<Vec<_>>();
    let exact = matching(&|title| title == wanted);
    if !exact.is_empty() {
        return exact;
    }
    // Whole words first: "tea" is in "buy tea", and only then in "steam the rug".
    let whole = matching(&|title| format!(" {title} ").contains(&format!(" {wanted} ")));
    if !whole.is_empty() {
        return whole;
    }
    let part = matching(&|title| title.contains(&wanted));
    if !part.is_empty() {
        return part;
    }
    let small = ["the", "a", "an", "my", "some", "to", "for", "of"];
    let words: Vec<&str> = wanted.split(' ').filter(|word| !small.contains(word)).collect();
    matching(&|title| !words.is_empty() && words.iter().all(|word| title.split(' ').any(|other| other == *word)))
}

fn status(filter: Filter) -> &'static str {
    match filter {
        Filter::All => "all",
        Filter::Pending => "pending",
        Filter::Completed => "completed",
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
