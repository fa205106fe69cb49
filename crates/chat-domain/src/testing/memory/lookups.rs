//! What other protocols ask for, and feedback.

use std::collections::HashMap;

use super::{Log, Row, State, limited};
use crate::{
    BegunPage, Conversation, ConversationId, Feedback, ItemBody, MessageId, Role, StoreError,
    Timestamp, Turn, TurnId, UserId,
};

impl State {
    pub(super) fn conversations_begun(&self, owner: &UserId, page: BegunPage) -> Vec<Conversation> {
        let behind = |id: ConversationId| {
            page.after.is_none_or(|after| {
                if page.newest_first {
                    id < after
                } else {
                    id > after
                }
            })
        };
        let theirs = self
            .conversations
            .values()
            .map(|log| &log.conversation)
            .filter(|c| c.owner == *owner && behind(c.id))
            .cloned();
        if page.newest_first {
            limited(theirs.rev(), page.limit)
        } else {
            limited(theirs, page.limit)
        }
    }

    pub(super) fn turn_of(
        &mut self,
        owner: &UserId,
        id: ConversationId,
        message: MessageId,
    ) -> Result<Turn, StoreError> {
        let row = self
            .owned(owner, id)?
            .turns
            .iter()
            .find(|row| row.says(message));
        row.map(|row| row.turn.clone()).ok_or(StoreError::NotFound)
    }

    pub(super) fn first_asked(
        &mut self,
        owner: &UserId,
        turns: Vec<TurnId>,
    ) -> HashMap<TurnId, (MessageId, Timestamp)> {
        let mut asked = HashMap::new();
        for turn in turns {
            let mut begin = self.owned_turn(owner, turn).map(|row| &*row);
            while let Ok(row) = begin {
                match row.turn.retry_of {
                    Some(earlier) => begin = self.owned_turn(owner, earlier).map(|row| &*row),
                    None => {
                        asked.extend(row.question().map(|question| (turn, question)));
                        break;
                    }
                }
            }
        }
        asked
    }

    pub(super) fn give_feedback(
        &mut self,
        owner: &UserId,
        id: ConversationId,
        messages: Vec<MessageId>,
        feedback: Feedback,
    ) -> Result<(), StoreError> {
        let log = self.owned(owner, id)?;
        if messages.is_empty()
            || !messages
                .iter()
                .all(|message| log.turns.iter().any(|row| row.says(*message)))
        {
            return Err(StoreError::NotFound);
        }
        log.feedback
            .extend(messages.into_iter().map(|message| (message, feedback)));
        Ok(())
    }

    pub(super) fn feedback(
        &mut self,
        owner: &UserId,
        id: ConversationId,
    ) -> Result<Vec<(MessageId, Feedback)>, StoreError> {
        let given = |log: &mut Log| {
            log.feedback
                .iter()
                .map(|(message, feedback)| (*message, *feedback))
                .collect()
        };
        self.owned(owner, id).map(given)
    }
}

impl Row {
    fn says(&self, id: MessageId) -> bool {
        self.items
            .iter()
            .any(|item| matches!(&item.body, ItemBody::Message(message) if message.id == id))
    }

    /// The user's message, and when it was made.
    fn question(&self) -> Option<(MessageId, Timestamp)> {
        self.items.iter().find_map(|item| match &item.body {
            ItemBody::Message(message) if message.role == Role::User => Some((message.id, item.at)),
            _ => None,
        })
    }
}
