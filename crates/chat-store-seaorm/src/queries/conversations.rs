//! The table `conversations`.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use chat_domain::log::{ConversationChange, NewConversation};
use chat_domain::{
    Conversation, ConversationCursor, ConversationId, ConversationOrder, ConversationPage,
    PageOrder, Refusal, Timestamp, Title, TurnId, UserId,
};

use crate::batch::{Command, CommandError};
use crate::columns::{CONVERSATION, Column, column};
use crate::connection::Connection;
use crate::error::StoreFault;
use crate::row::Row;
use crate::sql::{Sql, Value, big};

/// A page by the last activity, from a cursor on.
const LAST_ACTIVE: &str = "
    SELECT {columns} FROM conversations
    WHERE owner = :owner AND (updated_at, id) < (:updated_at, :id)
    ORDER BY updated_at DESC, id DESC {limit}";

const FIRST_LAST_ACTIVE: &str = "
    SELECT {columns} FROM conversations
    WHERE owner = :owner
    ORDER BY updated_at DESC, id DESC {limit}";

const OLDEST_FIRST: &str = "
    SELECT {columns} FROM conversations
    WHERE owner = :owner
    ORDER BY id {limit}";

const OLDEST_FIRST_AFTER: &str = "
    SELECT {columns} FROM conversations
    WHERE owner = :owner AND id > :id
    ORDER BY id {limit}";

const NEWEST_FIRST: &str = "
    SELECT {columns} FROM conversations
    WHERE owner = :owner
    ORDER BY id DESC {limit}";

const NEWEST_FIRST_AFTER: &str = "
    SELECT {columns} FROM conversations
    WHERE owner = :owner AND id < :id
    ORDER BY id DESC {limit}";

const GET: &str = "SELECT {columns} FROM conversations WHERE id = :id AND owner = :owner";

const RENAME: &str = "
    UPDATE conversations SET title = :title, updated_at = :at
    WHERE id = :id AND owner = :owner
    RETURNING {columns}";

/// Foreign keys delete all that belongs to it.
const DELETE: &str = "DELETE FROM conversations WHERE id = :id AND owner = :owner";

const INSERT: &str = "
    INSERT INTO conversations
        (id, owner, title, created_at, updated_at, last_position, last_ordinal)
    :rows";

const UPDATE: &str = "
    WITH v(id, updated_at, last_position, last_ordinal) AS (:rows)
    UPDATE conversations
    SET updated_at = v.updated_at, last_position = v.last_position, last_ordinal = v.last_ordinal
    FROM v WHERE conversations.id = v.id";

const LOCK: &str = "
    SELECT c.id FROM conversations c
    WHERE c.id = :id AND c.owner = :owner {for_update_of_c}";

const LOCK_OF_TURN: &str = "
    SELECT c.id FROM conversations c JOIN turns t ON t.conversation_id = c.id
    WHERE t.id = :turn AND t.owner = :owner {for_update_of_c}";

/// A page of an owner's conversations.
pub(crate) async fn list(
    db: Box<dyn Connection>,
    owner: UserId,
    page: ConversationPage,
) -> Result<Vec<Conversation>, CommandError> {
    let query = match page.order {
        ConversationOrder::LastActivity { after: None } => Sql::new(FIRST_LAST_ACTIVE),
        ConversationOrder::LastActivity {
            after: Some(ConversationCursor { updated_at, id }),
        } => Sql::new(LAST_ACTIVE)
            .bind("updated_at", updated_at.0)
            .bind("id", id.0),
        ConversationOrder::Created { after, order } => {
            let query = Sql::new(match (order, after) {
                (PageOrder::OldestFirst, None) => OLDEST_FIRST,
                (PageOrder::OldestFirst, Some(_)) => OLDEST_FIRST_AFTER,
                (PageOrder::NewestFirst, None) => NEWEST_FIRST,
                (PageOrder::NewestFirst, Some(_)) => NEWEST_FIRST_AFTER,
            });
            query.bind("id", after.map(|id| id.0))
        }
    };
    let found = query
        .text("columns", CONVERSATION.text)
        .bind("owner", owner.as_str())
        .limit(page.limit)
        .query(&*db)
        .await?;
    let rows = found.iter().map(|row| Row::new(&CONVERSATION, row));
    Ok(rows.map(conversation).collect::<Result<_, _>>()?)
}

/// An owner's conversation.
pub(crate) async fn get(
    db: &dyn Connection,
    owner: &UserId,
    id: ConversationId,
) -> Result<Option<Conversation>, CommandError> {
    let found = Sql::new(GET)
        .text("columns", CONVERSATION.text)
        .bind("id", id.0)
        .bind("owner", owner.as_str())
        .query(db)
        .await?;
    let row = found.first().map(|row| Row::new(&CONVERSATION, row));
    Ok(row.map(conversation).transpose()?)
}

/// The conversation in a row of [`CONVERSATION`].
pub(crate) fn conversation(row: Row<'_>) -> Result<Conversation, StoreFault> {
    let title = column!(CONVERSATION, "title");
    Ok(Conversation {
        id: ConversationId(row.get(column!(CONVERSATION, "id"))?),
        owner: owner(row, column!(CONVERSATION, "owner"))?,
        title: Title::new(&row.get::<String>(title)?)
            .map_err(|error| row.corrupt(title, &error.to_string()))?,
        created_at: Timestamp(row.get(column!(CONVERSATION, "created_at"))?),
        updated_at: Timestamp(row.get(column!(CONVERSATION, "updated_at"))?),
    })
}

/// The owner of a row.
pub(crate) fn owner(row: Row<'_>, column: Column) -> Result<UserId, StoreFault> {
    UserId::new(row.get::<String>(column)?)
        .ok_or_else(|| row.corrupt(column, "not a valid user id"))
}

/// Changes the title.
pub(crate) struct Rename {
    pub(crate) owner: UserId,
    pub(crate) id: ConversationId,
    pub(crate) title: Title,
    pub(crate) at: Timestamp,
}

#[async_trait]
impl Command for Rename {
    type Answer = Conversation;

    async fn run(&self, db: &dyn Connection) -> Result<Conversation, CommandError> {
        let renamed = Sql::new(RENAME)
            .text("columns", CONVERSATION.text)
            .bind("title", self.title.as_str())
            .bind("at", self.at.0)
            .bind("id", self.id.0)
            .bind("owner", self.owner.as_str())
            .query(db)
            .await?;
        let row = renamed.first().ok_or(Refusal::NotFound)?;
        Ok(conversation(Row::new(&CONVERSATION, row))?)
    }
}

/// Deletes a conversation and all that belongs to it.
pub(crate) struct Delete {
    owner: UserId,
    id: ConversationId,
    /// Whether an earlier run of this command has deleted the conversation.
    done: AtomicBool,
}

impl Delete {
    pub(crate) fn new(owner: UserId, id: ConversationId) -> Self {
        Self {
            owner,
            id,
            done: AtomicBool::new(false),
        }
    }
}

#[async_trait]
impl Command for Delete {
    type Answer = ();

    async fn run(&self, db: &dyn Connection) -> Result<(), CommandError> {
        let delete = Sql::new(DELETE)
            .bind("id", self.id.0)
            .bind("owner", self.owner.as_str());
        let deleted = delete.execute(db).await? > 0;
        // A run that is repeated because the answer was lost finds nothing.
        if deleted || self.done.load(Ordering::Relaxed) {
            self.done.store(true, Ordering::Relaxed);
            return Ok(());
        }
        Err(Refusal::NotFound.into())
    }
}

/// Locks an owner's conversation until the end of the transaction.
pub(crate) async fn lock(
    db: &dyn Connection,
    owner: &UserId,
    id: ConversationId,
) -> Result<(), StoreFault> {
    let lock = Sql::new(LOCK)
        .bind("id", id.0)
        .bind("owner", owner.as_str());
    lock.query(db).await.map(drop)
}

/// Locks the conversation of an owner's turn until the end of the transaction.
pub(crate) async fn lock_of_turn(
    db: &dyn Connection,
    owner: &UserId,
    turn: TurnId,
) -> Result<(), StoreFault> {
    let lock = Sql::new(LOCK_OF_TURN)
        .bind("turn", turn.0)
        .bind("owner", owner.as_str());
    lock.query(db).await.map(drop)
}

/// Inserts conversations.
pub(crate) fn insert(new: &[NewConversation]) -> Sql {
    let values = |row: &NewConversation| -> [Value; 7] {
        [
            row.id.0.into(),
            row.owner.as_str().into(),
            row.title.as_str().into(),
            row.created_at.0.into(),
            row.created_at.0.into(),
            big(row.last_position),
            big(row.last_ordinal),
        ]
    };
    Sql::new(INSERT).rows("rows", new.iter().map(values))
}

/// Moves the ends of conversations.
pub(crate) fn update(changed: &[ConversationChange]) -> Sql {
    let values = |row: &ConversationChange| -> [Value; 4] {
        [
            row.id.0.into(),
            row.updated_at.0.into(),
            big(row.last_position),
            big(row.last_ordinal),
        ]
    };
    Sql::new(UPDATE).rows("rows", changed.iter().map(values))
}
