//! Limits on clients.

use std::time::Duration;

/// Limits on the size and the time of requests and replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// The largest body, in bytes.
    pub body_bytes: usize,
    /// How long a client may take to send its headers, and then its body.
    pub body_time: Duration,
    /// The time between two keep-alive comments in an idle stream.
    pub keep_alive: Duration,
    /// How long a client may take to make room for the next piece of a reply or the next frame of a
    /// stream.
    pub write_time: Duration,
    /// How long a client may leave a long reply unread before its buffer is dropped. The rest is
    /// then read from the store again.
    pub stall_time: Duration,
    /// How long a reply waits for the end of its turn.
    pub reply_time: Duration,
    /// The largest number of connections.
    pub connections: usize,
    /// How much memory unfinished request bodies and unread replies may use together, in bytes.
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
