//! The number of starts and the running time of turns are bounded, even if the store rejects
//! writes.

use std::time::Duration;

use super::{Findings, Property};
use crate::agent::UNSTORABLE;
use crate::campaign::TURN_LIMIT;
use crate::evidence::{Evidence, Log, TurnRow};

/// How much longer than the turn's limit each attempt may last: the lease and the slowest store
/// call, with a reserve.
const SLACK: Duration = Duration::from_secs(15);

pub fn check(evidence: &Evidence, log: &Log<'_>, findings: &mut Findings) {
    for turn in &evidence.tables.turns {
        let TurnRow {
            id,
            epoch,
            attempt,
            failure,
            ..
        } = turn;
        let uncounted = u64::try_from(epoch - attempt).unwrap_or(u64::MAX);
        findings.require(uncounted <= evidence.hand_overs, Property::Bounded, || {
            format!(
                "turn {id} was started {epoch} times, of which {attempt} count; servers handed \
                over {} times",
                evidence.hand_overs,
            )
        });
        let attempts = u32::try_from(*attempt).unwrap_or(u32::MAX);
        let (ran, most) = (
            Duration::from_micros(u64::try_from(turn.ran_us).unwrap_or_default()),
            TURN_LIMIT + SLACK.saturating_mul(attempts),
        );
        findings.require(ran <= most, Property::Bounded, || {
            format!("turn {id} ran for {ran:?} in {attempt} attempts; the limit is {most:?}")
        });
        let is_planted = log
            .question(*id)
            .is_some_and(|question| question.contains(UNSTORABLE));
        findings.require(
            is_planted || failure.as_deref() != Some("internal"),
            Property::Mistakes,
            || {
                format!(
                    "turn {id} ended as `internal`, but the store had no reason to reject a write",
                )
            },
        );
    }
}
