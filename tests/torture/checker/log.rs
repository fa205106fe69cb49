//! The log is dense, turns follow one another, all turns have ended, and all rows of a conversation
//! have one owner.

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
            is_dense(&ordinals, conversation.last_ordinal),
            Property::Dense,
            || {
                format!(
                    "conversation {} has the ordinals {ordinals:?}; its last ordinal is {}",
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
            is_dense(&positions, conversation.last_position),
            Property::Dense,
            || {
                format!(
                    "conversation {} has the positions {positions:?}; its last position is {}",
                    conversation.id, conversation.last_position
                )
            },
        );
        for turn in turns {
            check_turn(turn, &conversation.owner, log, findings);
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
                    "in {} turn {} ends at {end:?}, and the next turn {} starts at {start:?}",
                    conversation.id, one.id, next.id
                )
            });
        }
    }
}

/// Whether the numbers are 1, 2, 3 and so on up to `last`.
fn is_dense(numbers: &[i64], last: i64) -> bool {
    (1..=last).eq(numbers.iter().copied())
}

fn check_turn(turn: &TurnRow, owner: &str, log: &Log<'_>, findings: &mut Findings) {
    findings.require(!turn.is_open(), Property::Ends, || {
        format!(
            "turn {} of {} is finally {}",
            turn.id, turn.owner, turn.status
        )
    });
    findings.require(turn.owner == owner, Property::Isolation, || {
        format!(
            "turn {} of {} is in a conversation of {owner}",
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
            format!("turn {} has {item:?} at index {place}", turn.id)
        });
    }
}
