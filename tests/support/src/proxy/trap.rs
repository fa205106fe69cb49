//! A message that meets an accident.

use crate::wait;
use tokio::sync::watch;

/// PostgreSQL's end of an answer when no transaction is open (any more): `ReadyForQuery`, idle.
const IDLE: &[u8] = b"Z\0\0\0\x05I";

/// Which of the two is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The message itself: the server never gets it.
    Message,
    /// The answer: the server has done what it was told, and the client never hears of it.
    Answer,
}

/// Waits for one message from a client to its server. See
/// [`Proxy::set_trap`](super::Proxy::set_trap).
#[derive(Clone, Debug)]
pub struct Trap {
    pub(super) message: Vec<u8>,
    pub(super) answered: Vec<u8>,
    pub(super) lost: Lost,
    sprung: watch::Sender<bool>,
}

impl Trap {
    /// Waits for these bytes. The answer is there when these other bytes have come back.
    pub fn new(message: impl Into<Vec<u8>>, answered: impl Into<Vec<u8>>, lost: Lost) -> Self {
        Self {
            message: message.into(),
            answered: answered.into(),
            lost,
            sprung: watch::Sender::new(false),
        }
    }

    /// Waits for a `COMMIT` to PostgreSQL.
    pub fn commit(lost: Lost) -> Self {
        Self::new(*b"COMMIT\0", IDLE, lost)
    }

    /// Waits until a message was lost. Of several clones of a trap each sees it.
    pub async fn sprung(&self) {
        // The sender is ours, so the channel is open.
        let _ = wait::within(
            "a trap that springs",
            self.sprung.subscribe().wait_for(|sprung| *sprung),
        )
        .await;
    }

    /// Whether a message was lost.
    pub fn has_sprung(&self) -> bool {
        *self.sprung.borrow()
    }

    pub(super) fn spring(&self) {
        self.sprung.send_replace(true);
    }
}

/// Looks for bytes in what comes piece by piece.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// The end of what came, as long as it may be the beginning of what is sought.
    tail: Vec<u8>,
}

impl Search {
    /// How many bytes of this piece come before the end of what is sought, if it ends there.
    pub(super) fn find(&mut self, sought: &[u8], piece: &[u8]) -> Option<usize> {
        let seen = self.tail.len();
        self.tail.extend_from_slice(piece);
        let found = self
            .tail
            .windows(sought.len())
            .position(|window| window == sought)
            .map(|at| at + sought.len() - seen);
        let keep = self.tail.len().min(sought.len().saturating_sub(1));
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
    fn what_is_sought_may_come_in_pieces() {
        let mut search = Search::default();
        assert_eq!(search.find(b"COMMIT\0", b"Q....COM"), None);
        assert_eq!(search.find(b"COMMIT\0", b"MI"), None);
        assert_eq!(search.find(b"COMMIT\0", b"T\0Q"), Some(2));
        assert_eq!(search.find(b"COMMIT\0", b"COMMIT"), None);
        assert_eq!(search.find(b"COMMIT\0", b"S"), None);
        assert_eq!(search.find(b"COMMIT\0", b"xCOMMIT\0"), Some(8));
    }
}
