//! Workers, their leases, and the turns they hold.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;

use super::StoreResult;
use crate::{Draft, HeldTurn, Position, TurnId, TurnLease, WorkerId};

/// Registers workers and keeps their leases.
#[async_trait]
pub trait WorkerLeases: Send + Sync {
    /// Registers a worker: no other worker claims its turns for the duration `lease`. Workers whose
    /// leases expired long ago and that hold no turn may be deleted.
    async fn register(&self, worker: WorkerId, lease: Duration) -> StoreResult<()>;

    /// Renews a worker's lease, saves drafts, and returns which of its running turns should be
    /// cancelled. Drafts whose lease is not current, or whose message is an item already, are
    /// ignored.
    ///
    /// # Errors
    /// `LeaseLost` if the worker is not registered any more: others may have claimed its turns. It
    /// must stop them and register under a new id.
    async fn heartbeat(
        &self,
        worker: WorkerId,
        lease: Duration,
        drafts: Vec<DraftUpdate>,
    ) -> StoreResult<Heartbeat>;

    /// Claims running turns that no live worker holds: each by exactly one caller, with a new
    /// epoch, one more attempt and no draft, and returns them in any order. The claimer itself
    /// counts as alive; its own turns are claimed only by [`Claim::holding`].
    ///
    /// A turn that cannot be loaded is ended as failed with
    /// [`FailureKind::Internal`](crate::FailureKind::Internal), as by
    /// [`force_end`](super::TurnLog::force_end), and left out: it never keeps a worker from the
    /// other turns.
    ///
    /// A worker whose lease expired is deleted when one of its turns is claimed. It claims no turn
    /// of others before its next heartbeat: its request may have been delayed for long, while
    /// others could not renew their leases.
    async fn claim(&self, claim: Claim) -> StoreResult<Vec<HeldTurn>>;

    /// Deregisters a worker and releases its turns: it cannot write them any more, and they can be
    /// claimed at once. The worker's attempt does not count for the turns in `handed_over`. For its
    /// other turns it counts: their runs were interrupted before.
    async fn deregister(&self, worker: WorkerId, handed_over: Vec<TurnId>) -> StoreResult<()>;

    /// Returns the version of each turn, regardless of owner. Unknown ids are omitted. One query.
    async fn turn_versions(&self, turns: Vec<TurnId>) -> StoreResult<HashMap<TurnId, TurnVersion>>;

    /// Checks that the store answers.
    async fn ping(&self) -> StoreResult<()>;
}

/// Shows whether a turn has changed: while its version is equal, so are its status, items and
/// draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnVersion {
    /// How often it was started or claimed.
    pub epoch: u64,
    /// Whether it has ended.
    pub ended: bool,
    /// The position of the last item of its conversation.
    pub last: Position,
    /// The length of its draft.
    pub draft_bytes: usize,
}

/// A draft to save.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DraftUpdate {
    /// The right to write the turn.
    pub lease: TurnLease,
    /// The draft.
    pub draft: Draft,
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// Turns that the worker holds and whose cancellation was requested, in any order.
    pub cancel: Vec<TurnId>,
}

/// A request for abandoned turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The worker that claims.
    pub worker: WorkerId,
    /// The largest number of turns.
    pub limit: u32,
    /// If given: all turns that the worker knows it runs. Other running turns that it holds in the
    /// store are abandoned too: the response that assigned them was lost.
    pub holding: Option<Vec<TurnId>>,
}
