//! Limits on what clients may send and how long they may take.

use std::time::Duration;

/// How much a client may send, how long it may take to send and to read, and how long it waits for
/// an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// The largest body, in bytes.
    pub body_bytes: usize,
    /// How long a client may take to send its headers, and then its body.
    pub body_time: Duration,
    /// The time between two signs of life in an idle stream.
    pub keep_alive: Duration,
    /// How long a client may take to make room for the next piece of a reply or the next frame of a
    /// stream.
    pub write_time: Duration,
    /// How long a client may leave a long reply unread before what is ready for it is dropped, to
    /// be read from the store again.
    pub stall_time: Duration,
    /// How long a reply waits for the end of its turn.
    pub reply_time: Duration,
    /// How many connections there may be.
    pub connections: usize,
    /// How much memory unfinished request bodies and unsent replies may hold, all together, in
    /// bytes.
    pub memory_bytes: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            body_bytes: 1 << 20,
            body_time: Duration::from_secs(10),
            keep_alive: Duration::from_secs(15),
            write_time: Duration::from_secs(30),
            stall_time: Duration::from_secs(1),
            reply_time: Duration::from_secs(20 * 60),
            connections: 16_384,
            memory_bytes: 256 << 20,
        }
    }
}
