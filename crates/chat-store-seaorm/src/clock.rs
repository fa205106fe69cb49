//! The clock that a simulation sets in the place of the database's.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

thread_local! {
    static CLOCK: RefCell<Option<Arc<AtomicI64>>> = const { RefCell::new(None) };
}

/// Sets the clock, in microseconds, of the statements that the current thread makes from now on:
/// they bind its time instead of asking the database. A store whose runtime has no other threads
/// follows it in all it does.
pub fn set_clock(clock: Arc<AtomicI64>) {
    CLOCK.set(Some(clock));
}

/// The time by the clock of the current thread, if one is set.
pub(crate) fn now() -> Option<i64> {
    CLOCK.with_borrow(|clock| clock.as_ref().map(|clock| clock.load(Ordering::Relaxed)))
}
