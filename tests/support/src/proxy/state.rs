//! The state of a proxy, and what its connections share.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::sync::watch;

use super::trap::Trap;

/// How connections are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// With a FIN to both ends, as when a process exits.
    Close,
    /// With an RST to both ends, as when a machine lost its connection state.
    Reset,
}

/// How bytes and new connections are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ForwardingMode {
    /// Bytes are forwarded after this delay.
    Forwarding(Duration),
    /// Bytes wait, and are forwarded when the mode changes, as after lost packets.
    Stalled,
    /// Bytes are lost in both directions. A connection that lost bytes stays silent and open at
    /// both ends, as after the failure of a machine.
    Silent,
    /// New connections are reset; existing ones continue.
    Refusing,
}

/// The state that a test controls.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProxyState {
    pub(super) server: SocketAddr,
    pub(super) mode: ForwardingMode,
    /// How often all connections were cut, and how the last time.
    pub(super) cuts: u64,
    pub(super) cut: Cut,
}

/// State that all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) trap: Mutex<Option<Trap>>,
    pub(super) connections: AtomicUsize,
    /// How many connections have lost bytes.
    pub(super) silenced: watch::Sender<usize>,
}
