//! Conversations as documents under their ids.

use std::collections::BTreeMap;

use super::{ConversationDocument, Ledger, LedgerError, LoadedRows, LogNeeds, Refusal, TurnRow};
use crate::{
    Claim, Conversation, ConversationId, ConversationPage, DraftUpdate, HeldTurn, MessageId,
    Position, Timestamp, TurnFailure, TurnId, TurnLease, TurnRef, TurnView, UserId, WorkerId,
};

/// Conversations as documents under their ids: all of a store in memory, or those that a call of
/// another store needs. `now` is always the time by the store's own clock.
#[derive(Clone, Debug, Default)]
pub struct Documents(pub BTreeMap<ConversationId, ConversationDocument>);

impl Documents {
    /// Runs a command of the ledger, and saves what it changes.
    ///
    /// `held_turn` finds the turn that the outcome gives to a worker: it gets the turn's items.
    ///
    /// # Errors
    /// The rules refuse the command, which changes nothing.
    pub fn apply<T>(
        &mut self,
        needs: &LogNeeds,
        command: impl FnOnce(&mut Ledger) -> Result<T, LedgerError>,
        held_turn: impl FnOnce(&mut T) -> Option<&mut HeldTurn>,
        now: Timestamp,
    ) -> Result<T, LedgerError> {
        let mut loaded = LoadedRows::default();
        let documents = self.0.values();
        for document in documents.filter(|document| document.is_needed(needs)) {
            document.load_into(&mut loaded);
        }
        let mut ledger = Ledger::new(loaded);
        let mut outcome = command(&mut ledger)?;
        let changes = ledger.into_changes()?;
        for new in &changes.new_conversations {
            self.0.insert(new.id, ConversationDocument::new(new));
        }
        for document in self.0.values_mut() {
            document.save(&changes, now);
        }
        if let Some(held) = held_turn(&mut outcome) {
            let document = self.0.get(&held.turn.conversation);
            let stored = document.and_then(|document| document.held(held.turn.id));
            held.items = stored.map_or_else(Vec::new, |stored| stored.items);
        }
        Ok(outcome)
    }

    /// A page of an owner's conversations.
    pub fn list(&self, owner: &UserId, page: ConversationPage) -> Vec<Conversation> {
        let all = self.0.values().map(|document| &document.conversation);
        page.select(all.filter(|found| found.owner == *owner).cloned().collect())
    }

    /// An owner's conversation.
    pub fn get(&self, owner: &UserId, id: ConversationId) -> Option<&ConversationDocument> {
        let document = self.0.get(&id)?;
        (document.conversation.owner == *owner).then_some(document)
    }

    /// An owner's conversation, to be changed.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn get_mut(
        &mut self,
        owner: &UserId,
        id: ConversationId,
    ) -> Result<&mut ConversationDocument, Refusal> {
        let document = self.0.get_mut(&id);
        let document = document.filter(|document| document.conversation.owner == *owner);
        document.ok_or(Refusal::NotFound)
    }

    /// The conversation of any owner's turn.
    pub fn of_turn(&self, turn: TurnId) -> Option<&ConversationDocument> {
        let mut documents = self.0.values();
        documents.find(|document| document.has_turn(turn))
    }

    /// The conversation of any owner's turn, to be changed.
    fn of_turn_mut(&mut self, turn: TurnId) -> Option<&mut ConversationDocument> {
        let mut documents = self.0.values_mut();
        documents.find(|document| document.has_turn(turn))
    }

    /// An owner's turn, to be changed.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn turn_row_mut(&mut self, owner: &UserId, id: TurnId) -> Result<&mut TurnRow, Refusal> {
        let rows = self.of_turn_mut(id).map(ConversationDocument::rows_mut);
        let mut rows = rows.into_iter().flatten();
        let row = rows.find(|row| row.turn.id == id && row.owner == *owner);
        row.ok_or(Refusal::NotFound)
    }

    /// An owner's turn with its items after a position.
    pub fn turn(&self, owner: &UserId, turn: TurnRef, after: Position) -> Option<TurnView> {
        let (document, id) = match turn {
            TurnRef::Id(id) => (self.of_turn(id)?, id),
            TurnRef::Message(conversation, message) => {
                let document = self.get(owner, conversation)?;
                (document, document.turn_of_message(message)?)
            }
        };
        let is_owned = document.conversation.owner == *owner;
        is_owned.then(|| document.turn(id, after)).flatten()
    }

    /// Whether all of these are messages of an owner's conversation, and there is one.
    pub fn has_messages(&self, owner: &UserId, id: ConversationId, all: &[MessageId]) -> bool {
        self.get(owner, id).is_some_and(|document| {
            let is_message = |id: &MessageId| document.turn_of_message(*id).is_some();
            !all.is_empty() && all.iter().all(is_message)
        })
    }

    /// Saves a worker's drafts, and returns which of its turns are to be cancelled.
    pub fn heartbeat(&mut self, worker: WorkerId, drafts: &[DraftUpdate]) -> Vec<TurnId> {
        let documents = self.0.values_mut();
        let cancel = documents.flat_map(|document| document.heartbeat(worker, drafts));
        cancel.collect()
    }

    /// Claims turns. `expiry` returns when a worker's lease expires, if it has one. Returns also
    /// the dead workers whose turns were taken.
    pub fn claim(
        &mut self,
        claim: &Claim,
        expiry: impl Fn(WorkerId) -> Option<Timestamp>,
        now: Timestamp,
    ) -> (Vec<HeldTurn>, Vec<WorkerId>) {
        let is_alive = |worker| expiry(worker).is_some_and(|until| until > now);
        let limit = usize::try_from(claim.limit).unwrap_or(usize::MAX);
        let (mut claimed, mut dead) = (Vec::new(), Vec::new());
        for document in self.0.values_mut() {
            let mut claimable = document.claimable(claim, is_alive);
            claimable.truncate(limit - claimed.len());
            for (turn, holder) in claimable {
                let expired = holder.and_then(&expiry);
                claimed.extend(document.claim(turn, claim.worker, expired, now));
                dead.extend(holder.filter(|holder| *holder != claim.worker));
            }
        }
        (claimed, dead)
    }

    /// Releases the running turns of a worker: see [`ConversationDocument::release`].
    pub fn release(
        &mut self,
        worker: WorkerId,
        handed_over: &[TurnId],
        expires: Option<Timestamp>,
        now: Timestamp,
    ) {
        for document in self.0.values_mut() {
            document.release(worker, handed_over, expires, now);
        }
    }

    /// Ends a running turn without its items: see [`ConversationDocument::force_end`].
    ///
    /// # Errors
    /// `LeaseLost`.
    pub fn force_end(
        &mut self,
        lease: &TurnLease,
        failure: TurnFailure,
        at: Timestamp,
    ) -> Result<(), Refusal> {
        let document = self.of_turn_mut(lease.turn).ok_or(Refusal::LeaseLost)?;
        document.force_end(lease, failure, at)
    }
}
