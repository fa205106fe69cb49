//! The timeouts of one step.

use std::time::Duration;

use chat_domain::AgentError;
use tokio::time::{Instant, timeout_at};

use crate::failure::{TimeoutKind, timeout_error};
use crate::settings::Timeouts;

/// Longer timeouts never expire in practice. Adding them to the current time could overflow.
const MAX_TIMEOUT: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The timeouts of a step that has started.
#[derive(Clone, Copy, Debug)]
pub struct StepClock {
    timeouts: Timeouts,
    deadline: Instant,
}

impl StepClock {
    pub fn start(timeouts: Timeouts) -> Self {
        Self {
            timeouts,
            deadline: after(timeouts.step),
        }
    }

    /// Returns when the first byte must arrive if the request is sent now.
    pub fn first_byte_deadline(&self) -> Instant {
        after(self.timeouts.first_byte)
    }

    /// Returns when the next piece must arrive if one arrived now.
    pub fn next_piece_deadline(&self) -> Instant {
        after(self.timeouts.idle)
    }

    /// Returns the time until the deadline of the whole step.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Runs `work` until `deadline` or the step's deadline, whichever is earlier.
    ///
    /// # Errors
    /// The deadline passed. The error says which one.
    pub async fn within<T>(
        &self,
        deadline: Instant,
        kind: TimeoutKind,
        work: impl Future<Output = T>,
    ) -> Result<T, AgentError> {
        let (deadline, kind) = if self.deadline < deadline {
            (self.deadline, TimeoutKind::Step)
        } else {
            (deadline, kind)
        };
        timeout_at(deadline, work)
            .await
            .map_err(|_| timeout_error(kind))
    }
}

fn after(limit: Duration) -> Instant {
    Instant::now() + limit.min(MAX_TIMEOUT)
}
