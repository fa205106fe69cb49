//! Starts a server and lists its tools.

use std::process::ExitStatus;
use std::sync::Arc;

use rmcp::ClientHandler;
use rmcp::model::{ClientConfig, Implementation};
use rmcp::service::{
    ClientInitializeError, NotificationContext, RoleClient, RunningService, ServiceExt,
};
use tokio::process::ChildStdin;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::McpServer;
use crate::connection::{Closer, Connection};
use crate::listing::{self, ListError, Listing};
use crate::process::Process;
use crate::stderr::{Secrets, Stderr};
use crate::throttled_log::ThrottledLog;

/// Longest logged reason of a failed start, in characters.
const MAX_REASON_CHARS: usize = 500;

/// A running server whose tools are known.
pub(crate) struct RunningServer {
    pub(crate) service: RunningService<RoleClient, ClientSide>,
    pub(crate) listing: Listing,
    /// Notified when the list of tools has changed.
    pub(crate) tools_changed: Arc<Notify>,
    pub(crate) process: ServerProcess,
}

/// A server's process, its connection and its standard error.
pub(crate) struct ServerProcess {
    process: Process,
    closer: Closer<ChildStdin>,
    stderr: Stderr,
}

impl ServerProcess {
    /// Waits until the leader of the process group exits, and reaps it.
    pub(crate) async fn reap(&mut self) {
        self.process.reap().await;
    }

    /// Closes the connection and ends the process group. Returns the leader's exit status and its
    /// last lines on standard error.
    pub(crate) async fn end(self) -> (Option<ExitStatus>, String) {
        self.closer.close().await;
        let status = self.process.end().await;
        (status, self.stderr.last().await)
    }
}

/// The reason why a server did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("the process cannot be started: {0}")]
    Spawn(#[source] std::io::Error),
    #[error("MCP handshake failed: {reason}")]
    Handshake { reason: String, end: String },
    #[error("the tools cannot be listed: {reason}")]
    Tools { reason: String, end: String },
    #[error("start timeout of {limit:?} exceeded")]
    TimedOut {
        limit: std::time::Duration,
        end: String,
    },
    #[error("shutting down")]
    Stopped,
}

impl StartError {
    /// Exit status and last output of the process.
    pub(crate) fn process_end(&self) -> &str {
        match self {
            Self::Handshake { end, .. } | Self::Tools { end, .. } | Self::TimedOut { end, .. } => {
                end
            }
            Self::Spawn(_) | Self::Stopped => "",
        }
    }
}

enum ConnectError {
    Handshake(Box<ClientInitializeError>),
    Tools(ListError),
    TimedOut,
    Stopped,
}

impl RunningServer {
    /// Starts the process and waits for its tools until the start timeout or until `stop`.
    ///
    /// # Errors
    /// The server did not start. Its process group has ended.
    pub(crate) async fn start(
        settings: &McpServer,
        log: &Arc<ThrottledLog>,
        stop: &CancellationToken,
    ) -> Result<Self, StartError> {
        let deadline = Instant::now() + settings.start_timeout;
        let (process, pipes) = Process::start(settings).map_err(StartError::Spawn)?;
        let stderr = Stderr::read(settings, pipes.stderr);
        let (connection, closer) = Connection::new(pipes.stdout, pipes.stdin, Arc::clone(log));
        let process = ServerProcess {
            process,
            closer,
            stderr,
        };
        let tools_changed = Arc::new(Notify::new());
        let client = ClientSide {
            tools_changed: Arc::clone(&tools_changed),
        };
        let connecting = async {
            let connected = timeout_at(deadline, client.serve(connection))
                .await
                .map_err(|_| ConnectError::TimedOut)?;
            let service = connected.map_err(|error| ConnectError::Handshake(Box::new(error)))?;
            let listing = listing::list(&service, deadline)
                .await
                .map_err(ConnectError::Tools)?;
            Ok((service, listing))
        };
        let connected = tokio::select! {
            () = stop.cancelled() => Err(ConnectError::Stopped),
            connected = connecting => connected,
        };
        let failed = match connected {
            Ok((service, listing)) => {
                return Ok(Self {
                    service,
                    listing,
                    tools_changed,
                    process,
                });
            }
            Err(failed) => failed,
        };
        let (status, last) = process.end().await;
        let status = status.map(|status| status.to_string()).unwrap_or_default();
        let end = match last.as_str() {
            "" => status,
            last => format!("{status}; stderr: {last}"),
        };
        let reason = |error: &dyn std::error::Error| -> String {
            let cause = error
                .source()
                .map(|source| format!(": {source}"))
                .unwrap_or_default();
            Secrets::from_settings(settings)
                .redact(&format!("{error}{cause}"))
                .chars()
                .take(MAX_REASON_CHARS)
                .collect()
        };
        Err(match failed {
            ConnectError::Handshake(error) => StartError::Handshake {
                reason: reason(error.as_ref()),
                end,
            },
            ConnectError::Tools(ListError::TimedOut) | ConnectError::TimedOut => {
                StartError::TimedOut {
                    limit: settings.start_timeout,
                    end,
                }
            }
            ConnectError::Tools(error) => StartError::Tools {
                reason: reason(&error),
                end,
            },
            ConnectError::Stopped => StartError::Stopped,
        })
    }
}

/// The client's side of MCP. It offers no capabilities and handles only changes of the tool list.
pub(crate) struct ClientSide {
    tools_changed: Arc<Notify>,
}

impl ClientHandler for ClientSide {
    fn get_info(&self) -> ClientConfig {
        let mut config = ClientConfig::default();
        config.client_info = Implementation::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        config
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.tools_changed.notify_one();
    }
}
