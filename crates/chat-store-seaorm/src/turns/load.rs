//! Fetching what a batch of commands needs.

use chat_domain::{ConversationId, IdempotencyKey, ItemBody, MessageId, NewItem, Target, Timestamp, ToolCallId, TurnId, UserId, WorkerId};
use sea_orm::{ConnectionTrait, QueryResult, Value};
use uuid::Uuid;

use super::ledger::{CallRow, Change, ConversationRow, Ledger, MessageRow, TurnRow};
use crate::fault::Fault;
use crate::job::Job;
use crate::rows::{self, TURN_COLUMNS};
use crate::sql::{Row, Sql};

/// What a batch of commands names.
#[derive(Default)]
pub(super) struct Wants {
    conversations: Vec<ConversationId>,
    /// Turns whose conversations are needed too.
    leased: Vec<TurnId>,
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
                Job::Begin(call) => {
                    let begin = &call.command;
                    if let Target::Existing(id) = begin.target {
                        wants.conversations.push(id);
                    }
                    wants.turns.push(begin.turn);
                    wants.turns.extend(begin.retry_of);
                    wants.keys.extend(begin.idempotency.iter().map(|used| (begin.owner.clone(), used.key.clone())));
                }
                Job::Append(call) => wants.items(call.command.lease.turn, &call.command.items),
                Job::End(call) => wants.items(call.command.lease.turn, &call.command.last),
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

    /// Selects the ids of the conversations.
    fn conversation_ids(&self) -> Option<Sql> {
        let named = Sql::new("VALUES ").rows(self.conversations.iter().map(|id| [Value::from(id.0)]));
        let of_leased = Sql::new("SELECT conversation_id FROM turns WHERE id IN (").list(self.leased.iter().map(|id| id.0)).push(")");
        match (self.conversations.is_empty(), self.leased.is_empty()) {
            (true, true) => None,
            (false, true) => Some(named),
            (true, false) => Some(of_leased),
            (false, false) => Some(of_leased.push(" UNION ALL ").append(named)),
        }
    }
}

const LEDGER: &str = ", t.owner, t.holder, t.epoch, t.attempt, t.next_id, t.idempotency_key, t.fingerprint, t.draft_message_id IS NOT NULL";

/// Fetches it: at most two statements, and one for each kind of item.
pub(super) async fn load(db: &impl ConnectionTrait, wants: &Wants) -> Result<Ledger, Fault> {
    let mut ledger = Ledger::default();
    if let Some(ids) = wants.conversation_ids() {
        let query = Sql::new("SELECT id, owner, updated_at, last_position, last_ordinal FROM conversations WHERE id IN (");
        for row in &query.append(ids).push(")").all(db).await? {
            let row = conversation(Row::new("conversations", 0, row))?;
            ledger.conversations.insert(row.id, row);
        }
    }
    for row in &turns(wants).all(db).await? {
        ledger.add_turn(turn(row)?);
    }
    if !wants.messages.is_empty() {
        let query = Sql::new("SELECT ").push(rows::MESSAGE).push(", m.conversation_id FROM messages m WHERE m.id IN (");
        for row in &query.list(wants.messages.iter().map(|id| id.0)).push(")").all(db).await? {
            let row = Row::new("messages", 0, row);
            let conversation = ConversationId(row.get(rows::CALL_COLUMNS, "conversation_id")?);
            let id = MessageId(row.get(0, "id")?);
            ledger.messages.insert(id, MessageRow { item: rows::message(row, 0)?, conversation, change: Change::None });
        }
    }
    if !wants.calls.is_empty() {
        let query = Sql::new("SELECT ").push(rows::CALL).push(" FROM tool_calls k WHERE k.id IN (");
        for row in &query.list(wants.calls.iter().map(|id| id.0)).push(")").all(db).await? {
            let row = Row::new("tool_calls", 0, row);
            let entry = CallRow { call: rows::call(row, 0)?, result: rows::result(row, 0)?, change: Change::None };
            ledger.calls.insert(ToolCallId(row.get(0, "id")?), entry);
        }
    }
    Ok(ledger)
}

/// Selects the open turns of the conversations, the turns that are named, and those that used the idempotency keys.
fn turns(wants: &Wants) -> Sql {
    let select = |from: &str| Sql::new("SELECT ").push(rows::TURN).push(LEDGER).push(from);
    let mut query = select(" FROM turns t WHERE t.id IN (").list(wants.turns.iter().map(|id| id.0)).push(")");
    if let Some(ids) = wants.conversation_ids() {
        let open = select(" FROM turns t WHERE t.ended_at IS NULL AND t.conversation_id IN (").append(ids).push(")");
        query = query.push(" UNION ALL ").append(open);
    }
    if !wants.keys.is_empty() {
        let keys = wants.keys.iter().map(|(owner, key)| [Value::from(owner.as_str()), Value::from(key.as_str())]);
        let used = select(" FROM (VALUES ").rows(keys).push(
            ") AS used JOIN turns t ON t.owner = used.column1 AND t.idempotency_key = used.column2 AND t.idempotency_key IS NOT NULL",
        );
        query = query.push(" UNION ALL ").append(used);
    }
    query
}

fn conversation(row: Row<'_>) -> Result<ConversationRow, Fault> {
    Ok(ConversationRow {
        id: ConversationId(row.get(0, "id")?),
        owner: rows::owner(row, 1)?,
        title: None,
        updated_at: Timestamp(row.get(2, "updated_at")?),
        last_position: row.count(3, "last_position")?,
        last_ordinal: row.count(4, "last_ordinal")?,
        change: Change::None,
    })
}

fn turn(row: &QueryResult) -> Result<TurnRow, Fault> {
    const OWN: usize = TURN_COLUMNS;
    let row = Row::new("turns", 0, row);
    let idempotency = match row.get::<Option<String>>(OWN + 5, "idempotency_key")? {
        Some(key) => {
            let fingerprint = row.get::<Vec<u8>>(OWN + 6, "fingerprint")?;
            let fingerprint = fingerprint.try_into().map_err(|_| row.corrupt("fingerprint", "it is not 32 bytes long"))?;
            Some(IdempotencyKey { key, fingerprint })
        }
        None => None,
    };
    Ok(TurnRow {
        turn: rows::turn(row, 0)?,
        owner: rows::owner(row, OWN)?,
        holder: row.get::<Option<Uuid>>(OWN + 1, "holder")?.map(WorkerId),
        epoch: row.count(OWN + 2, "epoch")?,
        attempt: row.count(OWN + 3, "attempt")?,
        next: row.get::<Option<Uuid>>(OWN + 4, "next_id")?.map(TurnId),
        idempotency,
        has_draft: row.get(OWN + 7, "draft_message_id")?,
        change: Change::None,
    })
}
