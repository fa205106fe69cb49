//! The state of a server, written by its supervisor and read by callers.

use std::sync::Arc;
use std::time::Duration;

use rmcp::service::{Peer, RoleClient};
use tokio::time::Instant;

use crate::listing::Tool;

/// How long callers wait for a server that starts.
pub(crate) const START_GRACE_PERIOD: Duration = Duration::from_secs(5);

/// The current state of a server.
#[derive(Clone)]
pub(crate) struct State {
    /// Tools of its last listing. `None` if it never listed any.
    pub(crate) tools: Option<Arc<Vec<Tool>>>,
    pub(crate) availability: Availability,
}

#[derive(Clone)]
pub(crate) enum Availability {
    /// The server is starting. Callers wait until this time.
    Starting { until: Instant },
    /// The server accepts calls.
    Ready(Peer<RoleClient>),
    /// Its last start failed, it does not answer, or the toolset is shutting down.
    Unavailable,
}

impl State {
    pub(crate) fn is_ready(&self) -> bool {
        matches!(&self.availability, Availability::Ready(peer) if !peer.is_transport_closed())
    }
}
