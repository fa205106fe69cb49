//! The agent's requests equal the log, and the stored answers equal the agent's.
//!
//! The rules by which a log becomes a transcript are implemented a second time here, independently
//! of `chat_domain::transcript`.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Findings, Property, short};
use crate::evidence::{CallRow, Evidence, Item, Log, MessageRow, Step, TurnRow};

/// Stored causes of an unknown outcome, with their texts.
const UNKNOWN: &[(&str, &str)] = &[
    (
        "interrupted",
        "the call was interrupted before its result was stored",
    ),
    ("stopped", "the user stopped the turn while the tool ran"),
    (
        "turn_time_limit",
        "the turn reached its time limit while the tool ran",
    ),
    ("timed_out", "the tool gave no answer within its time limit"),
    ("answer_lost", "the tool returned no usable answer"),
];

pub fn check(evidence: &Evidence, log: &Log<'_>, findings: &mut Findings) {
    let sent: Vec<Step> = evidence.steps.iter().map(number_calls).collect();
    let steps: HashMap<usize, &Step> = sent.iter().map(|step| (step.number, step)).collect();
    let mut by_text: HashMap<&str, Vec<Prompts>> = HashMap::new();
    let mut stored = HashSet::new();
    for turns in log.conversations.values() {
        for turn in turns {
            let superseded = turns
                .last()
                .is_some_and(|last| superseded(turn, last, turns));
            findings.require(
                superseded == (turn.superseded == 1),
                Property::Transcripts,
                || {
                    format!(
                        "turn {} has superseded = {}; its retries require {superseded}",
                        turn.id, turn.superseded,
                    )
                },
            );
            let prompts = Prompts::of(turn, turns, log);
            for (place, message) in prompts.answers.iter().enumerate() {
                check_answer(turn, message, prompts.prompt(place), &steps, log, findings);
                findings.require(
                    stored.insert(number_of(&message.text)),
                    Property::Transcripts,
                    || {
                        format!(
                            "turn {}: the answer {} is stored twice",
                            turn.id,
                            short(&message.text)
                        )
                    },
                );
            }
            by_text
                .entry(log.question(turn.id).unwrap_or_default())
                .or_default()
                .push(prompts);
        }
    }
    for step in &sent {
        let question = step
            .messages
            .iter()
            .rev()
            .find(|message| message["role"] == "user")
            .and_then(|message| message["content"].as_str());
        let candidates = by_text
            .get(question.unwrap_or_default())
            .map_or(&[][..], Vec::as_slice);
        findings.require(
            candidates
                .iter()
                .any(|prompts| prompts.allow(&step.messages)),
            Property::Transcripts,
            || {
                let expected = candidates
                    .iter()
                    .map(|prompts| prompts.prompt(prompts.answers.len()));
                let differences: Vec<String> = expected
                    .map(|expected| difference(&step.messages, &expected))
                    .collect();
                format!(
                    "step {} for {}: {}",
                    step.number,
                    short(question.unwrap_or_default()),
                    differences.join("; or, for another turn: ")
                )
            },
        );
    }
}

/// Replaces each call's id, which is the agent's own or generated, by its index in its message.
fn number_calls(step: &Step) -> Step {
    let mut step = step.clone();
    let mut ids = Vec::new();
    for message in &mut step.messages {
        if let Some(calls) = message.get_mut("tool_calls").and_then(Value::as_array_mut) {
            ids = calls.iter().map(|call| call["id"].clone()).collect();
            calls
                .iter_mut()
                .enumerate()
                .for_each(|(place, call)| call["id"] = place.into());
        }
        if let Some(id) = message.get_mut("tool_call_id")
            && let Some(place) = ids.iter().position(|known| known == id)
        {
            *id = place.into();
        }
    }
    step
}

/// The transcripts that the agent may receive in a turn: its past, and its own items up to one of
/// its answers.
struct Prompts<'a> {
    past: Vec<Value>,
    own: Vec<Value>,
    /// How much of `own` precedes each answer, and finally its length.
    before: Vec<usize>,
    answers: Vec<&'a MessageRow>,
}

impl<'a> Prompts<'a> {
    fn of(turn: &TurnRow, turns: &[&TurnRow], log: &Log<'a>) -> Self {
        let past = turns
            .iter()
            .filter(|other| other.ordinal < turn.ordinal && !superseded(other, turn, turns));
        let past = past
            .flat_map(|other| end_of_turn(other, log.items(other.id)))
            .collect();
        let items = log.items(turn.id);
        let (mut own, mut before, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for item in items {
            if let Item::Message(row) = item {
                if row.role == "assistant" {
                    before.push(own.len());
                    answers.push(*row);
                }
                own.extend(entries(row, items));
            }
        }
        before.push(own.len());
        Self {
            past,
            own,
            before,
            answers,
        }
    }

    /// Returns the transcript for the answer at this index.
    fn prompt(&self, place: usize) -> Vec<Value> {
        let own = self
            .own
            .iter()
            .take(self.before.get(place).copied().unwrap_or_default());
        self.past.iter().chain(own).cloned().collect()
    }

    fn allow(&self, messages: &[Value]) -> bool {
        let Some(own) = messages.strip_prefix(self.past.as_slice()) else {
            return false;
        };
        self.before.contains(&own.len()) && self.own.starts_with(own)
    }
}

/// Whether `other` was superseded when `turn` ran: by a started retry, which may be `turn` itself.
fn superseded(other: &TurnRow, turn: &TurnRow, turns: &[&TurnRow]) -> bool {
    let mut retries = turns.iter().filter(|retry| {
        retry.epoch > 0 && retry.ordinal <= turn.ordinal && retry.ordinal > other.ordinal
    });
    retries.any(|retry| {
        let retried = retry
            .retry_of
            .and_then(|id| turns.iter().find(|turn| turn.id == id));
        retried.is_some_and(|retried| retried.ordinal <= other.ordinal)
    })
}

/// Returns a message as the agent receives it, with its calls and their results.
fn entries(row: &MessageRow, items: &[Item<'_>]) -> Vec<Value> {
    if row.role == "user" {
        return vec![json!({ "role": "user", "content": row.text })];
    }
    let calls: Vec<&CallRow> = calls(row.id, items);
    if calls.is_empty() {
        let text = if row.text.is_empty() {
            "[No answer.]"
        } else {
            &row.text
        };
        return vec![json!({ "role": "assistant", "content": text })];
    }
    let content = if row.text.is_empty() {
        Value::Null
    } else {
        row.text.as_str().into()
    };
    let called = |(place, call): (usize, &&CallRow)| {
        json!({
            "id": place, "type": "function",
            "function": { "name": call.tool, "arguments": call.arguments },
        })
    };
    let mut entries = vec![json!({
        "role": "assistant", "content": content,
        "tool_calls": calls.iter().enumerate().map(called).collect::<Vec<_>>(),
    })];
    let answer = |(place, call): (usize, &&CallRow)| {
        json!({
            "role": "tool", "tool_call_id": place, "content": result(call),
        })
    };
    entries.extend(calls.iter().enumerate().map(answer));
    entries
}

fn calls<'a>(message: Uuid, items: &[Item<'a>]) -> Vec<&'a CallRow> {
    let call = |item: &Item<'a>| match item {
        Item::Call(call) if call.message == message => Some(*call),
        _ => None,
    };
    items.iter().filter_map(call).collect()
}

fn result(call: &CallRow) -> String {
    match call.outcome.as_deref() {
        Some("succeeded") => call.output.clone().unwrap_or_default(),
        Some("unknown") | None => {
            let cause = call.unknown_cause.as_deref().unwrap_or("interrupted");
            let happened = UNKNOWN
                .iter()
                .find(|(known, _)| *known == cause)
                .map_or(cause, |(_, happened)| *happened);
            format!(
                "Outcome unknown: {happened}. It may or may not have taken effect. Check before \
                you repeat it."
            )
        }
        Some(kind) => format!(
            "Error ({kind}): {}",
            call.error.as_deref().unwrap_or_default()
        ),
    }
}

/// Returns an ended turn, which ends with a text of the agent.
fn end_of_turn(turn: &TurnRow, items: &[Item<'_>]) -> Vec<Value> {
    let messages = items.iter().filter_map(|item| match item {
        Item::Message(row) => Some(*row),
        _ => None,
    });
    let mut all: Vec<Value> = messages.flat_map(|row| entries(row, items)).collect();
    let note = match turn.status.as_str() {
        "completed" => None,
        "cancelled" => Some("[The user stopped this answer.]"),
        _ => Some("[This answer failed and was not finished.]"),
    };
    match (all.last_mut(), note) {
        (Some(last), note) if last["role"] == "assistant" && last.get("tool_calls").is_none() => {
            if let Some(note) = note {
                let text = last["content"].as_str().unwrap_or_default();
                let text = if text == "[No answer.]" {
                    note.to_owned()
                } else {
                    format!("{text}\n\n{note}")
                };
                last["content"] = text.into();
            }
        }
        (_, note) => {
            all.push(json!({ "role": "assistant", "content": note.unwrap_or("[No answer.]") }))
        }
    }
    all
}

/// Describes the difference between a sent transcript and the log.
fn difference(sent: &[Value], logged: &[Value]) -> String {
    let place = sent
        .iter()
        .zip(logged)
        .take_while(|(sent, logged)| sent == logged)
        .count();
    let at = |messages: &[Value]| {
        messages
            .get(place)
            .map_or_else(|| "its end".to_owned(), Value::to_string)
    };
    let (sent_there, logged_there) = (at(sent), at(logged));
    format!(
        "message {place} of {} is {sent_there}, but the log of {} has {logged_there}",
        sent.len(),
        logged.len()
    )
}

/// Returns the number with which each answer of the agent starts.
fn number_of(text: &str) -> Option<usize> {
    text.strip_prefix('#')?.split(' ').next()?.parse().ok()
}

/// Checks that a stored answer is the agent's answer to the log before it, or the start of it if
/// the turn was interrupted.
fn check_answer(
    turn: &TurnRow,
    message: &MessageRow,
    prompt: Vec<Value>,
    steps: &HashMap<usize, &Step>,
    log: &Log<'_>,
    findings: &mut Findings,
) {
    let Some(step) = number_of(&message.text).and_then(|number| steps.get(&number)) else {
        findings.add(
            Property::Unsent,
            format!(
                "turn {}: the agent did not write {}",
                turn.id,
                short(&message.text)
            ),
        );
        return;
    };
    findings.require(step.messages == prompt, Property::Transcripts, || {
        format!(
            "turn {}: the agent wrote {} for another log: {}",
            turn.id,
            short(&message.text),
            difference(&step.messages, &prompt)
        )
    });
    let calls: Vec<(&str, &str)> = calls(message.id, log.items(turn.id))
        .iter()
        .map(|call| (call.tool.as_str(), call.arguments.as_str()))
        .collect();
    let whole = message.text == step.text
        && calls.iter().copied().eq(step
            .calls
            .iter()
            .map(|(tool, arguments)| (tool.as_str(), arguments.as_str())));
    let is_last = log.items(turn.id).iter().rev().find_map(|item| match item {
        Item::Message(row) => Some(row.id == message.id),
        _ => None,
    });
    let broken_off = turn.status != "completed"
        && is_last == Some(true)
        && calls.is_empty()
        && step.text.starts_with(&message.text);
    findings.require(whole || broken_off, Property::Unsent, || {
        format!(
            "turn {}: stored: {} with {calls:?}; the agent wrote {} with {:?}",
            turn.id,
            short(&message.text),
            short(&step.text),
            step.calls
        )
    });
}
