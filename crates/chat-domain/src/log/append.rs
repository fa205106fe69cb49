//! Adding items to a running turn.

use super::{AppendItems, Ledger, LedgerError};
use crate::Item;

impl Ledger {
    /// Adds items to a running turn, and clears its draft.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn append(&mut self, append: &AppendItems) -> Result<Vec<Item>, LedgerError> {
        self.check_lease(&append.lease)?;
        // Cleared even if no draft was loaded: a draft that is saved concurrently must not survive
        // the item it becomes.
        self.change_turn(append.lease.turn)?.has_draft = false;
        self.add_items(append.lease.turn, &append.items)
    }
}
