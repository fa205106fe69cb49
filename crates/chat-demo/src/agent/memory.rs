//! What the agent knows: read from the transcript, each time anew.

use chat_domain::transcript::{Call, Entry, Transcript};
use chat_domain::{ToolCallId, ToolErrorKind};
use serde_json::Value;

use super::intent::{Change, Filter, Intent, understand};
use super::wording;

/// A task, as a tool told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) id: u64,
    pub(crate) title: String,
    pub(crate) completed: bool,
}

/// The tool that lists the tasks.
const LIST: &str = "list_tasks";
/// The tool that completes one.
const COMPLETE: &str = "complete_task";
/// The tool that deletes one.
const DELETE: &str = "delete_task";

/// What came of a tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The tasks.
    Listed(Vec<Task>),
    /// The task that was added or changed.
    Done(Task),
    /// The task that was to be completed: it was done before.
    Already(Task),
    /// It failed: why, in code and in words.
    Failed(Option<ToolErrorKind>, String),
    /// Nobody knows.
    Unknown,
    /// An answer that is none.
    Unreadable,
}

/// A tool call and its result, as the transcript has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step<'a> {
    pub(crate) tool: &'a str,
    pub(crate) result: &'a str,
}

/// A message of the user and what was done for it. It is only looked into where that is needed: conversations can be long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Turn<'a> {
    pub(crate) message: &'a str,
    pub(crate) steps: Vec<Step<'a>>,
    /// What was answered; empty before that.
    pub(crate) said: &'a str,
}

impl Turn<'_> {
    /// What the user wanted.
    pub(crate) fn intent(&self) -> Intent {
        understand(self.message)
    }

    /// What came of the last call of this tool.
    pub(crate) fn outcome(&self, tool: &str) -> Option<Outcome> {
        self.steps.iter().rev().find(|step| step.tool == tool).map(|step| outcome(step.result))
    }

    /// The list that was shown, be it empty: what was printed counts, for whatever reason. A list that was only looked into
    /// to find a task was not shown.
    fn shown(&self) -> Option<Vec<Task>> {
        let printed = wording::printed(self.said);
        let empty = || matches!(self.outcome(LIST), Some(Outcome::Listed(tasks)) if tasks.is_empty());
        (!printed.is_empty() || empty()).then_some(printed)
    }

    /// What "it" stands for after this turn: None if it says nothing of that, `Some(None)` if that cannot be known.
    /// Otherwise the task, and whether it was just completed.
    fn mention(&self) -> Option<Option<(u64, bool)>> {
        if let Some(step) = self.steps.iter().rev().find(|step| step.tool != LIST) {
            return Some(match outcome(step.result) {
                Outcome::Done(task) | Outcome::Already(task) if step.tool != DELETE => Some((task.id, step.tool == COMPLETE)),
                _ => None,
            });
        }
        match self.intent() {
            Intent::List(Filter::All | Filter::Pending) => match wording::printed(self.said).as_slice() {
                [only] => Some(Some((only.id, false))),
                _ => None,
            },
            Intent::List(Filter::Completed) | Intent::Change(Change::Rename(None), _) => None,
            // A task was spoken of, and was not found.
            Intent::Change(..) => Some(None),
            _ if wording::printed(self.said).is_empty() => None,
            _ => Some(None),
        }
    }
}

/// The turns of a transcript.
pub(crate) fn turns(transcript: &Transcript) -> Vec<Turn<'_>> {
    let mut turns: Vec<Turn<'_>> = Vec::new();
    let mut open: Vec<&Call> = Vec::new();
    for entry in &transcript.0 {
        match entry {
            Entry::User { text } => turns.push(Turn { message: text, steps: Vec::new(), said: "" }),
            Entry::Assistant { text, calls, .. } => {
                open = calls.iter().collect();
                if let Some(turn) = turns.last_mut().filter(|_| !text.is_empty()) {
                    turn.said = text;
                }
            }
            Entry::ToolResult { call, content } => {
                if let (Some(turn), Some(tool)) = (turns.last_mut(), tool_of(&open, *call)) {
                    turn.steps.push(Step { tool, result: content });
                }
            }
        }
    }
    turns
}

fn tool_of<'a>(calls: &[&'a Call], id: ToolCallId) -> Option<&'a str> {
    calls.iter().find(|call| call.id == id).map(|call| call.tool.as_str())
}

/// Reads a tool's result in the form that the transcript has for it.
fn outcome(content: &str) -> Outcome {
    if let Some((code, message)) = content.strip_prefix("Error (").and_then(|rest| rest.split_once("): ")) {
        return Outcome::Failed(ToolErrorKind::from_code(code), message.to_owned());
    }
    if content.starts_with("Outcome unknown") {
        return Outcome::Unknown;
    }
    let Ok(answer) = serde_json::from_str::<Value>(content) else { return Outcome::Unreadable };
    let read = match answer.get("tasks").and_then(Value::as_array) {
        Some(tasks) => tasks.iter().map(task).collect::<Option<_>>().map(Outcome::Listed),
        None if answer.get("already") == Some(&Value::Bool(true)) => task(&answer).map(Outcome::Already),
        None => task(&answer).map(Outcome::Done),
    };
    read.unwrap_or(Outcome::Unreadable)
}

fn task(value: &Value) -> Option<Task> {
    let completed = value.get("completed").and_then(Value::as_bool).unwrap_or_default();
    Some(Task { id: value.get("task_id")?.as_u64()?, title: value.get("title")?.as_str()?.to_owned(), completed })
}

/// What "the first one" and "it" stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// The list that was shown last, with what has changed since.
    pub(crate) shown: Vec<Task>,
    /// The task that was spoken of last.
    pub(crate) mentioned: Option<u64>,
    /// Whether that was to say that it is done: it need not be said again, so it is not what "done!" is about.
    pub(crate) just_completed: bool,
}

impl Memory {
    pub(crate) fn of(turns: &[Turn<'_>]) -> Self {
        let mentioned = turns.iter().rev().find_map(Turn::mention).flatten();
        let last_shown = turns.iter().enumerate().rev().find_map(|(at, turn)| Some((at, turn.shown()?)));
        let (shown_at, shown) = last_shown.unwrap_or_default();
        let mut memory =
            Self { shown, mentioned: mentioned.map(|(id, _)| id), just_completed: mentioned.is_some_and(|(_, completed)| completed) };
        for step in turns.iter().skip(shown_at).flat_map(|turn| &turn.steps).filter(|step| step.tool != LIST) {
            memory.keep_up(step);
        }
        memory
    }

    /// Changes the list that was shown as the task was.
    fn keep_up(&mut self, step: &Step<'_>) {
        let Outcome::Done(task) = outcome(step.result) else { return };
        if step.tool == DELETE {
            self.shown.retain(|shown| shown.id != task.id);
        } else if let Some(shown) = self.shown.iter_mut().find(|shown| shown.id == task.id) {
            shown.title = task.title;
        } else if step.tool == "add_task" && !self.shown.is_empty() {
            self.shown.push(task);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read() {
        let milk = Task { id: 1, title: "Milk".into(), completed: false };
        for (content, expected) in [
            (r#"{"task_id":1,"status":"created","title":"Milk"}"#, Outcome::Done(milk.clone())),
            (r#"{"task_id":1,"status":"completed","title":"Milk","already":true}"#, Outcome::Already(milk.clone())),
            (r#"{"tasks":[{"task_id":1,"title":"Milk","completed":false}]}"#, Outcome::Listed(vec![milk])),
            (r#"{"tasks":[]}"#, Outcome::Listed(Vec::new())),
            ("Error (timed_out): too slow", Outcome::Failed(Some(ToolErrorKind::TimedOut), "too slow".into())),
            ("Error (new_kind): odd", Outcome::Failed(None, "odd".into())),
            ("Outcome unknown: the connection was lost.", Outcome::Unknown),
            ("words", Outcome::Unreadable),
            (r#"{"task_id":"one","title":"x"}"#, Outcome::Unreadable),
            (r#"{"tasks":[{"title":"x"}]}"#, Outcome::Unreadable),
        ] {
            assert_eq!(outcome(content), expected, "{content}");
        }
    }

    #[test]
    fn what_was_shown_follows_what_was_done() {
        let task = |id: u64| Task { id, title: format!("task {id}"), completed: false };
        let turn = |message: &'static str, tool: &'static str, result: &'static str| Turn {
            message,
            steps: vec![Step { tool, result }],
            said: "",
        };
        let told = |said: &'static str, turn: Turn<'static>| Turn { said, ..turn };
        let mut turns = vec![
            turn("list", "list_tasks", r#"{"tasks":[]}"#),
            turn("add x", "add_task", r#"{"task_id":9,"title":"task 9"}"#),
            told("Here are your tasks:\n1. [ ] task 1\n2. [ ] old\n3. [ ] task 3", turn("list", "list_tasks", "words")),
            turn("rename 2 to task 2", "update_task", r#"{"task_id":2,"title":"task 2"}"#),
        ];
        assert_eq!(Memory::of(&turns), Memory { shown: vec![task(1), task(2), task(3)], mentioned: Some(2), just_completed: false });
        turns.push(turn("delete the first one", "delete_task", r#"{"task_id":1,"title":"task 1"}"#));
        assert_eq!(Memory::of(&turns), Memory { shown: vec![task(2), task(3)], mentioned: None, just_completed: false });
        turns.push(turn("add y", "add_task", r#"{"task_id":4,"title":"task 4"}"#));
        assert_eq!(Memory::of(&turns), Memory { shown: vec![task(2), task(3), task(4)], mentioned: Some(4), just_completed: false });
        turns.push(turn("complete milk", "list_tasks", r#"{"tasks":[{"task_id":7,"title":"x"}]}"#));
        turns.push(turn("complete 3", "complete_task", "Outcome unknown: the connection was lost."));
        assert_eq!(
            Memory::of(&turns),
            Memory { shown: vec![task(2), task(3), task(4)], mentioned: None, just_completed: false },
            "only what was shown counts"
        );
        turns.push(told("Here are your tasks:\n7. [ ] task 7", turn("list", "list_tasks", "words")));
        assert_eq!(Memory::of(&turns), Memory { shown: vec![task(7)], mentioned: Some(7), just_completed: false });
        turns.push(turn("list", "list_tasks", r#"{"tasks":[]}"#));
        assert_eq!(Memory::of(&turns).shown, []);
    }

    #[test]
    fn what_was_not_found_leaves_nothing_to_call_it() {
        let task = |id: u64| Task { id, title: format!("task {id}"), completed: false };
        let tasks = "1. [ ] task 1\n2. [ ] task 2";
        for (message, said, shown, mentioned) in [
            ("complete zzz", format!("I found no task like 'zzz'. Your tasks are:\n{tasks}"), vec![task(1), task(2)], None),
            ("delete task", format!("Which one should I delete?\n{tasks}"), vec![task(1), task(2)], None),
            ("zzz", format!("I found no task like 'zzz'. Your tasks are:\n{tasks}"), vec![task(1), task(2)], None),
            ("complete the ninth one", "There are only 1 tasks on the list.".into(), vec![task(5)], None),
            ("list", format!("Here are your tasks:\n{tasks}"), vec![task(1), task(2)], Some(5)),
            ("hello", "Hello!".into(), vec![task(5)], Some(5)),
        ] {
            let listed = Turn { message: "list", steps: Vec::new(), said: "Here are your tasks:\n5. [ ] task 5" };
            let turns = [listed, Turn { message, steps: Vec::new(), said: &said }];
            assert_eq!(Memory::of(&turns), Memory { shown, mentioned, just_completed: false }, "{message}");
        }
    }
}
