//! Problems of the domain's errors.

use chat_domain::{ChatError, InvalidInput, StoreError, Unavailability};

use super::{Code, Problem};

impl From<InvalidInput> for Problem {
    fn from(input: InvalidInput) -> Self {
        match input {
            InvalidInput::MessageEmpty => {
                Self::at_member(Code::MessageEmpty, "/message", input.to_string())
            }
            InvalidInput::MessageTooLong { limit, length } => {
                let mut problem =
                    Self::at_member(Code::MessageTooLong, "/message", input.to_string());
                problem.members.limit = Some(limit);
                problem.members.length = Some(length);
                problem
            }
            InvalidInput::Nul => Self::at_member(Code::InvalidText, "/message", input.to_string()),
            InvalidInput::Title => Self::at_member(
                Code::InvalidTitle,
                "/title",
                "The title is empty, too long or has control characters",
            ),
            InvalidInput::Cursor => Self::from(Code::InvalidCursor),
        }
    }
}

impl From<&ChatError> for Problem {
    fn from(error: &ChatError) -> Self {
        match error {
            ChatError::Invalid(input) => (*input).into(),
            ChatError::ConversationNotFound => Code::ConversationNotFound.into(),
            ChatError::TurnNotFound => Code::TurnNotFound.into(),
            ChatError::Busy(turn) => {
                let mut problem = Self::from(Code::ConversationBusy);
                problem.members.turn_id = Some(turn.0);
                problem
            }
            ChatError::Superseded => Code::TurnSuperseded.into(),
            ChatError::QueueFull => Code::TooManyQueued.into(),
            ChatError::IdempotencyMismatch => Code::IdempotencyMismatch.into(),
            ChatError::ShuttingDown => Code::ShuttingDown.into(),
            ChatError::Store(StoreError::Unavailable(why, _)) => match why {
                Unavailability::Unreachable => Code::StoreUnavailable.into(),
                Unavailability::Timeout => Code::StoreTimeout.into(),
                Unavailability::Full => Code::StoreFull.into(),
                Unavailability::ReadOnly => Code::StoreReadOnly.into(),
                Unavailability::Damaged => Code::StoreCorrupt.into(),
            },
            ChatError::Store(_) => Code::Internal.into(),
        }
    }
}
