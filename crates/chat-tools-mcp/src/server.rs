//! The callers' side of one server.

use std::sync::Arc;

use chat_domain::{CallError, ToolError, ToolErrorKind, ToolOutput};
use rmcp::model::CallToolRequestParams;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::availability::{Availability, START_GRACE_PERIOD, State};
use crate::supervisor::Supervisor;
use crate::throttled_log::ThrottledLog;
use crate::{McpServer, answer};

/// One server.
pub(crate) struct Server {
    settings: Arc<McpServer>,
    state: watch::Receiver<State>,
    /// Notified after a call timeout, to ping the server.
    ping_request: Arc<Notify>,
    log: Arc<ThrottledLog>,
}

impl Server {
    /// Creates a server and the future that keeps it running until `stop`.
    pub(crate) fn new(
        settings: McpServer,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (settings, ping_request) = (Arc::new(settings), Arc::new(Notify::new()));
        let log = Arc::new(ThrottledLog::new(&settings.name));
        let starting = State {
            tools: None,
            availability: Availability::Starting {
                until: Instant::now() + START_GRACE_PERIOD,
            },
        };
        let (sender, state) = watch::channel(starting);
        let supervisor = Supervisor::new(
            Arc::clone(&settings),
            sender,
            Arc::clone(&ping_request),
            Arc::clone(&log),
            stop,
        );
        (
            Self {
                settings,
                state,
                ping_request,
                log,
            },
            supervisor.run(),
        )
    }

    pub(crate) fn name(&self) -> &str {
        &self.settings.name
    }

    /// Returns the state, after waiting for a starting server until its grace period ends.
    pub(crate) async fn state_after_start(&self) -> State {
        let mut state = self.state.clone();
        let until = match state.borrow().availability {
            Availability::Starting { until } => until,
            Availability::Ready(_) | Availability::Unavailable => Instant::now(),
        };
        let _ = timeout_at(
            until,
            state.wait_for(|state| !matches!(state.availability, Availability::Starting { .. })),
        )
        .await;
        let state = self.state.borrow();
        state.clone()
    }

    /// Calls a tool once. Dropping the future cancels the call at the server.
    pub(crate) async fn call(
        &self,
        params: CallToolRequestParams,
    ) -> Result<ToolOutput, CallError> {
        let unavailable = || {
            ToolError::new(
                ToolErrorKind::Unavailable,
                "The tool's server is not running.",
            )
        };
        let State {
            tools,
            availability,
        } = self.state_after_start().await;
        let Availability::Ready(peer) = availability else {
            return Err(unavailable().into());
        };
        if peer.is_transport_closed() {
            return Err(unavailable().into());
        }
        let repeatable = tools
            .iter()
            .flat_map(|tools| tools.iter())
            .any(|tool| tool.name == params.name && tool.repeatable);
        let limit = self.settings.call_timeout;
        let Ok(answer) = timeout(limit, peer.call_tool_once(params)).await else {
            self.ping_request.notify_one();
            return Err(answer::timeout_error(limit, repeatable));
        };
        let answer::Outcome { result, defect } = answer::outcome(answer, repeatable);
        if let Some(defect) = defect {
            self.log.warn("answer", defect);
        }
        result
    }
}
