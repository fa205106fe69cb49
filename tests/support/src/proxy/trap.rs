//! Loses one message or its answer.

use crate::wait;
use tokio::sync::watch;

/// The end of PostgreSQL's answer when no transaction is open: `ReadyForQuery`, idle.
const IDLE: &[u8] = b"Z\0\0\0\x05I";

/// The part of an exchange that is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The message: the server never receives it.
    Message,
    /// The answer: the server processed the message, and the client does not know.
    Answer,
}

/// Waits for one message from a client to its server. See
/// [`Proxy::set_trap`](super::Proxy::set_trap).
#[derive(Clone, Debug)]
pub struct Trap {
    pub(super) message: Vec<u8>,
    pub(super) answered: Vec<u8>,
    pub(super) lost: Lost,
    triggered: watch::Sender<bool>,
}

impl Trap {
    /// Creates a trap for the bytes `message`. Their answer is complete when the bytes `answered`
    /// have come back.
    pub fn new(message: impl Into<Vec<u8>>, answered: impl Into<Vec<u8>>, lost: Lost) -> Self {
        Self {
            message: message.into(),
            answered: answered.into(),
            lost,
            triggered: watch::Sender::new(false),
        }
    }

    /// Creates a trap for a `COMMIT` to PostgreSQL.
    pub fn commit(lost: Lost) -> Self {
        Self::new(*b"COMMIT\0", IDLE, lost)
    }

    /// Waits until the trap has triggered. Clones share their state.
    pub async fn triggered(&self) {
        // This trap owns the sender, so the channel is open.
        let _ = wait::within(
            "the trap to trigger",
            self.triggered.subscribe().wait_for(|triggered| *triggered),
        )
        .await;
    }

    /// Whether the trap has triggered.
    pub fn has_triggered(&self) -> bool {
        *self.triggered.borrow()
    }

    pub(super) fn trigger(&self) {
        self.triggered.send_replace(true);
    }
}

/// Searches for bytes in a stream of pieces.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// The end of the stream so far, as far as it may be the start of a match.
    tail: Vec<u8>,
}

impl Search {
    /// Returns how many bytes of this piece belong to the match, if it ends there.
    pub(super) fn find(&mut self, pattern: &[u8], piece: &[u8]) -> Option<usize> {
        let seen = self.tail.len();
        self.tail.extend_from_slice(piece);
        let found = self
            .tail
            .windows(pattern.len())
            .position(|window| window == pattern)
            .map(|at| at + pattern.len() - seen);
        let keep = self.tail.len().min(pattern.len().saturating_sub(1));
        self.tail.drain(..self.tail.len() - keep);
        if found.is_some() {
            self.tail.clear();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_may_span_pieces() {
        let mut search = Search::default();
        assert_eq!(search.find(b"COMMIT\0", b"Q....COM"), None);
        assert_eq!(search.find(b"COMMIT\0", b"MI"), None);
        assert_eq!(search.find(b"COMMIT\0", b"T\0Q"), Some(2));
        assert_eq!(search.find(b"COMMIT\0", b"COMMIT"), None);
        assert_eq!(search.find(b"COMMIT\0", b"S"), None);
        assert_eq!(search.find(b"COMMIT\0", b"xCOMMIT\0"), Some(8));
    }
}
