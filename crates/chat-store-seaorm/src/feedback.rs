//! Feedback on messages.

use std::collections::BTreeSet;

use async_trait::async_trait;
use chat_domain::{ConversationId, Feedback, MessageId, Refusal, Timestamp, UserId};

use crate::db::Db;
use crate::job::{Command, CommandError};
use crate::sql::{Sql, Value};

/// Keeps what an owner thinks of messages of a conversation.
pub(crate) struct SetFeedback {
    pub(crate) owner: UserId,
    pub(crate) id: ConversationId,
    pub(crate) messages: BTreeSet<MessageId>,
    pub(crate) feedback: Feedback,
    pub(crate) at: Timestamp,
}

#[async_trait]
impl Command for SetFeedback {
    type Answer = ();

    async fn run(&self, db: &Db) -> Result<(), CommandError> {
        // A deletion of the conversation waits, or this waits for it.
        let lock = Sql::new("SELECT c.id FROM conversations c WHERE c.id = ").bind(self.id.0);
        lock.push(" AND c.owner = ")
            .bind(self.owner.as_str())
            .for_update("c")
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
            return Err(Refusal::NotFound.into());
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
