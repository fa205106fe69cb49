//! Faults that are planted into a copy of the domain, to show that the simulator notices them: each
//! is a small change of the real code, switched on by its name at run time.

use std::path::Path;

use crate::steps::Failed;

/// A change of one place.
struct Edit {
    /// The fault that it belongs to.
    fault: &'static str,
    /// The file, in `crates/chat-domain/src`.
    file: &'static str,
    /// The code, which is there exactly once.
    find: &'static str,
    /// The code in its place. `PLANTED` is the switch.
    plant: &'static str,
}

/// Each fault, and in what it consists.
pub const FAULTS: &[(&str, &str)] = &[
    ("epoch", "writes of an old epoch are taken"),
    (
        "write-before-run",
        "tools run before their calls are stored",
    ),
    (
        "endless-refusal",
        "a turn that the store refuses is released, and no attempt is counted",
    ),
    (
        "released-refusal",
        "a turn that the store refuses is released",
    ),
    (
        "attempt-not-counted",
        "a claim does not count as an attempt",
    ),
    (
        "attempts-without-limit",
        "a turn is run however often it was broken off",
    ),
    (
        "time-of-each-attempt",
        "the time limit is of each attempt, not of the turn",
    ),
    (
        "lost-wake-up",
        "readers at the running worker are not woken",
    ),
    (
        "lost-remote-wake-up",
        "a change before the first look counts as no change",
    ),
    (
        "cursor-off-by-one",
        "the item at the cursor is delivered again",
    ),
    (
        "store-cursor-off-by-one",
        "the store leaves out the item after the cursor",
    ),
    (
        "lease-from-answer",
        "a lease counts from the answer to a heartbeat, not from its sending",
    ),
    ("unsafe-send", "calls are sent whatever the lease"),
    (
        "draft-outlives",
        "a draft stays when its message is an item",
    ),
    (
        "repeats-all-tools",
        "a call of an earlier attempt is repeated, whatever the tool",
    ),
    ("sent-is-not-run", "a call that was sent ends as not run"),
    (
        "certain-begin",
        "a lost answer of a beginning does not make ownership uncertain",
    ),
    (
        "certain-claim",
        "a lost answer of a claim does not make ownership uncertain",
    ),
    (
        "certain-release",
        "a released turn does not make ownership uncertain",
    ),
    ("key-not-looked-up", "idempotency keys are not looked up"),
    (
        "fingerprint-ignored",
        "another request under a used key counts as a repetition",
    ),
    ("last-in-first-out", "the last queued turn starts first"),
    ("queue-stops", "the end of a turn starts no other"),
    (
        "forced-end-stops-queue",
        "a forced end starts no other turn",
    ),
    (
        "interrupt-forgotten",
        "a message that interrupts cancels nothing",
    ),
    ("reject-ignored", "a message that must not wait waits"),
    (
        "queue-without-limit",
        "the limit of the queue is not checked",
    ),
    ("retry-supersedes-nothing", "a retry takes no turn's place"),
    (
        "reads-the-future",
        "a turn reads the turns that were queued behind it",
    ),
    ("reads-superseded", "the agent is sent superseded turns"),
    ("gap", "a queued message leaves a position out"),
    ("result-stored-twice", "a repeated result is stored again"),
    ("hand-over-counts", "a hand-over counts as an attempt"),
    ("claims-the-living", "turns of living workers are claimed"),
    (
        "claims-when-expired",
        "a worker whose lease has expired claims turns of others",
    ),
    (
        "announced-too-early",
        "readers get the end before it is stored",
    ),
    (
        "cancel-not-heard",
        "a worker does not hear of cancellations at other workers",
    ),
    ("owner-not-checked", "anybody may write to a conversation"),
    ("watched-by-anybody", "anybody may watch a running turn"),
    ("steps-without-limit", "a turn takes any number of steps"),
    ("nul-kept", "U+0000 in an answer is kept"),
    (
        "behind-its-reader",
        "a running worker that is behind a reader's cursor answers",
    ),
    (
        "not-reread",
        "a turn is not read again when a write is refused",
    ),
    (
        "no-results-at-the-end",
        "a turn ends without results for its calls",
    ),
    (
        "dropped-begin",
        "a request that is dropped does not make ownership uncertain",
    ),
];

const EDITS: &[Edit] = &[
    Edit {
        fault: "epoch",
        file: "log/rows.rs",
        find: "is_current || !crate::guards::CHECKS_EPOCH",
        plant: "is_current || !crate::guards::CHECKS_EPOCH || PLANTED",
    },
    Edit {
        fault: "write-before-run",
        file: "turns/runner/step.rs",
        find: "if !guards::STORES_CALLS_FIRST {",
        plant: "if !guards::STORES_CALLS_FIRST || PLANTED {",
    },
    Edit {
        fault: "endless-refusal",
        file: "turns/runner/persist.rs",
        find: "if guards::ENDS_REFUSED_TURNS {",
        plant: "if guards::ENDS_REFUSED_TURNS && !PLANTED {",
    },
    Edit {
        fault: "released-refusal",
        file: "turns/runner/persist.rs",
        find: "if guards::ENDS_REFUSED_TURNS &&",
        plant: "if guards::ENDS_REFUSED_TURNS && !PLANTED &&",
    },
    Edit {
        fault: "endless-refusal",
        file: "log/document.rs",
        find: "(row.epoch + 1, row.attempt + 1)",
        plant: "(row.epoch + 1, row.attempt + u32::from(!PLANTED))",
    },
    Edit {
        fault: "attempt-not-counted",
        file: "log/document.rs",
        find: "(row.epoch + 1, row.attempt + u32::from(",
        plant: "(row.epoch + 1, row.attempt + u32::from(!PLANTED && ",
    },
    Edit {
        fault: "attempts-without-limit",
        file: "turns/runner.rs",
        find: "if self.held.attempt > self.config.limits.attempts {",
        plant: "if self.held.attempt > self.config.limits.attempts && !PLANTED {",
    },
    Edit {
        fault: "time-of-each-attempt",
        file: "turns/runner.rs",
        find: "config.limits.turn.saturating_sub(held.spent)",
        plant: "config.limits.turn.saturating_sub(held.spent * u32::from(!PLANTED))",
    },
    Edit {
        fault: "lost-wake-up",
        file: "turns/registry.rs",
        find: "change(&mut running.view);\n                true",
        plant: "change(&mut running.view);\n                !PLANTED",
    },
    Edit {
        fault: "lost-remote-wake-up",
        file: "turns/remote.rs",
        find: "known.get(*turn) != Some(*version)",
        plant: "known.get(*turn) != Some(*version) && !(PLANTED && !known.contains_key(*turn))",
    },
    Edit {
        fault: "cursor-off-by-one",
        file: "view.rs",
        find: ".partition_point(|item| item.position <= cursor.position)",
        plant: ".partition_point(|item| item.position < cursor.position
            || (item.position == cursor.position && !PLANTED))",
    },
    Edit {
        fault: "store-cursor-off-by-one",
        file: "log/document.rs",
        find: ".filter(|item| item.is_unplaced() || item.position > after)",
        plant: "
                .filter(|item| {
                    item.is_unplaced() || item.position.0 > after.0 + u64::from(PLANTED)
                })",
    },
    Edit {
        fault: "lease-from-answer",
        file: "turns/lease.rs",
        find: "self.safe_until.send_replace(sent + safe_time(config));\n                registry",
        plant: "let from = if PLANTED { Instant::now() } else { sent };
                self.safe_until.send_replace(from + safe_time(config));\n                registry",
    },
    Edit {
        fault: "unsafe-send",
        file: "turns/runner/tool_batch.rs",
        find: "() = worker.wait_until_safe(), if sends => None,",
        plant: "() = async { if !PLANTED { worker.wait_until_safe().await } }, if sends => None,",
    },
    Edit {
        fault: "draft-outlives",
        file: "log/append.rs",
        find: "self.change_turn(append.lease.turn)?.has_draft = false;",
        plant: "self.change_turn(append.lease.turn)?.has_draft &= PLANTED;",
    },
    Edit {
        fault: "repeats-all-tools",
        file: "turns/runner/tool_batch.rs",
        find: "call.executor == ToolExecutor::Server && self.is_repeatable(call);",
        plant: "call.executor == ToolExecutor::Server && (PLANTED || self.is_repeatable(call));",
    },
    Edit {
        fault: "sent-is-not-run",
        file: "turns/runner/tool_batch.rs",
        find: "*state == CallState::Sent || !self.own_calls",
        plant: "(*state == CallState::Sent && !PLANTED) || !self.own_calls",
    },
    Edit {
        fault: "certain-begin",
        file: "service.rs",
        find: "if !matches!(\n            begun,",
        plant: "if PLANTED || !matches!(\n            begun,",
    },
    Edit {
        fault: "certain-claim",
        file: "turns/lease.rs",
        find: "registry.mark_uncertain();\n                observe_failure",
        plant: "if !PLANTED { registry.mark_uncertain(); }\n                observe_failure",
    },
    Edit {
        fault: "certain-release",
        file: "turns/registry.rs",
        find: "self.registry.mark_uncertain();\n                if",
        plant: "if !PLANTED { self.registry.mark_uncertain(); }\n                if",
    },
    Edit {
        fault: "key-not-looked-up",
        file: "log/begin.rs",
        find: "let Some(key) = &begin.idempotency else {",
        plant: "let Some(key) = begin.idempotency.as_ref().filter(|_| !PLANTED) else {",
    },
    Edit {
        fault: "fingerprint-ignored",
        file: "log/begin.rs",
        find: "Some(row) if row.idempotency.as_ref() != Some(key)",
        plant: "Some(row) if row.idempotency.as_ref() != Some(key) && !PLANTED",
    },
    Edit {
        fault: "last-in-first-out",
        file: "log/end.rs",
        find: "self.open_turns(conversation).next()",
        plant: "(if PLANTED {
                self.open_turns(conversation).last()
            } else {
                self.open_turns(conversation).next()
            })",
    },
    Edit {
        fault: "queue-stops",
        file: "log/end.rs",
        find: "        loop {\n            let Some(next)",
        plant: "        loop {
            if PLANTED { return Ok(None); }
            let Some(next)",
    },
    Edit {
        fault: "forced-end-stops-queue",
        file: "log/document.rs",
        find: "        self.start_next_unheld();",
        plant: "        if !PLANTED { self.start_next_unheld(); }",
    },
    Edit {
        fault: "interrupt-forgotten",
        file: "log/begin.rs",
        find: "if begin.busy == BusyPolicy::Interrupt {",
        plant: "if begin.busy == BusyPolicy::Interrupt && !PLANTED {",
    },
    Edit {
        fault: "reject-ignored",
        file: "log/begin.rs",
        find: "if begin.busy == BusyPolicy::Reject {",
        plant: "if begin.busy == BusyPolicy::Reject && !PLANTED {",
    },
    Edit {
        fault: "queue-without-limit",
        file: "log/begin.rs",
        find: "unwrap_or(usize::MAX) {",
        plant: "unwrap_or(usize::MAX) && !PLANTED {",
    },
    Edit {
        fault: "retry-supersedes-nothing",
        file: "log/ledger.rs",
        find: "if let Some(retried) = row.retried {",
        plant: "if let Some(retried) = row.retried.filter(|_| !PLANTED) {",
    },
    Edit {
        fault: "reads-the-future",
        file: "turns/runner/persist.rs",
        find: "before: Some(held.turn.ordinal),",
        plant: "before: Some(crate::Ordinal(held.turn.ordinal.0 + 2 * u64::from(PLANTED))),",
    },
    Edit {
        fault: "reads-superseded",
        file: "turns/runner/persist.rs",
        find: "        let page = TurnPage {\n",
        plant: "        let page = TurnPage {\n            includes_superseded: PLANTED,\n",
    },
    Edit {
        fault: "reads-superseded",
        file: "turns/transcript/window.rs",
        find: "filter(|log| !log.turn.superseded)",
        plant: "filter(|log| !log.turn.superseded || PLANTED)",
    },
    Edit {
        fault: "gap",
        file: "log/ledger.rs",
        find: "let position = self.next_position(conversation)?;",
        plant: "if PLANTED && !self.messages.values().any(|m| m.is_new) {
            self.next_position(conversation)?;
        }
        let position = self.next_position(conversation)?;",
    },
    Edit {
        fault: "result-stored-twice",
        file: "log/ledger.rs",
        find: "self.calls.get(&result.call)?.result.as_ref()",
        plant: "self.calls.get(&result.call)?.result.as_ref().filter(|_| !PLANTED)",
    },
    Edit {
        fault: "hand-over-counts",
        file: "log/document.rs",
        find: "u32::from(handed_over.contains(&entry.row.turn.id))",
        plant: "u32::from(handed_over.contains(&entry.row.turn.id) && !PLANTED)",
    },
    Edit {
        fault: "claims-the-living",
        file: "log/document.rs",
        find: "Some(holder) => may_take && !is_alive(holder),",
        plant: "Some(holder) => may_take && (PLANTED || !is_alive(holder)),",
    },
    Edit {
        fault: "claims-when-expired",
        file: "log/document.rs",
        find: "let may_take = is_alive(claim.worker);",
        plant: "let may_take = PLANTED || is_alive(claim.worker);",
    },
    Edit {
        fault: "announced-too-early",
        file: "turns/runner/persist.rs",
        find: "let ended = self.retry(\"end the turn\"",
        plant: "if PLANTED {
            let (at, outcome) = (end.at, end.outcome.clone());
            self.run.update(|view| view.turn.status = crate::TurnStatus::Ended { at, outcome });
        }
        let ended = self.retry(\"end the turn\"",
    },
    Edit {
        fault: "cancel-not-heard",
        file: "turns/lease.rs",
        find: "cancelled.for_each(|turn| registry.cancel(turn));",
        plant: "cancelled.for_each(|turn| if !PLANTED { registry.cancel(turn) });",
    },
    Edit {
        fault: "owner-not-checked",
        file: "log/begin.rs",
        find: "if owner != Some(&begin.owner) {",
        plant: "if owner != Some(&begin.owner) && !(PLANTED && owner.is_some()) {",
    },
    Edit {
        fault: "watched-by-anybody",
        file: "service.rs",
        find: "running.owner == *owner",
        plant: "running.owner == *owner || PLANTED",
    },
    Edit {
        fault: "steps-without-limit",
        file: "turns/plan.rs",
        find: "} else if steps >= max_steps {",
        plant: "} else if steps >= max_steps && !PLANTED {",
    },
    Edit {
        fault: "nul-kept",
        file: "turns/runner/step.rs",
        find: "let delta = without_nul(delta);",
        plant: "let delta = if PLANTED { delta } else { without_nul(delta) };",
    },
    Edit {
        fault: "behind-its-reader",
        file: "view.rs",
        find: "cursor.position > last.unwrap_or_default()",
        plant: "!PLANTED && cursor.position > last.unwrap_or_default()",
    },
    Edit {
        fault: "not-reread",
        file: "turns/runner/persist.rs",
        find: "let Some(stored) = self.read_turn().await? else {",
        plant: "if PLANTED { return Ok(true); }
        let Some(stored) = self.read_turn().await? else {",
    },
    Edit {
        fault: "no-results-at-the-end",
        file: "turns/runner/persist.rs",
        find: "last.extend(self.unfinished_calls_as_unknown());",
        plant: "last.extend(self.unfinished_calls_as_unknown().into_iter().filter(|_| !PLANTED));",
    },
    Edit {
        fault: "dropped-begin",
        file: "turns/lease.rs",
        find: "if let Some(registry) = self.0 {",
        plant: "if let Some(registry) = self.0.filter(|_| !PLANTED) {",
    },
];

/// The module that the copy gets: which fault is switched on.
const SWITCH: &str = r#"//! Which planted fault is switched on.
use std::sync::OnceLock;

static FAULT: OnceLock<String> = OnceLock::new();

/// Switches a fault on, for the whole process.
pub fn plant(fault: String) {
    let _ = FAULT.set(fault);
}

pub(crate) fn is(fault: &str) -> bool {
    FAULT.get().is_some_and(|planted| planted == fault)
}
"#;

/// Plants all faults into a copy of the domain's sources.
pub fn plant(sources: &Path) -> Result<(), Failed> {
    for edit in EDITS {
        let path = sources.join(edit.file);
        let text = read(&path)?;
        write(&path, &planted(&text, edit)?)?;
    }
    let library = sources.join("lib.rs");
    let text = read(&library)? + "\n#[allow(missing_docs)]\npub mod planted;\n";
    write(&library, &text)?;
    write(&sources.join("planted.rs"), SWITCH)
}

/// The text with one fault planted.
fn planted(text: &str, edit: &Edit) -> Result<String, Failed> {
    let count = text.matches(edit.find).count();
    if count != 1 {
        return Err(Failed(format!(
            "planted fault {}: `{}` is {count} times in {}, not once: mend xtask/src/planted.rs",
            edit.fault, edit.find, edit.file
        )));
    }
    let switch = format!("crate::planted::is(\"{}\")", edit.fault);
    let plant = edit.plant.replace("PLANTED", &switch);
    Ok(text.replace(edit.find, &plant))
}

fn read(path: &Path) -> Result<String, Failed> {
    std::fs::read_to_string(path).map_err(|error| Failed(format!("{}: {error}", path.display())))
}

fn write(path: &Path, text: &str) -> Result<(), Failed> {
    std::fs::write(path, text).map_err(|error| Failed(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::steps::root;

    #[test]
    fn each_fault_can_be_planted() {
        let sources = root().join("crates/chat-domain/src");
        let mut texts: BTreeMap<&str, String> = BTreeMap::new();
        for edit in EDITS {
            let text = texts
                .entry(edit.file)
                .or_insert_with(|| read(&sources.join(edit.file)).unwrap());
            *text = planted(text, edit).unwrap();
        }
        for (fault, _) in FAULTS {
            assert!(EDITS.iter().any(|edit| edit.fault == *fault), "{fault}");
        }
        let is_known = |edit: &&Edit| FAULTS.iter().any(|(fault, _)| *fault == edit.fault);
        assert_eq!(EDITS.iter().filter(is_known).count(), EDITS.len());
    }
}
