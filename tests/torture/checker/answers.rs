//! Replies, lists and pages agree with the stored rows.

use std::collections::HashMap;

use serde_json::Value;
use uuid::Uuid;

use super::{Findings, Property, short};
use crate::evidence::{CallRow, Evidence, Item, Log, Shown, Tables};
use crate::history::{Outcome, Reply};

pub fn check(evidence: &Evidence, log: &Log<'_>, findings: &mut Findings) {
    let calls: HashMap<Uuid, &CallRow> = evidence
        .tables
        .calls
        .iter()
        .map(|row| (row.id, row))
        .collect();
    for message in &evidence.history.messages {
        for attempt in &message.attempts {
            match &attempt.outcome {
                Outcome::Replied(reply) => check_reply(reply, log, &calls, findings),
                Outcome::Started {
                    turn,
                    code: Some(code),
                    ..
                } => check_failure(*turn, code, log, findings),
                _ => {}
            }
        }
    }
    for read in &evidence.history.reads {
        for message in &read.messages {
            let there = log
                .turns
                .get(&id(message, "turn_id"))
                .is_none_or(|turn| turn.conversation == read.conversation);
            findings.require(there, Property::Unchanging, || {
                format!(
                    "conversation {} showed {message} of another conversation",
                    read.conversation
                )
            });
            let state = text(message, "turn_status");
            if text(message, "role") == "user" || !matches!(state, "queued" | "running") {
                check_message(message, log, &calls, Property::Unchanging, findings);
            }
        }
    }
    for conversation in &evidence.shown {
        check_lists(conversation, evidence, log, &calls, findings);
    }
    check_visibility(&evidence.shown, &evidence.tables, findings);
}

pub fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

pub fn id(value: &Value, name: &str) -> Uuid {
    value[name]
        .as_str()
        .and_then(|id| Uuid::try_parse(id).ok())
        .unwrap_or_default()
}

fn check_reply(
    reply: &Reply,
    log: &Log<'_>,
    calls: &HashMap<Uuid, &CallRow>,
    findings: &mut Findings,
) {
    let Some(turn) = log.turns.get(&reply.turn) else {
        return;
    };
    let status = if reply.status == "success" {
        "completed"
    } else {
        "cancelled"
    };
    let stored = log.answer(reply.turn);
    findings.require(
        turn.status == status && stored == reply.response,
        Property::Answers,
        || {
            let Reply {
                turn: id,
                status,
                response,
                ..
            } = reply;
            format!(
                "turn {id} was answered as {status} with {}; stored: {} with {}",
                short(response),
                turn.status,
                short(&stored)
            )
        },
    );
    let ids: Vec<Uuid> = reply.tool_calls.iter().map(|call| id(call, "id")).collect();
    findings.require(ids == calls_of(reply.turn, log), Property::Answers, || {
        format!(
            "turn {} was answered with the calls {ids:?}; stored: {:?}",
            reply.turn,
            calls_of(reply.turn, log)
        )
    });
    reply
        .tool_calls
        .iter()
        .for_each(|call| check_call(call, calls, Property::Answers, findings));
    reply
        .messages
        .iter()
        .for_each(|message| check_message(message, log, calls, Property::Answers, findings));
    let ordinals: Vec<_> = reply
        .messages
        .iter()
        .filter_map(|message| log.turns.get(&id(message, "turn_id")))
        .map(|turn| turn.ordinal)
        .collect();
    findings.require(
        ordinals.is_sorted() && ordinals.last() == Some(&turn.ordinal),
        Property::Answers,
        || {
            format!(
                "the reply of turn {} shows the turns {ordinals:?}; its ordinal is {}",
                reply.turn, turn.ordinal
            )
        },
    );
}

fn check_failure(turn: Uuid, code: &str, log: &Log<'_>, findings: &mut Findings) {
    let Some(row) = log.turns.get(&turn) else {
        return;
    };
    findings.require(
        row.status == "failed" && row.failure.as_deref() == Some(code),
        Property::Answers,
        || {
            format!(
                "turn {turn} was answered as failed ({code}); stored: {} ({:?})",
                row.status, row.failure
            )
        },
    );
}

fn calls_of(turn: Uuid, log: &Log<'_>) -> Vec<Uuid> {
    let call = |item: &Item| match item {
        Item::Call(row) => Some(row.id),
        _ => None,
    };
    log.items(turn).iter().filter_map(call).collect()
}

/// Checks a message shown by the API, which is a user's or belongs to an ended turn.
fn check_message(
    message: &Value,
    log: &Log<'_>,
    calls: &HashMap<Uuid, &CallRow>,
    property: Property,
    findings: &mut Findings,
) {
    let turn = id(message, "turn_id");
    let role = text(message, "role");
    let Some(row) = log.turns.get(&turn) else {
        findings.add(
            property,
            format!(
                "a message of turn {turn} was shown that is not stored: {}",
                short(text(message, "content"))
            ),
        );
        return;
    };
    let last = log.items(turn).iter().rev().find_map(|item| match item {
        Item::Message(row) if row.role == role => Some(row.id),
        _ => None,
    });
    let content = if role == "user" {
        log.question(turn).unwrap_or_default().to_owned()
    } else {
        log.answer(turn)
    };
    findings.require(
        last == Some(id(message, "id")) && content == text(message, "content"),
        property,
        || {
            let shown = text(message, "content");
            format!(
                "turn {turn}: the {role}'s message {} was shown as {}; stored: {last:?} {}",
                id(message, "id"),
                short(shown),
                short(&content)
            )
        },
    );
    let state = text(message, "turn_status");
    findings.require(
        matches!(state, "queued" | "running") || state == row.status,
        property,
        || format!("turn {turn} was shown as {state}; stored: {}", row.status),
    );
    message["tool_calls"]
        .as_array()
        .into_iter()
        .flatten()
        .for_each(|call| check_call(call, calls, property, findings));
}

/// Checks a tool call shown by the API, with its result.
pub fn check_call(
    call: &Value,
    calls: &HashMap<Uuid, &CallRow>,
    property: Property,
    findings: &mut Findings,
) {
    let Some(row) = calls.get(&id(call, "id")) else {
        findings.add(
            property,
            format!("a call was shown that is not stored: {call}"),
        );
        return;
    };
    let parameters = serde_json::from_str::<Value>(&row.arguments).unwrap_or_default();
    let same = text(call, "tool_name") == row.tool
        && call["parameters"] == parameters
        && same_result(call, row);
    findings.require(same, property, || {
        format!("a call was shown as {call}; stored: {row:?}")
    });
}

/// Whether the result of a shown call agrees with the row.
pub fn same_result(shown: &Value, row: &CallRow) -> bool {
    let output = row
        .output
        .as_deref()
        .map(|output| serde_json::from_str::<Value>(output).unwrap_or_default());
    match (text(shown, "status"), row.outcome.as_deref()) {
        // The call may have ended since.
        ("running", _) => true,
        ("succeeded", Some("succeeded")) => shown.get("result") == output.as_ref(),
        ("unknown", Some("unknown")) => true,
        ("failed", Some(kind)) => {
            text(&shown["error"], "code") == kind
                && shown["error"]["message"].as_str() == row.error.as_deref()
        }
        _ => false,
    }
}

/// Checks that the API finally shows what the tables contain.
fn check_lists(
    shown_now: &Shown,
    evidence: &Evidence,
    log: &Log<'_>,
    calls: &HashMap<Uuid, &CallRow>,
    findings: &mut Findings,
) {
    let conversation = shown_now.conversation;
    shown_now
        .messages
        .iter()
        .for_each(|message| check_message(message, log, calls, Property::Unchanging, findings));
    let turns = log
        .conversations
        .get(&conversation)
        .map_or(&[][..], Vec::as_slice);
    let stored: Vec<Uuid> = turns.iter().map(|turn| turn.id).collect();
    let users = shown_now
        .messages
        .iter()
        .filter(|message| text(message, "role") == "user")
        .map(|message| id(message, "turn_id"));
    let users: Vec<Uuid> = users.collect();
    findings.require(users == stored, Property::Unchanging, || {
        format!("conversation {conversation} shows the turns {users:?}; stored: {stored:?}")
    });
    let mut recorded: Vec<&CallRow> = evidence
        .tables
        .calls
        .iter()
        .filter(|row| row.conversation == conversation)
        .collect();
    recorded.sort_by_key(|row| row.position);
    let recorded: Vec<Uuid> = recorded.iter().map(|row| row.id).collect();
    let audit: Vec<Uuid> = shown_now
        .tool_calls
        .iter()
        .map(|call| id(call, "id"))
        .collect();
    findings.require(audit == recorded, Property::Unchanging, || {
        format!("conversation {conversation} shows the calls {audit:?}; stored: {recorded:?}")
    });
    shown_now
        .tool_calls
        .iter()
        .for_each(|call| check_call(call, calls, Property::Unchanging, findings));
}

/// Checks that each owner is shown exactly their conversations.
fn check_visibility(shown: &[Shown], tables: &Tables, findings: &mut Findings) {
    let owners: HashMap<Uuid, &str> = tables
        .conversations
        .iter()
        .map(|row| (row.id, row.owner.as_str()))
        .collect();
    for conversation in shown {
        let owner = owners.get(&conversation.conversation).copied();
        findings.require(
            owner == Some(conversation.user.as_str()),
            Property::Isolation,
            || {
                format!(
                    "{} is shown conversation {} of {owner:?}",
                    conversation.user, conversation.conversation
                )
            },
        );
    }
    let seen: std::collections::HashSet<Uuid> = shown
        .iter()
        .map(|conversation| conversation.conversation)
        .collect();
    for row in tables
        .conversations
        .iter()
        .filter(|row| !seen.contains(&row.id))
    {
        findings.add(
            Property::Unchanging,
            format!("conversation {} is not shown to {}", row.id, row.owner),
        );
    }
}
