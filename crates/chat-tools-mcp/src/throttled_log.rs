//! Log lines about one server, at most one of a kind in a minute.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long further lines of a kind are only counted.
const QUIET: Duration = Duration::from_secs(60);

/// The log lines about one server.
pub(crate) struct Notices {
    server: String,
    kinds: Mutex<HashMap<&'static str, Kind>>,
}

struct Kind {
    since: Instant,
    suppressed: u64,
}

impl Notices {
    pub(crate) fn new(server: &str) -> Self {
        Self {
            server: server.to_owned(),
            kinds: Mutex::default(),
        }
    }

    /// Logs a warning, unless one of the kind was logged within the last minute.
    pub(crate) fn warn(&self, kind: &'static str, reason: &str) {
        if let Some(suppressed) = self.due(kind) {
            tracing::warn!(
                server = self.server,
                reason,
                suppressed,
                "odd output of a tool server"
            );
        }
    }

    /// Whether a line of the kind may be logged now: if so, how many were left out since the last
    /// one.
    pub(crate) fn due(&self, kind: &'static str) -> Option<u64> {
        let now = Instant::now();
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        match kinds.get_mut(kind) {
            Some(known) if now.duration_since(known.since) < QUIET => {
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
    async fn one_line_of_a_kind_is_logged_in_a_minute() {
        let notices = Notices::new("one");
        assert_eq!(
            (
                notices.due("a"),
                notices.due("a"),
                notices.due("a"),
                notices.due("b")
            ),
            (Some(0), None, None, Some(0))
        );
        tokio::time::advance(QUIET).await;
        assert_eq!((notices.due("a"), notices.due("a")), (Some(2), None));
    }
}
