//! Claims of running turns whose worker is dead.

use std::collections::{BTreeSet, HashSet};

use async_trait::async_trait;
use chat_domain::{Claim, HeldTurn, TurnId, TurnLease};
use uuid::Uuid;

use super::{force_end, log, turns, workers};
use crate::batch::{Command, CommandError};
use crate::columns::{Columns, HELD, TURN, column};
use crate::connection::Connection;
use crate::error::StoreFault;
use crate::guards;
use crate::row::Row;
use crate::savepoint;
use crate::sql::Sql;

/// Running turns without a living holder, locked with their conversations. Turns that other
/// transactions have locked are left to the next claim. A worker whose lease has expired does not
/// claim its own turns.
const OF_DEAD_WORKERS: &str = "
    SELECT {columns} FROM turns t JOIN conversations c ON c.id = t.conversation_id
    WHERE t.status = 'running' AND (t.holder IS NULL OR t.holder <> :worker AND NOT EXISTS (
        SELECT 1 FROM workers w WHERE w.id = t.holder AND w.expires_at > {now}
    ))
    ORDER BY t.holder {limit} {for_update_of_c_t} {skip_locked}";

/// The same, and all turns that the database says the worker itself holds.
const OF_DEAD_WORKERS_AND_OWN: &str = "
    SELECT {columns} FROM turns t JOIN conversations c ON c.id = t.conversation_id
    WHERE t.status = 'running' AND (t.holder IS NULL OR t.holder = :worker OR NOT EXISTS (
        SELECT 1 FROM workers w WHERE w.id = t.holder AND w.expires_at > {now}
    ))
    ORDER BY t.holder {limit} {for_update_of_c_t} {skip_locked}";

const HOLDER: Columns = Columns::new("turns", "t.id, t.holder");

const TAKE: &str = "
    UPDATE turns SET epoch = epoch + 1, draft_message_id = NULL, draft_text = NULL,
        attempt = attempt + :attempts, spent_us = spent_us + {attempt_time},
        attempt_started_at = {now}, holder = :worker
    WHERE id IN (:turns)";

const GET: &str = "SELECT {turn}, {held} FROM turns t WHERE t.id IN (:turns) ORDER BY t.id";

/// Claims running turns that no living worker holds.
pub(crate) struct ClaimAbandoned(pub(crate) Claim);

#[async_trait]
impl Command for ClaimAbandoned {
    type Answer = Vec<HeldTurn>;

    async fn run(&self, db: &dyn Connection) -> Result<Vec<HeldTurn>, CommandError> {
        let mut abandoned = self.abandoned(db).await?;
        if abandoned.is_empty() {
            return Ok(Vec::new());
        }
        let claimer = self.0.worker.0;
        let holders = abandoned.iter().filter_map(|(_, holder)| *holder);
        let alive = workers::lock_leases(holders.chain([claimer]).collect(), db).await?;
        // It may always take back its own turns, and those of others only while it is alive.
        let is_alive = alive.contains(&claimer);
        abandoned.retain(|(_, holder)| {
            *holder == Some(claimer)
                || is_alive && holder.is_none_or(|holder| !alive.contains(&holder))
        });
        if abandoned.is_empty() {
            return Ok(Vec::new());
        }
        let turns: Vec<TurnId> = abandoned.iter().map(|(turn, _)| *turn).collect();
        Sql::new(TAKE)
            .bind("attempts", i64::from(guards::COUNTS_ATTEMPTS))
            .bind("worker", claimer)
            .list("turns", turns.iter().map(|turn| turn.0))
            .execute(db)
            .await?;
        let dead: BTreeSet<Uuid> = abandoned
            .iter()
            .filter_map(|(_, holder)| *holder)
            .filter(|holder| *holder != claimer)
            .collect();
        if !dead.is_empty() {
            workers::delete(dead, db).await?;
        }
        self.load_or_end(db, &turns).await
    }

    fn is_repeatable(&self) -> bool {
        // A second run would not find the turns that the first has taken.
        false
    }

    fn is_last(&self) -> bool {
        // A turn that is on its way to the worker must have arrived before it counts as mislaid.
        self.0.holding.is_some()
    }
}

impl ClaimAbandoned {
    /// Locks running turns without a living holder; returns them with their last holders.
    async fn abandoned(
        &self,
        db: &dyn Connection,
    ) -> Result<Vec<(TurnId, Option<Uuid>)>, StoreFault> {
        let Claim {
            worker,
            limit,
            holding,
        } = &self.0;
        // The turns that the worker knows may be more than a statement takes: they are selected,
        // and left out here.
        let known: HashSet<TurnId> = holding.iter().flatten().copied().collect();
        let with_known = limit.saturating_add(u32::try_from(known.len()).unwrap_or(u32::MAX));
        let text = match holding {
            Some(_) => OF_DEAD_WORKERS_AND_OWN,
            None => OF_DEAD_WORKERS,
        };
        let found = Sql::new(text)
            .text("columns", HOLDER.text)
            .bind("worker", worker.0)
            .limit(with_known)
            .query(db)
            .await?;
        let mut abandoned = Vec::new();
        for row in found.iter().map(|row| Row::new(&HOLDER, row)) {
            let turn = TurnId(row.get(column!(HOLDER, "id"))?);
            let holder: Option<Uuid> = row.get(column!(HOLDER, "holder"))?;
            if holder != Some(worker.0) || !known.contains(&turn) {
                abandoned.push((turn, holder));
            }
        }
        abandoned.truncate(usize::try_from(*limit).unwrap_or(usize::MAX));
        Ok(abandoned)
    }

    /// Loads claimed turns. A turn that cannot be loaded is ended instead, so that it stops no
    /// worker.
    async fn load_or_end(
        &self,
        db: &dyn Connection,
        turns: &[TurnId],
    ) -> Result<Vec<HeldTurn>, CommandError> {
        match savepoint::attempt(db, self.load(db, turns)).await? {
            Ok(held) => return Ok(held),
            Err(fault) if turns.len() > 1 => {
                tracing::warn!(
                    error = %fault, turns = turns.len(),
                    "claimed turns not loaded, loading each by itself"
                )
            }
            Err(_) => {}
        }
        let mut loaded = Vec::new();
        for turn in turns {
            match savepoint::attempt(db, self.load(db, std::slice::from_ref(turn))).await? {
                Ok(held) => loaded.extend(held),
                Err(fault) => {
                    tracing::error!(
                        turn_id = %turn, error = %fault,
                        "claimed turn cannot be loaded, ending it as failed"
                    );
                    force_end::end_unloaded(db, *turn).await?;
                }
            }
        }
        Ok(loaded)
    }

    async fn load(
        &self,
        db: &dyn Connection,
        turns: &[TurnId],
    ) -> Result<Vec<HeldTurn>, StoreFault> {
        let found = Sql::new(GET)
            .text("turn", TURN.text)
            .text("held", HELD.text)
            .list("turns", turns.iter().map(|turn| turn.0))
            .query(db)
            .await?;
        let mut items = log::items_of(db, turns).await?;
        let mut held = Vec::new();
        for row in found.iter().map(|row| Row::new(&TURN, row)) {
            let row = turns::turn_row(row, None)?;
            held.push(HeldTurn {
                lease: TurnLease {
                    turn: row.turn.id,
                    worker: self.0.worker,
                    epoch: row.epoch,
                },
                owner: row.owner,
                attempt: row.attempt,
                spent: row.spent,
                items: items.remove(&row.turn.id).unwrap_or_default(),
                turn: row.turn,
            });
        }
        Ok(held)
    }
}
