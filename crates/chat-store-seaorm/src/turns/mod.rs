//! Turns that begin, grow and end: the commands that make nearly all of the load.
//!
//! All such commands of a batch are done together: what they need is loaded by a few statements, each is decided in memory
//! one after another, and what has changed is written back by a few statements. What a batch costs hardly depends on its size.

mod append;
mod begin;
mod end;
mod ledger;
mod load;
mod save;

use chat_domain::{HeldTurn, Position, TurnId};

pub(crate) use append::Append;
pub(crate) use end::End;

use crate::db::Db;
use crate::fault::Fault;
use crate::history;
use crate::job::{Job, Stop};

/// Does what these jobs ask, as far as they are of this kind, and notes the answers in them.
pub(crate) async fn run(db: &Db, jobs: &mut [Job]) -> Result<(), Fault> {
    let wants = load::Wants::of(jobs);
    if wants.nothing() {
        return Ok(());
    }
    let mut ledger = load::load(db, &wants).await?;
    let mut ends = Vec::new();
    for job in &mut *jobs {
        match job {
            Job::Begin(submission) => submission.decide(|begin| ledger.begin(begin))?,
            Job::Append(submission) => submission.decide(|append| ledger.append(append))?,
            Job::End(submission) => submission.decide(|end| ledger.end(end))?,
            Job::Other(_) => {}
        }
        ends.push(job.held().and_then(|held| ledger.end_of(held.turn.conversation)));
    }
    save::save(db, &ledger).await?;
    complete(db, jobs, &ends).await
}

/// Gives held turns whose items were not at hand those that the log had when their jobs were done: up to `ends`, one for each job.
async fn complete(db: &Db, jobs: &mut [Job], ends: &[Option<Position>]) -> Result<(), Fault> {
    let held = jobs.iter_mut().zip(ends).filter_map(|(job, end)| Some((job.held()?, *end)));
    let mut bare: Vec<(&mut HeldTurn, Option<Position>)> = held.filter(|(held, _)| held.items.is_empty()).collect();
    if bare.is_empty() {
        return Ok(());
    }
    let turns: Vec<TurnId> = bare.iter().map(|(held, _)| held.turn.id).collect();
    let items = history::items_of(db, &turns).await?;
    for (held, end) in &mut bare {
        let items = items.get(&held.turn.id).into_iter().flatten();
        held.items = items.filter(|item| end.is_none_or(|end| item.position <= end)).cloned().collect();
    }
    Ok(())
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}
