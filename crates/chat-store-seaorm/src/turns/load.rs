//! Fetching what a batch of commands needs.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use chat_domain::{
    BusyPolicy, ConversationId, IdempotencyKey, ItemBody, MessageId, NewItem, Ordinal, Target,
    Timestamp, ToolCallId, TurnId, UserId, WorkerId,
};
use uuid::Uuid;

use super::ledger::{CallRow, Change, ConversationRow, Ledger, MessageRow, TurnRow};
use crate::codes;
use crate::db::Db;
use crate::fault::Fault;
use crate::job::Job;
use crate::rows::{self, TURN_COLUMNS};
use crate::sql::{Row, Sql, Value};

/// What a batch of commands names.
#[derive(Default)]
pub(super) struct Wants {
    /// Conversations that turns begin in: what runs there matters, and how many wait.
    conversations: Vec<ConversationId>,
    /// Those of them where all that runs and waits may be cancelled.
    interrupted: Vec<ConversationId>,
    /// Turns whose conversations are needed too.
    leased: Vec<TurnId>,
    /// Turns that end: what waits next in their conversations is needed too.
    ending: Vec<TurnId>,
    /// Turns that are looked up by id, whether they are open or not.
    turns: Vec<TurnId>,
    keys: Vec<(UserId, String)>,
    messages: Vec<MessageId>,
    calls: Vec<ToolCallId>,
}

impl Wants {
    pub(super) fn of(jobs: &[Job]) -> Self {
        let mut wants = Self::default();
        for job in jobs {
            match job {
                Job::Begin(submission) => {
                    let begin = &submission.command;
                    if let Target::Existing(id) = begin.target {
                        wants.conversations.push(id);
                        wants
                            .interrupted
                            .extend((begin.busy == BusyPolicy::Interrupt).then_some(id));
                    }
                    wants.turns.push(begin.turn);
                    wants.turns.extend(begin.retry_of);
                    wants.keys.extend(
                        begin
                            .idempotency
                            .iter()
                            .map(|used| (begin.owner.clone(), used.key.clone())),
                    );
                }
                Job::Append(submission) => {
                    wants.items(submission.command.lease.turn, &submission.command.items)
                }
                Job::End(submission) => {
                    wants.ending.push(submission.command.lease.turn);
                    wants.items(submission.command.lease.turn, &submission.command.last);
                }
                Job::Other(_) => {}
            }
        }
        wants
    }

    pub(super) fn nothing(&self) -> bool {
        self.turns.is_empty()
    }

    fn items(&mut self, turn: TurnId, items: &[NewItem]) {
        self.leased.push(turn);
        self.turns.push(turn);
        for item in items {
            match &item.body {
                ItemBody::Message(message) => self.messages.push(message.id),
                ItemBody::ToolCall(call) => self.calls.push(call.id),
                ItemBody::ToolResult(result) => self.calls.push(result.call),
            }
        }
    }

    /// Selects the conversations, and locks them until the end of the transaction: whoever else
    /// begins, grows, ends, cancels or claims a turn of theirs waits. In order of their ids, so
    /// that no two transactions wait for each other.
    fn conversations(&self) -> Option<Sql> {
        let named = || Sql::default().rows(self.conversations.iter().map(|id| [Value::from(id.0)]));
        let of_leased = || {
            Sql::new("SELECT conversation_id FROM turns WHERE id IN (")
                .list(ids(&self.leased))
                .push(")")
        };
        let wanted = match (self.conversations.is_empty(), self.leased.is_empty()) {
            (true, true) => return None,
            (false, true) => named(),
            (true, false) => of_leased(),
            (false, false) => of_leased().push(" UNION ALL ").append(named()),
        };
        let select = Sql::new(
            "SELECT c.id, c.owner, c.updated_at, c.last_position, c.last_ordinal FROM conversations c WHERE c.id",
        );
        Some(select.among(wanted).push(" ORDER BY c.id").locking("c"))
    }

    /// Selects the items that are named, the turns that are, those that used the idempotency keys,
    /// and of the conversations' open ones as few as will do: they may be many, and each batch
    /// would fetch them all again. How many there are is counted beside one of them, by a statement
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
            .list(ids(&self.turns))
            .push(")");
        if !self.conversations.is_empty() {
            let running = another(OPEN)
                .push("turns t WHERE t.status = '")
                .push(codes::RUNNING)
                .push("' AND t.conversation_id IN (");
            query = query.append(
                running
                    .list(self.conversations.iter().map(|id| id.0))
                    .push(")"),
            );
        }
        if !self.interrupted.is_empty() {
            let open = another(NOT_COUNTED)
                .push("turns t WHERE t.ended_at IS NULL AND t.conversation_id IN (");
            query = query.append(open.list(self.interrupted.iter().map(|id| id.0)).push(")"));
        }
        if !self.ending.is_empty() {
            // What runs, and what waits up to the first that is still wanted.
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
            query = query.append(next.list(ids(&self.ending)).push(")"));
        }
        if !self.keys.is_empty() {
            let keys = self
                .keys
                .iter()
                .map(|(owner, key)| [Value::from(owner.as_str()), Value::from(key.as_str())]);
            query = query.append(another(NOT_COUNTED).push("(").rows(keys).push(
                ") AS used JOIN turns t ON t.owner = used.column1 AND t.idempotency_key = used.column2 AND t.idempotency_key IS NOT NULL",
            ));
        }
        if !self.messages.is_empty() {
            let messages = Sql::new(" UNION ALL SELECT 1, ")
                .push(rows::MESSAGE)
                .push(NO_LEDGER)
                .push(" FROM messages m WHERE m.id IN (");
            query = query.append(messages.list(self.messages.iter().map(|id| id.0)).push(")"));
        }
        if !self.calls.is_empty() {
            let calls = Sql::new(" UNION ALL SELECT 2, ")
                .push(rows::CALL)
                .push(NO_LEDGER)
                .push(" FROM tool_calls k WHERE k.id IN (");
            query = query.append(calls.list(self.calls.iter().map(|id| id.0)).push(")"));
        }
        query
    }
}

fn ids(turns: &[TurnId]) -> impl Iterator<Item = Uuid> {
    turns.iter().map(|id| id.0)
}

/// What follows [`rows::TURN`]: as many columns as items have, and the ledger's own.
const LEDGER: &str = ", t.draft_message_id, CAST(NULL AS TEXT), CAST(NULL AS TEXT), CAST(NULL AS BIGINT), \
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

/// Fetches it, by two statements at most.
pub(super) async fn load(db: &Db, wants: &Wants) -> Result<Ledger, Fault> {
    let mut ledger = Ledger::default();
    if let Some(query) = wants.conversations() {
        for row in &query.all(db).await? {
            let row = conversation(Row::new("conversations", 0, row))?;
            ledger.conversations.insert(row.id, row);
        }
    }
    let mut open: HashMap<ConversationId, usize> = HashMap::new();
    for row in &wants.rows().all(db).await? {
        match row.try_get_by::<i32, _>(0)? {
            0 => {
                let row = Row::new("turns", 1, row);
                let counted: usize = row.count(OWN + 9, "open")?;
                let row = turn(row)?;
                let known = open.entry(row.turn.conversation).or_default();
                *known = counted.max(*known);
                ledger.add_turn(row);
            }
            1 => {
                let row = Row::new("messages", 1, row);
                ledger.messages.insert(
                    MessageId(row.get(1, "id")?),
                    MessageRow {
                        item: rows::message(row, 1)?,
                        change: Change::None,
                    },
                );
            }
            _ => {
                let row = Row::new("tool_calls", 1, row);
                let entry = CallRow {
                    call: rows::call(row, 1)?,
                    result: rows::result(row, 1)?,
                    change: Change::None,
                };
                ledger.calls.insert(ToolCallId(row.get(1, "id")?), entry);
            }
        }
    }
    for (id, row) in &mut ledger.conversations {
        let seen = ledger.open.get(id).map_or(0, BTreeMap::len);
        row.unseen = open.get(id).map_or(0, |open| open.saturating_sub(seen));
    }
    Ok(ledger)
}

fn conversation(row: Row<'_>) -> Result<ConversationRow, Fault> {
    Ok(ConversationRow {
        id: ConversationId(row.get(0, "id")?),
        owner: rows::owner(row, 1)?,
        title: None,
        updated_at: Timestamp(row.get(2, "updated_at")?),
        last_position: row.count(3, "last_position")?,
        last_ordinal: row.count(4, "last_ordinal")?,
        unseen: 0,
        change: Change::None,
    })
}

fn turn(row: Row<'_>) -> Result<TurnRow, Fault> {
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
        stored_epoch: epoch,
        stored_holder: holder,
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
        change: Change::None,
    })
}
