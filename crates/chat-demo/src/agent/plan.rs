//! The next step of the agent: a pure function of the transcript.

use chat_domain::transcript::Transcript;
use serde_json::Value;

use super::history::{History, TaskChange, TaskList, lines};
use super::intents::{HELP, Reply, Request, recognize};
use super::reference::{Meaning, resolve};

const LIST_TASKS: &str = "list_tasks";

/// The next step.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Give this answer and end the turn.
    Say(String),
    /// Call a tool with these arguments, a JSON object.
    Call {
        tool: &'static str,
        arguments: String,
    },
}

/// Plans the next step of the transcript's last turn.
pub(super) fn next(transcript: &Transcript) -> Next {
    let history = History::read(transcript);
    let request = recognize(history.message).or_else(|| completed_request(&history));
    let Some(request) = request else {
        return Next::Say(format!(
            "I did not understand that; I know only simple English.\n{HELP}"
        ));
    };
    match request.reply {
        Reply::Say(answer) => Next::Say((*answer).to_owned()),
        Reply::List {
            status,
            heading,
            empty,
        } => match history.result::<TaskList>(LIST_TASKS) {
            None => call_list_tasks(status),
            Some(Err(failure)) => Next::Say(failure),
            Some(Ok(list)) if list.tasks.is_empty() => Next::Say((*empty).to_owned()),
            Some(Ok(list)) => Next::Say(lines(heading, &list.tasks)),
        },
        Reply::Call {
            tool,
            arguments,
            answer,
        } => match history.result::<TaskChange>(tool) {
            None => call(tool, arguments, &request, &history),
            Some(Err(failure)) => Next::Say(failure),
            Some(Ok(task)) => Next::Say(fill(answer, task.task_id, &task.title)),
        },
    }
}

/// The request before, if the agent asked which task it means and the message says so.
fn completed_request(history: &History<'_>) -> Option<Request> {
    let task = history.message.to_owned();
    history
        .unclear
        .and_then(recognize)
        .map(|request| Request { task, ..request })
}

fn call(tool: &'static str, arguments: &str, request: &Request, history: &History<'_>) -> Next {
    let mut task_id = 0;
    if arguments.contains("{task_id}") {
        let tasks = match history.result::<TaskList>(LIST_TASKS).transpose() {
            Ok(list) => list.map(|list| list.tasks),
            Err(failure) => return Next::Say(failure),
        };
        match resolve(&request.task, history, tasks.as_deref()) {
            Meaning::Task(id) => task_id = id,
            Meaning::NeedsList => return call_list_tasks("all"),
            Meaning::Unclear(question) => return Next::Say(question),
        }
    }
    let title = Value::from(request.title.as_str()).to_string();
    Next::Call {
        tool,
        arguments: fill(arguments, task_id, &title),
    }
}

fn call_list_tasks(status: &str) -> Next {
    Next::Call {
        tool: LIST_TASKS,
        arguments: format!(r#"{{"status":"{status}"}}"#),
    }
}

/// Fills a template in. The title comes last, because it may look like a placeholder.
fn fill(template: &str, task_id: u64, title: &str) -> String {
    template
        .replace("{task_id}", &task_id.to_string())
        .replace("{title}", title)
}
