//! The log itself: dense, turn after turn, all turns ended, all rows of one owner.

use super::{Findings, Property, user_of};
use crate::evidence::{Evidence, Item, Log, TurnRow};

pub fn check(evidence: &Evidence, log: &Log<'_>, findings: &mut Findings) {
    for conversation in &evidence.tables.conversations {
        let turns = log
            .conversations
            .get(&conversation.id)
            .map_or(&[][..], Vec::as_slice);
        let ordinals: Vec<i64> = turns.iter().map(|turn| turn.ordinal).collect();
        findings.require(
            dense(&ordinals, conversation.last_ordinal),
            Property::Dense,
            || {
                format!(
                    "conversation {} has the ordinals {ordinals:?}, the last {}",
                    conversation.id, conversation.last_ordinal
                )
            },
        );
        let mut positions: Vec<i64> = turns
            .iter()
            .flat_map(|turn| log.items(turn.id))
            .map(Item::position)
            .filter(|at| *at > 0)
            .collect();
        positions.sort_unstable();
        findings.require(
            dense(&positions, conversation.last_position),
            Property::Dense,
            || {
                format!(
                    "conversation {} has the positions {positions:?}, the last {}",
                    conversation.id, conversation.last_position
                )
            },
        );
        for turn in turns {
            whole(turn, &conversation.owner, log, findings);
        }
        for pair in turns.windows(2) {
            let [one, next] = pair else { continue };
            let end = log.items(one.id).iter().map(Item::position).max();
            let start = log
                .items(next.id)
                .iter()
                .map(Item::position)
                .filter(|at| *at > 0)
                .min();
            findings.require(start.is_none() || end < start, Property::OneAtATime, || {
                format!(
                    "in {} turn {} goes up to {end:?} and turn {}, the next, begins at {start:?}",
                    conversation.id, one.id, next.id
                )
            });
        }
    }
}

/// Whether these are 1, 2, 3 and so on up to the last.
fn dense(numbers: &[i64], last: i64) -> bool {
    (1..=last).eq(numbers.iter().copied())
}

fn whole(turn: &TurnRow, owner: &str, log: &Log<'_>, findings: &mut Findings) {
    findings.require(!turn.is_open(), Property::Ends, || {
        format!(
            "turn {} of {} is {} in the end",
            turn.id, turn.owner, turn.status
        )
    });
    findings.require(turn.owner == owner, Property::Isolation, || {
        format!(
            "turn {} is {}'s in a conversation of {owner}",
            turn.id, turn.owner
        )
    });
    for (place, item) in log.items(turn.id).iter().enumerate() {
        let (conversation, user, is_question) = match item {
            Item::Message(row) => (row.conversation, user_of(&row.text), row.role == "user"),
            Item::Call(row) | Item::Result(row) => (row.conversation, None, false),
        };
        findings.require(
            conversation == turn.conversation && user.is_none_or(|user| user == owner),
            Property::Isolation,
            || format!("turn {} of {owner} holds {item:?}", turn.id),
        );
        findings.require(is_question == (place == 0), Property::OneAtATime, || {
            format!("turn {} holds {item:?} at place {place}", turn.id)
        });
    }
}
