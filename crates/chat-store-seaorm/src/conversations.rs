//! Commands of an owner on a conversation, besides sending messages.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use chat_domain::{Conversation, ConversationId, Refusal, Timestamp, Title, Turn, TurnId, UserId};
use sea_orm::QueryResult;

use crate::db::Db;
use crate::job::{Command, CommandError};
use crate::rows;
use crate::sql::{Row, Sql};

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

    async fn run(&self, db: &Db) -> Result<Conversation, CommandError> {
        let renamed = Sql::new("UPDATE conversations SET title = ")
            .bind(self.title.as_str())
            .push(", updated_at = ")
            .bind(self.at.0)
            .push(" WHERE id = ")
            .bind(self.id.0)
            .push(" AND owner = ")
            .bind(self.owner.as_str())
            .push(" RETURNING ")
            .push(rows::CONVERSATION)
            .all(db)
            .await?;
        let row = renamed.first().ok_or(Refusal::NotFound)?;
        Ok(rows::conversation(Row::new("conversations", 0, row))?)
    }
}

/// Deletes it, and by the foreign keys all that belongs to it.
pub(crate) struct Delete {
    owner: UserId,
    id: ConversationId,
    /// Whether it found what it was to delete, when it was done before.
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

    async fn run(&self, db: &Db) -> Result<(), CommandError> {
        let delete = Sql::new("DELETE FROM conversations WHERE id = ")
            .bind(self.id.0)
            .push(" AND owner = ")
            .bind(self.owner.as_str());
        let deleted = delete.execute(db).await? > 0;
        // Done again after an answer that was lost, it finds nothing.
        if deleted || self.done.load(Ordering::Relaxed) {
            self.done.store(true, Ordering::Relaxed);
            return Ok(());
        }
        Err(Refusal::NotFound.into())
    }
}

/// Asks that a turn be cancelled.
pub(crate) struct Cancel {
    pub(crate) owner: UserId,
    pub(crate) id: TurnId,
}

#[async_trait]
impl Command for Cancel {
    type Answer = Turn;

    async fn run(&self, db: &Db) -> Result<Turn, CommandError> {
        let lock = Sql::new("SELECT c.id FROM conversations c JOIN turns t ON t.conversation_id = c.id WHERE t.id = ").bind(self.id.0);
        lock.push(" AND t.owner = ")
            .bind(self.owner.as_str())
            .for_update("c")
            .all(db)
            .await?;
        Sql::new("UPDATE turns SET cancel_requested = TRUE WHERE ended_at IS NULL AND id = ")
            .bind(self.id.0)
            .push(" AND owner = ")
            .bind(self.owner.as_str())
            .execute(db)
            .await?;
        let query = Sql::new("SELECT ")
            .push(rows::TURN)
            .push(" FROM turns t WHERE t.id = ")
            .bind(self.id.0);
        let found: Vec<QueryResult> = query
            .push(" AND t.owner = ")
            .bind(self.owner.as_str())
            .all(db)
            .await?;
        let row = found.first().ok_or(Refusal::NotFound)?;
        Ok(rows::turn(Row::new("turns", 0, row), 0)?)
    }
}

/// Forgets by which request a turn was begun.
pub(crate) struct ReleaseKey {
    pub(crate) owner: UserId,
    pub(crate) id: TurnId,
}

#[async_trait]
impl Command for ReleaseKey {
    type Answer = ();

    async fn run(&self, db: &Db) -> Result<(), CommandError> {
        let lock = Sql::new("SELECT c.id FROM conversations c JOIN turns t ON t.conversation_id = c.id WHERE t.id = ").bind(self.id.0);
        lock.push(" AND t.owner = ")
            .bind(self.owner.as_str())
            .for_update("c")
            .all(db)
            .await?;
        let forget =
            Sql::new("UPDATE turns SET idempotency_key = NULL, fingerprint = NULL WHERE id = ")
                .bind(self.id.0);
        let forgotten = forget
            .push(" AND owner = ")
            .bind(self.owner.as_str())
            .execute(db)
            .await?;
        if forgotten == 0 {
            Err(Refusal::NotFound.into())
        } else {
            Ok(())
        }
    }
}
