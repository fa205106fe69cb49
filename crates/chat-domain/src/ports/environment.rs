//! Clock and id generation.

use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use crate::Timestamp;

/// Clock and id generation, which tests can fix.
pub trait Environment: Send + Sync {
    /// The time now, for people to read.
    fn now(&self) -> Timestamp;

    /// A new id, never given before, UUID version 7.
    fn fresh_id(&self) -> Uuid;
}

/// The clock and the random numbers of the operating system.
#[derive(Clone, Copy, Debug)]
pub struct SystemEnvironment;

impl Environment for SystemEnvironment {
    fn now(&self) -> Timestamp {
        let now = SystemTime::now();
        let micros = match now.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => {
                i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros)
            }
        };
        Timestamp(micros)
    }

    fn fresh_id(&self) -> Uuid {
        Uuid::now_v7()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_7_and_grow() {
        let ids: Vec<Uuid> = (0..1_000).map(|_| SystemEnvironment.fresh_id()).collect();
        assert!(ids.iter().all(|id| id.get_version_num() == 7));
        assert!(ids.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn time_is_counted_in_microseconds() {
        let of_an_id = SystemEnvironment
            .fresh_id()
            .get_timestamp()
            .unwrap()
            .to_unix();
        let seconds = SystemEnvironment.now().0 / 1_000_000;
        assert!(seconds.abs_diff(i64::try_from(of_an_id.0).unwrap()) < 60);
    }
}
