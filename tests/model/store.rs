//! The store: each function is one transaction of `ConversationStore`.

use super::Guards;
use super::world::{Body, Held, Item, Lease, Name, Outcome, Status, Turn, World, Write};

/// Why the store refuses a write.
pub enum Refusal {
    /// The lease is not the current one.
    LeaseLost,
    /// It would refuse the same write again.
    Permanent,
}

impl World {
    /// Whether a worker of this name is known and its lease has not run out.
    fn is_alive(&self, name: Name) -> bool {
        let worker = self.worker(name.worker);
        worker.name == name && worker.known && !worker.lapsed
    }

    fn forget(&mut self, name: Name) {
        let worker = self.worker_mut(name.worker);
        if worker.name == name {
            (worker.known, worker.lapsed) = (false, false);
        }
    }

    fn held(&self, turn: u8) -> Option<Held> {
        let Turn {
            holder,
            epoch,
            attempt,
            cancel,
            ..
        } = *self.turn(turn);
        Some(Held {
            lease: Lease {
                turn,
                name: holder?,
                epoch,
            },
            attempt,
            cancel,
        })
    }

    /// `begin_turn`: the turn, if it is to be run now.
    pub fn begin_turn(&mut self, guards: Guards, message: u8, name: Name) -> Option<Held> {
        if guards.recognition && self.turns.iter().any(|turn| turn.message == message) {
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
        if busy && guards.one_runs {
            return None;
        }
        let turn = self.turns.len() as u8 - 1;
        self.start(turn, name);
        self.held(turn)
    }

    fn place_message(&mut self, turn: u8) {
        self.log.push(Item {
            turn,
            epoch: 0,
            body: Body::User,
        });
    }

    fn start(&mut self, turn: u8, name: Name) {
        self.place_message(turn);
        let row = self.turn_mut(turn);
        (row.status, row.holder, row.epoch, row.attempt) = (Status::Running, Some(name), 1, 1);
    }

    /// `append`, or `end_turn` if the write has an end: then the next turn, if it is to be run now.
    pub fn write(
        &mut self,
        guards: Guards,
        lease: Lease,
        write: &Write,
    ) -> Result<Option<Held>, Refusal> {
        let (current, ended) = (
            self.is_current(lease),
            matches!(self.turn(lease.turn).status, Status::Ended(_)),
        );
        if guards.epoch && !current {
            let turn = self.turn(lease.turn);
            let is_repeated = ended
                && write.end.is_some()
                && turn.holder == Some(lease.name)
                && turn.epoch == lease.epoch;
            return if is_repeated && guards.recognition {
                Ok(self.begun_by(guards, lease))
            } else {
                Err(Refusal::LeaseLost)
            };
        }
        if self.refused == Some(lease.turn)
            && write.items.iter().any(|body| matches!(body, Body::Said(_)))
        {
            return Err(Refusal::Permanent);
        }
        self.broken.written_without_lease |= !current;
        self.broken.changed_after_end |= ended;
        for body in &write.items {
            let item = Item {
                turn: lease.turn,
                epoch: lease.epoch,
                body: *body,
            };
            if !guards.recognition || !self.log.iter().any(|known| known.is_known_as(&item)) {
                self.broken.said_after_time |=
                    matches!(body, Body::Said(_)) && self.turn(lease.turn).expired;
                self.log.push(item);
            }
        }
        let Some(outcome) = write.end else {
            return Ok(None);
        };
        self.turn_mut(lease.turn).status = Status::Ended(outcome);
        self.turn_mut(lease.turn).next = self.start_next(lease.name);
        Ok(self.begun_by(guards, lease))
    }

    /// Begins the turn that waits longest. Those before it that are not wanted any more end.
    fn start_next(&mut self, name: Name) -> Option<u8> {
        while let Some(next) = self
            .turns
            .iter()
            .position(|turn| turn.status == Status::Queued)
        {
            if !self.turns[next].cancel {
                self.start(next as u8, name);
                return Some(next as u8);
            }
            self.place_message(next as u8);
            self.turns[next].status = Status::Ended(Outcome::Cancelled);
        }
        None
    }

    /// The turn that this one's end began, if it still runs under the lease that it was begun with.
    fn begun_by(&self, guards: Guards, lease: Lease) -> Option<Held> {
        let next = self.turn(lease.turn).next?;
        let is_as_begun = |held: &Held| {
            held.lease.name == lease.name && (held.lease.epoch == 1 || !guards.handed_once)
        };
        self.held(next)
            .filter(|held| is_as_begun(held) && self.turn(next).status == Status::Running)
    }

    /// The turns that a claim would take over.
    pub fn abandoned(&self, name: Name, holding: Option<&[u8]>) -> Vec<u8> {
        let takes = self.is_alive(name);
        let is_abandoned = |id: u8| {
            let turn = self.turn(id);
            let in_nobodys_hands = match turn.holder {
                Some(holder) if holder == name => {
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
    pub fn claim(&mut self, guards: Guards, name: Name, holding: Option<&[u8]>) -> Vec<Held> {
        let abandoned = self.abandoned(name, holding);
        for id in &abandoned {
            let turn = self.turn_mut(*id);
            let holder = turn.holder.replace(name);
            (turn.epoch, turn.attempt) = (
                turn.epoch + 1,
                turn.attempt + u8::from(guards.counted || holder != Some(name)),
            );
            if let Some(dead) = holder.filter(|holder| *holder != name) {
                self.forget(dead);
            }
        }
        abandoned
            .into_iter()
            .filter_map(|id| self.held(id))
            .collect()
    }

    /// `retire`. The store is stricter: what the worker has released before is not handed over.
    pub fn retire(&mut self, name: Name) {
        self.forget(name);
        for turn in self
            .turns
            .iter_mut()
            .filter(|turn| turn.status == Status::Running && turn.holder == Some(name))
        {
            (turn.holder, turn.attempt) = (None, turn.attempt - 1);
        }
    }

    /// `request_cancel`.
    pub fn request_cancel(&mut self, turn: u8) {
        self.turn_mut(turn).cancel = true;
    }
}
