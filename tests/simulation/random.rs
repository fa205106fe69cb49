//! Randomness from the seed: each decision has a stream of its own, named by tags. To leave one
//! decision out of a world changes no other, so a failing world can shrink.

use std::ops::RangeInclusive;
use std::time::Duration;

pub type Random = fastrand::Rng;

/// The stream of decisions with these tags.
pub fn stream(seed: u64, tags: &[u64]) -> Random {
    let mixed = tags.iter().fold(mix(seed), |mixed, tag| mix(mixed ^ tag));
    Random::with_seed(mixed)
}

/// The finalizer of SplitMix64.
fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// A tag from a text.
pub fn tag(text: &str) -> u64 {
    text.bytes()
        .fold(7, |hash, byte| mix(hash ^ u64::from(byte)))
}

/// A duration of whole milliseconds.
pub fn millis(random: &mut Random, range: RangeInclusive<u64>) -> Duration {
    Duration::from_millis(random.u64(range))
}

/// Whether something with this probability, in percent, happens.
pub fn chance(random: &mut Random, percent: u32) -> bool {
    random.u32(..100) < percent
}

/// One of these, or `None` if there is none.
pub fn choose<'a, T>(random: &mut Random, all: &'a [T]) -> Option<&'a T> {
    if all.is_empty() {
        return None;
    }
    all.get(random.usize(..all.len()))
}

/// One of these, by weight. Without any weight the first.
pub fn weighted<T: Copy>(random: &mut Random, all: &[(T, u32)], otherwise: T) -> T {
    let total: u32 = all.iter().map(|(_, weight)| weight).sum();
    if total == 0 {
        return otherwise;
    }
    let mut left = random.u32(..total);
    for (value, weight) in all {
        if left < *weight {
            return *value;
        }
        left -= weight;
    }
    otherwise
}
