//! The clocks of a world: the store's, which drifts and jumps, and each worker's wall clock, which
//! jumps.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use chat_domain::testing::FixedEnvironment;
use chat_domain::{Environment, Timestamp};
use tokio::time::Instant;
use uuid::Uuid;

/// The time of a world.
#[derive(Clone)]
pub struct Clock {
    started: Instant,
    /// How much faster the store's clock is, in thousandths.
    drift: i64,
    /// By how much the store's clock has jumped, in microseconds.
    jumped: Arc<AtomicI64>,
}

impl Clock {
    pub fn new(drift: i64) -> Self {
        Self {
            started: Instant::now(),
            drift,
            jumped: Arc::default(),
        }
    }

    /// How long the world has been there.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn micros(&self) -> i64 {
        i64::try_from(self.elapsed().as_micros()).unwrap_or(i64::MAX)
    }

    /// The time by the store's clock, in microseconds.
    pub fn store(&self) -> i64 {
        let micros = self.micros();
        micros + micros / 1_000 * self.drift + self.jumped.load(Ordering::Relaxed)
    }

    /// Makes the store's clock jump.
    pub fn jump(&self, millis: i64) {
        self.jumped.fetch_add(millis * 1_000, Ordering::Relaxed);
    }
}

/// The clock of one worker, and the ids of the world.
pub struct WorkerEnvironment {
    pub clock: Clock,
    /// By how much the worker's wall clock is wrong, in milliseconds.
    pub wrong_by: Arc<AtomicI64>,
    pub ids: Arc<AtomicU64>,
}

impl Environment for WorkerEnvironment {
    fn now(&self) -> Timestamp {
        let wrong_by = self.wrong_by.load(Ordering::Relaxed) * 1_000;
        Timestamp(FixedEnvironment::START.0 + self.clock.micros() + wrong_by)
    }

    fn fresh_id(&self) -> Uuid {
        FixedEnvironment::id(self.ids.fetch_add(1, Ordering::Relaxed) + 1)
    }
}
