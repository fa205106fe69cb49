//! The toolset port over all servers.

use async_trait::async_trait;
use chat_domain::{
    CallError, Invocation, ToolError, ToolErrorKind, ToolOutput, ToolSpec, Toolset, UserId,
};
use futures_util::future::join_all;
use rmcp::model::CallToolRequestParams;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::availability::State;
use crate::names::{ListedTools, ToolLocation, ToolNames};
use crate::process::MAX_END_TIME;
use crate::server::Server;
use crate::{McpServer, SettingsError, arguments, meta, settings};

/// The tools of several MCP servers, which run as child processes.
///
/// Dropping the toolset ends the processes in the background; [`shutdown`](Self::shutdown) waits
/// for their end.
pub struct McpToolset {
    servers: Vec<Server>,
    supervisors: TaskTracker,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl McpToolset {
    /// Longest time that [`shutdown`](Self::shutdown) takes: 2 s until SIGTERM, 2 s until SIGKILL,
    /// and 2 s for the rest.
    pub const SHUTDOWN_LIMIT: std::time::Duration =
        MAX_END_TIME.saturating_add(std::time::Duration::from_secs(1));

    /// Starts the servers without waiting for them. They belong to the current runtime and end with
    /// it at the latest.
    ///
    /// # Errors
    /// The settings are invalid. A server that does not start is not an error: its tools are
    /// unavailable until it does.
    ///
    /// # Panics
    /// Panics outside a tokio runtime.
    pub fn start(servers: Vec<McpServer>) -> Result<Self, SettingsError> {
        settings::validate(&servers)?;
        let stop = CancellationToken::new();
        let supervisors = TaskTracker::new();
        let start = |settings| {
            let (server, supervisor) = Server::new(settings, stop.clone());
            supervisors.spawn(supervisor);
            server
        };
        let servers = servers.into_iter().map(start).collect();
        supervisors.close();
        Ok(Self {
            servers,
            supervisors,
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
        })
    }

    /// Ends the process groups of all servers and waits for their end, at most
    /// [`SHUTDOWN_LIMIT`](Self::SHUTDOWN_LIMIT). Each standard input is closed; a group that does
    /// not end within 2 s gets SIGTERM, and 2 s later SIGKILL. Running calls end with an unknown
    /// outcome, later ones are unavailable.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.supervisors.wait().await;
    }

    /// Returns the state of each server, after waiting for starting ones, and the names of all
    /// tools.
    async fn state_after_start(&self) -> (Vec<State>, ToolNames) {
        let states = join_all(self.servers.iter().map(Server::state_after_start)).await;
        let listed: Vec<ListedTools<'_>> = self
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
        let names = ToolNames::new(&listed);
        (states, names)
    }
}

#[async_trait]
impl Toolset for McpToolset {
    async fn specs(&self, _owner: &UserId) -> Vec<ToolSpec> {
        let (states, names) = self.state_after_start().await;
        let mut specs: Vec<(&ToolLocation, usize, ToolSpec)> = Vec::new();
        for (name, location) in names.offered() {
            let Some(state) = states.get(location.server).filter(|state| state.is_ready()) else {
                continue;
            };
            let tools = state
                .tools
                .iter()
                .flat_map(|tools| tools.iter())
                .enumerate();
            specs.extend(
                tools
                    .filter(|(_, tool)| tool.name == location.tool)
                    .map(|(at, tool)| (location, at, tool.spec(name))),
            );
        }
        // The order is stable, so that a limit on the number of tools always omits the same ones.
        specs.sort_by_key(|(location, at, _)| (location.server, *at));
        specs.into_iter().map(|(_, _, spec)| spec).collect()
    }

    async fn call(&self, invocation: Invocation) -> Result<ToolOutput, CallError> {
        let object = arguments::parse_object(&invocation.arguments)?;
        let (_, names) = self.state_after_start().await;
        let found = names
            .get(&invocation.tool)
            .and_then(|location| Some((self.servers.get(location.server)?, location)));
        let Some((server, location)) = found else {
            return Err(ToolError::new(
                ToolErrorKind::UnknownTool,
                format!("There is no tool {:?}.", invocation.tool),
            )
            .into());
        };
        let mut params = CallToolRequestParams::new(location.tool.clone()).with_arguments(object);
        params.meta = Some(meta::request_meta(&invocation));
        server.call(params).await
    }
}
