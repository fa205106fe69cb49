//! One server: kept running, asked.

use std::sync::Arc;
use std::time::Duration;

use chat_domain::{CallError, ToolError, ToolErrorKind, ToolOutput};
use rmcp::model::{CallToolRequestParams, Tool};
use rmcp::service::{Peer, RoleClient};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::child::{self, Child};
use crate::{McpServer, answer};

/// A run of this length was a healthy one: the next restart does not wait.
const HEALTHY: Duration = Duration::from_secs(30);
/// The wait after the first failure. It doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// A server that was there is worth waiting for if it is started again within this time.
const SOON: Duration = Duration::from_secs(1);
/// The longest wait between two starts.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A server as its callers see it.
pub(crate) struct Server {
    settings: Arc<McpServer>,
    state: watch::Receiver<State>,
}

/// Where a server stands.
#[derive(Clone)]
pub(crate) struct State {
    /// What it listed when it was last there. For a server that is away: so that its names stay known.
    pub(crate) tools: Arc<Vec<Tool>>,
    pub(crate) presence: Presence,
}

#[derive(Clone)]
pub(crate) enum Presence {
    /// It starts, and is worth waiting for.
    Starting,
    /// It can be asked.
    Ready(Peer<RoleClient>),
    /// Its last start failed, or it keeps dying; or we shut down.
    Away,
}

impl Server {
    /// A server and the future that keeps it running until `stop`.
    pub(crate) fn new(settings: McpServer, stop: CancellationToken) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let settings = Arc::new(settings);
        let (sender, state) = watch::channel(State { tools: Arc::default(), presence: Presence::Starting });
        let keeper = Keeper { settings: Arc::clone(&settings), state: sender, stop };
        (Self { settings, state }, keeper.run())
    }

    pub(crate) fn name(&self) -> &str {
        &self.settings.name
    }

    /// Where it stands, after its start if it starts just now; but no later than its limit for starting.
    pub(crate) async fn settled(&self) -> State {
        let mut state = self.state.clone();
        let settled = state.wait_for(|state| !matches!(state.presence, Presence::Starting));
        if let Ok(Ok(settled)) = timeout(self.settings.start_timeout, settled).await {
            return settled.clone();
        }
        self.state.borrow().clone()
    }

    /// Asks once. Dropping the future tells the server that the answer is not wanted any more.
    pub(crate) async fn call(&self, params: CallToolRequestParams) -> Result<ToolOutput, CallError> {
        let away = || ToolError::new(ToolErrorKind::Unavailable, "The tool's server is not running now.");
        let Presence::Ready(peer) = self.settled().await.presence else { return Err(away().into()) };
        if peer.is_transport_closed() {
            return Err(away().into());
        }
        let limit = self.settings.call_timeout;
        match timeout(limit, peer.call_tool_once(params)).await {
            Ok(answer) => answer::outcome(answer),
            Err(_) => Err(ToolError::new(ToolErrorKind::TimedOut, format!("The tool gave no answer within {limit:?}.")).into()),
        }
    }
}

/// Starts the server again and again.
struct Keeper {
    settings: Arc<McpServer>,
    state: watch::Sender<State>,
    stop: CancellationToken,
}

impl Keeper {
    async fn run(self) {
        let mut failures = 0;
        loop {
            let started = Instant::now();
            let child = tokio::select! {
                () = self.stop.cancelled() => break,
                child = Child::start(&self.settings) => child,
            };
            match child {
                Ok(child) => {
                    self.attend(child).await;
                    failures = if started.elapsed() >= HEALTHY { 0 } else { failures + 1 };
                    let soon = wait_after(failures) <= SOON;
                    self.presence(if soon { Presence::Starting } else { Presence::Away });
                }
                Err(error) => {
                    failures += 1;
                    let source = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(server = self.settings.name, %error, source, failures, "a tool server did not start");
                    self.presence(Presence::Away);
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = sleep(wait_after(failures)) => {}
            }
        }
        self.presence(Presence::Away);
    }

    /// Stays with a running child until it ends, or has been ended.
    async fn attend(&self, child: Child) {
        let Child { service, tools, tools_changed } = child;
        let server = self.settings.name.as_str();
        let peer = service.peer().clone();
        let close = service.cancellation_token();
        tracing::info!(server, tools = tools.len(), "a tool server is ready");
        self.state.send_replace(State { tools: Arc::new(tools), presence: Presence::Ready(peer.clone()) });
        let ended = service.waiting();
        tokio::pin!(ended);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => {
                    self.presence(Presence::Away);
                    close.cancel();
                    // The outcome is of no use: whatever it was, the child is gone.
                    let _ = ended.await;
                    return;
                }
                _ = &mut ended => {
                    tracing::warn!(server, "a tool server went away");
                    return;
                }
                () = tools_changed.notified() => match timeout(self.settings.start_timeout, child::tools(&peer, server)).await {
                    Ok(Ok(tools)) => self.state.send_modify(|state| state.tools = Arc::new(tools)),
                    failed => tracing::warn!(server, ?failed, "a tool server does not list its changed tools"),
                },
            }
        }
    }

    fn presence(&self, presence: Presence) {
        self.state.send_modify(|state| state.presence = presence);
    }
}

/// How long to wait before the next start.
fn wait_after(failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => FIRST_WAIT.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST_WAIT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_begin_with_none() {
        let waits: Vec<u64> = (0..6).map(|failures| wait_after(failures).as_millis() as u64).collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1_600]);
        assert_eq!(wait_after(10), LONGEST_WAIT);
        assert_eq!(wait_after(u32::MAX), LONGEST_WAIT);
    }
}
