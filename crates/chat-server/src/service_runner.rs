//! Runs calls of the use case to their end, whatever becomes of the client.

use std::sync::Arc;

use chat_domain::{ChatError, ChatService, StartedTurn, StoreError, Turn};
use chat_protocol::{Code, Problem};

use crate::observer::chain;
use crate::tasks::Tasks;

/// Calls the use case in tasks of their own. Cheap to clone.
#[derive(Clone)]
pub struct ServiceRunner {
    /// The use case.
    pub service: Arc<ChatService>,
    /// Where calls and turns run.
    pub tasks: Tasks,
}

impl ServiceRunner {
    /// Runs `work` to its end, even if the future is dropped.
    ///
    /// # Errors
    /// The problem of the error that `work` returned, which is logged here; `internal` if `work`
    /// panicked.
    pub async fn call<T, F>(&self, work: impl FnOnce(Arc<ChatService>) -> F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ChatError>> + Send + 'static,
    {
        match self.tasks.run(work(self.service.clone())).await {
            Ok(result) => result.map_err(into_logged_problem),
            Err(fault) => {
                tracing::error!(error = %fault, "internal error in a request");
                Err(Code::Internal.into())
            }
        }
    }

    /// Starts a turn, and runs it in a task of its own. Dropping the future stops neither.
    ///
    /// # Errors
    /// Those of [`call`](Self::call).
    pub async fn start_turn<F>(
        &self,
        start: impl FnOnce(Arc<ChatService>) -> F + Send + 'static,
    ) -> Result<Turn, Problem>
    where
        F: Future<Output = Result<StartedTurn, ChatError>> + Send + 'static,
    {
        let tasks = self.tasks.clone();
        let turn = self
            .call(|service| async move {
                let started = start(service).await?;
                if let Some(task) = started.task {
                    tasks.spawn(task);
                }
                Ok(started.turn)
            })
            .await?;
        // In the span of the request: the turn's own lines know nothing of it.
        tracing::info!(turn_id = %turn.id, conversation_id = %turn.conversation, "turn accepted");
        Ok(turn)
    }
}

/// The problem of an error of the use case. Clients get the code only; the causes go to the log.
pub fn into_logged_problem(error: ChatError) -> Problem {
    match &error {
        ChatError::Store(StoreError::Unavailable(reason, cause)) => {
            tracing::warn!(?reason, error = chain(&**cause), "store unavailable");
        }
        ChatError::Store(fault) => tracing::error!(error = chain(fault), "store error"),
        _ => {}
    }
    Problem::from(&error)
}

/// The same error, for a client whose request has started the turn: a turn disappears only with
/// its conversation.
pub fn missing_turn_as_conversation(error: ChatError) -> ChatError {
    match error {
        ChatError::TurnNotFound => ChatError::ConversationNotFound,
        error => error,
    }
}
