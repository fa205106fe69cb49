//! Turns start as often and run as long as they may, whatever the store refuses.

use std::time::Duration;

use super::{Findings, Property};
use crate::agent::UNSTORABLE;
use crate::campaign::TURN_LIMIT;
use crate::evidence::{Evidence, Log, TurnRow};

/// How much longer than the turn's limit each of its attempts may last: the lease and the slowest
/// call of the store, with a reserve.
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
            format!("turn {id} was started {epoch} times and {attempt} count, but servers handed over {} times", evidence.hand_overs)
        });
        let attempts = u32::try_from(*attempt).unwrap_or(u32::MAX);
        let (ran, most) = (
            Duration::from_micros(u64::try_from(turn.ran_us).unwrap_or_default()),
            TURN_LIMIT + SLACK.saturating_mul(attempts),
        );
        findings.require(ran <= most, Property::Bounded, || {
            format!("turn {id} ran for {ran:?} in {attempt} attempts; {most:?} are allowed")
        });
        let is_planted = log
            .asked(*id)
            .is_some_and(|asked| asked.contains(UNSTORABLE));
        findings.require(
            is_planted || failure.as_deref() != Some("internal"),
            Property::Mistakes,
            || format!("turn {id} ended as `internal`, and the store was to refuse nothing of it"),
        );
    }
}
