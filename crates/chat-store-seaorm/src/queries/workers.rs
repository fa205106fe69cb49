//! The table `workers`: leases, and the drafts that are saved with them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use chat_domain::{DraftUpdate, Heartbeat, Position, Refusal, TurnId, TurnVersion, WorkerId};
use uuid::Uuid;

use crate::batch::{Command, CommandError};
use crate::columns::{Columns, column};
use crate::connection::Connection;
use crate::error::StoreFault;
use crate::row::Row;
use crate::sql::{Sql, Value, big, micros};

/// How many drafts a statement saves: all databases bound the number of values.
const DRAFTS: usize = 4000;

/// How long after the end of its lease a worker without turns is deleted. Until then it may come
/// back under its id.
const DEAD_AFTER: Duration = Duration::from_secs(300);

const REGISTER: &str = "
    INSERT INTO workers (id, expires_at) VALUES (:id, {now} + :lease)
    ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at";

/// Workers that died while they held no turn: nothing else would ever delete them.
const DELETE_DEAD: &str = "
    DELETE FROM workers WHERE id IN (
        SELECT w.id FROM workers w
        WHERE w.expires_at < {now} - :dead_after AND NOT EXISTS (
            SELECT 1 FROM turns t WHERE t.holder = w.id AND t.status = 'running'
        ) {for_update_of_w} {skip_locked}
    )";

const RENEW: &str = "UPDATE workers SET expires_at = {now} + :lease WHERE id = :id";

const CANCELLED: &str = "
    SELECT id FROM turns
    WHERE status = 'running' AND cancel_requested = TRUE AND holder = :id";

const LOCK_TURNS: &str = "
    SELECT t.id FROM turns t
    WHERE t.ended_at IS NULL AND t.id IN (:turns) {for_update_of_t} {skip_locked}";

/// A statement of its own: it sees the messages that were stored before the turns were locked.
const SAVE_DRAFTS: &str = "
    WITH v(turn_id, holder, epoch, message_id, text) AS (:rows)
    UPDATE turns SET draft_message_id = v.message_id, draft_text = v.text
    FROM v WHERE turns.id = v.turn_id AND turns.holder = v.holder AND turns.epoch = v.epoch
        AND turns.ended_at IS NULL
        AND NOT EXISTS (SELECT 1 FROM messages WHERE messages.id = v.message_id)";

/// Which workers have a lease that has not expired. None of them can renew or release it until the
/// end of the transaction.
const LOCK_LEASES: &str = "
    SELECT {columns} FROM workers w
    WHERE w.id IN (:ids) ORDER BY w.id {for_update_of_w}";

const DELETE: &str = "DELETE FROM workers WHERE id IN (:ids)";

const RELEASE_TURNS: &str = "
    UPDATE turns SET holder = NULL,
        attempt = attempt - CASE WHEN id IN (:handed_over) THEN 1 ELSE 0 END,
        spent_us = spent_us + {attempt_time}, attempt_started_at = NULL
    WHERE status = 'running' AND holder = :id";

/// The times of the running attempts would be lost with the leases.
const ADD_ATTEMPT_TIMES: &str = "
    UPDATE turns SET spent_us = spent_us + {attempt_time}, attempt_started_at = NULL
    WHERE status = 'running'";

/// The length of a draft is known without reading the text.
const VERSIONS: &str = "
    SELECT {columns} FROM turns t JOIN conversations c ON c.id = t.conversation_id
    WHERE t.id IN (:ids)";

const VERSION: Columns = Columns::new(
    "turns",
    "t.id, t.epoch, t.ended_at IS NOT NULL AS is_ended, c.last_position, \
     CAST(COALESCE(octet_length(t.draft_text), 0) AS BIGINT) AS draft_bytes",
);

/// The columns of [`LOCK_LEASES`].
const LEASE: Columns = Columns::new("workers", "w.id, w.expires_at > {now} AS is_alive");

/// The column of a query that selects ids of turns.
const TURN_ID: Columns = Columns::new("turns", "id");

/// Registers a worker, or renews its lease.
pub(crate) struct Register {
    pub(crate) worker: WorkerId,
    pub(crate) lease: Duration,
}

#[async_trait]
impl Command for Register {
    type Answer = ();

    async fn run(&self, db: &dyn Connection) -> Result<(), CommandError> {
        Sql::new(REGISTER)
            .bind("id", self.worker.0)
            .bind("lease", micros(self.lease))
            .execute(db)
            .await?;
        Sql::new(DELETE_DEAD)
            .bind("dead_after", micros(DEAD_AFTER))
            .execute(db)
            .await?;
        Ok(())
    }
}

/// Renews a worker's lease, saves drafts, and returns which of its turns are to be cancelled.
pub(crate) struct RenewLease {
    pub(crate) worker: WorkerId,
    pub(crate) lease: Duration,
    pub(crate) drafts: Vec<DraftUpdate>,
}

#[async_trait]
impl Command for RenewLease {
    type Answer = Heartbeat;

    async fn run(&self, db: &dyn Connection) -> Result<Heartbeat, CommandError> {
        let renewed = Sql::new(RENEW)
            .bind("lease", micros(self.lease))
            .bind("id", self.worker.0)
            .execute(db)
            .await?;
        if renewed == 0 {
            return Err(Refusal::LeaseLost.into());
        }
        for drafts in self.drafts.chunks(DRAFTS) {
            save_drafts(drafts, db).await?;
        }
        let cancelled = Sql::new(CANCELLED).bind("id", self.worker.0);
        Ok(Heartbeat {
            cancel: turn_ids(cancelled, db).await?,
        })
    }
}

/// Saves drafts. A turn that another transaction writes now is left out: its draft becomes an item,
/// or the turn ends.
async fn save_drafts(drafts: &[DraftUpdate], db: &dyn Connection) -> Result<(), StoreFault> {
    let turns = drafts.iter().map(|update| update.lease.turn.0);
    let lock = Sql::new(LOCK_TURNS).list("turns", turns);
    let locked: HashSet<TurnId> = turn_ids(lock, db).await?.into_iter().collect();
    if locked.is_empty() {
        return Ok(());
    }
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
    let save = Sql::new(SAVE_DRAFTS).rows("rows", rows);
    save.execute(db).await.map(drop)
}

/// The ids of the turns that a query selects.
async fn turn_ids(query: Sql, db: &dyn Connection) -> Result<Vec<TurnId>, StoreFault> {
    let found = query.query(db).await?;
    let ids = found.iter().map(|row| {
        Row::new(&TURN_ID, row)
            .get(column!(TURN_ID, "id"))
            .map(TurnId)
    });
    ids.collect()
}

/// Locks the leases of these workers; returns the workers whose lease has not expired.
pub(crate) async fn lock_leases(
    workers: BTreeSet<Uuid>,
    db: &dyn Connection,
) -> Result<BTreeSet<Uuid>, StoreFault> {
    let found = Sql::new(LOCK_LEASES)
        .text("columns", LEASE.text)
        .list("ids", workers)
        .query(db)
        .await?;
    let mut alive = BTreeSet::new();
    for row in found.iter().map(|row| Row::new(&LEASE, row)) {
        if row.get(column!(LEASE, "is_alive"))? {
            alive.insert(row.get(column!(LEASE, "id"))?);
        }
    }
    Ok(alive)
}

/// Deletes workers.
pub(crate) async fn delete(workers: BTreeSet<Uuid>, db: &dyn Connection) -> Result<(), StoreFault> {
    let delete = Sql::new(DELETE).list("ids", workers);
    delete.execute(db).await.map(drop)
}

/// Deregisters a worker and releases its turns. The attempt at the turns that it hands over does
/// not count.
pub(crate) struct Deregister {
    pub(crate) worker: WorkerId,
    pub(crate) handed_over: Vec<TurnId>,
}

#[async_trait]
impl Command for Deregister {
    type Answer = ();

    async fn run(&self, db: &dyn Connection) -> Result<(), CommandError> {
        Sql::new(RELEASE_TURNS)
            .list("handed_over", self.handed_over.iter().map(|turn| turn.0))
            .bind("id", self.worker.0)
            .execute(db)
            .await?;
        delete(BTreeSet::from([self.worker.0]), db).await?;
        Ok(())
    }
}

/// Deletes all workers. None can be alive right after this process has taken the database.
pub(crate) struct DeleteAllWorkers;

#[async_trait]
impl Command for DeleteAllWorkers {
    type Answer = ();

    async fn run(&self, db: &dyn Connection) -> Result<(), CommandError> {
        Sql::new(ADD_ATTEMPT_TIMES).execute(db).await?;
        Sql::new("DELETE FROM workers").execute(db).await?;
        Ok(())
    }
}

/// The version of each turn. Unknown ids are omitted.
pub(crate) async fn turn_versions(
    db: Box<dyn Connection>,
    turns: Vec<TurnId>,
) -> Result<HashMap<TurnId, TurnVersion>, CommandError> {
    let found = Sql::new(VERSIONS)
        .text("columns", VERSION.text)
        .list("ids", turns.into_iter().map(|turn| turn.0))
        .query(&*db)
        .await?;
    let mut versions = HashMap::new();
    for row in found.iter().map(|row| Row::new(&VERSION, row)) {
        let version = TurnVersion {
            epoch: row.count(column!(VERSION, "epoch"))?,
            ended: row.get(column!(VERSION, "is_ended"))?,
            last: Position(row.count(column!(VERSION, "last_position"))?),
            draft_bytes: row.count(column!(VERSION, "draft_bytes"))?,
        };
        versions.insert(TurnId(row.get(column!(VERSION, "id"))?), version);
    }
    Ok(versions)
}
