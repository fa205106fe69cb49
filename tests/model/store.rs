//! The store. Each function is one transaction of `ConversationStore`.

use super::Guards;
use super::world::{Body, Item, Lease, Outcome, OwnedTurn, Status, Turn, WorkerId, World, Write};

/// The reason why the store rejects a write.
pub enum Rejection {
    /// The lease is not current.
    LeaseLost,
    /// The store would reject the same write again.
    Permanent,
}

impl World {
    /// Whether the worker is registered and its lease has not expired.
    fn is_alive(&self, worker_id: WorkerId) -> bool {
        let worker = self.worker(worker_id.worker);
        worker.id == worker_id && worker.known && !worker.lapsed
    }

    fn remove_worker(&mut self, worker_id: WorkerId) {
        let worker = self.worker_mut(worker_id.worker);
        if worker.id == worker_id {
            (worker.known, worker.lapsed) = (false, false);
        }
    }

    fn owned(&self, turn: u8) -> Option<OwnedTurn> {
        let Turn {
            holder,
            epoch,
            attempt,
            cancel,
            ..
        } = *self.turn(turn);
        Some(OwnedTurn {
            lease: Lease {
                turn,
                worker_id: holder?,
                epoch,
            },
            attempt,
            cancel,
        })
    }

    /// `begin_turn`: returns the turn if it starts.
    pub fn begin_turn(
        &mut self,
        guards: Guards,
        message: u8,
        worker_id: WorkerId,
    ) -> Option<OwnedTurn> {
        if guards.deduplication && self.turns.iter().any(|turn| turn.message == message) {
            return None;
        }
        let busy = self.turns.iter().any(|turn| turn.status == Status::Running);
        self.turns.push(Turn {
            message,
            status: Status::Queued,
            holder: None,
            epoch: 0,
            attempt: 0,
            cancel: false,
            expired: false,
            next: None,
        });
        if busy && guards.one_running_turn {
            return None;
        }
        let turn = self.turns.len() as u8 - 1;
        self.start(turn, worker_id);
        self.owned(turn)
    }

    fn place_message(&mut self, turn: u8) {
        self.log.push(Item {
            turn,
            epoch: 0,
            body: Body::User,
        });
    }

    fn start(&mut self, turn: u8, worker_id: WorkerId) {
        self.place_message(turn);
        let row = self.turn_mut(turn);
        (row.status, row.holder, row.epoch, row.attempt) = (Status::Running, Some(worker_id), 1, 1);
    }

    /// `append`, or `end_turn` if the write has an end. Returns the next turn if it starts.
    pub fn write(
        &mut self,
        guards: Guards,
        lease: Lease,
        write: &Write,
    ) -> Result<Option<OwnedTurn>, Rejection> {
        let (current, ended) = (
            self.is_current(lease),
            matches!(self.turn(lease.turn).status, Status::Ended(_)),
        );
        if guards.epoch && !current {
            let turn = self.turn(lease.turn);
            let is_repeated = ended
                && write.end.is_some()
                && turn.holder == Some(lease.worker_id)
                && turn.epoch == lease.epoch;
            return if is_repeated && guards.deduplication {
                Ok(self.next_of(guards, lease))
            } else {
                Err(Rejection::LeaseLost)
            };
        }
        if self.rejecting == Some(lease.turn)
            && write
                .items
                .iter()
                .any(|body| matches!(body, Body::Answer(_)))
        {
            return Err(Rejection::Permanent);
        }
        self.violations.written_without_lease |= !current;
        self.violations.changed_after_end |= ended;
        for body in &write.items {
            let item = Item {
                turn: lease.turn,
                epoch: lease.epoch,
                body: *body,
            };
            if !guards.deduplication || !self.log.iter().any(|known| known.is_known_as(&item)) {
                self.violations.answered_after_deadline |=
                    matches!(body, Body::Answer(_)) && self.turn(lease.turn).expired;
                self.log.push(item);
            }
        }
        let Some(outcome) = write.end else {
            return Ok(None);
        };
        self.turn_mut(lease.turn).status = Status::Ended(outcome);
        self.turn_mut(lease.turn).next = self.start_next(lease.worker_id);
        Ok(self.next_of(guards, lease))
    }

    /// Starts the turn that has waited longest. Cancelled turns before it end.
    fn start_next(&mut self, worker_id: WorkerId) -> Option<u8> {
        while let Some(next) = self
            .turns
            .iter()
            .position(|turn| turn.status == Status::Queued)
        {
            if !self.turns[next].cancel {
                self.start(next as u8, worker_id);
                return Some(next as u8);
            }
            self.place_message(next as u8);
            self.turns[next].status = Status::Ended(Outcome::Cancelled);
        }
        None
    }

    /// Returns the turn that this one's end started, if it still runs under the lease of its start.
    fn next_of(&self, guards: Guards, lease: Lease) -> Option<OwnedTurn> {
        let next = self.turn(lease.turn).next?;
        let is_as_begun = |owned: &OwnedTurn| {
            owned.lease.worker_id == lease.worker_id
                && (owned.lease.epoch == 1 || !guards.single_handover)
        };
        self.owned(next)
            .filter(|owned| is_as_begun(owned) && self.turn(next).status == Status::Running)
    }

    /// Returns the turns that a claim would assign.
    pub fn abandoned(&self, worker_id: WorkerId, holding: Option<&[u8]>) -> Vec<u8> {
        let takes = self.is_alive(worker_id);
        let is_abandoned = |id: u8| {
            let turn = self.turn(id);
            let in_nobodys_hands = match turn.holder {
                Some(holder) if holder == worker_id => {
                    holding.is_some_and(|holding| !holding.contains(&id))
                }
                Some(holder) => takes && !self.is_alive(holder),
                None => takes,
            };
            turn.status == Status::Running && in_nobodys_hands
        };
        (0..self.turns.len() as u8)
            .filter(|id| is_abandoned(*id))
            .collect()
    }

    /// `claim_abandoned`.
    pub fn claim(
        &mut self,
        guards: Guards,
        worker_id: WorkerId,
        holding: Option<&[u8]>,
    ) -> Vec<OwnedTurn> {
        let abandoned = self.abandoned(worker_id, holding);
        for id in &abandoned {
            let turn = self.turn_mut(*id);
            let holder = turn.holder.replace(worker_id);
            (turn.epoch, turn.attempt) = (
                turn.epoch + 1,
                turn.attempt + u8::from(guards.count_attempts || holder != Some(worker_id)),
            );
            if let Some(dead) = holder.filter(|holder| *holder != worker_id) {
                self.remove_worker(dead);
            }
        }
        abandoned
            .into_iter()
            .filter_map(|id| self.owned(id))
            .collect()
    }

    /// `deregister`. The store is stricter: it does not hand over turns that the worker released
    /// before.
    pub fn deregister(&mut self, worker_id: WorkerId) {
        self.remove_worker(worker_id);
        for turn in self
            .turns
            .iter_mut()
            .filter(|turn| turn.status == Status::Running && turn.holder == Some(worker_id))
        {
            (turn.holder, turn.attempt) = (None, turn.attempt - 1);
        }
    }

    /// `request_cancel`.
    pub fn request_cancel(&mut self, turn: u8) {
        self.turn_mut(turn).cancel = true;
    }
}
