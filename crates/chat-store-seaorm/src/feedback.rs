//! What an owner thinks of messages.

use std::collections::BTreeSet;

use async_trait::async_trait;
use chat_domain::{ConversationId, Feedback, MessageId, StoreError, Timestamp, UserId};

use crate::db::Db;
use crate::job::{Command, Stop};
use crate::reader;
use crate::sql::{Row, Sql, Value};

/// Keeps what an owner thinks of messages of a conversation.
pub(crate) struct Give {
    pub(crate) owner: UserId,
    pub(crate) id: ConversationId,
    pub(crate) messages: BTreeSet<MessageId>,
    pub(crate) feedback: Feedback,
    pub(crate) at: Timestamp,
}

#[async_trait]
impl Command for Give {
    type Answer = ();

    async fn run(&self, db: &Db) -> Result<(), Stop> {
        // Whoever deletes the conversation waits, or is waited for.
        let lock = Sql::new("SELECT c.id FROM conversations c WHERE c.id = ").bind(self.id.0);
        lock.push(" AND c.owner = ")
            .bind(self.owner.as_str())
            .locking("c")
            .all(db)
            .await?;
        let theirs = Sql::new(
            "SELECT m.id FROM turns t JOIN messages m ON m.turn_id = t.id WHERE t.owner = ",
        )
        .bind(self.owner.as_str())
        .push(" AND t.conversation_id = ")
        .bind(self.id.0)
        .push(" AND m.id IN (")
        .list(self.messages.iter().map(|message| message.0))
        .push(")");
        if self.messages.is_empty() || theirs.all(db).await?.len() < self.messages.len() {
            return Err(StoreError::NotFound.into());
        }
        let row = |message: &MessageId| -> [Value; 4] {
            [
                message.0.into(),
                self.id.0.into(),
                self.feedback.code().into(),
                self.at.0.into(),
            ]
        };
        Sql::new("INSERT INTO feedback (message_id, conversation_id, kind, given_at) ")
            .rows(self.messages.iter().map(row))
            .push(" ON CONFLICT (message_id) DO UPDATE SET kind = excluded.kind, given_at = excluded.given_at")
            .execute(db)
            .await?;
        Ok(())
    }
}

/// What the owner thinks of the messages of a conversation.
pub(crate) async fn read(
    db: Db,
    owner: UserId,
    id: ConversationId,
) -> Result<Vec<(MessageId, Feedback)>, Stop> {
    let query = Sql::new("SELECT message_id, kind FROM feedback WHERE conversation_id = ")
        .bind(id.0)
        .push(" ORDER BY message_id");
    let found = query.all(&db).await?;
    reader::conversation(db, owner, id).await?;
    let mut given = Vec::new();
    for row in &found {
        let row = Row::new("feedback", 0, row);
        given.push((
            MessageId(row.get(0, "message_id")?),
            row.code(1, "kind", Feedback::from_code)?,
        ));
    }
    Ok(given)
}
