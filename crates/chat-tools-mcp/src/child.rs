//! One run of a server's process: from its start to a connection that has told its tools.

use std::process::Stdio;
use std::sync::Arc;

use rmcp::model::{ClientConfig, Implementation, PaginatedRequestParams, Tool};
use rmcp::service::{ClientInitializeError, NotificationContext, Peer, RoleClient, RunningService, ServiceExt};
use rmcp::transport::TokioChildProcess;
use rmcp::{ClientHandler, ServiceError};
use tokio::process::Command;
use tokio::sync::Notify;

use crate::{McpServer, stderr};

/// What a child gets from our own environment: enough to find programs and files, and nothing that could be a secret.
const INHERITED: [&str; 6] = ["PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ"];

/// How many tools of one server are taken at most.
const MOST_TOOLS: usize = 1_024;

/// A running child that has told its tools.
pub(crate) struct Child {
    pub(crate) service: RunningService<RoleClient, Client>,
    pub(crate) tools: Vec<Tool>,
    /// Told when the list of tools has changed.
    pub(crate) tools_changed: Arc<Notify>,
}

/// Why a child did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("the process cannot be started")]
    Spawn(#[source] std::io::Error),
    #[error("the server does not speak MCP")]
    Handshake(#[source] Box<ClientInitializeError>),
    #[error("the server does not list its tools")]
    Tools(#[source] ServiceError),
    #[error("the server is slower than its limit")]
    TimedOut,
}

impl Child {
    /// Starts the process. Dropping the future ends it.
    pub(crate) async fn start(settings: &McpServer) -> Result<Self, StartError> {
        tokio::time::timeout(settings.start_timeout, Self::start_unbounded(settings)).await.unwrap_or(Err(StartError::TimedOut))
    }

    async fn start_unbounded(settings: &McpServer) -> Result<Self, StartError> {
        let (transport, child_stderr) =
            TokioChildProcess::builder(command(settings)).stderr(Stdio::piped()).spawn().map_err(StartError::Spawn)?;
        if let Some(child_stderr) = child_stderr {
            tokio::spawn(stderr::log(settings.name.clone(), child_stderr));
        }
        let tools_changed = Arc::new(Notify::new());
        let client = Client { tools_changed: Arc::clone(&tools_changed) };
        let service = client.serve(transport).await.map_err(|error| StartError::Handshake(Box::new(error)))?;
        let tools = tools(&service, &settings.name).await.map_err(StartError::Tools)?;
        Ok(Self { service, tools, tools_changed })
    }
}

fn command(settings: &McpServer) -> Command {
    let mut command = Command::new(&settings.command);
    command.args(&settings.args).env_clear();
    command.envs(INHERITED.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.envs(&settings.env);
    // For the case that this runtime ends without a shutdown.
    command.kill_on_drop(true);
    // Ctrl-C in a terminal is meant for us; the child ends when we close its stdin.
    #[cfg(unix)]
    command.process_group(0);
    command
}

/// All that a server lists, page by page.
pub(crate) async fn tools(peer: &Peer<RoleClient>, server: &str) -> Result<Vec<Tool>, ServiceError> {
    let mut tools: Vec<Tool> = Vec::new();
    let mut cursor = None;
    loop {
        let page = peer.list_tools(Some(PaginatedRequestParams::default().with_cursor(cursor))).await?;
        for tool in page.tools {
            if tool.name.is_empty() || tools.iter().any(|known| known.name == tool.name) {
                tracing::warn!(server, tool = %tool.name, "a tool without a name of its own is left out");
            } else {
                tools.push(tool);
            }
        }
        if tools.len() > MOST_TOOLS {
            tracing::warn!(server, taken = MOST_TOOLS, "a tool server lists too many tools");
            tools.truncate(MOST_TOOLS);
            return Ok(tools);
        }
        match page.next_cursor {
            None => return Ok(tools),
            next => cursor = next,
        }
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
