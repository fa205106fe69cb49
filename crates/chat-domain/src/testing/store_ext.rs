//! Shorter calls of a store, for tests.

use std::time::Duration;

use async_trait::async_trait;

use crate::*;

/// Shorter calls of a store. A look-up that finds nothing is `NotFound`.
#[async_trait]
pub trait StoreExt: ConversationStore {
    /// [`Conversations::get`].
    async fn conversation(
        &self,
        owner: &UserId,
        id: ConversationId,
    ) -> Result<Conversation, StoreError> {
        found(self.get(owner, id).await?)
    }

    /// [`Conversations::turns`].
    async fn logged_turns(
        &self,
        owner: &UserId,
        id: ConversationId,
        page: TurnPage,
    ) -> Result<Vec<LoggedTurn>, StoreError> {
        found(self.turns(owner, id, page).await?)
    }

    /// [`Conversations::turn`], by the turn's id.
    async fn view(
        &self,
        owner: &UserId,
        id: TurnId,
        after: Position,
    ) -> Result<TurnView, StoreError> {
        found(self.turn(owner, TurnRef::Id(id), after).await?)
    }

    /// The turn of [`Conversations::turn`], by a message.
    async fn turn_of(
        &self,
        owner: &UserId,
        id: ConversationId,
        message: MessageId,
    ) -> Result<Turn, StoreError> {
        let turn = TurnRef::Message(id, message);
        let view = found(self.turn(owner, turn, Position::START).await?)?;
        Ok(view.turn)
    }

    /// [`Conversations::tool_calls`].
    async fn call_records(
        &self,
        owner: &UserId,
        id: ConversationId,
        page: ToolCallPage,
    ) -> Result<Vec<ToolCallRecord>, StoreError> {
        found(self.tool_calls(owner, id, page).await?)
    }

    /// [`TurnLog::append`].
    async fn append_items(
        &self,
        lease: &TurnLease,
        items: Vec<NewItem>,
    ) -> Result<Vec<Item>, StoreError> {
        let lease = *lease;
        self.append(AppendItems { lease, items }).await
    }

    /// [`TurnLog::end`].
    async fn end_turn(
        &self,
        lease: &TurnLease,
        last: Vec<NewItem>,
        outcome: TurnOutcome,
        usage: Usage,
        at: Timestamp,
    ) -> Result<EndedTurn, StoreError> {
        let lease = *lease;
        self.end(EndTurn {
            lease,
            last,
            outcome,
            usage,
            at,
        })
        .await
    }

    /// [`WorkerLeases::heartbeat`].
    async fn beat(
        &self,
        worker: WorkerId,
        lease: Duration,
        drafts: Vec<(TurnLease, Draft)>,
    ) -> Result<Heartbeat, StoreError> {
        let update = |(lease, draft)| DraftUpdate { lease, draft };
        let drafts = drafts.into_iter().map(update).collect();
        self.heartbeat(worker, lease, drafts).await
    }
}

impl<T: ConversationStore + ?Sized> StoreExt for T {}

fn found<T>(read: Option<T>) -> Result<T, StoreError> {
    read.ok_or_else(|| Refusal::NotFound.into())
}

/// A retry of a turn, for tests that do not look at the original message: its id is the turn's.
pub fn retry_of(turn: TurnId) -> Option<RetryOf> {
    let original = OriginalMessage {
        id: MessageId(turn.0),
        at: Timestamp(0),
    };
    Some(RetryOf { turn, original })
}
