//! The words that the database keeps for closed sets of values.

use chat_domain::{Role, ToolExecutor};

pub(crate) const QUEUED: &str = "queued";
pub(crate) const RUNNING: &str = "running";
pub(crate) const COMPLETED: &str = "completed";
pub(crate) const CANCELLED: &str = "cancelled";
pub(crate) const FAILED: &str = "failed";

pub(crate) const SUCCEEDED: &str = "succeeded";
pub(crate) const UNKNOWN: &str = "unknown";

pub(crate) fn role_code(role: Role) -> &'static str {
    match role {
        Role::User => "user",
        Role::Assistant => "assistant",
    }
}

pub(crate) fn role(code: &str) -> Option<Role> {
    [Role::User, Role::Assistant]
        .into_iter()
        .find(|role| role_code(*role) == code)
}

pub(crate) fn executor_code(executor: ToolExecutor) -> &'static str {
    match executor {
        ToolExecutor::Server => "us",
        ToolExecutor::Agent => "agent",
    }
}

pub(crate) fn executor(code: &str) -> Option<ToolExecutor> {
    [ToolExecutor::Server, ToolExecutor::Agent]
        .into_iter()
        .find(|executor| executor_code(*executor) == code)
}
