use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

use crate::{Environment, Timestamp};

/// Time and ids that are the same in each run: a millisecond passes with each look at the clock.
///
/// Two of them give the same ids. Never use it with a store that outlives it: what has a known id
/// counts as a repetition.
#[derive(Debug, Default)]
pub struct FixedEnvironment {
    ids: AtomicU64,
    looks: AtomicU64,
}

impl FixedEnvironment {
    /// 2026-02-02T22:00:00Z, where its time begins.
    pub const START: Timestamp = Timestamp(1_770_069_600_000_000);

    /// A fresh one.
    pub fn new() -> Self {
        Self::default()
    }

    /// The n-th id it gives, from 1.
    pub fn id(n: u64) -> Uuid {
        Uuid::from_u128(0x019c_2000_0000_7000_8000_0000_0000_0000 | u128::from(n))
    }
}

impl Environment for FixedEnvironment {
    fn now(&self) -> Timestamp {
        let looks = self.looks.fetch_add(1, Ordering::Relaxed);
        Timestamp(Self::START.0 + i64::try_from(looks).unwrap_or(i64::MAX / 2) * 1_000)
    }

    fn fresh_id(&self) -> Uuid {
        Self::id(self.ids.fetch_add(1, Ordering::Relaxed) + 1)
    }
}
