//! Adding items to a running turn.

use chat_domain::{Item, NewItem, TurnLease};

use super::ledger::Ledger;
use crate::job::Stop;

/// Items for a running turn.
pub(crate) struct Append {
    pub(crate) lease: TurnLease,
    pub(crate) items: Vec<NewItem>,
}

impl Ledger {
    pub(super) fn append(&mut self, append: &Append) -> Result<Vec<Item>, Stop> {
        self.leased(&append.lease)?;
        // Written also where it had no draft: one that is being saved beside this must not come
        // after it.
        self.change_turn(append.lease.turn)?.has_draft = false;
        Ok(self.place(append.lease.turn, &append.items)?)
    }
}
