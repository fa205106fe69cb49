//! Tool runs agree with the requested calls and the stored results.

use std::collections::HashMap;

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Findings, Property};
use crate::evidence::{CallRow, Evidence, Log, Run};

/// The tool that is declared as repeatable.
const REPEATABLE: &str = "look";

pub fn check(evidence: &Evidence, log: &Log<'_>, findings: &mut Findings) {
    let calls: HashMap<Uuid, &CallRow> = evidence
        .tables
        .calls
        .iter()
        .map(|row| (row.id, row))
        .collect();
    let mut runs: HashMap<Uuid, Vec<&Run>> = HashMap::new();
    for run in &evidence.runs {
        runs.entry(run.call).or_default().push(run);
    }
    for (call, runs) in &runs {
        let Some(row) = calls.get(call) else {
            findings.add(
                Property::WriteBeforeRun,
                format!("the call {call} ran but is not stored: {runs:?}"),
            );
            continue;
        };
        let Some(turn) = log.turns.get(&row.turn) else {
            continue;
        };
        findings.require(
            runs.iter().all(|run| run.tool == row.tool),
            Property::ToolResults,
            || format!("{row:?} ran as {runs:?}"),
        );
        findings.require(
            runs.iter().all(|run| run.user == turn.owner),
            Property::Isolation,
            || format!("the call {call} of {} ran as {runs:?}", turn.owner),
        );
        let most = if row.tool == REPEATABLE {
            usize::try_from(turn.epoch).unwrap_or_default()
        } else {
            1
        };
        findings.require(runs.len() <= most, Property::ToolsOnce, || {
            format!(
                "the call {call} of `{}` ran {} times; the limit is {most} (turn {})",
                row.tool,
                runs.len(),
                row.turn
            )
        });
    }
    for row in &evidence.tables.calls {
        let runs = runs.get(&row.id).map_or(&[][..], Vec::as_slice);
        findings.require(can_explain(row, runs), Property::ToolResults, || {
            format!("{row:?} has the runs {runs:?}")
        });
    }
}

/// Whether the runs can have produced the call's result.
fn can_explain(row: &CallRow, runs: &[&Run]) -> bool {
    match row.outcome.as_deref() {
        None => false,
        Some("succeeded") => {
            let expected = json!({ "call": row.id, "done": row.tool });
            let output: Option<Value> = row
                .output
                .as_deref()
                .and_then(|output| serde_json::from_str(output).ok());
            runs.iter().any(|run| run.ended) && output == Some(expected)
        }
        Some("not_run" | "unknown_tool" | "invalid_arguments") => runs.is_empty(),
        Some("failed") => runs.iter().any(|run| run.ended || row.tool == "fail"),
        Some(_) => true,
    }
}
