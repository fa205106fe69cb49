//! The state of a server, as its keeper sets it and its callers see it.

use std::sync::Arc;
use std::time::Duration;

use rmcp::service::{Peer, RoleClient};
use tokio::time::Instant;

use crate::listing::Tool;

/// How long after its start a server is waited for.
pub(crate) const START_GRACE: Duration = Duration::from_secs(5);

/// The current state of a server.
#[derive(Clone)]
pub(crate) struct State {
    /// What it listed when it was last there; `None` if it never did.
    pub(crate) tools: Option<Arc<Vec<Tool>>>,
    pub(crate) presence: Presence,
}

#[derive(Clone)]
pub(crate) enum Presence {
    /// It starts, and is waited for until then.
    Starting { until: Instant },
    /// It can be asked.
    Ready(Peer<RoleClient>),
    /// Its last start failed, it does not answer, or this program is stopping.
    Away,
}

impl State {
    pub(crate) fn is_ready(&self) -> bool {
        matches!(&self.presence, Presence::Ready(peer) if !peer.is_transport_closed())
    }
}
