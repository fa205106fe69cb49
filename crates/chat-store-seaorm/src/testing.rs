//! For simulations: a clock in the place of the database's, and a look at all rows.
//!
//! Only with the feature `testing`, which no server has. Even then the database's clock counts
//! unless a thread sets another one for itself.

use std::collections::HashMap;

use async_trait::async_trait;
use chat_domain::log::{ConversationDocument, Documents, NewConversation};
use chat_domain::{Item, Ordinal, StoreError, Timestamp, TurnId};

pub use crate::clock::set_clock;

use crate::SeaOrmStore;
use crate::batch::{Command, CommandError};
use crate::columns::{
    CONVERSATION, Columns, HELD, MESSAGE, NOT_HELD, TOOL_CALL, TURN, TURN_WITH_DRAFT, column,
};
use crate::connection::Connection;
use crate::error::StoreFault;
use crate::queries::log::{Kind, kind};
use crate::queries::{conversations, messages, tool_calls, turns};
use crate::row::Row;
use crate::sql::Sql;

const CONVERSATIONS: &str = "SELECT {conversation}, {counters} FROM conversations";

/// The columns behind [`CONVERSATION`].
const COUNTERS: Columns = CONVERSATION.then("last_position, last_ordinal");

const ROWS: &str = "
    SELECT {turn}, {held}, {attempt} FROM turns t
    UNION ALL
    SELECT {message} FROM messages m
    UNION ALL
    SELECT {tool_call} FROM tool_calls k";

/// The columns of a turn behind [`HELD`].
const ATTEMPT: Columns = HELD.then(
    "(SELECT r.ordinal FROM turns r WHERE r.id = t.retry_of) AS retried, t.attempt_started_at",
);

impl SeaOrmStore {
    /// All conversations as their rows say, by two statements.
    ///
    /// # Errors
    /// The database fails, or a row cannot be read.
    pub async fn documents(&self) -> Result<Documents, StoreError> {
        self.reader.run(documents).await
    }

    /// Deletes all workers, as if their leases had expired.
    ///
    /// # Errors
    /// The database fails.
    pub async fn delete_workers(&self) -> Result<(), StoreError> {
        self.write(DeleteFrom(&["workers"])).await
    }

    /// Deletes everything.
    ///
    /// # Errors
    /// The database fails.
    pub async fn delete_all(&self) -> Result<(), StoreError> {
        self.write(DeleteFrom(&["workers", "conversations"])).await
    }
}

async fn documents(db: Box<dyn Connection>) -> Result<Documents, CommandError> {
    let mut documents = Documents::default();
    let found = Sql::new(CONVERSATIONS)
        .text("conversation", CONVERSATION.text)
        .text("counters", COUNTERS.text)
        .query(&*db)
        .await?;
    for row in found.iter().map(|row| Row::new(&CONVERSATION, row)) {
        let conversation = conversations::conversation(row)?;
        let mut document = ConversationDocument::new(&NewConversation {
            id: conversation.id,
            owner: conversation.owner.clone(),
            title: conversation.title.clone(),
            created_at: conversation.created_at,
            last_position: row.count(column!(COUNTERS, "last_position"))?,
            last_ordinal: row.count(column!(COUNTERS, "last_ordinal"))?,
        });
        document.conversation = conversation;
        documents.0.insert(document.conversation.id, document);
    }
    let turn = TURN_WITH_DRAFT.text;
    let rows = Sql::new(ROWS)
        .text("turn", turn)
        .text("held", HELD.text)
        .text("attempt", ATTEMPT.text)
        .text("message", &format!("{}, {NOT_HELD}", MESSAGE.text))
        .text("tool_call", &format!("{}, {NOT_HELD}", TOOL_CALL.text));
    let found = rows.query(&*db).await?;
    let mut items: HashMap<TurnId, Vec<Item>> = HashMap::new();
    let mut add = |item: Item| items.entry(item.turn).or_default().push(item);
    let mut rows = Vec::new();
    for row in &found {
        match kind(Row::new(&TURN, row))? {
            Kind::Turn => rows.push(Row::new(&TURN, row)),
            Kind::Message => add(messages::message(Row::new(&MESSAGE, row))?),
            Kind::ToolCall => {
                let row = Row::new(&TOOL_CALL, row);
                add(tool_calls::call(row)?);
                tool_calls::result(row)?.into_iter().for_each(&mut add);
            }
        }
    }
    let mut stored = Vec::new();
    for row in rows {
        let retried = row.get::<Option<i64>>(column!(ATTEMPT, "retried"))?;
        let retried = retried.and_then(|ordinal| u64::try_from(ordinal).ok());
        let started = row.get::<Option<i64>>(column!(ATTEMPT, "attempt_started_at"))?;
        let (draft, row) = (
            turns::draft(row)?,
            turns::turn_row(row, retried.map(Ordinal))?,
        );
        stored.push((row, draft, started.map(Timestamp)));
    }
    stored.sort_by_key(|(row, ..)| row.turn.ordinal);
    for (row, draft, started) in stored {
        let mut items = items.remove(&row.turn.id).unwrap_or_default();
        items.sort_by_key(|item| item.position);
        let document = documents.0.get_mut(&row.turn.conversation);
        let document = document.ok_or_else(|| {
            StoreFault::InvariantViolation("a turn without its conversation".to_owned())
        })?;
        document.push_turn(row, items, draft, started);
    }
    Ok(documents)
}

/// Deletes all rows of these tables, and those that belong to them.
struct DeleteFrom(&'static [&'static str]);

#[async_trait]
impl Command for DeleteFrom {
    type Answer = ();

    async fn run(&self, db: &dyn Connection) -> Result<(), CommandError> {
        for table in self.0 {
            Sql::new(format!("DELETE FROM {table}")).execute(db).await?;
        }
        Ok(())
    }
}
