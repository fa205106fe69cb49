//! The port over all servers.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use chat_domain::{CallError, Invocation, RawJson, ToolError, ToolErrorKind, ToolOutput, ToolSpec, Toolset, UserId, without_nul};
use futures_util::future::join_all;
use rmcp::model::{CallToolRequestParams, Tool};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::names::{Names, Place};
use crate::server::{Presence, Server, State};
use crate::{McpServer, SettingsError, answer, arguments, meta, settings};

/// The tools of several MCP servers, which run as child processes.
///
/// Dropping it ends the children in the background; [`shutdown`](Self::shutdown) waits for their end.
pub struct McpToolset {
    servers: Vec<Server>,
    names: Mutex<Names>,
    keepers: TaskTracker,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl McpToolset {
    /// Starts the servers, without waiting for them. They belong to the runtime this is called in, and end with it at the latest.
    ///
    /// # Errors
    /// The settings cannot be. A server that does not start is no error: its tools are not there until it does.
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
        Ok(Self { servers, names: Mutex::default(), keepers, _stop_on_drop: stop.clone().drop_guard(), stop })
    }

    /// Ends the children and waits for it: their stdin is closed; who does not end within 3 s is sent SIGTERM, and 3 s later killed.
    /// Calls that still run end as unknown, later ones as unavailable.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.keepers.wait().await;
    }

    /// Where each server stands, after the start of those that start just now; and the names of all that they list.
    async fn settled(&self) -> (Vec<State>, MutexGuard<'_, Names>) {
        let states = join_all(self.servers.iter().map(Server::settled)).await;
        let listed: Vec<(&str, Vec<&str>)> = self
            .servers
            .iter()
            .zip(&states)
            .map(|(server, state)| (server.name(), state.tools.iter().map(|tool| tool.name.as_ref()).collect()))
            .collect();
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.update(&listed);
        (states, names)
    }

    async fn find(&self, name: &str) -> Result<Place, ToolError> {
        if let Some(place) = self.known(name) {
            return Ok(place);
        }
        let (states, names) = self.settled().await;
        match names.get(name) {
            Some(place) => Ok(place.clone()),
            // It may be one of a server that has not told its tools yet.
            None if states.iter().any(|state| state.tools.is_empty() && !matches!(state.presence, Presence::Ready(_))) => {
                Err(ToolError::new(ToolErrorKind::Unavailable, "The tool's server is not running now."))
            }
            None => Err(ToolError::new(ToolErrorKind::UnknownTool, format!("There is no tool {name:?}."))),
        }
    }

    fn known(&self, name: &str) -> Option<Place> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

#[async_trait]
impl Toolset for McpToolset {
    async fn specs(&self, _owner: &UserId) -> Vec<ToolSpec> {
        let (states, names) = self.settled().await;
        let spec = |(name, place): (&String, &Place)| {
            let state = states.get(place.server).filter(|state| matches!(state.presence, Presence::Ready(_)))?;
            let tool = state.tools.iter().find(|tool| tool.name == place.tool)?;
            Some(spec(name, tool))
        };
        names.iter().filter_map(spec).collect()
    }

    async fn call(&self, invocation: Invocation) -> Result<ToolOutput, CallError> {
        let object = arguments::object(&invocation.arguments)?;
        let place = self.find(&invocation.tool).await?;
        let Some(server) = self.servers.get(place.server) else {
            return Err(ToolError::new(ToolErrorKind::UnknownTool, format!("There is no tool {:?}.", invocation.tool)).into());
        };
        let mut params = CallToolRequestParams::new(place.tool).with_arguments(object);
        params.meta = Some(meta::of(&invocation));
        server.call(params).await
    }
}

fn spec(name: &str, tool: &Tool) -> ToolSpec {
    let hints = tool.annotations.as_ref();
    let says = |hint: Option<bool>| hint == Some(true);
    ToolSpec {
        name: name.to_owned(),
        description: without_nul(tool.description.as_deref().unwrap_or_default().to_owned()),
        input_schema: schema(tool),
        repeatable: hints.is_some_and(|hints| says(hints.read_only_hint) || says(hints.idempotent_hint)),
    }
}

fn schema(tool: &Tool) -> RawJson {
    answer::raw_json(serde_json::Value::Object(tool.input_schema.as_ref().clone()).to_string())
}
