//! Log lines about one server, at most one of each kind per minute.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long further lines of a kind are suppressed.
const INTERVAL: Duration = Duration::from_secs(60);

/// A rate-limited log for one server.
pub(crate) struct ThrottledLog {
    server: String,
    kinds: Mutex<HashMap<&'static str, Kind>>,
}

struct Kind {
    since: Instant,
    suppressed: u64,
}

impl ThrottledLog {
    pub(crate) fn new(server: &str) -> Self {
        Self {
            server: server.to_owned(),
            kinds: Mutex::default(),
        }
    }

    /// Logs a warning, unless one of this kind was logged in the last minute.
    pub(crate) fn warn(&self, kind: &'static str, reason: &str) {
        if let Some(suppressed) = self.permit(kind) {
            tracing::warn!(
                server = self.server,
                reason,
                suppressed,
                "tool server output has defects"
            );
        }
    }

    /// Returns how many lines of this kind were suppressed if one may be logged now.
    pub(crate) fn permit(&self, kind: &'static str) -> Option<u64> {
        let now = Instant::now();
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        match kinds.get_mut(kind) {
            Some(known) if now.duration_since(known.since) < INTERVAL => {
                known.suppressed += 1;
                None
            }
            known => {
                let suppressed = known.map_or(0, |known| known.suppressed);
                kinds.insert(
                    kind,
                    Kind {
                        since: now,
                        suppressed: 0,
                    },
                );
                Some(suppressed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_of_a_kind_is_logged_per_minute() {
        let log = ThrottledLog::new("one");
        assert_eq!(
            (
                log.permit("a"),
                log.permit("a"),
                log.permit("a"),
                log.permit("b")
            ),
            (Some(0), None, None, Some(0))
        );
        tokio::time::advance(INTERVAL).await;
        assert_eq!((log.permit("a"), log.permit("a")), (Some(2), None));
    }
}
