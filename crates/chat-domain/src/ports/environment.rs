//! Time and chance.

use uuid::Uuid;

use crate::Timestamp;

/// Time and chance, so that tests can fix both.
pub trait Environment: Send + Sync {
    /// The time now, for people to read.
    fn now(&self) -> Timestamp;

    /// A new id, never given before, UUID version 7.
    fn fresh_id(&self) -> Uuid;
}
