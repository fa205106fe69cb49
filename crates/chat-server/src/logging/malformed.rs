//! Summarizes errors of the HTTP library that any client can cause without a token.

use std::fmt::{Debug, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// The shortest time between two lines on malformed requests.
const INTERVAL: Duration = Duration::from_secs(60);

/// The longest part of the library's message in a line, in bytes.
const MAX_MESSAGE: usize = 200;

/// Drops the library's error line for each request that it cannot parse, and logs their number as a
/// warning, at most once a minute.
#[derive(Default)]
pub(super) struct Summary(Mutex<Count>);

#[derive(Default)]
struct Count {
    requests: u64,
    reported: Option<Instant>,
}

impl Count {
    /// Counts a request; returns the requests since the last report if it is time for one.
    fn add(&mut self, now: Instant) -> Option<u64> {
        self.requests += 1;
        if self
            .reported
            .is_some_and(|reported| now.duration_since(reported) < INTERVAL)
        {
            return None;
        }
        self.reported = Some(now);
        Some(std::mem::take(&mut self.requests))
    }
}

impl<S: Subscriber> Layer<S> for Summary {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() != Level::ERROR || !metadata.target().starts_with("actix_http") {
            return true;
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        let Some(error) = message.0.strip_prefix("stream error: ") else {
            return true;
        };
        let due = match self.0.lock() {
            Ok(mut count) => count.add(Instant::now()),
            Err(poisoned) => poisoned.into_inner().add(Instant::now()),
        };
        if let Some(requests) = due {
            let error = error
                .get(..error.floor_char_boundary(MAX_MESSAGE))
                .unwrap_or_default();
            tracing::warn!(requests, error, "malformed HTTP requests rejected");
        }
        false
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            // Writing to a string cannot fail.
            let _ = write!(self.0, "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_request_is_reported_at_once_and_later_ones_once_a_minute() {
        let (mut count, start) = (Count::default(), Instant::now());
        assert_eq!(count.add(start), Some(1));
        assert_eq!(count.add(start), None);
        assert_eq!(count.add(start + INTERVAL / 2), None);
        assert_eq!(count.add(start + INTERVAL), Some(3));
        assert_eq!(count.add(start + INTERVAL), None);
    }
}
