//! Errors of the use case.

use crate::{StoreError, TurnId};

/// An error of the use case. A failure of the agent is not an error of the use case but an outcome
/// of the turn.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The input is not allowed. Nothing was done.
    #[error(transparent)]
    Invalid(#[from] InvalidInput),
    /// No such conversation, or another owner's.
    #[error("there is no such conversation")]
    ConversationNotFound,
    /// No such turn, or another owner's.
    #[error("there is no such turn")]
    TurnNotFound,
    /// A retry superseded this turn; only the superseding turn can be retried.
    #[error("a retry has taken the place of this turn")]
    Superseded,
    /// A turn of the conversation runs, and the message was to be rejected then.
    #[error("turn {0} is running in this conversation")]
    Busy(TurnId),
    /// Too many turns wait in the conversation.
    #[error("too many messages wait in this conversation")]
    QueueFull,
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    IdempotencyMismatch,
    /// This worker is about to stop and takes nothing new.
    #[error("shutting down")]
    ShuttingDown,
    /// The store cannot do it now, or failed.
    #[error(transparent)]
    Store(StoreError),
}

/// Input that is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidInput {
    /// The message is empty or only white space.
    #[error("the message is empty")]
    MessageEmpty,
    /// The message is too long.
    #[error("the message has {length} characters, more than {limit}")]
    MessageTooLong {
        /// How many characters are allowed.
        limit: usize,
        /// How many it has.
        length: usize,
    },
    /// The text holds U+0000.
    #[error("the text holds the character U+0000")]
    Nul,
    /// The title is empty, over 200 characters, or holds control characters.
    #[error("a title has 1 to 200 characters and no control characters")]
    Title,
    /// The cursor does not belong to what it was given for.
    #[error("the cursor does not belong here")]
    Cursor,
}
