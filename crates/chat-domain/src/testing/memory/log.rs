//! How a conversation's log changes.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use super::{Log, Row, same_id};
use crate::{
    HeldTurn, Item, ItemBody, NewItem, Position, StoreError, Timestamp, ToolOutcome, ToolResult,
    TurnFailure, TurnId, TurnOutcome, TurnStatus, UnknownCause, WorkerId,
};

impl Log {
    pub(super) fn row(&mut self, at: usize) -> Result<&mut Row, StoreError> {
        self.turns
            .get_mut(at)
            .ok_or_else(|| StoreError::Internal("a turn went away".into()))
    }

    pub(super) fn held(&self, row: &Row) -> Result<HeldTurn, StoreError> {
        let lease = row
            .lease()
            .ok_or_else(|| StoreError::Internal("a running turn without a holder".into()))?;
        let owner = self.conversation.owner.clone();
        Ok(HeldTurn {
            turn: row.turn.clone(),
            owner,
            lease,
            attempt: row.attempt,
            spent: row.spent,
            items: row.items.clone(),
        })
    }

    pub(super) fn running(&self) -> Option<&Row> {
        self.turns.iter().find(|row| row.is_running())
    }

    /// Gives new items their places.
    pub(super) fn place(
        &mut self,
        at: usize,
        items: Vec<NewItem>,
    ) -> Result<Vec<Item>, StoreError> {
        let mut last = self.last_position;
        let row = self.row(at)?;
        let bodies = || {
            row.items
                .iter()
                .map(|item| &item.body)
                .chain(items.iter().map(|item| &item.body))
        };
        for item in &items {
            if let ItemBody::ToolResult(result) = &item.body
                && !bodies()
                    .any(|body| matches!(body, ItemBody::ToolCall(call) if call.id == result.call))
            {
                return Err(StoreError::Internal("a result without its call".into()));
            }
        }
        let mut placed = Vec::new();
        for item in items {
            if let Some(known) = row
                .items
                .iter()
                .find(|known| same_id(&known.body, &item.body))
            {
                placed.push(known.clone());
                continue;
            }
            last += 1;
            let item = Item {
                position: Position(last),
                turn: row.turn.id,
                at: item.at,
                body: item.body,
            };
            row.items.push(item.clone());
            placed.push(item);
        }
        self.last_position = last;
        Ok(placed)
    }

    /// Places the user's message of a queued turn.
    fn place_message(&mut self, at: usize) -> Result<(), StoreError> {
        self.last_position += 1;
        let position = Position(self.last_position);
        self.row(at)?
            .items
            .iter_mut()
            .for_each(|item| item.position = position);
        Ok(())
    }

    pub(super) fn run(&mut self, at: usize, worker: WorkerId) -> Result<TurnId, StoreError> {
        self.place_message(at)?;
        let row = self.row(at)?;
        row.turn.status = TurnStatus::Running;
        (row.holder, row.epoch, row.attempt, row.started) =
            (Some(worker), 1, 1, Some(Instant::now()));
        let (id, ordinal, retry_of) = (row.turn.id, row.turn.ordinal, row.turn.retry_of);
        let from = self
            .turns
            .iter()
            .find(|row| Some(row.turn.id) == retry_of)
            .map(|row| row.turn.ordinal);
        if let Some(from) = from {
            self.turns
                .iter_mut()
                .filter(|row| (from..ordinal).contains(&row.turn.ordinal))
                .for_each(|row| row.turn.superseded = true);
        }
        Ok(id)
    }

    /// Ends a turn without its worker, and begins the next queued one in nobody's hands.
    pub(super) fn force_end(
        &mut self,
        at: usize,
        failure: TurnFailure,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let row = self.row(at)?;
        row.draft = None;
        row.turn.status = TurnStatus::Ended {
            at: now,
            outcome: TurnOutcome::Failed(failure),
        };
        let results: HashSet<_> = row
            .items
            .iter()
            .filter_map(|item| {
                if let ItemBody::ToolResult(result) = &item.body {
                    Some(result.call)
                } else {
                    None
                }
            })
            .collect();
        let calls = row.items.iter().filter_map(|item| {
            if let ItemBody::ToolCall(call) = &item.body {
                Some(call.id)
            } else {
                None
            }
        });
        let open: Vec<_> = calls.filter(|call| !results.contains(call)).collect();
        let unknown = open.into_iter().map(|call| {
            let outcome = ToolOutcome::Unknown(UnknownCause::Interrupted);
            NewItem {
                at: now,
                body: ItemBody::ToolResult(ToolResult {
                    call,
                    outcome,
                    started_at: now,
                    took: Duration::ZERO,
                }),
            }
        });
        self.place(at, unknown.collect())?;
        self.conversation.updated_at = now;
        if let Some(next) = self
            .turns
            .iter()
            .position(|row| row.turn.status == TurnStatus::Queued)
        {
            self.run(next, WorkerId(uuid::Uuid::nil()))?;
            let row = self.row(next)?;
            (row.holder, row.epoch, row.attempt, row.started) = (None, 0, 0, None);
        }
        Ok(())
    }

    /// Begins the next queued turn; ends those before it whose cancel was requested.
    pub(super) fn run_next(
        &mut self,
        worker: WorkerId,
        now: Timestamp,
    ) -> Result<Option<TurnId>, StoreError> {
        while let Some(at) = self
            .turns
            .iter()
            .position(|row| row.turn.status == TurnStatus::Queued)
        {
            if !self.row(at)?.turn.cancel_requested {
                return self.run(at, worker).map(Some);
            }
            self.place_message(at)?;
            self.row(at)?.turn.status = TurnStatus::Ended {
                at: now,
                outcome: TurnOutcome::Cancelled,
            };
        }
        Ok(None)
    }
}
