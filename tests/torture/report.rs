//! The tables of a campaign's actions and findings.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;

use crate::checker::{Property, Violation};
use crate::history::Outcome;

/// How many violations of one property are shown in full.
const MAX_SHOWN: usize = 3;

/// The most important fault.
pub const KILL: &str = "server killed (-9)";

/// The fault after which a server hands its turns over.
pub const TERMINATE: &str = "server asked to stop (TERM)";

/// Counts actions.
#[derive(Default)]
pub struct Tally(Mutex<Counts>);

#[derive(Clone, Default)]
struct Counts {
    /// By kind, then by outcome.
    requests: BTreeMap<&'static str, BTreeMap<String, u64>>,
    faults: BTreeMap<&'static str, u64>,
    other: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub fn request(&self, kind: &'static str, outcome: &Outcome) {
        let outcome = match outcome {
            Outcome::Replied(reply) => format!("answered: {}", reply.status),
            Outcome::Started { code: None, .. } => "begun".to_owned(),
            Outcome::Started {
                code: Some(code), ..
            } => format!("failed: {code}"),
            Outcome::Refused { code, .. } => format!("refused: {code}"),
            Outcome::Unknown { why } if why.starts_with("50") => {
                format!("unknown: {}", why.get(..3).unwrap_or_default())
            }
            Outcome::Unknown { .. } => "unknown: connection lost".to_owned(),
        };
        *self
            .0
            .lock()
            .unwrap()
            .requests
            .entry(kind)
            .or_default()
            .entry(outcome)
            .or_default() += 1;
    }

    pub fn answer(&self, kind: &'static str, status: Option<u16>) {
        let outcome =
            status.map_or_else(|| "connection lost".to_owned(), |status| status.to_string());
        *self
            .0
            .lock()
            .unwrap()
            .requests
            .entry(kind)
            .or_default()
            .entry(outcome)
            .or_default() += 1;
    }

    pub fn fault(&self, kind: &'static str) {
        *self.0.lock().unwrap().faults.entry(kind).or_default() += 1;
    }

    /// Returns how often a fault was injected.
    pub fn faults_of(&self, what: &'static str) -> u64 {
        self.0
            .lock()
            .unwrap()
            .faults
            .get(what)
            .copied()
            .unwrap_or_default()
    }

    pub fn count(&self, what: &'static str) {
        self.add(what, 1);
    }

    pub fn add(&self, what: &'static str, number: u64) {
        *self.0.lock().unwrap().other.entry(what).or_default() += number;
    }

    /// Whether enough was done for a meaningful result.
    pub fn is_meaningful(&self) -> bool {
        let counts = self.0.lock().unwrap();
        let answered = counts
            .requests
            .values()
            .flatten()
            .filter(|(outcome, _)| outcome.starts_with("answered") || *outcome == "begun");
        answered.map(|(_, count)| count).sum::<u64>() >= 20
            && counts.faults.get(KILL).is_some_and(|kills| *kills > 0)
    }

    /// Returns the table of actions.
    pub fn table(&self) -> String {
        let counts = self.0.lock().unwrap().clone();
        let mut table = String::new();
        let mut section = |title: &str, rows: Vec<(String, u64)>| {
            let total: u64 = rows.iter().map(|(_, count)| count).sum();
            let _ = writeln!(table, "\n{title:<58} {total:>8}");
            for (name, count) in rows {
                let _ = writeln!(table, "  {name:<56} {count:>8}");
            }
        };
        for (kind, outcomes) in counts.requests {
            section(&format!("requests: {kind}"), outcomes.into_iter().collect());
        }
        section(
            "faults",
            counts
                .faults
                .into_iter()
                .map(|(name, count)| (name.to_owned(), count))
                .collect(),
        );
        for (name, count) in counts.other {
            let _ = writeln!(table, "\n{name:<58} {count:>8}");
        }
        table.replace("\n\n", "\n")
    }
}

/// Returns the table of findings.
pub fn found(violations: &[Violation]) -> String {
    let mut table = String::new();
    for property in Property::ALL {
        let of: Vec<&Violation> = violations
            .iter()
            .filter(|violation| violation.property == *property)
            .collect();
        let verdict = if of.is_empty() {
            "holds".to_owned()
        } else {
            format!("VIOLATED {} times", of.len())
        };
        let _ = writeln!(
            table,
            "  {:<18} {verdict:<20} {}",
            property.code(),
            property.sentence()
        );
        for violation in of.iter().take(MAX_SHOWN) {
            let _ = writeln!(table, "    - {}", violation.evidence);
        }
    }
    table
}
