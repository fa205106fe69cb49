//! The rules of one conversation's log: how it may look, how it may change, and where its items may
//! come from.

use std::collections::BTreeSet;

use chat_domain::log::ConversationDocument;
use chat_domain::{
    FailureKind, Item, ItemBody, Message, Position, Role, ToolCall, ToolError, ToolErrorKind,
    ToolExecutor, ToolOutcome, ToolResult, TurnId, TurnOutcome, TurnRow, TurnStatus, without_nul,
};

use crate::invariants::{Cause, Violation, ensure};
use crate::trace::short;
use crate::witness::{Said, Witness};

/// How a log may look.
pub fn check(document: &ConversationDocument, most_steps: usize) -> Result<(), Violation> {
    let mut position = 0;
    let mut has_open = false;
    let mut messages = BTreeSet::new();
    for ((row, items, draft), ordinal) in document.entries().zip(1_u64..) {
        let turn = short(row.turn.id.0);
        ensure("dense", row.turn.ordinal.0 == ordinal, || {
            format!(
                "turn {turn} is the {ordinal}. and has {:?}",
                row.turn.ordinal
            )
        })?;
        let may_be = match row.turn.status {
            TurnStatus::Ended { .. } => !has_open,
            TurnStatus::Running => !std::mem::replace(&mut has_open, true),
            TurnStatus::Queued => has_open,
        };
        ensure("one-at-a-time", may_be, || {
            format!(
                "turn {turn} is {:?}, after others that are not",
                row.turn.status
            )
        })?;
        if row.turn.status == TurnStatus::Queued {
            let is_unplaced = items.iter().all(Item::is_unplaced);
            ensure("order", is_unplaced && items.len() == 1, || {
                format!("turn {turn} waits, and has a place")
            })?;
            continue;
        }
        for item in items {
            position += 1;
            ensure("dense", item.position == Position(position), || {
                format!(
                    "an item of turn {turn} has {:?}, not {position}",
                    item.position
                )
            })?;
            if let ItemBody::Message(message) = &item.body {
                ensure("kept", messages.insert(message.id), || {
                    format!("message {} is there twice", short(message.id.0))
                })?;
            }
        }
        check_turn(row, items, most_steps)?;
        check_retried(document, row)?;
        if let Some(draft) = draft {
            let is_alive = row.is_running() && !messages.contains(&draft.message);
            ensure("drafts", is_alive, || {
                format!("turn {turn} has a draft that is over")
            })?;
        }
    }
    Ok(())
}

/// How the items of a turn that has begun may look.
fn check_turn(row: &TurnRow, items: &[Item], most_steps: usize) -> Result<(), Violation> {
    let turn = short(row.turn.id.0);
    let messages = items
        .iter()
        .filter(|item| matches!(item.body, ItemBody::Message(_)));
    let steps = messages.count().saturating_sub(1);
    ensure("bounded", steps <= most_steps, || {
        format!("turn {turn} has taken {steps} steps of {most_steps}")
    })?;
    let mut open = BTreeSet::new();
    let mut known = BTreeSet::new();
    for (place, item) in items.iter().enumerate() {
        match &item.body {
            ItemBody::Message(message) => {
                let is_first = message.role == Role::User;
                ensure("order", is_first == (place == 0), || {
                    format!("turn {turn} does not begin with the user's one message")
                })?;
            }
            ItemBody::ToolCall(call) => {
                open.insert(call.id);
                ensure("tool-results", known.insert(call.id), || {
                    format!("call {} is there twice", short(call.id.0))
                })?;
            }
            ItemBody::ToolResult(result) => {
                ensure("tool-results", open.remove(&result.call), || {
                    format!("call {} has a result too many", short(result.call.0))
                })?;
            }
        }
    }
    let is_over = row.turn.status.is_ended();
    ensure("tool-results", !is_over || open.is_empty(), || {
        format!(
            "turn {turn} has ended, and {} calls have no result",
            open.len()
        )
    })
}

/// A retry that has begun takes the place of the turn that it retries and of all behind that.
fn check_retried(document: &ConversationDocument, row: &TurnRow) -> Result<(), Violation> {
    let has_run = row.holder.is_some() || row.is_running();
    let Some(retried) = row.retried.filter(|_| has_run) else {
        return Ok(());
    };
    let replaced = |other: &&TurnRow| (retried..row.turn.ordinal).contains(&other.turn.ordinal);
    let left = document
        .rows()
        .filter(replaced)
        .find(|other| !other.turn.superseded);
    ensure("unchanging", left.is_none(), || {
        format!(
            "a retry has begun, and {:?} is not superseded",
            left.map(|row| row.turn.ordinal)
        )
    })
}

/// How a turn's row may change.
pub fn check_row(before: &TurnRow, after: &TurnRow, cause: &Cause<'_>) -> Result<(), Violation> {
    let (old, new) = (&before.turn, &after.turn);
    let turn = short(new.id.0);
    let is_same = old.id == new.id
        && old.conversation == new.conversation
        && old.ordinal == new.ordinal
        && old.retry_of == new.retry_of
        && old.original == new.original
        && old.created_at == new.created_at
        && before.owner == after.owner;
    ensure("unchanging", is_same, || {
        format!("turn {turn} has become another")
    })?;
    let is_released = matches!(cause, Cause::ReleaseKey(id) if *id == new.id);
    let keeps_key = before.idempotency == after.idempotency || is_released;
    ensure("idempotency", keeps_key, || {
        format!("turn {turn} has lost its key")
    })?;
    ensure("unchanging", new.superseded || !old.superseded, || {
        format!("turn {turn} is not superseded any more")
    })?;
    ensure(
        "cancels",
        new.cancel_requested || !old.cancel_requested,
        || format!("the cancellation of turn {turn} is forgotten"),
    )?;
    let wants_cancel = match cause {
        Cause::Cancel(id) => *id == new.id,
        Cause::Begin(begin, _) => begin.busy == chat_domain::BusyPolicy::Interrupt,
        _ => false,
    };
    let is_wanted = new.cancel_requested == old.cancel_requested || wants_cancel;
    ensure("cancels", is_wanted, || {
        format!("nobody has cancelled turn {turn}")
    })?;
    check_status(before, after, cause)?;
    let is_claimed = matches!(cause, Cause::Claim(..));
    let epochs = (before.epoch, after.epoch);
    let may_be = epochs.0 == epochs.1
        || (is_claimed && epochs.1 == epochs.0 + 1)
        || (old.status == TurnStatus::Queued && epochs == (0, 1));
    ensure("fenced-writes", may_be, || {
        format!(
            "the epoch of turn {turn} was {} and is {}",
            epochs.0, epochs.1
        )
    })?;
    let is_claimed = epochs.0 != epochs.1;
    let is_left = matches!(cause, Cause::Deregister { .. }) && after.holder.is_none();
    let keeps_holder = before.holder == after.holder || is_claimed || is_left;
    ensure("fenced-writes", keeps_holder, || {
        format!("turn {turn} has another holder in the same epoch")
    })
}

fn check_status(before: &TurnRow, after: &TurnRow, cause: &Cause<'_>) -> Result<(), Violation> {
    let (old, new) = (&before.turn, &after.turn);
    let turn = short(new.id.0);
    if old.status.is_ended() {
        let is_kept = old.status == new.status
            && old.usage == new.usage
            && old.finish == new.finish
            && before.holder == after.holder
            && before.epoch == after.epoch;
        return ensure("unchanging", is_kept, || {
            format!("turn {turn} was {:?} and is {:?}", old.status, new.status)
        });
    }
    if old.status == new.status {
        return Ok(());
    }
    let is_ending = |id: TurnId| match cause {
        Cause::End { lease, .. } | Cause::ForceEnd { lease, .. } => Some(lease.turn == id),
        // A claim ends turns that cannot be loaded.
        Cause::Claim(..) => Some(true),
        _ => None,
    };
    let may_be = match (&old.status, &new.status) {
        (TurnStatus::Queued, TurnStatus::Running) => is_ending(new.id) == Some(false),
        (TurnStatus::Queued, TurnStatus::Ended { outcome, .. }) => {
            is_ending(new.id) == Some(false)
                && *outcome == TurnOutcome::Cancelled
                && new.cancel_requested
        }
        (TurnStatus::Running, TurnStatus::Ended { outcome, .. }) => {
            let is_wanted = new.cancel_requested || *outcome != TurnOutcome::Cancelled;
            is_ending(new.id) == Some(true) && is_wanted
        }
        _ => false,
    };
    ensure("unchanging", may_be, || {
        format!("turn {turn} was {:?} and is {:?}", old.status, new.status)
    })?;
    let completes = |status: &TurnStatus| {
        matches!(status, TurnStatus::Ended { outcome: TurnOutcome::Failed(failure), .. }
            if failure.kind == FailureKind::TooManyAttempts)
    };
    let has_given_up = completes(&new.status);
    ensure("bounded", !has_given_up || after.attempt > 1, || {
        format!("turn {turn} is given up after its first attempt")
    })
}

/// How the items of a turn may change.
pub fn check_items(
    before: &[Item],
    after: &[Item],
    row: &TurnRow,
    cause: &Cause<'_>,
) -> Result<(), Violation> {
    let turn = short(row.turn.id.0);
    let kept = after.get(..before.len()).unwrap_or_default();
    let is_kept = kept.len() == before.len()
        && before.iter().zip(kept).all(|(old, new)| {
            old == new || old.is_unplaced() && old.body == new.body && old.at == new.at
        });
    ensure("unchanging", is_kept, || {
        format!("an item of turn {turn} has changed")
    })?;
    let writes = match cause {
        Cause::Append { lease, .. } | Cause::End { lease, .. } | Cause::ForceEnd { lease, .. } => {
            lease.turn == row.turn.id && row.is_running()
        }
        _ => false,
    };
    ensure(
        "fenced-writes",
        writes || after.len() == before.len(),
        || format!("turn {turn} has got items from somebody else"),
    )
}

/// Whether new items were sent by a client, said by the agent, or given by a tool.
pub fn check_origin(
    row: &TurnRow,
    new: &[Item],
    all: &[Item],
    witness: &Witness,
) -> Result<(), Violation> {
    for item in new {
        match &item.body {
            ItemBody::Message(message) if message.role == Role::User => {
                let sender = witness.sent.get(&message.text);
                ensure("unsent", sender == Some(&row.owner), || {
                    format!("nobody has sent {:?}", message.text)
                })?;
            }
            ItemBody::Message(message) => check_said(row, message, witness)?,
            ItemBody::ToolCall(_) => {}
            ItemBody::ToolResult(result) => {
                let call = all.iter().find_map(|item| match &item.body {
                    ItemBody::ToolCall(call) if call.id == result.call => Some(call),
                    _ => None,
                });
                if let Some(call) = call.filter(|call| call.executor == ToolExecutor::Server) {
                    check_result(call, result, witness)?;
                }
            }
        }
    }
    Ok(())
}

fn check_said(row: &TurnRow, message: &Message, witness: &Witness) -> Result<(), Violation> {
    let said = witness.said.get(&row.turn.id);
    let is_it = |said: &Said| {
        let text = without_nul(said.text.clone());
        match message.finish {
            Some(_) => said.is_whole && text == message.text,
            None => text.starts_with(&message.text),
        }
    };
    let is_said = said.is_some_and(|said| said.iter().any(is_it));
    ensure("answers", is_said, || {
        format!(
            "the agent has not said {:?} in turn {}",
            message.text,
            short(row.turn.id.0)
        )
    })
}

fn check_result(call: &ToolCall, result: &ToolResult, witness: &Witness) -> Result<(), Violation> {
    let called = witness.calls.get(&call.id);
    let given = called
        .map(|called| called.outcomes.as_slice())
        .unwrap_or_default();
    let sends = called.map_or(0, |called| called.sends);
    let is_given = match &result.outcome {
        ToolOutcome::Succeeded(_) => given.contains(&result.outcome),
        ToolOutcome::Unknown(_) => true,
        ToolOutcome::Failed(ToolError { kind, .. }) => match kind {
            ToolErrorKind::NotRun => sends == 0,
            ToolErrorKind::InvalidArguments => sends == 0,
            ToolErrorKind::TooLarge => sends > 0,
            _ => given.contains(&result.outcome),
        },
    };
    ensure("tool-results", is_given, || {
        format!(
            "call {} did not give {:?}",
            short(call.id.0),
            result.outcome
        )
    })
}
