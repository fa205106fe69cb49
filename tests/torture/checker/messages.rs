//! Sent messages are stored once and in order, and no others are stored.

use std::collections::{BTreeMap, HashMap, HashSet};

use uuid::Uuid;

use super::{Findings, Property, short};
use crate::evidence::{Evidence, Log};
use crate::history::{Message, Moment, Outcome};

pub fn check(evidence: &Evidence, log: &Log<'_>, findings: &mut Findings) {
    let stored_turns = stored_turns(log);
    let messages = merge_requests(&evidence.history.messages);
    let owners: HashMap<Uuid, &str> = evidence
        .tables
        .conversations
        .iter()
        .map(|row| (row.id, row.owner.as_str()))
        .collect();
    for lost in &evidence.history.lost {
        findings.add(Property::Kept, lost);
    }
    // The texts that each user sent under each key.
    let mut texts = HashMap::<_, HashSet<_>>::new();
    for message in &messages {
        let key = message.key.as_deref().unwrap_or_default();
        texts
            .entry((message.user.as_str(), key))
            .or_default()
            .insert((message.text.as_str(), message.retry_of));
    }
    for message in &messages {
        let others = message.key.as_ref().is_some_and(|key| {
            texts
                .get(&(message.user.as_str(), key.as_str()))
                .is_some_and(|texts| texts.len() > 1)
        });
        check_rejection(message, others, log, &owners, findings);
        check_acknowledgement(message, log, findings);
        check_count(message, &stored_turns, findings);
    }
    check_keys(&messages, findings);
    check_unsent(&messages, log, findings);
    check_order(&messages, log, findings);
}

/// Merges requests with the same message and key, which several callers may have sent at several
/// times.
fn merge_requests(messages: &[Message]) -> Vec<Message> {
    let mut merged: BTreeMap<_, Message> = BTreeMap::new();
    for message in messages {
        let Message {
            user,
            text,
            key,
            retry_of,
            ..
        } = message;
        merged
            .entry((user, text, key, retry_of))
            .and_modify(|known| known.attempts.extend(message.attempts.iter().cloned()))
            .or_insert_with(|| message.clone());
    }
    merged.into_values().collect()
}

/// Checks that all answers under one key name the same turn.
fn check_keys(messages: &[Message], findings: &mut Findings) {
    let mut named: BTreeMap<(&str, &str), HashSet<Uuid>> = BTreeMap::new();
    for message in messages {
        let Some(key) = &message.key else { continue };
        let turns = message
            .attempts
            .iter()
            .filter_map(|attempt| attempt.outcome.turn())
            .map(|(_, turn)| turn);
        named.entry((&message.user, key)).or_default().extend(turns);
    }
    for ((user, key), turns) in named.iter().filter(|(_, turns)| turns.len() > 1) {
        findings.add(
            Property::Idempotency,
            format!("the key {key} of {user} was answered with several turns: {turns:?}"),
        );
    }
}

/// Returns the turns of each text, with the turn that each retries.
fn stored_turns<'a>(log: &Log<'a>) -> HashMap<(&'a str, Option<Uuid>), Vec<Uuid>> {
    let mut stored_turns: HashMap<_, Vec<Uuid>> = HashMap::new();
    for turn in log.turns.values() {
        if let Some(text) = log.question(turn.id) {
            stored_turns
                .entry((text, turn.retry_of))
                .or_default()
                .push(turn.id);
        }
    }
    stored_turns
}

/// Checks that a message was rejected only for a permitted reason.
fn check_rejection(
    message: &Message,
    others: bool,
    log: &Log<'_>,
    owners: &HashMap<Uuid, &str>,
    findings: &mut Findings,
) {
    let owner = match (message.retry_of, message.conversation) {
        (Some(turn), _) => log.turns.get(&turn).map(|row| row.owner.as_str()),
        (None, Some(conversation)) => owners.get(&conversation).copied(),
        (None, None) => None,
    };
    let own = owner == Some(message.user.as_str());
    for attempt in &message.attempts {
        let Outcome::Refused { status, code } = &attempt.outcome else {
            continue;
        };
        let (property, rightly) = match (status, code.as_str()) {
            (404, "conversation_not_found") => (Property::Kept, !own && message.retry_of.is_none()),
            (404, "turn_not_found") => (Property::Kept, !own && message.retry_of.is_some()),
            (409, "conversation_busy") => (Property::Refused, message.rejects),
            (409, "turn_superseded") => (Property::Refused, message.retry_of.is_some()),
            (422, "idempotency_mismatch") => (Property::Idempotency, others),
            (422, "invalid_text") => (Property::Refused, message.text.contains('\0')),
            (422, "message_too_long") => (Property::Refused, message.text.chars().count() > 5_000),
            (429, "too_many_queued") => (Property::Refused, true),
            _ => (Property::Refused, false),
        };
        findings.require(rightly, property, || {
            let (sent, known) = (attempt.started, attempt.known);
            let place = message
                .retry_of
                .or(message.conversation)
                .map_or_else(|| "a new conversation".to_owned(), |id| id.to_string());
            let Message { user, text, .. } = message;
            format!(
                "{user} sent {} to {place} and got {status} {code} (from {sent:?} to {known:?})",
                short(text),
            )
        });
    }
}

/// Checks that each acknowledged turn is stored as requested.
fn check_acknowledgement(message: &Message, log: &Log<'_>, findings: &mut Findings) {
    for (conversation, turn) in message
        .attempts
        .iter()
        .filter_map(|attempt| attempt.outcome.turn())
    {
        let Some(row) = log.turns.get(&turn) else {
            findings.add(
                Property::Kept,
                format!(
                    "{} was acknowledged as turn {turn}, which is not stored",
                    short(&message.text)
                ),
            );
            continue;
        };
        let question = log.question(turn);
        let right = question == Some(message.text.as_str())
            && row.conversation == conversation
            && message
                .conversation
                .is_none_or(|wanted| wanted == conversation)
            && row.retry_of == message.retry_of;
        findings.require(right, Property::Kept, || {
            format!(
                "{} was acknowledged as turn {turn} of {conversation} (retry of {:?}); stored: {} \
                in {} (retry of {:?})",
                short(&message.text),
                message.retry_of,
                short(question.unwrap_or("nothing")),
                row.conversation,
                row.retry_of
            )
        });
    }
}

/// Checks how often a message is stored: at most as often as it was sent, once if it had a key, and
/// never if it was rejected.
fn check_count(
    message: &Message,
    stored_turns: &HashMap<(&str, Option<Uuid>), Vec<Uuid>>,
    findings: &mut Findings,
) {
    // Retries of one turn differ only by their keys, so several requests may have the same text.
    let turns = stored_turns
        .get(&(message.text.as_str(), message.retry_of))
        .map_or(&[][..], Vec::as_slice);
    if message.retry_of.is_some() {
        return;
    }
    let rejected = message
        .attempts
        .iter()
        .filter(|attempt| matches!(attempt.outcome, Outcome::Refused { .. }))
        .count();
    let most = message.attempts.len() - rejected;
    if message.key.is_some() && turns.len() > 1 {
        findings.add(
            Property::Idempotency,
            format!(
                "{} with a key is stored {} times: {turns:?}",
                short(&message.text),
                turns.len()
            ),
        );
    } else if most == 0 && !turns.is_empty() {
        findings.add(
            Property::Refused,
            format!(
                "{} was rejected, but is stored as {turns:?}",
                short(&message.text)
            ),
        );
    } else if turns.len() > most {
        let (times, sent) = (turns.len(), message.attempts.len());
        findings.add(
            Property::Kept,
            format!(
                "{} was sent {sent} times, rejected {rejected} times, and is stored {times} times",
                short(&message.text)
            ),
        );
    }
}

/// Checks that every stored message was sent by its user to its conversation.
fn check_unsent(messages: &[Message], log: &Log<'_>, findings: &mut Findings) {
    let mut sent: HashMap<(&str, &str, Option<Uuid>), Vec<&Message>> = HashMap::new();
    for message in messages {
        sent.entry((&message.user, &message.text, message.retry_of))
            .or_default()
            .push(message);
    }
    for turn in log.turns.values() {
        let Some(text) = log.question(turn.id) else {
            findings.add(Property::Kept, format!("turn {} has no message", turn.id));
            continue;
        };
        let requests = sent
            .get(&(turn.owner.as_str(), text, turn.retry_of))
            .map_or(&[][..], Vec::as_slice);
        let there = |message: &&Message| {
            message
                .conversation
                .is_none_or(|wanted| wanted == turn.conversation)
        };
        findings.require(requests.iter().any(there), Property::Unsent, || {
            format!(
                "turn {} of {} in {}: {} was not sent there",
                turn.id,
                turn.owner,
                turn.conversation,
                short(text)
            )
        });
        // A retry has the text of another turn, so all retries are counted together.
        let attempts: usize = requests
            .iter()
            .map(|outgoing| {
                if outgoing.key.is_some() {
                    1
                } else {
                    outgoing.attempts.len()
                }
            })
            .sum();
        let retries = |other: &&&crate::evidence::TurnRow| {
            other.retry_of.is_some() && other.retry_of == turn.retry_of
        };
        let times = log
            .turns
            .values()
            .collect::<Vec<_>>()
            .iter()
            .filter(|other| retries(other))
            .count();
        findings.require(
            turn.retry_of.is_none() || times <= attempts,
            Property::Idempotency,
            || {
                format!(
                    "turn {:?} was retried {attempts} times and has {times} retries",
                    turn.retry_of
                )
            },
        );
    }
}

/// Checks the order of messages: a message that was stored before another was sent precedes it.
fn check_order(messages: &[Message], log: &Log<'_>, findings: &mut Findings) {
    // For each turn: when it was first sent, and when it was first known to be stored.
    let mut times: BTreeMap<Uuid, HashMap<Uuid, (Moment, Moment)>> = BTreeMap::new();
    for message in messages {
        // With a key, any of the requests may have stored the message. Without a key, each request
        // is a separate message.
        let first = message
            .attempts
            .iter()
            .map(|attempt| attempt.started)
            .min()
            .filter(|_| message.key.is_some());
        for attempt in &message.attempts {
            let Some((conversation, turn)) = attempt.outcome.turn() else {
                continue;
            };
            let sent = first.unwrap_or(attempt.started);
            let entry = times
                .entry(conversation)
                .or_default()
                .entry(turn)
                .or_insert((sent, attempt.known));
            *entry = (entry.0.min(sent), entry.1.min(attempt.known));
        }
    }
    for turns in times.values() {
        let mut placed: Vec<_> = turns
            .iter()
            .filter_map(|(turn, times)| Some((log.turns.get(turn)?.ordinal, *turn, *times)))
            .collect();
        placed.sort_unstable_by_key(|(ordinal, ..)| *ordinal);
        // A later turn must not have been acknowledged before an earlier one was sent.
        let mut latest_sent = (Moment::ZERO, Uuid::nil());
        for (_, turn, (sent, known)) in placed {
            findings.require(known >= latest_sent.0, Property::Order, || {
                format!(
                    "turn {turn} was acknowledged at {known:?}, but turn {}, sent at {:?}, \
                    precedes it",
                    latest_sent.1, latest_sent.0,
                )
            });
            latest_sent = latest_sent.max((sent, turn));
        }
    }
}
