//! Every request was answered correctly.

use serde_json::Value;

use super::answers::text;
use super::{Findings, Property, short, user_of};
use crate::evidence::{Evidence, Log};
use crate::history::{Intrusion, Outcome};

pub fn check(evidence: &Evidence, log: &Log<'_>, findings: &mut Findings) {
    let history = &evidence.history;
    history
        .unanswered
        .iter()
        .for_each(|what| findings.add(Property::Answered, what));
    history
        .mistakes
        .iter()
        .chain(&evidence.servers)
        .for_each(|what| findings.add(Property::Mistakes, what));
    for cancel in &history.cancels {
        let Some(turn) = log.turns.get(&cancel.turn) else {
            findings.add(
                Property::Cancels,
                format!(
                    "{} cancelled turn {}, which is not stored",
                    cancel.user, cancel.turn
                ),
            );
            continue;
        };
        let kept = match cancel.observed.as_str() {
            "queued" => turn.status == "cancelled" && turn.cancel_requested == 1,
            "running" => !turn.is_open() && turn.cancel_requested == 1,
            ended => turn.status == ended,
        };
        findings.require(kept, Property::Cancels, || {
            format!(
                "turn {} was {} when its cancellation was acknowledged; it is {} (cancel \
                requested: {})",
                turn.id, cancel.observed, turn.status, turn.cancel_requested
            )
        });
    }
    history
        .intrusions
        .iter()
        .for_each(|intrusion| check_intrusion(intrusion, findings));
    check_visible_texts(evidence, findings);
}

/// Checks that another user's data looks like data that does not exist.
fn check_intrusion(intrusion: &Intrusion, findings: &mut Findings) {
    let body: Value = serde_json::from_str(&intrusion.body).unwrap_or_default();
    let unknown = matches!(
        (intrusion.status, text(&body, "code")),
        (404, "conversation_not_found" | "turn_not_found") | (403, "wrong_user")
    );
    findings.require(unknown, Property::Isolation, || {
        let Intrusion {
            user,
            request,
            status,
            body,
        } = intrusion;
        format!(
            "{user} requested {request} and got {status} {}",
            short(body)
        )
    });
}

/// Checks that users see only their own texts.
fn check_visible_texts(evidence: &Evidence, findings: &mut Findings) {
    let mut see = |user: &str, content: &str, where_: &str| {
        let owner = user_of(content);
        findings.require(
            content.is_empty() || owner == Some(user),
            Property::Isolation,
            || format!("{user} was shown {} in {where_}", short(content)),
        );
    };
    let history = &evidence.history;
    for message in &history.messages {
        for attempt in &message.attempts {
            if let Outcome::Replied(reply) = &attempt.outcome {
                see(&message.user, &reply.response, "a reply");
                reply
                    .messages
                    .iter()
                    .for_each(|shown| see(&message.user, text(shown, "content"), "a reply"));
            }
        }
    }
    for read in &history.reads {
        read.messages
            .iter()
            .for_each(|shown| see(&read.user, text(shown, "content"), "a page"));
    }
    for shown in &evidence.shown {
        shown
            .messages
            .iter()
            .for_each(|message| see(&shown.user, text(message, "content"), "a page"));
    }
    for watch in &history.watches {
        for frame in watch
            .connections
            .iter()
            .flatten()
            .filter(|frame| frame.name == "message")
        {
            let data: Value = serde_json::from_str(&frame.data).unwrap_or_default();
            see(&watch.user, text(&data, "content"), "a stream");
        }
    }
}
