//! The story of a world, line by line. Written only where somebody reads it.

use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

/// The lines so far, or nothing if nobody reads them.
pub struct Trace(Option<Mutex<String>>);

impl Trace {
    pub fn new(is_read: bool) -> Self {
        Self(is_read.then(Mutex::default))
    }

    /// Adds a line, which is made only if somebody reads it.
    pub fn note(&self, at: Duration, line: impl FnOnce() -> String) {
        if let Some(lines) = &self.0 {
            let line = line();
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            // Writing to a string cannot fail.
            let _ = writeln!(lines, "{:>9.3} {line}", at.as_secs_f64());
        }
    }

    pub fn text(&self) -> String {
        let lines = self.0.as_ref();
        lines.map_or_else(String::new, |lines| {
            lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
        })
    }
}

/// An id as the story shows it: its number in the world.
pub fn short(id: Uuid) -> String {
    format!("#{}", id.as_u128() & u128::from(u32::MAX))
}
