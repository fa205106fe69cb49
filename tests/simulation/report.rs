//! The printed report: counts, and the story of each world that failed.

use std::fmt;
use std::time::Duration;

use crate::invariants::Violation;
use crate::plan::Plan;
use crate::world;

/// How many lines of a story are shown.
const PAGE: usize = 60;

/// Lines that say little: what happens all the time.
const DULL: &[&str] = &[
    ": Versions",
    ": Heartbeat ",
    ": Claim ",
    ": Turn ",
    ": Turn",
];

/// The worlds that were run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Total {
    pub seeds: u64,
    pub turns: u64,
    pub failed: u64,
    pub calls: u64,
    pub lived: Duration,
}

impl Total {
    /// Counts a world.
    pub fn add(&mut self, report: &world::Report) {
        self.seeds += 1;
        self.turns += report.turns;
        self.calls += report.calls;
        self.lived += report.lived;
        self.failed += u64::from(report.violation.is_some());
    }

    /// Adds what was run elsewhere.
    pub fn merge(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.turns += other.turns;
        self.calls += other.calls;
        self.lived += other.lived;
        self.failed += other.failed;
    }

    /// The line that ends a run that took this long.
    pub fn line(&self, took: Duration) -> String {
        let seconds = u32::try_from(took.as_millis().max(1)).unwrap_or(u32::MAX);
        let turns = u32::try_from(self.turns).unwrap_or(u32::MAX);
        let rate = f64::from(turns) / f64::from(seconds) * 1_000.0;
        format!(
            "{} seeds, {} failed; {} turns, {rate:.0} turns/s; {} calls of the store; \
             {:.1} days lived through in {:.0} s",
            self.seeds,
            self.failed,
            self.turns,
            self.calls,
            self.lived.as_secs_f64() / 86_400.0,
            took.as_secs_f64()
        )
    }
}

/// The story of a world that failed, at most a page.
pub struct Story<'a> {
    pub plan: &'a Plan,
    pub violation: &'a Violation,
    pub trace: &'a str,
}

impl fmt::Display for Story<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.plan)?;
        let is_dull = |line: &&str| DULL.iter().any(|dull| line.ends_with(dull));
        let lines: Vec<&str> = self.trace.lines().filter(|line| !is_dull(line)).collect();
        let left_out = lines.len().saturating_sub(PAGE);
        if left_out > 0 {
            writeln!(f, "  … {left_out} lines left out")?;
        }
        for line in lines.iter().skip(left_out) {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "{}: {}", self.violation.property, self.violation.text)
    }
}
