//! Failures of requests that this side finds itself, as errors that pass through the library.

use rmcp::model::{ErrorCode, ErrorData};

/// Why an answer that came is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The answer's line, or the message in it, cannot be read.
    Unreadable,
    /// The answer's line is longer than the limit.
    TooLarge,
}

impl Failure {
    const ALL: [Self; 2] = [Self::Unreadable, Self::TooLarge];

    fn kind(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::TooLarge => "too_large",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::Unreadable => "the answer cannot be read",
            Self::TooLarge => "the answer's line is too long",
        }
    }

    /// The error. Its `data` marks it as ours: that of servers' errors is never passed on.
    pub(crate) fn into_error(self) -> ErrorData {
        ErrorData::new(
            ErrorCode::INTERNAL_ERROR,
            self.message(),
            Some(self.kind().into()),
        )
    }

    /// The failure that an error stands for; `None` for an error of the server.
    pub(crate) fn of(error: &ErrorData) -> Option<Self> {
        let kind = error.data.as_ref()?.as_str()?;
        Self::ALL.into_iter().find(|failure| failure.kind() == kind)
    }
}
