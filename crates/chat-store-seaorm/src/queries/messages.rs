//! The table `messages`.

use chat_domain::log::{MessageRow, PlacedMessage};
use chat_domain::{AgentData, Item, ItemBody, Message, MessageId, Position, Timestamp, TurnId};

use super::turns::{finish_reason, finish_value};
use crate::codes;
use crate::columns::{Column, MESSAGE, column};
use crate::error::StoreFault;
use crate::row::Row;
use crate::sql::{Sql, Value, big};

const INSERT: &str = "
    INSERT INTO messages (id, conversation_id, turn_id, position, role, text, created_at,
        finish_reason, turns_left_out, agent_data)
    :rows";

/// A queued turn's message has no position until the turn runs.
const PLACE: &str = "
    WITH v(turn_id, position) AS (:rows)
    UPDATE messages SET position = v.position
    FROM v WHERE messages.turn_id = v.turn_id AND messages.position IS NULL";

/// The message in a row of [`MESSAGE`].
pub(crate) fn message(row: Row<'_>) -> Result<Item, StoreFault> {
    let body = ItemBody::Message(Message {
        id: MessageId(row.get(column!(MESSAGE, "id"))?),
        role: row.code(column!(MESSAGE, "role"), codes::role)?,
        text: row.get(column!(MESSAGE, "text"))?,
        finish: finish_reason(row, column!(MESSAGE, "finish_reason"))?,
        turns_left_out: row.count(column!(MESSAGE, "turns_left_out"))?,
        agent_data: agent_data(row, column!(MESSAGE, "agent_data"))?,
    });
    let position = column!(MESSAGE, "position");
    let is_placed = row.get::<Option<i64>>(position)?.is_some();
    Ok(Item {
        position: if is_placed {
            Position(row.count(position)?)
        } else {
            Position::START
        },
        turn: TurnId(row.get(column!(MESSAGE, "turn_id"))?),
        at: Timestamp(row.get(column!(MESSAGE, "created_at"))?),
        body,
    })
}

/// Data that an agent attached to a message or a call. Data beyond its bounds is left out: a turn
/// can do without.
pub(crate) fn agent_data(row: Row<'_>, column: Column) -> Result<Option<AgentData>, StoreFault> {
    let data = row.get::<Option<String>>(column)?;
    Ok(data.and_then(|data| AgentData::new(data).ok()))
}

/// Inserts messages.
pub(crate) fn insert(new: &[MessageRow]) -> Sql {
    Sql::new(INSERT).rows("rows", new.iter().map(values))
}

/// Gives the messages of turns that were queued their positions.
pub(crate) fn place(placed: &[PlacedMessage]) -> Sql {
    let values = |placed: &PlacedMessage| [placed.turn.0.into(), big(placed.position.0)];
    Sql::new(PLACE).rows("rows", placed.iter().map(values))
}

fn values(row: &MessageRow) -> [Value; 10] {
    let message = &row.message;
    let position = row
        .position
        .map(|position| i64::try_from(position.0).unwrap_or(i64::MAX));
    [
        message.id.0.into(),
        row.conversation.0.into(),
        row.turn.0.into(),
        position.into(),
        codes::role_code(message.role).into(),
        message.text.as_str().into(),
        row.at.0.into(),
        finish_value(message.finish),
        big(message.turns_left_out),
        agent_data_value(message.agent_data.as_ref()),
    ]
}

/// The value of an agent's data.
pub(crate) fn agent_data_value(data: Option<&AgentData>) -> Value {
    data.map(|data| data.as_str().to_owned()).into()
}
