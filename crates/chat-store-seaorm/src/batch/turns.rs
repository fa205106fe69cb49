//! Turns that begin, grow and end: the commands that make nearly all of the load.
//!
//! All such commands of a batch are done together: a few statements load the rows that they need,
//! the domain's [`Ledger`] decides them one after another in memory, and a few statements write the
//! changes. The cost of a batch hardly depends on its size.

use std::collections::HashMap;

use chat_domain::log::{LedgerError, LogNeeds};
use chat_domain::{HeldTurn, Item, Ledger, Position, TurnId};

use super::request::{BatchedWrite, CommandError};
use super::{load, save};
use crate::connection::Connection;
use crate::error::StoreFault;
use crate::queries::{force_end, log};

/// Does these writes, as far as they are of this kind, and keeps the answers in them.
pub(crate) async fn run(
    db: &dyn Connection,
    writes: &mut [BatchedWrite],
) -> Result<(), StoreFault> {
    let needs = writes
        .iter()
        .fold(LogNeeds::default(), |needs, write| match write {
            BatchedWrite::Begin(request) => needs.begin(&request.command),
            BatchedWrite::Append(request) => needs.append(&request.command),
            BatchedWrite::End(request) => needs.end(&request.command),
            BatchedWrite::Other(_) => needs,
        });
    if needs.is_empty() {
        return Ok(());
    }
    let mut ledger = Ledger::new(load::load(db, &needs).await?);
    let mut last_positions = Vec::new();
    for write in &mut *writes {
        match write {
            BatchedWrite::Begin(request) => request.decide(|begin| Ok(ledger.begin(begin)?))?,
            BatchedWrite::Append(request) => request.decide(|append| Ok(ledger.append(append)?))?,
            BatchedWrite::End(request) => request.decide(|end| Ok(ledger.end(end)?))?,
            BatchedWrite::Other(_) => {}
        }
        last_positions.push(
            write
                .held()
                .and_then(|held| ledger.last_position_of(held.turn.conversation)),
        );
    }
    let changes = ledger.into_changes();
    save::save(
        db,
        &changes.map_err(|error| StoreFault::InvariantViolation(error.to_string()))?,
    )
    .await?;
    complete(db, writes, &last_positions).await
}

/// Gives held turns without items the items that the log had when their writes were done: up to
/// `last_positions`, one for each write.
async fn complete(
    db: &dyn Connection,
    writes: &mut [BatchedWrite],
    last_positions: &[Option<Position>],
) -> Result<(), StoreFault> {
    let held = writes
        .iter_mut()
        .zip(last_positions)
        .filter_map(|(write, end)| Some((write.held()?, *end)));
    let mut bare: Vec<(&mut HeldTurn, Option<Position>)> =
        held.filter(|(held, _)| held.items.is_empty()).collect();
    if bare.is_empty() {
        return Ok(());
    }
    let turns: Vec<TurnId> = bare.iter().map(|(held, _)| held.turn.id).collect();
    let items = match log::items_of(db, &turns).await {
        Err(StoreFault::Corrupt { .. }) => readable_items_of(db, &turns).await?,
        items => items?,
    };
    for (held, end) in &mut bare {
        let items = items.get(&held.turn.id).into_iter().flatten();
        held.items = items
            .filter(|item| end.is_none_or(|end| item.position <= end))
            .cloned()
            .collect();
    }
    // A running turn has its message at least: those without could not be read.
    for write in writes {
        if let Some(turn) = write
            .held()
            .filter(|held| held.items.is_empty())
            .map(|held| held.turn.id)
        {
            tracing::error!(turn_id = %turn, "turn cannot be loaded, leaving it to the next claim");
            force_end::release(db, turn).await?;
            write.withdraw_held();
        }
    }
    Ok(())
}

/// Reads the items of each turn by itself, and leaves out those that cannot be read.
async fn readable_items_of(
    db: &dyn Connection,
    turns: &[TurnId],
) -> Result<HashMap<TurnId, Vec<Item>>, StoreFault> {
    let mut items = HashMap::new();
    for turn in turns {
        match log::items_of(db, std::slice::from_ref(turn)).await {
            Ok(found) => items.extend(found),
            Err(fault @ StoreFault::Corrupt { .. }) => {
                tracing::error!(turn_id = %turn, error = %fault, "damaged row")
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(items)
}

impl From<StoreFault> for CommandError {
    fn from(fault: StoreFault) -> Self {
        Self::StoreFault(fault)
    }
}

impl From<LedgerError> for CommandError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Refused(refusal) => Self::Refused(refusal),
            LedgerError::Inconsistent(what) => {
                Self::StoreFault(StoreFault::InvariantViolation(what))
            }
        }
    }
}
