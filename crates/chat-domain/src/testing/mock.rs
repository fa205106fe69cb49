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
        ) -> Result<Vec<Conversation>, StoreError>;
        async fn get(
            &self,
            owner: &UserId,
            id: ConversationId,
        ) -> Result<Option<Conversation>, StoreError>;
        async fn rename(
            &self,
            owner: &UserId,
            id: ConversationId,
            title: &Title,
            at: Timestamp,
        ) -> Result<Conversation, StoreError>;
        async fn delete(&self, owner: &UserId, id: ConversationId) -> Result<(), StoreError>;
        async fn turns(
            &self,
            owner: &UserId,
            id: ConversationId,
            page: TurnPage,
        ) -> Result<Option<Vec<LoggedTurn>>, StoreError>;
        async fn turn(
            &self,
            owner: &UserId,
            turn: TurnRef,
            after: Position,
        ) -> Result<Option<TurnView>, StoreError>;
        async fn tool_calls(
            &self,
            owner: &UserId,
            id: ConversationId,
            page: ToolCallPage,
        ) -> Result<Option<Vec<ToolCallRecord>>, StoreError>;
        async fn request_cancel(&self, owner: &UserId, id: TurnId) -> Result<Turn, StoreError>;
        async fn release_key(&self, owner: &UserId, id: TurnId) -> Result<(), StoreError>;
        async fn set_feedback(
            &self,
            owner: &UserId,
            id: ConversationId,
            messages: Vec<MessageId>,
            feedback: Feedback,
            at: Timestamp,
        ) -> Result<(), StoreError>;
    }

    #[async_trait]
    impl TurnLog for ConversationStore {
        async fn begin(&self, turn: BeginTurn) -> Result<BeginOutcome, StoreError>;
        async fn append(&self, append: AppendItems) -> Result<Vec<Item>, StoreError>;
        async fn end(&self, end: EndTurn) -> Result<EndedTurn, StoreError>;
        async fn force_end(
            &self,
            lease: &TurnLease,
            failure: TurnFailure,
            at: Timestamp,
        ) -> Result<(), StoreError>;
    }

    #[async_trait]
    impl WorkerLeases for ConversationStore {
        async fn register(&self, worker: WorkerId, lease: Duration) -> Result<(), StoreError>;
        async fn heartbeat(
            &self,
            worker: WorkerId,
            lease: Duration,
            drafts: Vec<DraftUpdate>,
        ) -> Result<Heartbeat, StoreError>;
        async fn claim(&self, claim: Claim) -> Result<Vec<HeldTurn>, StoreError>;
        async fn deregister(
            &self,
            worker: WorkerId,
            handed_over: Vec<TurnId>,
        ) -> Result<(), StoreError>;
        async fn turn_versions(
            &self,
            turns: Vec<TurnId>,
        ) -> Result<HashMap<TurnId, TurnVersion>, StoreError>;
        async fn ping(&self) -> Result<(), StoreError>;
    }
}
