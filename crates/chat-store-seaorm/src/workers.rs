//! Workers: who is alive, and whose turns others may take over.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use chat_domain::{Claim, Draft, Heartbeat, HeldTurn, StoreError, TurnId, TurnLease, WorkerId};
use sea_orm::{DatabaseTransaction, Value};
use uuid::Uuid;

use crate::codes;
use crate::fault::Fault;
use crate::history;
use crate::job::{Command, Stop};
use crate::rows::{self, TURN_COLUMNS};
use crate::sql::{Row, Sql, big, micros};
use crate::sqlite::NOW;

/// How many drafts a statement saves: all databases bound the number of values.
const DRAFTS: usize = 4000;

/// Makes a worker known.
pub(crate) struct Enroll {
    pub(crate) worker: WorkerId,
    pub(crate) lease: Duration,
}

#[async_trait]
impl Command for Enroll {
    type Answer = ();

    async fn run(&self, db: &DatabaseTransaction) -> Result<(), Stop> {
        Sql::new("INSERT INTO workers (id, expires_at) VALUES (")
            .bind(self.worker.0)
            .push(", ")
            .push(NOW)
            .push(" + ")
            .bind(micros(self.lease))
            .push(") ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at")
            .execute(db)
            .await?;
        Ok(())
    }
}

/// Renews a worker's lease, saves drafts, brings back cancels.
pub(crate) struct Beat {
    pub(crate) worker: WorkerId,
    pub(crate) lease: Duration,
    pub(crate) drafts: Vec<(TurnLease, Draft)>,
}

#[async_trait]
impl Command for Beat {
    type Answer = Heartbeat;

    async fn run(&self, db: &DatabaseTransaction) -> Result<Heartbeat, Stop> {
        let renew = Sql::new("UPDATE workers SET expires_at = ").push(NOW).push(" + ").bind(micros(self.lease));
        if renew.push(" WHERE id = ").bind(self.worker.0).execute(db).await? == 0 {
            return Err(StoreError::LeaseLost.into());
        }
        for drafts in self.drafts.chunks(DRAFTS) {
            save(drafts).execute(db).await?;
        }
        let cancelled = Sql::new("SELECT id FROM turns WHERE status = '")
            .push(codes::RUNNING)
            .push("' AND cancel_requested = TRUE AND holder = ")
            .bind(self.worker.0);
        Ok(Heartbeat { cancel: ids(cancelled, db).await? })
    }
}

fn save(drafts: &[(TurnLease, Draft)]) -> Sql {
    let rows = drafts.iter().map(|(lease, draft)| -> [Value; 5] {
        [lease.turn.0.into(), lease.worker.0.into(), big(lease.epoch), draft.message.0.into(), draft.text.as_str().into()]
    });
    Sql::new("WITH v(turn_id, holder, epoch, message_id, text) AS (VALUES ").rows(rows).push(
        ") UPDATE turns SET draft_message_id = v.message_id, draft_text = v.text FROM v \
         WHERE turns.id = v.turn_id AND turns.holder = v.holder AND turns.epoch = v.epoch AND turns.ended_at IS NULL \
         AND NOT EXISTS (SELECT 1 FROM messages WHERE messages.id = v.message_id)",
    )
}

async fn ids(query: Sql, db: &DatabaseTransaction) -> Result<Vec<TurnId>, Fault> {
    query.all(db).await?.iter().map(|row| Ok(TurnId(Row::new("turns", 0, row).get(0, "id")?))).collect()
}

/// Takes over turns that no living worker holds.
pub(crate) struct TakeOver(pub(crate) Claim);

#[async_trait]
impl Command for TakeOver {
    type Answer = Vec<HeldTurn>;

    async fn run(&self, db: &DatabaseTransaction) -> Result<Vec<HeldTurn>, Stop> {
        let abandoned = self.abandoned(db).await?;
        if abandoned.is_empty() {
            return Ok(Vec::new());
        }
        let turns: Vec<TurnId> = abandoned.iter().map(|(turn, _)| *turn).collect();
        Sql::new("UPDATE turns SET epoch = epoch + 1, attempt = attempt + 1, draft_message_id = NULL, draft_text = NULL, holder = ")
            .bind(self.0.worker.0)
            .push(" WHERE id IN (")
            .list(turns.iter().map(|turn| turn.0))
            .push(")")
            .execute(db)
            .await?;
        let holders: Vec<Uuid> = abandoned.iter().filter_map(|(_, holder)| *holder).filter(|holder| *holder != self.0.worker.0).collect();
        if !holders.is_empty() {
            let forget = Sql::new("DELETE FROM workers WHERE expires_at <= ").push(NOW).push(" AND id IN (").list(holders).push(")");
            forget.execute(db).await?;
        }
        self.held(db, &turns).await
    }
}

impl TakeOver {
    /// Turns that run in nobody's hands, and who held them.
    async fn abandoned(&self, db: &DatabaseTransaction) -> Result<Vec<(TurnId, Option<Uuid>)>, Fault> {
        let Claim { worker, limit, holding } = &self.0;
        let query = Sql::new("SELECT t.id, t.holder FROM turns t WHERE t.status = '")
            .push(codes::RUNNING)
            .push("' AND (t.holder IS NULL OR ")
            // What is our own we have mislaid at most; a silence of ours is no reason to take it from ourselves.
            .push(if holding.is_some() { "t.holder = " } else { "t.holder <> " })
            .bind(worker.0)
            .push(if holding.is_some() { " OR " } else { " AND " })
            .push("NOT EXISTS (SELECT 1 FROM workers w WHERE w.id = t.holder AND w.expires_at > ")
            .push(NOW)
            .push(")");
        // What we know that we run is in good hands; it may be more than a statement takes.
        let known: HashSet<TurnId> = holding.iter().flatten().copied().collect();
        let enough = limit.saturating_add(u32::try_from(known.len()).unwrap_or(u32::MAX));
        let found = query.push(") ORDER BY t.holder").limit(enough).all(db).await?;
        let mut abandoned = Vec::new();
        for row in &found {
            let row = Row::new("turns", 0, row);
            abandoned.push((TurnId(row.get(0, "id")?), row.get(1, "holder")?));
        }
        abandoned.retain(|(turn, holder)| *holder != Some(worker.0) || !known.contains(turn));
        abandoned.truncate(usize::try_from(*limit).unwrap_or(usize::MAX));
        Ok(abandoned)
    }

    async fn held(&self, db: &DatabaseTransaction, turns: &[TurnId]) -> Result<Vec<HeldTurn>, Stop> {
        let query = Sql::new("SELECT ").push(rows::TURN).push(", t.owner, t.epoch, t.attempt FROM turns t WHERE t.id IN (");
        let fetched = query.list(turns.iter().map(|turn| turn.0)).push(") ORDER BY t.id").all(db).await?;
        let mut items: HashMap<_, _> = history::items_of(db, turns).await?;
        let mut held = Vec::new();
        for row in &fetched {
            let row = Row::new("turns", 0, row);
            let turn = rows::turn(row, 0)?;
            let lease = TurnLease { turn: turn.id, worker: self.0.worker, epoch: row.count(TURN_COLUMNS + 1, "epoch")? };
            let items = items.remove(&turn.id).unwrap_or_default();
            let attempt = row.count(TURN_COLUMNS + 2, "attempt")?;
            held.push(HeldTurn { turn, owner: rows::owner(row, TURN_COLUMNS)?, lease, attempt, items });
        }
        Ok(held)
    }
}

/// Forgets a worker and lets its turns go.
pub(crate) struct Retire(pub(crate) WorkerId);

#[async_trait]
impl Command for Retire {
    type Answer = ();

    async fn run(&self, db: &DatabaseTransaction) -> Result<(), Stop> {
        let release = Sql::new("UPDATE turns SET holder = NULL, attempt = attempt - 1 WHERE status = '");
        release.push(codes::RUNNING).push("' AND holder = ").bind(self.0.0).execute(db).await?;
        Sql::new("DELETE FROM workers WHERE id = ").bind(self.0.0).execute(db).await?;
        Ok(())
    }
}

/// Forgets all workers: right after the database was taken for this process, none can be alive.
pub(crate) struct ForgetAll;

#[async_trait]
impl Command for ForgetAll {
    type Answer = ();

    async fn run(&self, db: &DatabaseTransaction) -> Result<(), Stop> {
        Sql::new("DELETE FROM workers").execute(db).await?;
        Ok(())
    }
}
