//! Errors that this client detects, in a form that passes through the MCP library.

use rmcp::model::{ErrorCode, ErrorData};

/// The reason why an answer is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LocalError {
    /// The answer's line or message cannot be parsed.
    Unreadable,
    /// The answer's line exceeds the limit.
    TooLarge,
}

impl LocalError {
    const ALL: [Self; 2] = [Self::Unreadable, Self::TooLarge];

    fn kind(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::TooLarge => "too_large",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::Unreadable => "the answer cannot be parsed",
            Self::TooLarge => "the answer's line is too long",
        }
    }

    /// Converts to a JSON-RPC error. Its `data` marks it as local; `data` of server errors is never
    /// passed on.
    pub(crate) fn into_error(self) -> ErrorData {
        ErrorData::new(
            ErrorCode::INTERNAL_ERROR,
            self.message(),
            Some(self.kind().into()),
        )
    }

    /// Returns the local error that a JSON-RPC error represents, or `None` for an error of the
    /// server.
    pub(crate) fn from_error(error: &ErrorData) -> Option<Self> {
        let kind = error.data.as_ref()?.as_str()?;
        Self::ALL
            .into_iter()
            .find(|local_error| local_error.kind() == kind)
    }
}
