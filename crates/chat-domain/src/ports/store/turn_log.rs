//! Writing turns.

use async_trait::async_trait;

use super::StoreResult;
use crate::{
    AppendItems, BeginOutcome, BeginTurn, EndTurn, EndedTurn, Item, Timestamp, TurnFailure,
    TurnLease,
};

/// Writes turns. The rules of `begin`, `append` and `end` are those of [`log`](crate::log), which
/// implementations call.
#[async_trait]
pub trait TurnLog: Send + Sync {
    /// Stores a user's message and starts its turn, or queues it if a turn of the conversation
    /// runs.
    ///
    /// In this order: an unknown conversation is `NotFound`; an idempotency key that was used
    /// before gives [`BeginOutcome::Duplicate`] (same fingerprint) or `IdempotencyMismatch`;
    /// [`BusyPolicy`](crate::BusyPolicy) and the queue's limit are applied. An error stores
    /// nothing. A turn with `retry_of` supersedes that turn and all between when it starts to run;
    /// `retry_of` must be a turn of the same conversation (`NotFound` otherwise) that is not
    /// superseded (`Superseded`).
    ///
    /// [`BusyPolicy::Interrupt`](crate::BusyPolicy::Interrupt) requests the cancellation of the
    /// running turn and of all queued ones in the same transaction.
    ///
    /// A repeated call with the same turn id returns what the first one began:
    /// [`BeginOutcome::Started`] if the turn still runs under this worker's name, else
    /// [`BeginOutcome::Stored`] with the turn as it is now.
    async fn begin(&self, turn: BeginTurn) -> StoreResult<BeginOutcome>;

    /// Adds items to a running turn, all or none, and clears its draft.
    ///
    /// Items already stored under their ids are returned as they are, so the same call may be
    /// repeated.
    ///
    /// # Errors
    /// `LeaseLost` if the lease is not the turn's current one, or the turn has ended or is gone.
    async fn append(&self, append: AppendItems) -> StoreResult<Vec<Item>>;

    /// Adds the last items, ends the turn, clears its draft and starts the next queued turn for the
    /// same worker.
    ///
    /// Queued turns whose cancellation was requested get their message placed and end as
    /// `Cancelled` on the way. A repeated call with the same lease returns what the first one did;
    /// the next turn only if no worker has claimed it since.
    ///
    /// # Errors
    /// `LeaseLost`, as in `append`.
    async fn end(&self, end: EndTurn) -> StoreResult<EndedTurn>;

    /// Ends a running turn as failed by its lease alone, where [`end`](Self::end) fails
    /// permanently.
    ///
    /// Depends on no other row than the turn's own: neither its items nor its conversation need to
    /// be readable. Open tool calls end as unknown and the next queued turn starts as far as their
    /// rows allow it; no worker holds that turn, so the next claim takes it, and no attempt is
    /// counted for it yet. A repeated call with the same lease changes nothing.
    ///
    /// # Errors
    /// `LeaseLost`, as in `append`.
    async fn force_end(
        &self,
        lease: &TurnLease,
        failure: TurnFailure,
        at: Timestamp,
    ) -> StoreResult<()>;
}
