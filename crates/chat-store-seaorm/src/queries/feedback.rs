//! The table `feedback`.

use std::collections::BTreeSet;

use async_trait::async_trait;
use chat_domain::{ConversationId, Feedback, MessageId, Refusal, Timestamp, UserId};

use super::conversations;
use crate::batch::{Command, CommandError};
use crate::connection::Connection;
use crate::sql::{Sql, Value};

const MESSAGES_OF_OWNER: &str = "
    SELECT m.id FROM turns t JOIN messages m ON m.turn_id = t.id
    WHERE t.owner = :owner AND t.conversation_id = :conversation AND m.id IN (:messages)";

const SET: &str = "
    INSERT INTO feedback (message_id, conversation_id, kind, given_at)
    :rows
    ON CONFLICT (message_id) DO UPDATE SET kind = excluded.kind, given_at = excluded.given_at";

/// Stores an owner's feedback on messages of a conversation.
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

    async fn run(&self, db: &dyn Connection) -> Result<(), CommandError> {
        // So that a deletion of the conversation comes before or after this.
        conversations::lock(db, &self.owner, self.id).await?;
        let found = Sql::new(MESSAGES_OF_OWNER)
            .bind("owner", self.owner.as_str())
            .bind("conversation", self.id.0)
            .list("messages", self.messages.iter().map(|message| message.0))
            .query(db)
            .await?;
        if self.messages.is_empty() || found.len() < self.messages.len() {
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
        let set = Sql::new(SET).rows("rows", self.messages.iter().map(row));
        set.execute(db).await?;
        Ok(())
    }
}
