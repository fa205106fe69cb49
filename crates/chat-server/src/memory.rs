//! The bound on memory that request bodies and unsent replies hold, over all connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of bytes that reservations share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MemoryLimit {
    limit: usize,
    used: Arc<AtomicUsize>,
}

impl MemoryLimit {
    /// A limit of so many bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            used: Arc::default(),
        }
    }

    /// Reserves bytes until the reservation is dropped; `None` if the limit would be exceeded.
    pub fn reserve(&self, bytes: usize) -> Option<Reservation> {
        let mut reservation = Reservation {
            limit: self.clone(),
            bytes: 0,
        };
        reservation.grow(bytes).then_some(reservation)
    }

    /// The bytes that are reserved now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// Reserved bytes; released when dropped.
#[derive(Debug)]
pub struct Reservation {
    limit: MemoryLimit,
    bytes: usize,
}

impl Reservation {
    /// Reserves more bytes; returns false and changes nothing if the limit would be exceeded.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let fits = |used: usize| {
            used.checked_add(bytes)
                .filter(|used| *used <= self.limit.limit)
        };
        let grown = self
            .limit
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .is_ok();
        if grown {
            self.bytes += bytes;
        }
        grown
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.limit.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_share_the_limit_and_release_it() {
        let limit = MemoryLimit::new(10);
        let mut first = limit.reserve(6).unwrap();
        assert!(limit.reserve(5).is_none());
        assert!(limit.reserve(usize::MAX).is_none());
        let second = limit.reserve(4).unwrap();
        assert!(!first.grow(1));
        drop(second);
        assert!(first.grow(4));
        assert_eq!(limit.used(), 10);
        drop(first);
        assert_eq!(limit.used(), 0);
    }
}
