//! One run of a server: from the start of its process to a connection whose tools are known.

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
use crate::notices::Notices;
use crate::process::Process;
use crate::stderr::{Secrets, Stderr};

/// The longest reason of a failed start that is logged, in characters.
const LONGEST_REASON: usize = 500;

/// A running server whose tools are known.
pub(crate) struct Child {
    pub(crate) service: RunningService<RoleClient, Client>,
    pub(crate) listing: Listing,
    /// Notified when the list of tools has changed.
    pub(crate) tools_changed: Arc<Notify>,
    pub(crate) run: Run,
}

/// The process of a server and what belongs to it.
pub(crate) struct Run {
    process: Process,
    closer: Closer<ChildStdin>,
    stderr: Stderr,
}

impl Run {
    /// Waits for the end of the group's leader and reaps it.
    pub(crate) async fn reap(&mut self) {
        self.process.reap().await;
    }

    /// Closes the connection and ends the process group. Gives the leader's status and its last
    /// lines on standard error.
    pub(crate) async fn end(self) -> (Option<ExitStatus>, String) {
        self.closer.close().await;
        let status = self.process.end().await;
        (status, self.stderr.last().await)
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("the process cannot be started: {0}")]
    Spawn(#[source] std::io::Error),
    #[error("it does not speak MCP: {reason}")]
    Handshake { reason: String, end: String },
    #[error("it does not list its tools: {reason}")]
    Tools { reason: String, end: String },
    #[error("it took longer than its start limit of {limit:?}")]
    TimedOut {
        limit: std::time::Duration,
        end: String,
    },
    #[error("this program is stopping")]
    Stopped,
}

impl StartError {
    /// How the process ended and what it wrote last.
    pub(crate) fn end(&self) -> &str {
        match self {
            Self::Handshake { end, .. } | Self::Tools { end, .. } | Self::TimedOut { end, .. } => {
                end
            }
            Self::Spawn(_) | Self::Stopped => "",
        }
    }
}

enum Failed {
    Handshake(Box<ClientInitializeError>),
    Tools(ListError),
    TimedOut,
    Stopped,
}

impl Child {
    /// Starts the process and waits for its tools, but no longer than until its limit, or until
    /// `stop`.
    ///
    /// # Errors
    /// Why it did not start. Its process group has ended then.
    pub(crate) async fn start(
        settings: &McpServer,
        notices: &Arc<Notices>,
        stop: &CancellationToken,
    ) -> Result<Self, StartError> {
        let deadline = Instant::now() + settings.start_timeout;
        let (process, pipes) = Process::start(settings).map_err(StartError::Spawn)?;
        let stderr = Stderr::read(settings, pipes.stderr);
        let (connection, closer) = Connection::new(pipes.stdout, pipes.stdin, Arc::clone(notices));
        let run = Run {
            process,
            closer,
            stderr,
        };
        let tools_changed = Arc::new(Notify::new());
        let client = Client {
            tools_changed: Arc::clone(&tools_changed),
        };
        let connecting = async {
            let connected = timeout_at(deadline, client.serve(connection))
                .await
                .map_err(|_| Failed::TimedOut)?;
            let service = connected.map_err(|error| Failed::Handshake(Box::new(error)))?;
            let listing = listing::list(&service, deadline)
                .await
                .map_err(Failed::Tools)?;
            Ok((service, listing))
        };
        let connected = tokio::select! {
            () = stop.cancelled() => Err(Failed::Stopped),
            connected = connecting => connected,
        };
        let failed = match connected {
            Ok((service, listing)) => {
                return Ok(Self {
                    service,
                    listing,
                    tools_changed,
                    run,
                });
            }
            Err(failed) => failed,
        };
        let (status, last) = run.end().await;
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
            Secrets::of(settings)
                .removed(&format!("{error}{cause}"))
                .chars()
                .take(LONGEST_REASON)
                .collect()
        };
        Err(match failed {
            Failed::Handshake(error) => StartError::Handshake {
                reason: reason(error.as_ref()),
                end,
            },
            Failed::Tools(ListError::TimedOut) | Failed::TimedOut => StartError::TimedOut {
                limit: settings.start_timeout,
                end,
            },
            Failed::Tools(error) => StartError::Tools {
                reason: reason(&error),
                end,
            },
            Failed::Stopped => StartError::Stopped,
        })
    }
}

/// Our side of the protocol: it offers nothing, and listens for one thing.
pub(crate) struct Client {
    tools_changed: Arc<Notify>,
}

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        let mut config = ClientConfig::default();
        config.client_info = Implementation::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        config
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.tools_changed.notify_one();
    }
}
