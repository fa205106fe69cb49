//! Loads the rows that a batch of commands needs.

use std::collections::{HashMap, HashSet};

use chat_domain::log::{LoadedConversation, LoadedRows, LogNeeds, TurnRow};
use chat_domain::{ConversationId, Ordinal, Timestamp, TurnId};
use uuid::Uuid;

use crate::columns::{Columns, HELD, MESSAGE, NOT_HELD, TOOL_CALL, TURN, column};
use crate::connection::Connection;
use crate::error::StoreFault;
use crate::queries::log::{Kind, kind};
use crate::queries::{conversations, messages, tool_calls, turns};
use crate::row::Row;
use crate::sql::{Sql, Value};

/// The conversations, locked until the end of the transaction: any other transaction that begins,
/// grows, ends, cancels or claims a turn of theirs waits. In order of their ids, so that no two
/// transactions wait for each other.
const CONVERSATIONS: &str = "
    SELECT {columns} FROM conversations c
    WHERE c.id {in_array} {which} {end_array}
    ORDER BY c.id {for_update_of_c}";

const OF_LEASED_TURNS: &str = "SELECT conversation_id FROM turns WHERE id IN (:leased)";

const CONVERSATION: Columns = Columns::new(
    "conversations",
    "c.id, c.owner, c.updated_at, c.last_position, c.last_ordinal",
);

/// The turns that are named.
const TURNS: &str = "
    SELECT {turn}, CAST(0 AS BIGINT) AS open_turns FROM turns t WHERE t.id IN (:turns)";

/// The turn that runs in each conversation, and how many of its turns run or wait. Counted by a
/// statement that begins only when the conversations are locked.
const RUNNING: &str = "
    UNION ALL
    SELECT {turn}, (
        SELECT COUNT(*) FROM turns o
        WHERE o.conversation_id = t.conversation_id AND o.ended_at IS NULL
    )
    FROM turns t WHERE t.status = 'running' AND t.conversation_id IN (:conversations)";

/// All turns that run or wait.
const OPEN: &str = "
    UNION ALL
    SELECT {turn}, CAST(0 AS BIGINT)
    FROM turns t WHERE t.ended_at IS NULL AND t.conversation_id IN (:interrupted)";

/// For turns that end: the running turn, and the queued ones up to the first that is not cancelled.
/// There may be many others, and each batch would load them all again. The open turns of the
/// conversation are counted in the row of the ending turn.
const NEXT: &str = "
    UNION ALL
    SELECT {turn}, CASE WHEN t.id = e.id THEN (
        SELECT COUNT(*) FROM turns o
        WHERE o.conversation_id = t.conversation_id AND o.ended_at IS NULL
    ) ELSE CAST(0 AS BIGINT) END
    FROM turns e JOIN turns t ON t.conversation_id = e.conversation_id AND t.ended_at IS NULL
        AND t.ordinal <= COALESCE((
            SELECT w.ordinal FROM turns w
            WHERE w.conversation_id = e.conversation_id AND w.ended_at IS NULL
                AND w.status = 'queued' AND NOT w.cancel_requested
            ORDER BY w.ordinal LIMIT 1
        ), 9223372036854775807)
    WHERE e.id IN (:ending)";

/// The turns that used the idempotency keys.
const USED_KEYS: &str = "
    UNION ALL
    SELECT {turn}, CAST(0 AS BIGINT)
    FROM (:keys) AS used JOIN turns t ON t.owner = used.column1
        AND t.idempotency_key = used.column2 AND t.idempotency_key IS NOT NULL";

const MESSAGES: &str = "
    UNION ALL
    SELECT {message} FROM messages m WHERE m.id IN (:messages)";

const TOOL_CALLS: &str = "
    UNION ALL
    SELECT {tool_call} FROM tool_calls k WHERE k.id IN (:calls)";

/// The column of a turn behind [`HELD`].
const RETRIED: Columns =
    HELD.then("(SELECT r.ordinal FROM turns r WHERE r.id = t.retry_of) AS retried");

/// The column behind [`RETRIED`].
const OPEN_TURNS: Columns = RETRIED.then("open_turns");

/// The statement that loads and locks conversations, if any are needed.
fn conversations_query(needs: &LogNeeds) -> Option<Sql> {
    let which = match (
        needs.conversations.is_empty(),
        needs.conversations_of_turns.is_empty(),
    ) {
        (true, true) => return None,
        (false, true) => ":conversations".to_owned(),
        (true, false) => OF_LEASED_TURNS.to_owned(),
        (false, false) => format!("{OF_LEASED_TURNS} UNION ALL :conversations"),
    };
    let named = needs.conversations.iter().map(|id| [Value::from(id.0)]);
    Some(
        Sql::new(CONVERSATIONS)
            .text("which", &which)
            .text("columns", CONVERSATION.text)
            .list("leased", ids(&needs.conversations_of_turns))
            .rows("conversations", named),
    )
}

/// The statement that loads turns and items.
fn rows_query(needs: &LogNeeds) -> Sql {
    let turn = format!("{}, {}, {}", TURN.text, HELD.text, RETRIED.text);
    let select = |text: &'static str| Sql::new(text).text("turn", &turn);
    let mut query = select(TURNS).list("turns", ids(&needs.turns));
    if !needs.conversations.is_empty() {
        let conversations = needs.conversations.iter().map(|id| id.0);
        query = query.append(select(RUNNING).list("conversations", conversations));
    }
    if !needs.all_open_turns_of.is_empty() {
        let interrupted = needs.all_open_turns_of.iter().map(|id| id.0);
        query = query.append(select(OPEN).list("interrupted", interrupted));
    }
    if !needs.next_turns_of.is_empty() {
        query = query.append(select(NEXT).list("ending", ids(&needs.next_turns_of)));
    }
    if !needs.keys.is_empty() {
        let keys = needs
            .keys
            .iter()
            .map(|(owner, key)| [Value::from(owner.as_str()), Value::from(key.as_str())]);
        query = query.append(select(USED_KEYS).rows("keys", keys));
    }
    if !needs.messages.is_empty() {
        let message = format!("{}, {NOT_HELD}", MESSAGE.text);
        let messages = Sql::new(MESSAGES).text("message", &message);
        query = query.append(messages.list("messages", needs.messages.iter().map(|id| id.0)));
    }
    if !needs.calls.is_empty() {
        let call = format!("{}, {NOT_HELD}", TOOL_CALL.text);
        let calls = Sql::new(TOOL_CALLS).text("tool_call", &call);
        query = query.append(calls.list("calls", needs.calls.iter().map(|id| id.0)));
    }
    query
}

fn ids(turns: &[TurnId]) -> impl Iterator<Item = Uuid> {
    turns.iter().map(|id| id.0)
}

/// Loads the rows, by two statements at most.
pub(super) async fn load(db: &dyn Connection, needs: &LogNeeds) -> Result<LoadedRows, StoreFault> {
    let mut loaded = LoadedRows::default();
    if let Some(query) = conversations_query(needs) {
        for row in &query.query(db).await? {
            let row = conversation(Row::new(&CONVERSATION, row))?;
            loaded.conversations.push(row);
        }
    }
    // How many turns are open, and which of them are loaded.
    let mut open: HashMap<ConversationId, (usize, HashSet<TurnId>)> = HashMap::new();
    for row in &rows_query(needs).query(db).await? {
        match kind(Row::new(&TURN, row))? {
            Kind::Turn => {
                let row = Row::new(&TURN, row);
                let open_turns: usize = row.count(column!(OPEN_TURNS, "open_turns"))?;
                let row = turn(row)?;
                let (count, seen) = open.entry(row.turn.conversation).or_default();
                *count = open_turns.max(*count);
                if !row.turn.status.is_ended() {
                    seen.insert(row.turn.id);
                }
                loaded.turns.push(row);
            }
            Kind::Message => {
                let row = Row::new(&MESSAGE, row);
                loaded.items.push(messages::message(row)?);
            }
            Kind::ToolCall => {
                let row = Row::new(&TOOL_CALL, row);
                loaded.items.push(tool_calls::call(row)?);
                loaded.items.extend(tool_calls::result(row)?);
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
        id: ConversationId(row.get(column!(CONVERSATION, "id"))?),
        owner: conversations::owner(row, column!(CONVERSATION, "owner"))?,
        updated_at: Timestamp(row.get(column!(CONVERSATION, "updated_at"))?),
        last_position: row.count(column!(CONVERSATION, "last_position"))?,
        last_ordinal: row.count(column!(CONVERSATION, "last_ordinal"))?,
        open_turns_not_loaded: 0,
    })
}

fn turn(row: Row<'_>) -> Result<TurnRow, StoreFault> {
    let retried = column!(RETRIED, "retried");
    let retried = match row.get::<Option<i64>>(retried)? {
        Some(_) => Some(Ordinal(row.count(retried)?)),
        None => None,
    };
    turns::turn_row(row, retried)
}
