//! What somebody wants, from what they say.

use super::reference::Reference;
use super::words::{Phrase, Words};

/// What somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// A new task; without a title if they did not say which.
    Add(Option<String>),
    /// To see the tasks.
    List(Filter),
    /// To change one; `None` if they did not say which.
    Change(Change, Option<Reference>),
    /// Only names a task, as an answer to a question.
    Only(Reference),
    /// To be polite.
    Greet,
    /// To be polite.
    Thank,
    /// To leave things as they are.
    Decline,
    /// To go.
    Leave,
    /// To know what they can want.
    Help,
    /// To have a task that is done to do again.
    Reopen,
    /// Something else.
    Unknown,
}

/// Which tasks to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    All,
    Pending,
    Completed,
}

/// What to do to a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Complete,
    /// The new title; `None` if they did not say.
    Rename(Option<String>),
    Delete,
}

const POLITE_FIRST: [&str; 39] = [
    "i need to know",
    "i have to know",
    "i must know",
    "i want to know",
    "do you know",
    "please",
    "hey",
    "hi",
    "hello",
    "ok",
    "okay",
    "now",
    "then",
    "also",
    "and",
    "so",
    "well",
    "great",
    "thanks",
    "thank you",
    "could you",
    "can you",
    "would you",
    "will you",
    "could i",
    "can i",
    "may i",
    "i'd like you to",
    "i would like you to",
    "i want you to",
    "i need you to",
    "i'd like to",
    "i would like to",
    "i want to",
    "let's",
    "let me",
    "go ahead and",
    "just",
    "yes",
];
const POLITE_LAST: [&str; 8] = ["please", "thanks", "thank you", "for me", "now", "again", "too", "then"];
const TO_LIST: [&str; 29] = [
    "to my list",
    "to the list",
    "to my tasks",
    "to my task list",
    "to my todo list",
    "to my to-do list",
    "to my to do list",
    "to my todos",
    "to my shopping list",
    "to the shopping list",
    "to the task list",
    "to the todo list",
    "to the to-do list",
    "onto my list",
    "on my list",
    "on the list",
    "on my todo list",
    "on my to-do list",
    "on my to do list",
    "on my task list",
    "on my shopping list",
    "in my list",
    "in the list",
    "into my list",
    "as a task",
    "as a new task",
    "as a todo",
    "as a to-do",
    "to my reminders",
];
const NEW_TASK: [&str; 7] = ["new", "another", "a", "an", "the", "one more", "following"];
const TASK: [&str; 8] = ["task", "todo", "to-do", "to do", "item", "reminder", "entry", "tasks"];
const LIST_WORDS: [&str; 13] =
    ["list", "lists", "task", "tasks", "todo", "todos", "to-do", "to-dos", "reminders", "items", "agenda", "everything", "all"];
const MY_LIST: [&str; 4] = ["on my list", "from my list", "my list", "the list"];
const DUTY: [&str; 5] = ["i need to", "i have to", "i must", "i've got to", "i gotta"];
const NOT_DONE: [&str; 5] = ["not done", "not complete", "not completed", "not finished", "undone"];
const DONE: [&str; 4] = ["done", "complete", "completed", "finished"];
const DONE_LAST: [&str; 13] = [
    "as done",
    "as complete",
    "as completed",
    "as finished",
    "to done",
    "to complete",
    "to completed",
    "to finished",
    "done",
    "complete",
    "completed",
    "finished",
    "off",
];

/// What a message wants.
pub(crate) fn understand(message: &str) -> Intent {
    let words = Words::of(message);
    let said = words.all();
    if said.is_any(&["hi", "hello", "hey", "hi there", "hello there", "good morning", "good afternoon", "good evening"]) {
        return Intent::Greet;
    }
    if said.is_any(&[
        "thanks",
        "thank you",
        "thanks a lot",
        "thank you very much",
        "great thanks",
        "ok thanks",
        "cool thanks",
        "many thanks",
    ]) {
        return Intent::Thank;
    }
    if said.is_any(&[
        "no",
        "nope",
        "never mind",
        "nevermind",
        "none",
        "none of them",
        "neither",
        "nothing",
        "forget it",
        "leave it",
        "cancel",
        "stop",
    ]) {
        return Intent::Decline;
    }
    let said = said.without_first(&POLITE_FIRST);
    if words.all().is_empty() || said.after_any(&["undo"]).is_some() {
        return Intent::Unknown;
    }
    if said.is_empty() || said.is("what can you do") || said.after("help").is_some() {
        return Intent::Help;
    }
    if said.without_first(&DUTY).without_last(&POLITE_LAST).is_any(&["go", "leave", "run", "bye", "goodbye", "bye bye", "good bye"]) {
        return Intent::Leave;
    }
    if said.after_any(&["reopen", "uncheck", "untick", "unmark"]).is_some() {
        return Intent::Reopen;
    }
    if let Some(titled) = add(said).or_else(|| rename(said)) {
        return titled;
    }
    let said = said.without_last(&POLITE_LAST);
    [delete, complete, list, only].iter().find_map(|rule| rule(said)).unwrap_or(Intent::Unknown)
}

fn add(said: Phrase<'_>) -> Option<Intent> {
    let reminder = [
        "remind me to",
        "remind me about",
        "remind me of",
        "remind me that",
        "remind me",
        "remember to",
        "don't forget to",
        "do not forget to",
        "don't let me forget to",
        "note to self",
    ];
    let what = if let Some(rest) = said.after_any(&["add", "append", "insert", "write down", "note down", "jot down", "note"]) {
        new_task(rest)
    } else if let Some(rest) = said.after_any(&["create", "make", "new"]) {
        new_task(rest.without_first(&NEW_TASK).after_any(&TASK).map(|_| rest)?)
    } else if let Some(rest) = said.after("put") {
        rest.before_any(&TO_LIST)?
    } else if let Some(rest) = said.after_any(&reminder) {
        rest
    } else if let Some(rest) = said.after_any(&DUTY) {
        // "I need to see my list" is no task.
        if let Some(list) = list(rest) {
            return Some(list);
        }
        rest
    } else {
        said.after_any(&["task", "todo", "to-do", "reminder"]).filter(|title| title.is_announced())?
    };
    let title = if what.is_announced() {
        what.title()
    } else {
        let what = what.without_courtesy().without_last(&TO_LIST);
        let asked = what.written().ends_with('?');
        if asked { what.title().trim_end_matches('?').to_owned() } else { what.title() }
    };
    Some(Intent::Add((!title.is_empty()).then_some(title)))
}

/// Without "a new task called" before it.
fn new_task(rest: Phrase<'_>) -> Phrase<'_> {
    let listed = rest.after_any(&TO_LIST).unwrap_or(rest);
    if listed.is_announced() {
        return listed;
    }
    match listed.without_first(&NEW_TASK).after_any(&TASK) {
        Some(title) if title.is_announced() => title,
        Some(title) => title.after_any(&["called", "named", "titled", "to"]).unwrap_or(title),
        None => listed,
    }
}

fn rename(said: Phrase<'_>) -> Option<Intent> {
    let title_of = ["the title of", "the name of", "title of", "name of", "the text of"];
    let rest = said.after_any(&["rename", "retitle", "reword", "change", "update", "edit", "replace", "modify"])?;
    let rest = rest.after_any(&title_of).unwrap_or(rest);
    let to: &[&str] = if said.after("replace").is_some() { &["with", "by"] } else { &["into", "to", "as"] };
    // "Edit task 6: go to town" and "edit task 6 to: go": only after a colon that follows no title.
    let numbered = rest.split_at_colon().map(|(which, title)| (which.without_last(to), title));
    let numbered = numbered.filter(|(which, _)| !matches!(Reference::of(*which), Some(Reference::Title(_))));
    match numbered.or_else(|| rest.split_at_any(to)) {
        Some((_, title)) if title.is_any(&NOT_DONE) => Some(Intent::Reopen),
        Some((which, title)) if title.is_any(&DONE) => Some(Intent::Change(Change::Complete, Reference::of(which))),
        Some((which, title)) => {
            let title = if title.is_announced() { title } else { title.without_courtesy() }.title();
            Some(Intent::Change(Change::Rename((!title.is_empty()).then_some(title)), Reference::of(which)))
        }
        None => Some(Intent::Change(Change::Rename(None), Reference::of(rest))),
    }
}

fn delete(said: Phrase<'_>) -> Option<Intent> {
    let verbs = [
        "delete",
        "remove",
        "erase",
        "drop",
        "discard",
        "trash",
        "get rid of",
        "throw away",
        "throw out",
        "cancel",
        "clear",
        "forget about",
    ];
    let which = match said.after_any(&verbs) {
        Some(which) => which,
        None => said.after("take")?.before_any(&["off my list", "off the list", "from my list", "from the list", "off"])?,
    };
    Some(Intent::Change(Change::Delete, Reference::of(which)))
}

fn complete(said: Phrase<'_>) -> Option<Intent> {
    // "Did you add it?" and "is it done?" ask, but "could you mark it as done?" does not.
    let asks = ["did you", "did i", "did we", "did that", "have you", "has it", "is it", "is that", "are you", "was it"];
    let asked = said.written().ends_with('?');
    if said.holds_any(&["what", "which", "how many"]) || said.after_any(&asks).is_some() {
        return None;
    }
    if said.holds_any(&NOT_DONE) {
        return Some(Intent::Reopen);
    }
    let who = ["i'm", "i am", "i've", "i have", "i", "we've", "we have", "we"];
    let said = said.after_any(&who).map_or(said, |rest| rest.without_first(&["just", "already", "now"]));
    let verbs = ["complete", "completed", "finish", "finished with", "finished", "close", "accomplish", "accomplished"];
    let past = ["bought", "called", "paid", "sent", "wrote", "cleaned", "fixed", "booked", "washed", "ordered", "picked up"];
    let is_done = ["is done", "is complete", "is completed", "is finished", "are done", "has been done", "was done"];
    let which = match said.after_any(&["mark", "set", "check", "tick", "cross", "flag"]) {
        // "check off milk", "cross the first one off my list", "mark it as done", "set it to done"
        Some(marked) => marked.after_any(&["off", "out"]).or_else(|| marked.without_last(&MY_LIST).before_any(&DONE_LAST))?,
        None => {
            let told =
                || said.after_any(&["did", "done with", "done"]).or_else(|| said.after_any(&past)).or_else(|| said.before_any(&is_done));
            said.after_any(&verbs).or_else(|| told().filter(|_| !asked))?
        }
    };
    Some(Intent::Change(Change::Complete, Reference::of(which)))
}

fn list(said: Phrase<'_>) -> Option<Intent> {
    let shows = ["show", "list", "display", "see", "view", "read", "print", "get", "give", "tell", "check", "look at", "review"];
    let asks = [
        "what",
        "what's",
        "whats",
        "which",
        "how many",
        "do i",
        "have i",
        "is there",
        "are there",
        "anything",
        "any",
        "am i",
        "how",
        "where",
    ];
    let about = said.holds_any(&LIST_WORDS);
    let shown = said
        .after_any(&shows)
        .is_some_and(|rest| about || rest.is_empty() || rest.is_any(&["me", "it", "them", "it to me", "what's left"]));
    let asked =
        said.after_any(&asks).is_some() && (about || filter(said) != Filter::All || said.holds_any(&["next", "do i have", "have i got"]));
    let named = said
        .without_first(&["my", "the", "all", "open", "pending", "completed", "done", "todo", "to-do", "task", "current"])
        .is_any(&LIST_WORDS);
    (shown || asked || named).then(|| Intent::List(filter(said)))
}

fn filter(said: Phrase<'_>) -> Filter {
    let pending = [
        "left",
        "pending",
        "open",
        "remaining",
        "remains",
        "outstanding",
        "unfinished",
        "not done",
        "incomplete",
        "still",
        "next",
        "due",
        "should i do",
        "have to do",
        "need to do",
        "must i do",
        "to be done",
        "active",
    ];
    let completed = ["done", "completed", "finished", "complete", "finish", "accomplished"];
    if said.holds_any(&pending) {
        Filter::Pending
    } else if said.holds_any(&completed) {
        Filter::Completed
    } else {
        Filter::All
    }
}

/// A few words that name a task: an answer to "which one?".
fn only(said: Phrase<'_>) -> Option<Intent> {
    let said = said.without_first(&["i mean", "i meant", "it's", "number"]);
    let asks = [
        "what", "what's", "why", "who", "how", "when", "where", "is", "are", "do", "does", "did", "have", "has", "was", "were", "am",
        "can", "could", "should", "would", "will",
    ];
    if said.plain().len() > 8 || said.after_any(&asks).is_some() {
        return None;
    }
    Some(Intent::Only(Reference::of(said)?))
}

#[cfg(test)]
#[path = "intent_tests.rs"]
mod tests;
