//! The transcript that an agent must be sent, computed from the log by rules of its own, and the
//! check of what it is sent.

use std::collections::BTreeMap;

use chat_domain::log::ConversationDocument;
use chat_domain::transcript::{Entry, Transcript};
use chat_domain::{
    Item, ItemBody, Role, StepRequest, ToolCall, ToolCallId, ToolExecutor, ToolOutcome,
    TurnOutcome, TurnRow, TurnStatus, UnknownCause,
};

use crate::invariants::{Violation, ensure};
use crate::options::AgentKind;
use crate::trace::short;
use crate::workers::Process;
use crate::world::World;

/// How often the agent may be asked in one step, while it finds the conversation too long.
const MOST_ASKED: usize = 8;

/// A line of a transcript, as far as it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Line {
    User(String),
    Assistant(String, Vec<ToolCallId>),
    Result(ToolCallId, String),
}

/// Checks a request to the agent against the log.
pub fn check(world: &World, process: Process, request: &StepRequest) {
    let sent = lines_of(&request.transcript);
    let found = world.inspect(|documents| {
        let document = documents.get(&request.conversation)?;
        Some(compare(world, process, request, document, &sent))
    });
    match found {
        Some(Ok(())) => {}
        Some(Err(Violation { property, text })) => {
            world.violated(property, format!("turn {}: {text}", short(request.turn.0)));
        }
        None => {
            let is_deleted = world.checker().is_deleted(request.conversation);
            world.check("kept", is_deleted, || {
                format!(
                    "the agent is asked for turn {}, which is not stored",
                    short(request.turn.0)
                )
            });
        }
    }
}

fn compare(
    world: &World,
    process: Process,
    request: &StepRequest,
    document: &ConversationDocument,
    sent: &[Line],
) -> Result<(), Violation> {
    let wrong = |text: String| Err(Violation::new("transcripts", text));
    let mut earlier = Vec::new();
    let mut current = None;
    for (row, items, _) in document.entries() {
        if row.turn.id == request.turn {
            current = Some((row, items));
            break;
        }
        if !row.turn.status.is_ended() {
            return wrong("an earlier turn has not ended".to_owned());
        }
        if !row.turn.superseded {
            earlier.push(ended(row, items));
        }
    }
    let Some((row, items)) = current else {
        return wrong("it is not stored".to_owned());
    };
    ensure("isolation", row.owner == request.owner, || {
        "the agent gets another user".to_owned()
    })?;
    let Some(since) = world.workers.holds_since(process, row) else {
        // An attempt that has lost its lease does not know what was changed since.
        return Ok(());
    };
    let options = &world.plan.options;
    world
        .checker()
        .check_activity(row, world.elapsed() - since)?;
    check_asked(world, row)?;
    let may_leave_out = options.limits.context_tokens.is_some()
        || options
            .agent_kinds
            .iter()
            .any(|(kind, _)| *kind == AgentKind::TooLong);
    let most = if may_leave_out { earlier.len() } else { 0 };
    let own = said(items);
    for left_out in 0..=most {
        let kept = earlier.iter().skip(left_out).flatten();
        if kept.chain(&own).eq(sent) {
            return Ok(());
        }
    }
    let expected: Vec<_> = earlier.iter().flatten().chain(&own).collect();
    wrong(format!(
        "the agent is sent {sent:?}, and the log says {expected:?}"
    ))
}

/// The agent is asked only so often for one turn.
fn check_asked(world: &World, row: &TurnRow) -> Result<(), Violation> {
    let asked = world.witness().said.get(&row.turn.id).map_or(0, Vec::len);
    let attempts = usize::try_from(row.epoch).unwrap_or(usize::MAX);
    let most = attempts * world.plan.options.limits.steps * MOST_ASKED;
    ensure("bounded", asked < most, || {
        format!("the agent is asked for the {asked}. time, in {attempts} attempts")
    })
}

fn lines_of(transcript: &Transcript) -> Vec<Line> {
    let line = |entry: &Entry| match entry {
        Entry::User { text } => Line::User(text.clone()),
        Entry::Assistant { text, calls, .. } => {
            Line::Assistant(text.clone(), calls.iter().map(|call| call.id).collect())
        }
        Entry::ToolResult { call, content } => Line::Result(*call, content.clone()),
    };
    transcript.0.iter().map(line).collect()
}

/// The lines of a turn that is over: the last words are the agent's.
fn ended(row: &TurnRow, items: &[Item]) -> Vec<Line> {
    let mut lines = said(items);
    let note = match &row.turn.status {
        TurnStatus::Ended { outcome, .. } => match outcome {
            TurnOutcome::Completed => None,
            TurnOutcome::Cancelled => Some("[The user stopped this answer.]"),
            TurnOutcome::Failed(_) => Some("[This answer failed and was not finished.]"),
        },
        _ => None,
    };
    let nothing = "[No answer.]";
    match lines.last_mut() {
        Some(Line::Assistant(text, calls)) if calls.is_empty() => {
            if let Some(note) = note {
                *text = if text == nothing {
                    note.to_owned()
                } else {
                    format!("{text}\n\n{note}")
                };
            }
        }
        _ => lines.push(Line::Assistant(
            note.unwrap_or(nothing).to_owned(),
            Vec::new(),
        )),
    }
    lines
}

/// The lines of the items of one turn.
fn said(items: &[Item]) -> Vec<Line> {
    let mut results = BTreeMap::new();
    for item in items {
        if let ItemBody::ToolResult(result) = &item.body {
            results.entry(result.call).or_insert(&result.outcome);
        }
    }
    let mut lines = Vec::new();
    for item in items {
        let ItemBody::Message(message) = &item.body else {
            continue;
        };
        if message.role == Role::User {
            lines.push(Line::User(message.text.clone()));
            continue;
        }
        let calls_by = |executor: ToolExecutor| -> Vec<&ToolCall> {
            let calls = items.iter().filter_map(|item| match &item.body {
                ItemBody::ToolCall(call) => Some(call),
                _ => None,
            });
            let is_meant =
                |call: &&ToolCall| call.message == message.id && call.executor == executor;
            calls.filter(is_meant).collect()
        };
        let own = calls_by(ToolExecutor::Agent);
        let asked = calls_by(ToolExecutor::Server);
        if !own.is_empty() {
            add_step(&mut lines, String::new(), &own, &results);
        }
        let text = if message.text.is_empty() && asked.is_empty() {
            "[No answer.]".to_owned()
        } else {
            message.text.clone()
        };
        add_step(&mut lines, text, &asked, &results);
    }
    lines
}

fn add_step(
    lines: &mut Vec<Line>,
    text: String,
    calls: &[&ToolCall],
    results: &BTreeMap<ToolCallId, &ToolOutcome>,
) {
    let ids = calls.iter().map(|call| call.id);
    lines.push(Line::Assistant(text, ids.collect()));
    for call in calls {
        let content = match results.get(&call.id) {
            Some(ToolOutcome::Succeeded(output)) => output.0.as_str().to_owned(),
            Some(ToolOutcome::Failed(error)) => {
                format!("Error ({}): {}", error.kind.code(), error.message)
            }
            Some(ToolOutcome::Unknown(cause)) => unknown(*cause),
            None => unknown(UnknownCause::Interrupted),
        };
        lines.push(Line::Result(call.id, content));
    }
}

fn unknown(cause: UnknownCause) -> String {
    let phrase = cause.phrase();
    format!(
        "Outcome unknown: {phrase}. It may or may not have taken effect. \
         Check before you repeat it."
    )
}
