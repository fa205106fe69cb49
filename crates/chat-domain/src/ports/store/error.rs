//! Errors of a store.

use std::error::Error;

use crate::log::{LedgerError, Refusal};

/// The answer of a store.
pub type StoreResult<T> = Result<T, StoreError>;

/// An error of a store.
///
/// [`Unavailable`](Self::Unavailable) is transient, unless the content is damaged: the same call
/// may succeed later. Every other error is permanent.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The rules do not allow the call. It changed nothing.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store cannot do it now. Whether it was done may be unknown.
    #[error("the store is unavailable ({0:?})")]
    Unavailable(Unavailability, #[source] Box<dyn Error + Send + Sync>),
    /// A permanent error: the same call fails again. A row that cannot be read, a value that the
    /// database refuses, a wrong statement. Nothing was done.
    #[error("store fault")]
    Internal(#[source] Box<dyn Error + Send + Sync>),
}

impl StoreError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(kind, _) if *kind != Unavailability::Damaged)
    }

    /// The rule that does not allow the call.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused(refusal) => Some(*refusal),
            _ => None,
        }
    }
}

/// Why a store is unavailable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unavailability {
    /// It cannot be reached.
    Unreachable,
    /// It is slower than its limit.
    Timeout,
    /// Its disk is full.
    Full,
    /// It can only be read.
    ReadOnly,
    /// Its content is damaged. An operator has to restore it before it can store anything.
    Damaged,
}

impl From<LedgerError> for StoreError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Refused(refusal) => Self::Refused(refusal),
            LedgerError::Inconsistent(_) => Self::Internal(error.into()),
        }
    }
}
