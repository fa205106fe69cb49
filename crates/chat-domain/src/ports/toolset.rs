//! The tools a user's agent may call.

use async_trait::async_trait;

use crate::{ConversationId, RawJson, ToolCallId, ToolError, ToolOutput, TurnId, UserId};

/// The tools a user's agent may call.
///
/// # Contract
/// - A failure is an answer for the agent, never the end of the turn.
/// - A call is sent at most once. An implementation never repeats a call by itself unless it
///   knows that nothing was sent.
/// - Whose data a tool works on comes from [`Invocation::owner`], never from the arguments.
/// - Arguments that are not a JSON object are refused with `InvalidArguments`.
/// - Dropping the future abandons the call; the tool may continue.
///
/// The suite [`toolset_contract!`](crate::toolset_contract) checks an implementation.
#[async_trait]
pub trait Toolset: Send + Sync {
    /// The tools this user's agent may call now. Tools of an unavailable server are omitted.
    async fn specs(&self, owner: &UserId) -> Vec<ToolSpec>;

    /// Runs a tool.
    ///
    /// # Errors
    /// The failure, which the agent reads. `Unavailable` promises that the call was not sent; after
    /// any other kind it may have had its effect.
    async fn call(&self, invocation: Invocation) -> Result<ToolOutput, CallError>;
}

/// Why a tool gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The tool failed, or did not run.
    Failed(ToolError),
    /// It is unknown whether it ran: its server disconnected during the call.
    Unknown,
}

impl From<ToolError> for CallError {
    fn from(error: ToolError) -> Self {
        Self::Failed(error)
    }
}

/// A tool as the agent knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolSpec {
    /// Its name, unique in the toolset.
    pub name: String,
    /// Its description, for the agent.
    pub description: String,
    /// JSON Schema of its arguments, an object.
    pub input_schema: RawJson,
    /// Whether running it again does no harm: it only reads, or is idempotent.
    pub repeatable: bool,
}

/// One call of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// The user whose data it works on.
    pub owner: UserId,
    /// The conversation it is made in.
    pub conversation: ConversationId,
    /// The turn it is made in.
    pub turn: TurnId,
    /// The call's id, the same when it is repeated after a crash.
    pub call: ToolCallId,
    /// The tool's name.
    pub tool: String,
    /// The arguments.
    pub arguments: RawJson,
}
