//! A mock of the store, for failures that no fake produces.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;

use crate::*;

mockall::mock! {
    /// A store whose every call a test scripts.
    pub ConversationStore {}

    #[async_trait]
    impl Conversations for ConversationStore {
        async fn list(
            &self,
            owner: &UserId,
            page: ConversationPage,
        ) -> StoreResult<Vec<Conversation>>;
        async fn get(
            &self,
            owner: &UserId,
            id: ConversationId,
        ) -> StoreResult<Option<Conversation>>;
        async fn rename(
            &self,
            owner: &UserId,
            id: ConversationId,
            title: &Title,
            at: Timestamp,
        ) -> StoreResult<Conversation>;
        async fn delete(&self, owner: &UserId, id: ConversationId) -> StoreResult<()>;
        async fn turns(
            &self,
            owner: &UserId,
            id: ConversationId,
            page: TurnPage,
        ) -> StoreResult<Option<Vec<LoggedTurn>>>;
        async fn turn(
            &self,
            owner: &UserId,
            turn: TurnRef,
            after: Position,
        ) -> StoreResult<Option<TurnView>>;
        async fn tool_calls(
            &self,
            owner: &UserId,
            id: ConversationId,
            page: ToolCallPage,
        ) -> StoreResult<Option<Vec<ToolCallRecord>>>;
        async fn request_cancel(&self, owner: &UserId, id: TurnId) -> StoreResult<Turn>;
        async fn release_key(&self, owner: &UserId, id: TurnId) -> StoreResult<()>;
        async fn set_feedback(
            &self,
            owner: &UserId,
            id: ConversationId,
            messages: Vec<MessageId>,
            feedback: Feedback,
            at: Timestamp,
        ) -> StoreResult<()>;
    }

    #[async_trait]
    impl TurnLog for ConversationStore {
        async fn begin(&self, turn: BeginTurn) -> StoreResult<BeginOutcome>;
        async fn append(&self, append: AppendItems) -> StoreResult<Vec<Item>>;
        async fn end(&self, end: EndTurn) -> StoreResult<EndedTurn>;
        async fn force_end(
            &self,
            lease: &TurnLease,
            failure: TurnFailure,
            at: Timestamp,
        ) -> StoreResult<()>;
    }

    #[async_trait]
    impl WorkerLeases for ConversationStore {
        async fn register(&self, worker: WorkerId, lease: Duration) -> StoreResult<()>;
        async fn heartbeat(
            &self,
            worker: WorkerId,
            lease: Duration,
            drafts: Vec<DraftUpdate>,
        ) -> StoreResult<Heartbeat>;
        async fn claim(&self, claim: Claim) -> StoreResult<Vec<HeldTurn>>;
        async fn deregister(
            &self,
            worker: WorkerId,
            handed_over: Vec<TurnId>,
        ) -> StoreResult<()>;
        async fn turn_versions(
            &self,
            turns: Vec<TurnId>,
        ) -> StoreResult<HashMap<TurnId, TurnVersion>>;
        async fn ping(&self) -> StoreResult<()>;
    }
}
