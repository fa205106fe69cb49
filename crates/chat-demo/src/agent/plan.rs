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
    /// Ask this and be done.
    Ask(Question),
    /// Call a tool.
    Call(&'static str, Value),
}

/// What the next message may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// Which of these tasks was meant.
    Which(Change, Vec<Task>),
    /// There is no task of that title: which of these was meant?
    NoSuch(Change, String, Vec<Task>),
    /// What the new title of that task should be.
    NewTitle(Option<Reference>),
    /// What to add.
    AddWhat,
}

/// How many answers like "the second" in a row are followed back to their question.
const QUESTIONS: usize = 3;

/// What to do next in the last of these turns.
pub(crate) fn next(turns: &[Turn<'_>]) -> Next {
    next_within(turns, QUESTIONS)
}

fn next_within(turns: &[Turn<'_>], questions: usize) -> Next {
    let Some((turn, earlier)) = turns.split_last() else { return Next::Say(wording::HELP.to_owned()) };
    match turn.intent() {
        Intent::Greet => Next::Say(wording::GREETING.to_owned()),
        Intent::Thank => Next::Say(wording::WELCOME.to_owned()),
        Intent::Decline => Next::Say(wording::AS_IT_IS.to_owned()),
        Intent::Leave => Next::Say(wording::GOODBYE.to_owned()),
        Intent::Help => Next::Say(wording::HELP.to_owned()),
        Intent::Reopen => Next::Say(wording::CANNOT_REOPEN.to_owned()),
        Intent::Add(title) => add(turn, title),
        Intent::List(filter) => {
            call(turn, "list_tasks", || json!({ "status": status(filter) }), |outcome| wording::listed(filter, outcome))
        }
        Intent::Change(wish, which) => change(turn, earlier, &wish, which),
        Intent::Only(which) => answer(turn, earlier, Some(&which), questions),
        Intent::Unknown => answer(turn, earlier, None, questions),
    }
}

fn add(turn: &Turn<'_>, title: Option<String>) -> Next {
    match title {
        Some(title) => call(turn, "add_task", || json!({ "title": title }), wording::added),
        None => Next::Ask(Question::AddWhat),
    }
}

/// Changes a task; `earlier` are the turns that "it" and "the first one" are of.
fn change(turn: &Turn<'_>, earlier: &[Turn<'_>], change: &Change, which: Option<Reference>) -> Next {
    match (change, which) {
        (_, Some(Reference::Several)) => Next::Say(wording::one_at_a_time(change)),
        (Change::Rename(None), which) => Next::Ask(Question::NewTitle(which)),
        // "Done!" is said of what was spoken of. But nothing is deleted that was not named.
        (Change::Delete, None) => apply(turn, change, |tasks| find(change, &Reference::It, &Memory::default(), tasks)),
        (_, which) => apply(turn, change, |tasks| {
            let mut memory = Memory::of(earlier);
            if which.is_none() && *change == Change::Complete && memory.just_completed {
                memory.mentioned = None;
            }
            find(change, &which.unwrap_or(Reference::It), &memory, tasks)
        }),
    }
}

/// Takes the message as the answer to the question that was asked before it, if there was one.
fn answer(turn: &Turn<'_>, earlier: &[Turn<'_>], which: Option<&Reference>, questions: usize) -> Next {
    let asked = match (earlier.split_last(), questions.checked_sub(1)) {
        (Some((_, before)), Some(questions)) => Some((next_within(earlier, questions), before)),
        _ => None,
    };
    let words = Words::of(turn.message);
    let title = Some(words.all().without_courtesy().title()).filter(|title| !title.is_empty() && !title.ends_with('?'));
    match (asked, which, title) {
        (Some((Next::Ask(Question::Which(wish, among) | Question::NoSuch(wish, _, among)), _)), Some(which), _) => {
            apply(turn, &wish, |_| find_among(&wish, which, &among))
        }
        (Some((Next::Ask(Question::NewTitle(which)), before)), _, title @ Some(_)) => change(turn, before, &Change::Rename(title), which),
        (Some((Next::Ask(Question::AddWhat), _)), _, title @ Some(_)) => add(turn, title),
        _ => Next::Say(wording::not_understood()),
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
    /// None has that title.
    NoSuch(String, Vec<Task>),
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
        Found::Several(tasks) => Next::Ask(Question::Which(change.clone(), tasks)),
        Found::NoSuch(title, tasks) => Next::Ask(Question::NoSuch(change.clone(), title, tasks)),
        Found::None(why) => Next::Say(why),
    }
}

fn find(change: &Change, which: &Reference, memory: &Memory, tasks: Option<&[Task]>) -> Found {
    match (which, tasks) {
        (Reference::Number(id), _) => Found::One(*id),
        (Reference::It, _) if memory.mentioned.is_some() => memory.mentioned.map_or(Found::NeedsList, Found::One),
        (Reference::Nth(_) | Reference::Last, _) if !memory.shown.is_empty() => find_among(change, which, &memory.shown),
        // Nobody knows what "it" is: even if there is only one task, it may be another than the one meant.
        (Reference::It, Some(tasks)) if *change == Change::Complete && !tasks.is_empty() && tasks.iter().all(|task| task.completed) => {
            Found::None(wording::NOTHING_LEFT.to_owned())
        }
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
        Reference::Several => Found::None(wording::one_at_a_time(change)),
        Reference::It => choice(change, tasks.iter().collect(), || Found::None(wording::NO_TASKS.to_owned())),
        Reference::Title(title) => choice(change, titled(title, tasks), || Found::NoSuch(title.clone(), tasks.to_vec())),
    }
}

/// One of these.
fn choice(change: &Change, tasks: Vec<&Task>, none: impl FnOnce() -> Found) -> Found {
    match open_to(change, tasks).as_slice() {
        [] => none(),
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
