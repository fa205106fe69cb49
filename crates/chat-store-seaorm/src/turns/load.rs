//! Loading the rows that a batch of commands needs.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chat_domain::log::{LoadedConversation, LoadedRows, LogNeeds, TurnRow};
use chat_domain::{ConversationId, IdempotencyKey, Ordinal, Timestamp, TurnId, WorkerId};
use uuid::Uuid;

use crate::codes;
use crate::db::Db;
use crate::error::StoreFault;
use crate::rows::{self, TURN_COLUMNS};
use crate::sql::{Row, Sql, Value};

/// The statements that load what some commands need.
struct Queries<'a>(&'a LogNeeds);

impl Queries<'_> {
    /// Selects the conversations, and locks them until the end of the transaction: any other that
    /// begins, grows, ends, cancels or claims a turn of theirs waits. In order of their ids, so
    /// that no two transactions wait for each other.
    fn conversations(&self) -> Option<Sql> {
        let named =
            || Sql::default().rows(self.0.conversations.iter().map(|id| [Value::from(id.0)]));
        let of_leased = || {
            Sql::new("SELECT conversation_id FROM turns WHERE id IN (")
                .list(ids(&self.0.leased))
                .push(")")
        };
        let wanted = match (self.0.conversations.is_empty(), self.0.leased.is_empty()) {
            (true, true) => return None,
            (false, true) => named(),
            (true, false) => of_leased(),
            (false, false) => of_leased().push(" UNION ALL ").append(named()),
        };
        let select = Sql::new(
            "SELECT c.id, c.owner, c.updated_at, c.last_position, c.last_ordinal FROM conversations c WHERE c.id",
        );
        Some(
            select
                .in_array(wanted)
                .push(" ORDER BY c.id")
                .for_update("c"),
        )
    }

    /// Selects the items that are named, the turns that are, those that used the idempotency keys,
    /// and of the conversations' open ones as few as will do: they may be many, and each batch
    /// would fetch them all again. How many there are is counted with one of them, by a statement
    /// that begins only when the conversations are locked.
    fn rows(&self) -> Sql {
        let select = |open: &'static str| {
            Sql::new("SELECT 0, ")
                .push(rows::TURN)
                .push(LEDGER)
                .push(open)
                .push(" FROM ")
        };
        let another = |open: &'static str| Sql::new(" UNION ALL ").append(select(open));
        let mut query = select(NOT_COUNTED)
            .push("turns t WHERE t.id IN (")
            .list(ids(&self.0.turns))
            .push(")");
        if !self.0.conversations.is_empty() {
            let running = another(OPEN)
                .push("turns t WHERE t.status = '")
                .push(codes::RUNNING)
                .push("' AND t.conversation_id IN (");
            query = query.append(
                running
                    .list(self.0.conversations.iter().map(|id| id.0))
                    .push(")"),
            );
        }
        if !self.0.interrupted.is_empty() {
            let open = another(NOT_COUNTED)
                .push("turns t WHERE t.ended_at IS NULL AND t.conversation_id IN (");
            query = query.append(
                open.list(self.0.interrupted.iter().map(|id| id.0))
                    .push(")"),
            );
        }
        if !self.0.ending.is_empty() {
            // The running turn, and the queued ones up to the first that is not cancelled.
            let next = another(OPEN_BESIDE_ENDING)
                .push("turns e JOIN turns t ON t.conversation_id = e.conversation_id AND t.ended_at IS NULL AND t.ordinal <= ")
                .push("COALESCE((SELECT w.ordinal FROM turns w WHERE w.conversation_id = e.conversation_id AND w.ended_at IS NULL ")
                .push("AND w.status = '")
                .push(codes::QUEUED)
                .push("' AND NOT w.cancel_requested ORDER BY w.ordinal")
                .limit(1)
                .push("), ")
                .push(i64::MAX.to_string())
                .push(") WHERE e.id IN (");
            query = query.append(next.list(ids(&self.0.ending)).push(")"));
        }
        if !self.0.keys.is_empty() {
            let keys = self
                .0
                .keys
                .iter()
                .map(|(owner, key)| [Value::from(owner.as_str()), Value::from(key.as_str())]);
            query = query.append(another(NOT_COUNTED).push("(").rows(keys).push(
                ") AS used JOIN turns t ON t.owner = used.column1 AND t.idempotency_key = used.column2 AND t.idempotency_key IS NOT NULL",
            ));
        }
        if !self.0.messages.is_empty() {
            let messages = Sql::new(" UNION ALL SELECT 1, ")
                .push(rows::MESSAGE)
                .push(NO_LEDGER)
                .push(" FROM messages m WHERE m.id IN (");
            query = query.append(
                messages
                    .list(self.0.messages.iter().map(|id| id.0))
                    .push(")"),
            );
        }
        if !self.0.calls.is_empty() {
            let calls = Sql::new(" UNION ALL SELECT 2, ")
                .push(rows::CALL)
                .push(NO_LEDGER)
                .push(" FROM tool_calls k WHERE k.id IN (");
            query = query.append(calls.list(self.0.calls.iter().map(|id| id.0)).push(")"));
        }
        query
    }
}

fn ids(turns: &[TurnId]) -> impl Iterator<Item = Uuid> {
    turns.iter().map(|id| id.0)
}

/// The columns after [`rows::TURN`]: as many as items have, and the ledger's own.
const LEDGER: &str = ", t.draft_message_id, CAST(NULL AS TEXT), CAST(NULL AS TEXT), \
    t.owner, t.holder, t.epoch, t.attempt, t.next_id, t.idempotency_key, t.fingerprint, t.spent_us, \
    (SELECT r.ordinal FROM turns r WHERE r.id = t.retry_of), ";

/// The ledger's own columns of an item.
const NO_LEDGER: &str = ", NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL";

/// Where the ledger's own columns begin.
const OWN: usize = 1 + rows::CALL_COLUMNS;

/// The number's type must be the same in each branch.
const NOT_COUNTED: &str = "CAST(0 AS BIGINT)";

/// How many turns of the conversation run or wait.
const OPEN: &str = "(SELECT COUNT(*) FROM turns o WHERE o.conversation_id = t.conversation_id AND o.ended_at IS NULL)";

/// The same, where several turns of a conversation are selected: once is enough.
const OPEN_BESIDE_ENDING: &str = "CASE WHEN t.id = e.id THEN (SELECT COUNT(*) FROM turns o WHERE o.conversation_id = t.conversation_id AND o.ended_at IS NULL) ELSE CAST(0 AS BIGINT) END";

/// Loads the rows, by two statements at most.
pub(super) async fn load(db: &Db, needs: &LogNeeds) -> Result<LoadedRows, StoreFault> {
    let queries = Queries(needs);
    let mut loaded = LoadedRows::default();
    if let Some(query) = queries.conversations() {
        for row in &query.all(db).await? {
            let row = conversation(Row::new("conversations", 0, row))?;
            loaded.conversations.push(row);
        }
    }
    // How many turns are open, and which of them are loaded.
    let mut open: HashMap<ConversationId, (usize, HashSet<TurnId>)> = HashMap::new();
    for row in &queries.rows().all(db).await? {
        match row.try_get_by::<i32, _>(0)? {
            0 => {
                let row = Row::new("turns", 1, row);
                let counted: usize = row.count(OWN + 9, "open")?;
                let row = turn(row)?;
                let (count, seen) = open.entry(row.turn.conversation).or_default();
                *count = counted.max(*count);
                if !row.turn.status.is_ended() {
                    seen.insert(row.turn.id);
                }
                loaded.turns.push(row);
            }
            1 => {
                let row = Row::new("messages", 1, row);
                loaded.items.push(rows::message(row, 1)?);
            }
            _ => {
                let row = Row::new("tool_calls", 1, row);
                loaded.items.push(rows::call(row, 1)?);
                loaded.items.extend(rows::result(row, 1)?);
            }
        }
    }
    for row in &mut loaded.conversations {
        if let Some((count, seen)) = open.get(&row.id) {
            row.open_turns_not_loaded = count.saturating_sub(seen.len());
        }
    }
    Ok(loaded)
}

fn conversation(row: Row<'_>) -> Result<LoadedConversation, StoreFault> {
    Ok(LoadedConversation {
        id: ConversationId(row.get(0, "id")?),
        owner: rows::owner(row, 1)?,
        updated_at: Timestamp(row.get(2, "updated_at")?),
        last_position: row.count(3, "last_position")?,
        last_ordinal: row.count(4, "last_ordinal")?,
        open_turns_not_loaded: 0,
    })
}

fn turn(row: Row<'_>) -> Result<TurnRow, StoreFault> {
    let idempotency = match row.get::<Option<String>>(OWN + 5, "idempotency_key")? {
        Some(key) => {
            let fingerprint = row.get::<Vec<u8>>(OWN + 6, "fingerprint")?;
            let fingerprint = fingerprint
                .try_into()
                .map_err(|_| row.corrupt("fingerprint", "it is not 32 bytes long"))?;
            Some(IdempotencyKey { key, fingerprint })
        }
        None => None,
    };
    let holder = row.get::<Option<Uuid>>(OWN + 1, "holder")?.map(WorkerId);
    let epoch = row.count(OWN + 2, "epoch")?;
    Ok(TurnRow {
        turn: rows::turn(row, 1)?,
        owner: rows::owner(row, OWN)?,
        holder,
        epoch,
        attempt: row.count(OWN + 3, "attempt")?,
        spent: Duration::from_micros(row.count(OWN + 7, "spent_us")?),
        next: row.get::<Option<Uuid>>(OWN + 4, "next_id")?.map(TurnId),
        idempotency,
        has_draft: row
            .get::<Option<Uuid>>(1 + TURN_COLUMNS, "draft_message_id")?
            .is_some(),
        retried: row
            .get::<Option<i64>>(OWN + 8, "retry_of")?
            .map(|_| row.count(OWN + 8, "retry_of").map(Ordinal))
            .transpose()?,
    })
}
