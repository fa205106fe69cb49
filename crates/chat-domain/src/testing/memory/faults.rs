//! What tests make go wrong.

use super::{MemoryStore, State};
use crate::testing::Gate;
use crate::{StoreError, Unavailability};

impl MemoryStore {
    /// Makes the next calls fail, one fault each.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Unavailability>) {
        self.lock().faults.extend(faults);
    }

    /// Makes these calls fail, each time, with a permanent error.
    pub fn refuse(&self, refused: impl IntoIterator<Item = Refused>) {
        self.lock().refused = refused.into_iter().collect();
    }

    /// Makes all calls fail, or no more.
    pub fn be_away(&self, away: bool) {
        self.lock().away = away;
    }

    /// Makes each end of a turn wait at this gate.
    pub fn hold_ends(&self, gate: &Gate) {
        self.lock().end_gate = Some(gate.clone());
    }

    /// Makes all heartbeats fail, or no more.
    pub fn fail_heartbeats(&self, fail: bool) {
        self.lock().deaf = fail;
    }

    /// How often it was asked for anything.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Forgets all workers, as if each had fallen silent.
    pub fn forget_workers(&self) {
        self.lock().workers.clear();
    }
}

/// A call that the store fails at for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Reading a history.
    Histories,
    /// Adding items to a turn.
    Appends,
    /// Ending a turn with items.
    EndsWithItems,
    /// Ending a turn, with items or without.
    Ends,
    /// Heartbeats with drafts.
    Drafts,
}

impl State {
    pub(super) fn check(&self, refused: &[Refused]) -> Result<(), StoreError> {
        let refuses = refused.iter().any(|call| self.refused.contains(call));
        if refuses {
            Err(StoreError::Internal(
                "a permanent error that the test asked for".into(),
            ))
        } else {
            Ok(())
        }
    }
}
