//! Turns that begin, grow and end: the commands that make nearly all of the load.
//!
//! All such commands of a batch are done together: what they need is loaded by a few statements,
//! each is decided in memory one after another, and what has changed is written back by a few
//! statements. What a batch costs hardly depends on its size.

pub(crate) mod force_end;
mod load;
mod save;

use std::collections::HashMap;

use chat_domain::log::{LedgerError, LogNeeds};
use chat_domain::{HeldTurn, Item, Ledger, Position, TurnId};

pub(crate) use force_end::ForceEnd;

use crate::db::Db;
use crate::error::StoreFault;
use crate::history;
use crate::job::{BatchedWrite, CommandError};

/// Does what these jobs ask, as far as they are of this kind, and notes the answers in them.
pub(crate) async fn run(db: &Db, jobs: &mut [BatchedWrite]) -> Result<(), StoreFault> {
    let needs = jobs
        .iter()
        .fold(LogNeeds::default(), |needs, job| match job {
            BatchedWrite::Begin(request) => needs.begin(&request.command),
            BatchedWrite::Append(request) => needs.append(&request.command),
            BatchedWrite::End(request) => needs.end(&request.command),
            BatchedWrite::Other(_) => needs,
        });
    if needs.is_empty() {
        return Ok(());
    }
    let mut ledger = Ledger::new(load::load(db, &needs).await?);
    let mut ends = Vec::new();
    for job in &mut *jobs {
        match job {
            BatchedWrite::Begin(request) => request.decide(|begin| Ok(ledger.begin(begin)?))?,
            BatchedWrite::Append(request) => request.decide(|append| Ok(ledger.append(append)?))?,
            BatchedWrite::End(request) => request.decide(|end| Ok(ledger.end(end)?))?,
            BatchedWrite::Other(_) => {}
        }
        ends.push(
            job.held()
                .and_then(|held| ledger.end_of(held.turn.conversation)),
        );
    }
    let changes = ledger.into_changes();
    save::save(
        db,
        &changes.map_err(|error| StoreFault::InvariantViolation(error.to_string()))?,
    )
    .await?;
    complete(db, jobs, &ends).await
}

/// Gives held turns whose items were not at hand those that the log had when their jobs were done:
/// up to `ends`, one for each job.
async fn complete(
    db: &Db,
    jobs: &mut [BatchedWrite],
    ends: &[Option<Position>],
) -> Result<(), StoreFault> {
    let held = jobs
        .iter_mut()
        .zip(ends)
        .filter_map(|(job, end)| Some((job.held()?, *end)));
    let mut bare: Vec<(&mut HeldTurn, Option<Position>)> =
        held.filter(|(held, _)| held.items.is_empty()).collect();
    if bare.is_empty() {
        return Ok(());
    }
    let turns: Vec<TurnId> = bare.iter().map(|(held, _)| held.turn.id).collect();
    let items = match history::items_of(db, &turns).await {
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
    for job in jobs {
        if let Some(turn) = job
            .held()
            .filter(|held| held.items.is_empty())
            .map(|held| held.turn.id)
        {
            tracing::error!(turn_id = %turn, "turn cannot be loaded, leaving it to the next claim");
            force_end::release(db, turn).await?;
            job.withdraw_held();
        }
    }
    Ok(())
}

/// Reads the items of each turn by itself, and leaves out those that cannot be read.
async fn readable_items_of(
    db: &Db,
    turns: &[TurnId],
) -> Result<HashMap<TurnId, Vec<Item>>, StoreFault> {
    let mut items = HashMap::new();
    for turn in turns {
        match history::items_of(db, std::slice::from_ref(turn)).await {
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
