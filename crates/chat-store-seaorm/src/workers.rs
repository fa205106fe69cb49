//! Workers: who is alive, and whose turns others may take over.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use chat_domain::{
    Claim, DraftUpdate, Heartbeat, HeldTurn, Position, Refusal, TurnId, TurnLease, TurnVersion,
    WorkerId,
};
use uuid::Uuid;

use crate::codes;
use crate::db::Db;
use crate::error::StoreFault;
use crate::guards;
use crate::history;
use crate::job::{Command, CommandError};
use crate::rows::{self, TURN_COLUMNS};
use crate::savepoint;
use crate::sql::{Row, Sql, Value, big, micros};
use crate::turns::force_end;

/// How many drafts a statement saves: all databases bound the number of values.
const DRAFTS: usize = 4000;

/// How long after the end of its lease a worker without turns is deleted. Until then it may come
/// back under its id.
const DEAD_AFTER: Duration = Duration::from_secs(300);

/// Makes a worker known.
pub(crate) struct Register {
    pub(crate) worker: WorkerId,
    pub(crate) lease: Duration,
}

#[async_trait]
impl Command for Register {
    type Answer = ();

    async fn run(&self, db: &Db) -> Result<(), CommandError> {
        Sql::new("INSERT INTO workers (id, expires_at) VALUES (")
            .bind(self.worker.0)
            .push(", ")
            .now()
            .push(" + ")
            .bind(micros(self.lease))
            .push(") ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at")
            .execute(db)
            .await?;
        delete_dead_workers(db).await?;
        Ok(())
    }
}

/// Deletes the rows of workers that died while they held no turn: nothing else would ever delete
/// them.
async fn delete_dead_workers(db: &Db) -> Result<(), StoreFault> {
    Sql::new("DELETE FROM workers WHERE id IN (SELECT w.id FROM workers w WHERE w.expires_at < ")
        .now()
        .push(" - ")
        .bind(micros(DEAD_AFTER))
        .push(" AND NOT EXISTS (SELECT 1 FROM turns t WHERE t.holder = w.id AND t.status = '")
        .push(codes::RUNNING)
        .push("')")
        .for_update_skip_locked("w")
        .push(")")
        .execute(db)
        .await?;
    Ok(())
}

/// Renews a worker's lease, saves drafts, brings back cancels.
pub(crate) struct RenewLease {
    pub(crate) worker: WorkerId,
    pub(crate) lease: Duration,
    pub(crate) drafts: Vec<DraftUpdate>,
}

#[async_trait]
impl Command for RenewLease {
    type Answer = Heartbeat;

    async fn run(&self, db: &Db) -> Result<Heartbeat, CommandError> {
        let renew = Sql::new("UPDATE workers SET expires_at = ")
            .now()
            .push(" + ")
            .bind(micros(self.lease));
        if renew
            .push(" WHERE id = ")
            .bind(self.worker.0)
            .execute(db)
            .await?
            == 0
        {
            return Err(Refusal::LeaseLost.into());
        }
        for drafts in self.drafts.chunks(DRAFTS) {
            self.save(drafts, db).await?;
        }
        let cancelled = Sql::new("SELECT id FROM turns WHERE status = '")
            .push(codes::RUNNING)
            .push("' AND cancel_requested = TRUE AND holder = ")
            .bind(self.worker.0);
        Ok(Heartbeat {
            cancel: ids(cancelled, db).await?,
        })
    }
}

impl RenewLease {
    /// Saves drafts. A turn that another transaction writes now is left out: its draft becomes an
    /// item, or the turn ends.
    async fn save(&self, drafts: &[DraftUpdate], db: &Db) -> Result<(), StoreFault> {
        let turns = drafts.iter().map(|update| update.lease.turn.0);
        let lock = Sql::new("SELECT t.id FROM turns t WHERE t.ended_at IS NULL AND t.id IN (")
            .list(turns)
            .push(")");
        let locked: HashSet<TurnId> = ids(lock.for_update_skip_locked("t"), db)
            .await?
            .into_iter()
            .collect();
        let rows = drafts
            .iter()
            .filter(|update| locked.contains(&update.lease.turn))
            .map(|DraftUpdate { lease, draft }| -> [Value; 5] {
                [
                    lease.turn.0.into(),
                    lease.worker.0.into(),
                    big(lease.epoch),
                    draft.message.0.into(),
                    draft.text.as_str().into(),
                ]
            });
        if locked.is_empty() {
            return Ok(());
        }
        // A statement of its own: it sees the messages that were stored before the turns were
        // locked.
        let save = Sql::new("WITH v(turn_id, holder, epoch, message_id, text) AS (").rows(rows).push(
            ") UPDATE turns SET draft_message_id = v.message_id, draft_text = v.text FROM v \
             WHERE turns.id = v.turn_id AND turns.holder = v.holder AND turns.epoch = v.epoch AND turns.ended_at IS NULL \
             AND NOT EXISTS (SELECT 1 FROM messages WHERE messages.id = v.message_id)",
        );
        save.execute(db).await?;
        Ok(())
    }
}

async fn ids(query: Sql, db: &Db) -> Result<Vec<TurnId>, StoreFault> {
    query
        .all(db)
        .await?
        .iter()
        .map(|row| Ok(TurnId(Row::new("turns", 0, row).get(0, "id")?)))
        .collect()
}

/// Takes over turns that no living worker holds.
pub(crate) struct ClaimAbandoned(pub(crate) Claim);

#[async_trait]
impl Command for ClaimAbandoned {
    type Answer = Vec<HeldTurn>;

    async fn run(&self, db: &Db) -> Result<Vec<HeldTurn>, CommandError> {
        let mut abandoned = self.abandoned(db).await?;
        if abandoned.is_empty() {
            return Ok(Vec::new());
        }
        let claimer = self.0.worker.0;
        let alive = alive(
            abandoned
                .iter()
                .filter_map(|(_, holder)| *holder)
                .chain([claimer])
                .collect(),
            db,
        )
        .await?;
        // Its own turns are mislaid. It may take those of others only while it is alive itself.
        let takes = alive.contains(&claimer);
        abandoned.retain(|(_, holder)| {
            *holder == Some(claimer)
                || takes && holder.is_none_or(|holder| !alive.contains(&holder))
        });
        if abandoned.is_empty() {
            return Ok(Vec::new());
        }
        let turns: Vec<TurnId> = abandoned.iter().map(|(turn, _)| *turn).collect();
        let counts = if guards::COUNTS_ATTEMPTS {
            "attempt = attempt + 1"
        } else {
            "attempt = attempt"
        };
        Sql::new(
            "UPDATE turns SET epoch = epoch + 1, draft_message_id = NULL, draft_text = NULL, ",
        )
        .push(counts)
        .push(", spent_us = spent_us + ")
        .attempt_time()
        .push(", attempt_started_at = ")
        .now()
        .push(", holder = ")
        .bind(claimer)
        .push(" WHERE id IN (")
        .list(turns.iter().map(|turn| turn.0))
        .push(")")
        .execute(db)
        .await?;
        let dead: BTreeSet<Uuid> = abandoned
            .iter()
            .filter_map(|(_, holder)| *holder)
            .filter(|holder| *holder != claimer)
            .collect();
        if !dead.is_empty() {
            Sql::new("DELETE FROM workers WHERE id IN (")
                .list(dead)
                .push(")")
                .execute(db)
                .await?;
        }
        self.held_or_ended(db, &turns).await
    }

    fn is_repeatable(&self) -> bool {
        // Done again, it would not find what it has taken already.
        false
    }

    fn is_last(&self) -> bool {
        // A turn that is on its way to the worker would count as mislaid only once it is there.
        self.0.holding.is_some()
    }
}

/// Those of the workers whose lease runs. None of them can renew it, or let it go, until the end of
/// the transaction.
async fn alive(workers: BTreeSet<Uuid>, db: &Db) -> Result<BTreeSet<Uuid>, StoreFault> {
    let query = Sql::new("SELECT w.id, w.expires_at > ")
        .now()
        .push(" FROM workers w WHERE w.id IN (")
        .list(workers);
    let mut alive = BTreeSet::new();
    for row in &query
        .push(") ORDER BY w.id")
        .for_update("w")
        .all(db)
        .await?
    {
        let row = Row::new("workers", 0, row);
        if row.get(1, "expires_at")? {
            alive.insert(row.get(0, "id")?);
        }
    }
    Ok(alive)
}

impl ClaimAbandoned {
    /// Running turns without a live holder, and their last holders; locked, with their
    /// conversations. Those that other transactions have locked are left for the next claim.
    async fn abandoned(&self, db: &Db) -> Result<Vec<(TurnId, Option<Uuid>)>, StoreFault> {
        let Claim {
            worker,
            limit,
            holding,
        } = &self.0;
        let query = Sql::new("SELECT t.id, t.holder FROM turns t JOIN conversations c ON c.id = t.conversation_id WHERE t.status = '")
            .push(codes::RUNNING)
            .push("' AND (t.holder IS NULL OR ")
            // A worker's own turns are mislaid at most; its own silence is no reason to take them
            // from itself.
            .push(if holding.is_some() { "t.holder = " } else { "t.holder <> " })
            .bind(worker.0)
            .push(if holding.is_some() { " OR " } else { " AND " })
            .push("NOT EXISTS (SELECT 1 FROM workers w WHERE w.id = t.holder AND w.expires_at > ")
            .now()
            .push(")");
        // Turns that the worker knows are in good hands; there may be more than a statement takes.
        let known: HashSet<TurnId> = holding.iter().flatten().copied().collect();
        let enough = limit.saturating_add(u32::try_from(known.len()).unwrap_or(u32::MAX));
        let found = query
            .push(") ORDER BY t.holder")
            .limit(enough)
            .for_update_skip_locked("c, t")
            .all(db)
            .await?;
        let mut abandoned = Vec::new();
        for row in &found {
            let row = Row::new("turns", 0, row);
            abandoned.push((TurnId(row.get(0, "id")?), row.get(1, "holder")?));
        }
        abandoned.retain(|(turn, holder)| *holder != Some(worker.0) || !known.contains(turn));
        abandoned.truncate(usize::try_from(*limit).unwrap_or(usize::MAX));
        Ok(abandoned)
    }

    /// Loads claimed turns. One that cannot be loaded is ended instead, so that it stops no worker.
    async fn held_or_ended(
        &self,
        db: &Db,
        turns: &[TurnId],
    ) -> Result<Vec<HeldTurn>, CommandError> {
        match savepoint::attempt(db, self.held(db, turns)).await? {
            Ok(held) => return Ok(held),
            Err(fault) if turns.len() > 1 => {
                tracing::warn!(error = %fault, turns = turns.len(), "claimed turns not loaded, loading each by itself")
            }
            Err(_) => {}
        }
        let mut loaded = Vec::new();
        for turn in turns {
            match savepoint::attempt(db, self.held(db, std::slice::from_ref(turn))).await? {
                Ok(held) => loaded.extend(held),
                Err(fault) => {
                    tracing::error!(turn_id = %turn, error = %fault, "claimed turn cannot be loaded, ending it as failed");
                    force_end::end_unloaded(db, *turn).await?;
                }
            }
        }
        Ok(loaded)
    }

    async fn held(&self, db: &Db, turns: &[TurnId]) -> Result<Vec<HeldTurn>, StoreFault> {
        let query = Sql::new("SELECT ")
            .push(rows::TURN)
            .push(", t.owner, t.epoch, t.attempt, t.spent_us FROM turns t WHERE t.id IN (");
        let fetched = query
            .list(turns.iter().map(|turn| turn.0))
            .push(") ORDER BY t.id")
            .all(db)
            .await?;
        let mut items: HashMap<_, _> = history::items_of(db, turns).await?;
        let mut held = Vec::new();
        for row in &fetched {
            let row = Row::new("turns", 0, row);
            let turn = rows::turn(row, 0)?;
            let lease = TurnLease {
                turn: turn.id,
                worker: self.0.worker,
                epoch: row.count(TURN_COLUMNS + 1, "epoch")?,
            };
            let items = items.remove(&turn.id).unwrap_or_default();
            let attempt = row.count(TURN_COLUMNS + 2, "attempt")?;
            let spent = Duration::from_micros(row.count(TURN_COLUMNS + 3, "spent_us")?);
            held.push(HeldTurn {
                turn,
                owner: rows::owner(row, TURN_COLUMNS)?,
                lease,
                attempt,
                spent,
                items,
            });
        }
        Ok(held)
    }
}

/// Deregisters a worker and releases its turns. The attempt at those that it hands over does not
/// count.
pub(crate) struct Deregister {
    pub(crate) worker: WorkerId,
    pub(crate) handed_over: Vec<TurnId>,
}

#[async_trait]
impl Command for Deregister {
    type Answer = ();

    async fn run(&self, db: &Db) -> Result<(), CommandError> {
        Sql::new("UPDATE turns SET holder = NULL, attempt = attempt - CASE WHEN id IN (")
            .list(self.handed_over.iter().map(|turn| turn.0))
            .push(") THEN 1 ELSE 0 END, spent_us = spent_us + ")
            .attempt_time()
            .push(", attempt_started_at = NULL WHERE status = '")
            .push(codes::RUNNING)
            .push("' AND holder = ")
            .bind(self.worker.0)
            .execute(db)
            .await?;
        Sql::new("DELETE FROM workers WHERE id = ")
            .bind(self.worker.0)
            .execute(db)
            .await?;
        Ok(())
    }
}

/// Forgets all workers: right after the database was taken for this process, none can be alive.
pub(crate) struct DeleteAllWorkers;

#[async_trait]
impl Command for DeleteAllWorkers {
    type Answer = ();

    async fn run(&self, db: &Db) -> Result<(), CommandError> {
        // The times of the running attempts are lost with the leases.
        let settle = Sql::new("UPDATE turns SET spent_us = spent_us + ").attempt_time();
        settle
            .push(", attempt_started_at = NULL WHERE status = '")
            .push(codes::RUNNING)
            .push("'")
            .execute(db)
            .await?;
        Sql::new("DELETE FROM workers").execute(db).await?;
        Ok(())
    }
}

pub(crate) async fn turn_versions(
    db: Db,
    turns: Vec<TurnId>,
) -> Result<HashMap<TurnId, TurnVersion>, CommandError> {
    let found = Sql::new("SELECT t.id, t.epoch, t.ended_at IS NOT NULL, c.last_position, ")
        // The length is known without reading the text.
        .push("CAST(COALESCE(octet_length(t.draft_text), 0) AS BIGINT) FROM turns t JOIN conversations c ON c.id = t.conversation_id ")
        .push("WHERE t.id IN (")
        .list(turns.into_iter().map(|turn| turn.0))
        .push(")")
        .all(&db)
        .await?;
    let mut versions = HashMap::new();
    for row in &found {
        let row = Row::new("turns", 0, row);
        let (epoch, ended) = (row.count(1, "epoch")?, row.get(2, "ended_at")?);
        let version = TurnVersion {
            epoch,
            ended,
            last: Position(row.count(3, "last_position")?),
            draft_bytes: row.count(4, "draft_text")?,
        };
        versions.insert(TurnId(row.get(0, "id")?), version);
    }
    Ok(versions)
}
