//! The transcript that the agent reads: a total projection of the log.
//!
//! For any log, also after truncation, cancellation or a crash, each call has exactly one result,
//! directly after its message; turns keep their order; and an ended turn always gives the same
//! bytes, so that providers can cache the prefix.

mod window;

use std::collections::HashMap;

use crate::{
    AgentData, Item, ItemBody, LoggedTurn, MessageId, RawJson, Role, ToolCallId, ToolExecutor,
    ToolOutcome, ToolSpec, TurnOutcome, TurnStatus, UnknownCause,
};

pub use window::Window;

/// The entries that the agent reads, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transcript(pub Vec<Entry>);

/// An entry of a transcript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The user spoke.
    User {
        /// The text.
        text: String,
    },
    /// The agent wrote text, called tools, or both.
    Assistant {
        /// The text; may be empty if there are calls.
        text: String,
        /// The calls it made. Their results follow directly, in the same order.
        calls: Vec<Call>,
        /// Data that the agent attached to this message.
        agent_data: Option<AgentData>,
    },
    /// The result of a call.
    ToolResult {
        /// The call.
        call: ToolCallId,
        /// The tool's JSON, or what went wrong.
        content: String,
    },
}

/// A tool call as the agent made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its id.
    pub id: ToolCallId,
    /// The tool's name.
    pub tool: String,
    /// The arguments.
    pub arguments: RawJson,
    /// Data that the agent attached to this call.
    pub agent_data: Option<AgentData>,
}

const STOPPED: &str = "[The user stopped this answer.]";
const FAILED: &str = "[This answer failed and was not finished.]";
const SILENT: &str = "[No answer.]";

/// How many tokens a text is counted as: one for each three bytes of UTF-8, and four for the frame
/// around it.
///
/// An estimate that errs upwards: English has about four bytes a token, code and Chinese about
/// three, with the tokenizers in use.
pub fn estimate_tokens(text: &str) -> usize {
    text.len().div_ceil(3) + 4
}

/// How many tokens these tools are counted as.
pub(super) fn tools_size(tools: &[ToolSpec]) -> usize {
    let size = |tool: &ToolSpec| {
        [&tool.name, &tool.description, tool.input_schema.as_str()]
            .map(estimate_tokens)
            .iter()
            .sum::<usize>()
    };
    tools.iter().map(size).sum()
}

/// How many tokens an entry is counted as.
fn size(entry: &Entry) -> usize {
    match entry {
        Entry::User { text } => estimate_tokens(text),
        Entry::Assistant {
            text,
            calls,
            agent_data,
        } => {
            let data_size = |data: &Option<AgentData>| {
                data.as_ref()
                    .map_or(0, |data| estimate_tokens(data.as_str()))
            };
            let call_size = |call: &Call| {
                estimate_tokens(&call.tool)
                    + estimate_tokens(call.arguments.as_str())
                    + data_size(&call.agent_data)
            };
            estimate_tokens(text)
                + data_size(agent_data)
                + calls.iter().map(call_size).sum::<usize>()
        }
        Entry::ToolResult { content, .. } => estimate_tokens(content),
    }
}

/// The entries of a turn that is over. The last entry is of the agent, so that two user messages
/// never follow each other.
fn ended_turn(log: &LoggedTurn) -> Vec<Entry> {
    let mut entries = entries(&log.items);
    let note = match &log.turn.status {
        TurnStatus::Ended {
            outcome: TurnOutcome::Completed,
            ..
        } => None,
        TurnStatus::Ended {
            outcome: TurnOutcome::Cancelled,
            ..
        } => Some(STOPPED),
        TurnStatus::Ended {
            outcome: TurnOutcome::Failed(_),
            ..
        }
        | TurnStatus::Queued
        | TurnStatus::Running => Some(FAILED),
    };
    match (entries.last_mut(), note) {
        (Some(Entry::Assistant { text, calls, .. }), note) if calls.is_empty() => {
            if let Some(note) = note {
                *text = if text == SILENT {
                    note.to_owned()
                } else {
                    format!("{text}\n\n{note}")
                };
            }
        }
        (_, note) => {
            entries.push(Entry::Assistant {
                text: note.unwrap_or(SILENT).to_owned(),
                calls: Vec::new(),
                agent_data: None,
            });
        }
    }
    entries
}

/// The entries of one turn's items.
fn entries(items: &[Item]) -> Vec<Entry> {
    let mut results: HashMap<ToolCallId, &ToolOutcome> = HashMap::new();
    for item in items {
        if let ItemBody::ToolResult(result) = &item.body {
            results.entry(result.call).or_insert(&result.outcome);
        }
    }
    let mut said: Vec<Said> = Vec::new();
    for item in items {
        match &item.body {
            ItemBody::Message(message) => said.push(match message.role {
                Role::User => Said::User(message.text.clone()),
                Role::Assistant => Said::Step(Step {
                    message: message.id,
                    text: message.text.clone(),
                    agent_data: message.agent_data.clone(),
                    ran: Vec::new(),
                    calls: Vec::new(),
                }),
            }),
            ItemBody::ToolCall(call) => {
                let entry = Call {
                    id: call.id,
                    tool: call.tool.clone(),
                    arguments: call.arguments.clone(),
                    agent_data: call.agent_data.clone(),
                };
                let step = said.iter_mut().rev().find_map(|said| match said {
                    Said::Step(step) if step.message == call.message => Some(step),
                    _ => None,
                });
                let calls = |step: &mut Step| match call.executor {
                    ToolExecutor::Server => step.calls.push(entry),
                    ToolExecutor::Agent => step.ran.push(entry),
                };
                match step {
                    Some(step) => calls(step),
                    None => {
                        let (ran, calls_of_us) = (Vec::new(), Vec::new());
                        let mut step = Step {
                            message: call.message,
                            text: String::new(),
                            agent_data: None,
                            ran,
                            calls: calls_of_us,
                        };
                        calls(&mut step);
                        said.push(Said::Step(step));
                    }
                }
            }
            ItemBody::ToolResult(_) => {}
        }
    }
    said.into_iter()
        .flat_map(|said| said.into_entries(&results))
        .collect()
}

enum Said {
    User(String),
    Step(Step),
}

struct Step {
    message: MessageId,
    text: String,
    agent_data: Option<AgentData>,
    /// Calls the agent ran itself, before it said the text.
    ran: Vec<Call>,
    /// Calls it asked us to run.
    calls: Vec<Call>,
}

impl Said {
    fn into_entries(self, results: &HashMap<ToolCallId, &ToolOutcome>) -> Vec<Entry> {
        let Step {
            text,
            agent_data,
            ran,
            calls,
            ..
        } = match self {
            Self::User(text) => return vec![Entry::User { text }],
            Self::Step(step) => step,
        };
        let mut entries = Vec::new();
        let mut push = |text: String, calls: Vec<Call>, agent_data: Option<AgentData>| {
            let answer = |call: &Call| Entry::ToolResult {
                call: call.id,
                content: content(results.get(&call.id).copied()),
            };
            let answers: Vec<Entry> = calls.iter().map(answer).collect();
            entries.push(Entry::Assistant {
                text,
                calls,
                agent_data,
            });
            entries.extend(answers);
        };
        if !ran.is_empty() {
            push(String::new(), ran, None);
        }
        let text = if text.is_empty() && calls.is_empty() {
            SILENT.to_owned()
        } else {
            text
        };
        push(text, calls, agent_data);
        entries
    }
}

/// The text for the agent about a call whose outcome is unknown.
fn unknown(cause: UnknownCause) -> String {
    format!(
        "Outcome unknown: {}. It may or may not have taken effect. Check before you repeat it.",
        cause.phrase()
    )
}

fn content(outcome: Option<&ToolOutcome>) -> String {
    match outcome {
        Some(ToolOutcome::Succeeded(output)) => output.0.as_str().to_owned(),
        Some(ToolOutcome::Failed(error)) => {
            format!("Error ({}): {}", error.kind.code(), error.message)
        }
        Some(ToolOutcome::Unknown(cause)) => unknown(*cause),
        None => unknown(UnknownCause::Interrupted),
    }
}

#[cfg(test)]
mod tests;
