//! The port over all servers.

use async_trait::async_trait;
use chat_domain::{
    CallError, Invocation, ToolError, ToolErrorKind, ToolOutput, ToolSpec, Toolset, UserId,
};
use futures_util::future::join_all;
use rmcp::model::CallToolRequestParams;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::names::{Listed, Names, Place};
use crate::presence::State;
use crate::process::LONGEST_END;
use crate::server::Server;
use crate::{McpServer, SettingsError, arguments, meta, settings};

/// The tools of several MCP servers, which run as child processes.
///
/// Dropping it ends the children in the background; [`shutdown`](Self::shutdown) waits for their
/// end.
pub struct McpToolset {
    servers: Vec<Server>,
    keepers: TaskTracker,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl McpToolset {
    /// The longest that [`shutdown`](Self::shutdown) takes: 2 s until SIGTERM, 2 s until SIGKILL,
    /// and 2 s for what remains.
    pub const SHUTDOWN_LIMIT: std::time::Duration =
        LONGEST_END.saturating_add(std::time::Duration::from_secs(1));

    /// Starts the servers, without waiting for them. They belong to the runtime this is called in,
    /// and end with it at the latest.
    ///
    /// # Errors
    /// The settings cannot be. A server that does not start is no error: its tools are not there
    /// until it does.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(servers: Vec<McpServer>) -> Result<Self, SettingsError> {
        settings::check(&servers)?;
        let stop = CancellationToken::new();
        let keepers = TaskTracker::new();
        let start = |settings| {
            let (server, keeper) = Server::new(settings, stop.clone());
            keepers.spawn(keeper);
            server
        };
        let servers = servers.into_iter().map(start).collect();
        keepers.close();
        Ok(Self {
            servers,
            keepers,
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
        })
    }

    /// Ends the process groups of all servers and waits for it, no longer than
    /// [`SHUTDOWN_LIMIT`](Self::SHUTDOWN_LIMIT): their stdin is closed; a group that does not end
    /// within 2 s is sent SIGTERM, and 2 s later SIGKILL. Calls that still run end as unknown,
    /// later ones as unavailable.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.keepers.wait().await;
    }

    /// The state of each server, after the start of those that are being started, and the names of
    /// all that they list.
    async fn settled(&self) -> (Vec<State>, Names) {
        let states = join_all(self.servers.iter().map(Server::settled)).await;
        let listed: Vec<Listed<'_>> = self
            .servers
            .iter()
            .zip(&states)
            .map(|(server, state)| {
                let tools = state
                    .tools
                    .as_ref()
                    .map(|tools| tools.iter().map(|tool| tool.name.as_str()).collect());
                (server.name(), tools)
            })
            .collect();
        let names = Names::of(&listed);
        (states, names)
    }
}

#[async_trait]
impl Toolset for McpToolset {
    async fn specs(&self, _owner: &UserId) -> Vec<ToolSpec> {
        let (states, names) = self.settled().await;
        let mut specs: Vec<(&Place, usize, ToolSpec)> = Vec::new();
        for (name, place) in names.offered() {
            let Some(state) = states.get(place.server).filter(|state| state.is_ready()) else {
                continue;
            };
            let tools = state
                .tools
                .iter()
                .flat_map(|tools| tools.iter())
                .enumerate();
            specs.extend(
                tools
                    .filter(|(_, tool)| tool.name == place.tool)
                    .map(|(at, tool)| (place, at, tool.spec(name))),
            );
        }
        // In the order of the settings and of each server's list: what a cap cuts off is the same
        // each time.
        specs.sort_by_key(|(place, at, _)| (place.server, *at));
        specs.into_iter().map(|(_, _, spec)| spec).collect()
    }

    async fn call(&self, invocation: Invocation) -> Result<ToolOutput, CallError> {
        let object = arguments::object(&invocation.arguments)?;
        let (_, names) = self.settled().await;
        let found = names
            .get(&invocation.tool)
            .and_then(|place| Some((self.servers.get(place.server)?, place)));
        let Some((server, place)) = found else {
            return Err(ToolError::new(
                ToolErrorKind::UnknownTool,
                format!("There is no tool {:?}.", invocation.tool),
            )
            .into());
        };
        let mut params = CallToolRequestParams::new(place.tool.clone()).with_arguments(object);
        params.meta = Some(meta::of(&invocation));
        server.call(params).await
    }
}
