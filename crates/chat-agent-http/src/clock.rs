//! The limits of time of one step.

use std::time::Duration;

use chat_domain::AgentError;
use tokio::time::{Instant, timeout_at};

use crate::failure::{Slow, too_slow};
use crate::settings::Timeouts;

/// Longer limits are as good as none; adding them to the present could overflow.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The limits of time of one step that has begun.
#[derive(Clone, Copy, Debug)]
pub struct StepClock {
    timeouts: Timeouts,
    ends: Instant,
}

impl StepClock {
    pub fn start(timeouts: Timeouts) -> Self {
        Self {
            timeouts,
            ends: after(timeouts.step),
        }
    }

    /// When the first byte must be there, if the request is sent now.
    pub fn first_byte_by(&self) -> Instant {
        after(self.timeouts.first_byte)
    }

    /// When the next piece must be there, if one came now.
    pub fn next_piece_by(&self) -> Instant {
        after(self.timeouts.idle)
    }

    /// How much of the step is left.
    pub fn left(&self) -> Duration {
        self.ends.saturating_duration_since(Instant::now())
    }

    /// What comes of the work, if it comes in time and before the whole step is over.
    pub async fn within<T>(
        &self,
        by: Instant,
        slow: Slow,
        work: impl Future<Output = T>,
    ) -> Result<T, AgentError> {
        let (by, slow) = if self.ends < by {
            (self.ends, Slow::Step)
        } else {
            (by, slow)
        };
        timeout_at(by, work).await.map_err(|_| too_slow(slow))
    }
}

fn after(limit: Duration) -> Instant {
    Instant::now() + limit.min(FOREVER)
}
