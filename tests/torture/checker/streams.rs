//! Streams show the stored turn, over any number of connections.

use chat_tests::client::Frame;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::answers::{id, same_result, text};
use super::{Findings, Property, short};
use crate::evidence::{Evidence, Item, Log};
use crate::history::Watch;

pub fn check(evidence: &Evidence, log: &Log<'_>, findings: &mut Findings) {
    for watch in &evidence.history.watches {
        for (status, code) in &watch.refusals {
            findings.add(
                Property::Streams,
                format!(
                    "{} could not resume turn {}: {status} {code}",
                    watch.user, watch.turn
                ),
            );
        }
        if let Err(what) = follow(watch, log) {
            let connections = watch
                .connections
                .iter()
                .map(|frames| frames.len().to_string())
                .collect::<Vec<_>>()
                .join("+");
            findings.add(
                Property::Streams,
                format!(
                    "turn {}, watched by {} ({connections} events): {what}",
                    watch.turn, watch.user
                ),
            );
        }
    }
}

/// A draft of an answer in a stream.
struct Draft {
    message: Uuid,
    text: String,
}

/// Processes a stream as a client does. The error says where it differs from the stored turn.
fn follow(watch: &Watch, log: &Log<'_>) -> Result<(), String> {
    let Some(turn) = log.turns.get(&watch.turn) else {
        return Err("the turn is not stored".to_owned());
    };
    let mut stored = log.items(watch.turn).iter();
    let mut draft: Option<Draft> = None;
    let mut ended = false;
    // An error without an id concerns the connection, not the turn; `turn` shows the initial state.
    let frames = watch
        .connections
        .iter()
        .flatten()
        .filter(|frame| frame.id.is_some());
    for frame in frames {
        if ended {
            return Err(format!("{} comes after the end", frame.name));
        }
        let data: Value = serde_json::from_str(&frame.data)
            .map_err(|error| format!("{}: {error}", frame.data))?;
        match frame.name.as_str() {
            "text" => match &mut draft {
                Some(draft) if draft.message == id(&data, "message_id") => {
                    draft.text.push_str(text(&data, "delta"))
                }
                Some(draft) => {
                    return Err(format!(
                        "the draft {} is not completed: {}",
                        draft.message, frame.data
                    ));
                }
                None => {
                    draft = Some(Draft {
                        message: id(&data, "message_id"),
                        text: text(&data, "delta").to_owned(),
                    })
                }
            },
            "discarded" => match draft.take() {
                Some(draft) if draft.message == id(&data, "message_id") => {}
                _ => {
                    return Err(format!(
                        "a draft that was not shown is discarded: {}",
                        frame.data
                    ));
                }
            },
            "message" | "tool_call" | "tool_result" => {
                let Some(item) = stored.next() else {
                    return Err(format!("{} {} is not stored", frame.name, frame.data));
                };
                same_item(frame, &data, item)?;
                if data["role"] == "assistant" {
                    let shown = draft
                        .take()
                        .map(|draft| (draft.message, draft.text))
                        .unwrap_or_else(|| (id(&data, "id"), String::new()));
                    if shown != (id(&data, "id"), text(&data, "content").to_owned()) {
                        return Err(format!(
                            "the text {} of {} changed to {}",
                            short(&shown.1),
                            shown.0,
                            short(&frame.data)
                        ));
                    }
                } else if frame.name == "message" && draft.is_some() {
                    return Err(format!("a user's message within a draft: {}", frame.data));
                }
            }
            "done" | "error" => {
                ended = true;
                let status = if frame.name == "done" {
                    text(&data, "status")
                } else {
                    "failed"
                };
                let code = (frame.name == "error").then(|| text(&data, "code"));
                if status != turn.status || code != turn.failure.as_deref() {
                    return Err(format!(
                        "the stream ended as {status} ({code:?}); stored: {} ({:?})",
                        turn.status, turn.failure
                    ));
                }
                if let Some(item) = stored.next() {
                    return Err(format!("the stream ended before {item:?}"));
                }
                if let Some(draft) = &draft {
                    return Err(format!(
                        "the stream ended within the draft {}",
                        draft.message
                    ));
                }
            }
            name => return Err(format!("unknown event {name}")),
        }
    }
    match watch.ended == ended {
        true => Ok(()),
        false => Err("204 before the end of the stream".to_owned()),
    }
}

#[derive(Deserialize)]
struct RawCall<'a> {
    #[serde(borrow)]
    parameters: &'a RawValue,
}

#[derive(Deserialize)]
struct RawResult<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
}

/// Checks that an event shows this item byte for byte.
fn same_item(frame: &Frame, data: &Value, item: &Item<'_>) -> Result<(), String> {
    let same = match (frame.name.as_str(), item) {
        ("message", Item::Message(row)) => {
            id(data, "id") == row.id
                && id(data, "turn_id") == row.turn
                && text(data, "role") == row.role
                && text(data, "content") == row.text
        }
        ("tool_call", Item::Call(row)) => {
            let raw = serde_json::from_str::<RawCall>(&frame.data)
                .is_ok_and(|call| call.parameters.get() == row.arguments);
            raw && id(data, "id") == row.id
                && id(data, "message_id") == row.message
                && text(data, "tool_name") == row.tool
        }
        ("tool_result", Item::Result(row)) => {
            let raw = serde_json::from_str::<RawResult>(&frame.data)
                .is_ok_and(|shown| shown.result.map(RawValue::get) == row.output.as_deref());
            raw && id(data, "id") == row.id && same_result(data, row)
        }
        _ => false,
    };
    if same {
        Ok(())
    } else {
        Err(format!(
            "{} {} was shown where {item:?} is stored",
            frame.name, frame.data
        ))
    }
}
