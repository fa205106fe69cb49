//! The offline agent: plans the next step from the transcript, and streams it word by word.

use std::time::Duration;

use async_trait::async_trait;
use chat_domain::transcript::{Entry, Transcript, estimate_tokens};
use chat_domain::{Agent, AgentError, RawJson, StepEnd, StepEvent, StepRequest, StepStream, Usage};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::intents::{HELP, Reply, Request, recognize};

const LIST_TASKS: &str = "list_tasks";
const UNAVAILABLE: &str = "The task list is not available. Please try again in a moment.";

/// An agent that keeps a task list and recognizes intents by a table instead of a model.
///
/// It understands a few English phrases ("What can you do?" lists them) and calls the tools of
/// [`tasks`](crate::tasks) if they are offered.
#[derive(Clone, Debug)]
pub struct DemoAgent {
    word_delay: Duration,
}

impl DemoAgent {
    /// Creates an agent that waits for `word_delay` before each word.
    pub fn new(word_delay: Duration) -> Self {
        Self { word_delay }
    }
}

#[async_trait]
impl Agent for DemoAgent {
    async fn step(&self, request: StepRequest) -> Result<StepStream, AgentError> {
        let is_offered = |name: &str| request.tools.iter().any(|tool| tool.name == name);
        let (output, mut events) = match plan(&request.transcript) {
            Plan::Call { tool, arguments } if is_offered(tool) => {
                let call = StepEvent::ToolCall {
                    tool: tool.to_owned(),
                    arguments: RawJson::from_valid(arguments.as_str()),
                    agent_data: None,
                };
                (arguments, vec![call])
            }
            Plan::Call { .. } => (UNAVAILABLE.to_owned(), words(UNAVAILABLE)),
            Plan::Say(text) => {
                let words = words(&text);
                (text, words)
            }
        };
        let usage = Usage {
            input_tokens: request.transcript.0.iter().map(entry_tokens).sum(),
            output_tokens: tokens(&output),
        };
        events.push(StepEvent::Done(StepEnd::complete(usage)));
        let delay = self.word_delay;
        let delayed = move |event: StepEvent| async move {
            if matches!(event, StepEvent::Text(_)) && !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            Ok(event)
        };
        Ok(stream::iter(events).then(delayed).boxed())
    }
}

/// Splits a text into words, each with the white space after it.
fn words(text: &str) -> Vec<StepEvent> {
    text.split_inclusive(char::is_whitespace)
        .map(|word| StepEvent::Text(word.to_owned()))
        .collect()
}

fn entry_tokens(entry: &Entry) -> u64 {
    match entry {
        Entry::User { text } => tokens(text),
        Entry::Assistant { text, calls, .. } => {
            let arguments = calls.iter().map(|call| tokens(call.arguments.as_str()));
            tokens(text) + arguments.sum::<u64>()
        }
        Entry::ToolResult { content, .. } => tokens(content),
    }
}

fn tokens(text: &str) -> u64 {
    u64::try_from(estimate_tokens(text)).unwrap_or(u64::MAX)
}

/// The next step of the agent.
enum Plan {
    /// Give this answer and end the turn.
    Say(String),
    /// Call a tool with these arguments, a JSON object.
    Call {
        tool: &'static str,
        arguments: String,
    },
}

/// The result of `list_tasks`.
#[derive(Deserialize)]
struct TaskList {
    tasks: Vec<Task>,
}

/// A listed task, and the result of a tool that adds or changes a task.
#[derive(Deserialize)]
struct Task {
    task_id: u64,
    title: String,
    #[serde(default)]
    completed: bool,
}

/// Plans the next step of the transcript's last turn.
fn plan(transcript: &Transcript) -> Plan {
    let (message, results) = last_turn(transcript);
    let Some(request) = recognize(message) else {
        return Plan::Say(format!(
            "I did not understand that; I know only simple English.\n{HELP}"
        ));
    };
    let planned = match request.reply {
        Reply::Say(answer) => Ok(Plan::Say((*answer).to_owned())),
        Reply::List => plan_list(&results),
        Reply::Call {
            tool,
            arguments,
            answer,
        } => match result_of::<Task>(&results, tool) {
            None => plan_call(tool, arguments, &request, &results),
            Some(result) => result.map(|task| Plan::Say(fill(answer, task.task_id, &task.title))),
        },
    };
    planned.unwrap_or_else(Plan::Say)
}

/// Returns the last message of the user, and the tools called for it with their results.
fn last_turn(transcript: &Transcript) -> (&str, Vec<(&str, &str)>) {
    let (mut message, mut calls, mut results) = ("", [].as_slice(), Vec::new());
    for entry in &transcript.0 {
        match entry {
            Entry::User { text } => {
                message = text.as_str();
                results.clear();
            }
            Entry::Assistant { calls: made, .. } => calls = made.as_slice(),
            Entry::ToolResult { call, content } => {
                let call = calls.iter().find(|made| made.id == *call);
                results.extend(call.map(|call| (call.tool.as_str(), content.as_str())));
            }
        }
    }
    (message, results)
}

/// Returns the result of a tool, or the answer that explains its failure. `None` if the tool was
/// not called.
fn result_of<T: DeserializeOwned>(
    results: &[(&str, &str)],
    tool: &str,
) -> Option<Result<T, String>> {
    let (_, content) = results.iter().find(|(called, _)| *called == tool)?;
    Some(serde_json::from_str(content).map_err(|_| format!("That did not work. {content}")))
}

fn plan_list(results: &[(&str, &str)]) -> Result<Plan, String> {
    let Some(list) = result_of::<TaskList>(results, LIST_TASKS) else {
        return Ok(call_list_tasks());
    };
    let tasks = list?.tasks;
    if tasks.is_empty() {
        return Ok(Plan::Say("You have no tasks yet.".to_owned()));
    }
    let lines = tasks.iter().map(|task| {
        let mark = if task.completed { 'x' } else { ' ' };
        format!("\n{}. [{mark}] {}", task.task_id, task.title)
    });
    Ok(Plan::Say(format!(
        "Here are your tasks:{}",
        lines.collect::<String>()
    )))
}

fn plan_call(
    tool: &'static str,
    arguments: &str,
    request: &Request,
    results: &[(&str, &str)],
) -> Result<Plan, String> {
    let mut task_id = 0;
    if arguments.contains("{task_id}") {
        let Some(list) = result_of::<TaskList>(results, LIST_TASKS) else {
            return Ok(call_list_tasks());
        };
        task_id = find_task(&request.task, &list?.tasks)
            .ok_or("Which task do you mean? Say its number or its title.")?;
    }
    let title = Value::from(request.title.as_str()).to_string();
    Ok(Plan::Call {
        tool,
        arguments: fill(arguments, task_id, &title),
    })
}

/// Finds a task by its number ("task 2"), its position ("the first one") or its title.
fn find_task(reference: &str, tasks: &[Task]) -> Option<u64> {
    let task = match reference {
        "the first one" => tasks.first(),
        "the last one" => tasks.last(),
        _ => {
            let name = reference.strip_prefix("task ").unwrap_or(reference);
            tasks
                .iter()
                .find(|task| task.task_id.to_string() == name || task.title.to_lowercase() == name)
        }
    };
    task.map(|task| task.task_id)
}

fn call_list_tasks() -> Plan {
    Plan::Call {
        tool: LIST_TASKS,
        arguments: r#"{"status":"all"}"#.to_owned(),
    }
}

/// Replaces the placeholders of a template. The title is last, because it may look like one.
fn fill(template: &str, task_id: u64, title: &str) -> String {
    template
        .replace("{task_id}", &task_id.to_string())
        .replace("{title}", title)
}
