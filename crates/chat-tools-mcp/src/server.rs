//! One server as its callers see it.

use std::sync::Arc;

use chat_domain::{CallError, ToolError, ToolErrorKind, ToolOutput};
use rmcp::model::CallToolRequestParams;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::keeper::Keeper;
use crate::notices::Notices;
use crate::presence::{Presence, START_GRACE, State};
use crate::{McpServer, answer};

/// A server.
pub(crate) struct Server {
    settings: Arc<McpServer>,
    state: watch::Receiver<State>,
    /// Notified after a call that was not answered in time.
    suspicion: Arc<Notify>,
    notices: Arc<Notices>,
}

impl Server {
    /// A server and the future that keeps it running until `stop`.
    pub(crate) fn new(
        settings: McpServer,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (settings, suspicion) = (Arc::new(settings), Arc::new(Notify::new()));
        let notices = Arc::new(Notices::new(&settings.name));
        let starting = State {
            tools: None,
            presence: Presence::Starting {
                until: Instant::now() + START_GRACE,
            },
        };
        let (sender, state) = watch::channel(starting);
        let keeper = Keeper::new(
            Arc::clone(&settings),
            sender,
            Arc::clone(&suspicion),
            Arc::clone(&notices),
            stop,
        );
        (
            Self {
                settings,
                state,
                suspicion,
                notices,
            },
            keeper.run(),
        )
    }

    pub(crate) fn name(&self) -> &str {
        &self.settings.name
    }

    /// The state, after the start if the server is being started and its grace is not over.
    pub(crate) async fn settled(&self) -> State {
        let mut state = self.state.clone();
        let until = match state.borrow().presence {
            Presence::Starting { until } => until,
            Presence::Ready(_) | Presence::Away => Instant::now(),
        };
        let _ = timeout_at(
            until,
            state.wait_for(|state| !matches!(state.presence, Presence::Starting { .. })),
        )
        .await;
        let state = self.state.borrow();
        state.clone()
    }

    /// Asks once. Dropping the future tells the server that the answer is not wanted any more.
    pub(crate) async fn call(
        &self,
        params: CallToolRequestParams,
    ) -> Result<ToolOutput, CallError> {
        let away = || {
            ToolError::new(
                ToolErrorKind::Unavailable,
                "The tool's server is not running now.",
            )
        };
        let State { tools, presence } = self.settled().await;
        let Presence::Ready(peer) = presence else {
            return Err(away().into());
        };
        if peer.is_transport_closed() {
            return Err(away().into());
        }
        let repeatable = tools
            .iter()
            .flat_map(|tools| tools.iter())
            .any(|tool| tool.name == params.name && tool.repeatable);
        let limit = self.settings.call_timeout;
        let Ok(answer) = timeout(limit, peer.call_tool_once(params)).await else {
            self.suspicion.notify_one();
            return Err(answer::timed_out(limit, repeatable));
        };
        let answer::Outcome { result, fault } = answer::outcome(answer, repeatable);
        if let Some(fault) = fault {
            self.notices.warn("answer", fault);
        }
        result
    }
}
