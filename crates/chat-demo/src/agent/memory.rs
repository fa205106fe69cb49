//! What the agent knows: read from the transcript, each time anew.

use chat_domain::transcript::{Call, Entry, Transcript};
use chat_domain::{ToolCallId, ToolErrorKind};
use serde_json::Value;

use super::intent::{Filter, Intent, understand};

/// A task, as a tool told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) id: u64,
    pub(crate) title: String,
    pub(crate) completed: bool,
}

/// The tool that lists the tasks.
const LIST: &str = "list_tasks";

/// What came of a tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The tasks.
    Listed(Vec<Task>),
    /// The task that was added or changed.
    Done(Task),
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

    /// The list that was shown. One that was only looked into to find a task was not.
    fn shown(&self) -> Option<(Filter, Vec<Task>)> {
        match (self.outcome(LIST)?, self.intent()) {
            (Outcome::Listed(tasks), Intent::List(filter)) => Some((filter, tasks)),
            _ => None,
        }
    }
}

/// The turns of a transcript.
pub(crate) fn turns(transcript: &Transcript) -> Vec<Turn<'_>> {
    let mut turns: Vec<Turn<'_>> = Vec::new();
    let mut open: Vec<&Call> = Vec::new();
    for entry in &transcript.0 {
        match entry {
            Entry::User { text } => turns.push(Turn { message: text, steps: Vec::new() }),
            Entry::Assistant { calls, .. } => open = calls.iter().collect(),
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
}

impl Memory {
    pub(crate) fn of(turns: &[Turn<'_>]) -> Self {
        let mut memory = Self::default();
        let last_shown = turns.iter().enumerate().rev().find_map(|(at, turn)| Some((at, turn.shown()?)));
        let (shown_at, mut shown) = last_shown.map_or((None, None), |(at, shown)| (Some(at), Some(shown)));
        for (at, turn) in turns.iter().enumerate() {
            if shown_at == Some(at)
                && let Some((filter, tasks)) = shown.take()
            {
                if let ([only], Filter::All | Filter::Pending) = (tasks.as_slice(), filter) {
                    memory.mentioned = Some(only.id);
                }
                memory.shown = tasks;
            }
            for step in turn.steps.iter().filter(|step| step.tool != LIST) {
                memory.learn(step);
            }
        }
        memory
    }

    /// Learns from a task that was added or changed.
    fn learn(&mut self, step: &Step<'_>) {
        let Outcome::Done(task) = outcome(step.result) else { return };
        if step.tool == "delete_task" {
            self.shown.retain(|shown| shown.id != task.id);
            self.mentioned = None;
            return;
        }
        self.mentioned = Some(task.id);
        if let Some(shown) = self.shown.iter_mut().find(|shown| shown.id == task.id) {
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
        let turn = |message: &'static str, tool: &'static str, result: &'static str| Turn { message, steps: vec![Step { tool, result }] };
        let mut turns = vec![
            turn("list", "list_tasks", r#"{"tasks":[]}"#),
            turn("add x", "add_task", r#"{"task_id":9,"title":"task 9"}"#),
            turn(
                "list",
                "list_tasks",
                r#"{"tasks":[{"task_id":1,"title":"task 1"},{"task_id":2,"title":"old"},{"task_id":3,"title":"task 3"}]}"#,
            ),
            turn("rename 2 to task 2", "update_task", r#"{"task_id":2,"title":"task 2"}"#),
        ];
        assert_eq!(Memory::of(&turns), Memory { shown: vec![task(1), task(2), task(3)], mentioned: Some(2) });
        turns.push(turn("delete the first one", "delete_task", r#"{"task_id":1,"title":"task 1"}"#));
        assert_eq!(Memory::of(&turns), Memory { shown: vec![task(2), task(3)], mentioned: None });
        turns.push(turn("add y", "add_task", r#"{"task_id":4,"title":"task 4"}"#));
        assert_eq!(Memory::of(&turns), Memory { shown: vec![task(2), task(3), task(4)], mentioned: Some(4) });
        turns.push(turn("delete milk", "list_tasks", r#"{"tasks":[{"task_id":7,"title":"x"}]}"#));
        turns.push(turn("complete 3", "complete_task", "Outcome unknown: the connection was lost."));
        assert_eq!(Memory::of(&turns).shown.len(), 3, "only lists that were shown count");
        turns.push(turn("list", "list_tasks", r#"{"tasks":[{"task_id":7,"title":"task 7"}]}"#));
        assert_eq!(Memory::of(&turns), Memory { shown: vec![task(7)], mentioned: Some(7) });
    }
}
