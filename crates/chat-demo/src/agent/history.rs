//! The transcript as the agent reads it: the current message, tool results, and tasks it showed.

use chat_domain::ToolErrorKind;
use chat_domain::transcript::{Entry, Transcript};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The answer if the task list cannot be reached.
pub(super) const UNAVAILABLE: &str = "The task list is not available right now, so nothing was \
     changed. Please try again in a moment.";

/// How the agent begins an answer that asks for a task.
pub(super) const WHICH: &str = "Which task do you mean?";

/// A task of the list.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(super) struct Task {
    pub(super) task_id: u64,
    pub(super) title: String,
    #[serde(default)]
    pub(super) completed: bool,
}

/// The result of `list_tasks`.
#[derive(Deserialize)]
pub(super) struct TaskList {
    pub(super) tasks: Vec<Task>,
}

/// The result of a tool that adds or changes a task.
#[derive(Deserialize)]
pub(super) struct TaskChange {
    pub(super) task_id: u64,
    pub(super) title: String,
    #[serde(default)]
    status: String,
}

/// What the agent knows when it plans its next step.
#[derive(Debug, Default, PartialEq)]
pub(super) struct History<'a> {
    /// The user's message to answer.
    pub(super) message: &'a str,
    /// The user's message before, if the agent answered it by asking for a task.
    pub(super) unclear: Option<&'a str>,
    /// The tools called for the message, with their results.
    pub(super) results: Vec<(&'a str, &'a str)>,
    /// The numbers of the tasks in the list that the agent showed last, without deleted ones.
    pub(super) shown: Vec<u64>,
    /// The only task that the turn before was about.
    pub(super) previous: Option<u64>,
}

impl<'a> History<'a> {
    pub(super) fn read(transcript: &'a Transcript) -> Self {
        let mut history = Self::default();
        let (mut calls, mut answer, mut mentioned) = ([].as_slice(), "", None);
        for entry in &transcript.0 {
            match entry {
                Entry::User { text } => {
                    let asked = std::mem::take(&mut answer).starts_with(WHICH);
                    history.unclear = asked.then_some(history.message);
                    history.message = text;
                    history.previous = mentioned.take();
                    history.results.clear();
                }
                Entry::Assistant {
                    text, calls: made, ..
                } => {
                    (calls, answer) = (made, text);
                    let shown: Vec<u64> = text.lines().filter_map(task_number).collect();
                    if !shown.is_empty() {
                        mentioned = if let [only] = shown.as_slice() {
                            Some(*only)
                        } else {
                            None
                        };
                        history.shown = shown;
                    }
                }
                Entry::ToolResult { call, content } => {
                    let Some(call) = calls.iter().find(|made| made.id == *call) else {
                        continue;
                    };
                    history.results.push((&call.tool, content));
                    if let Ok(TaskChange {
                        task_id, status, ..
                    }) = parse(content)
                    {
                        mentioned = Some(task_id);
                        match status.as_str() {
                            "deleted" => history.shown.retain(|id| *id != task_id),
                            "created" if !history.shown.is_empty() => history.shown.push(task_id),
                            _ => {}
                        }
                    }
                }
            }
        }
        history
    }

    /// The result of the last call of `tool` for the message, or the sentence that explains its
    /// failure. `None` if the tool was not called.
    pub(super) fn result<T: DeserializeOwned>(&self, tool: &str) -> Option<Result<T, String>> {
        let (_, content) = self
            .results
            .iter()
            .rev()
            .find(|(called, _)| *called == tool)?;
        Some(parse(content))
    }
}

fn parse<T: DeserializeOwned>(content: &str) -> Result<T, String> {
    let uncertain = |event: &str| {
        format!(
            "{event}, so I do not know whether it did what you asked for. Ask me to show your list \
             before you try again."
        )
    };
    if let Some((code, message)) = content
        .strip_prefix("Error (")
        .and_then(|rest| rest.split_once("): "))
    {
        use ToolErrorKind::{NotRun, TimedOut, Unavailable, UnknownTool};
        return Err(match ToolErrorKind::from_code(code) {
            Some(Unavailable | UnknownTool | NotRun) => UNAVAILABLE.to_owned(),
            Some(TimedOut) => uncertain("The task list took too long to answer"),
            _ => format!("That did not work: {message}"),
        });
    }
    if content.starts_with("Outcome unknown") {
        return Err(uncertain(
            "I got no usable answer from the task list while it was working",
        ));
    }
    serde_json::from_str(content)
        .map_err(|_| uncertain("The task list gave an answer that I cannot read"))
}

/// Writes a list with one line for each task. The agent finds it again in the transcript.
pub(super) fn lines(heading: &str, tasks: &[Task]) -> String {
    tasks.iter().fold(heading.to_owned(), |text, task| {
        let mark = if task.completed { 'x' } else { ' ' };
        format!("{text}\n{}. [{mark}] {}", task.task_id, task.title)
    })
}

/// The number of the task in a line of such a list.
fn task_number(line: &str) -> Option<u64> {
    let (number, rest) = line.split_once(". [")?;
    rest.get(1..)?
        .starts_with("] ")
        .then(|| number.parse().ok())?
}
