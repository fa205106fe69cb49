//! The adapters that the settings choose.

use std::sync::Arc;

use chat_agent_http::{ChatCompletionsAgent, ChatCompletionsSettings, InvalidSettings, Timeouts};
use chat_domain::Agent;
use chat_store_seaorm::{OpenError, OpenOptions, SeaOrmStore};
use chat_tools_mcp::{McpServer, McpToolset};
use secrecy::ExposeSecret;

use crate::config::{AgentKind, Config, ConfigError};
use crate::observer::chain;

/// Opens the store. `migrate`: whether to migrate its schema.
///
/// # Errors
/// See [`OpenError`].
pub(crate) async fn store(config: &Config, migrate: bool) -> Result<SeaOrmStore, OpenError> {
    let options = OpenOptions {
        migrate,
        timeout: config.database_timeout,
        readers: config.database_readers.0,
        connections: config.database_connections.0,
        connect_timeout: config.database_connect_timeout,
        acquire_timeout: config.database_acquire_timeout,
        statement_timeout: config.database_statement_timeout,
        ..OpenOptions::default()
    };
    SeaOrmStore::open(config.database_url.expose(), options).await
}

/// Makes the agent.
///
/// # Errors
/// Its settings are invalid.
pub(crate) fn agent(config: &Config) -> Result<Arc<dyn Agent>, ConfigError> {
    match config.agent_kind() {
        AgentKind::Demo => demo_agent(config),
        AgentKind::OpenAi => Ok(Arc::new(
            ChatCompletionsAgent::new(chat_completions(config)).map_err(agent_fault)?,
        )),
    }
}

fn chat_completions(config: &Config) -> ChatCompletionsSettings {
    // `Config::load` checks that both are set.
    let url = config
        .agent_url
        .as_ref()
        .map_or("", |url| url.expose_secret());
    let model = config.agent_model.as_deref().unwrap_or_default();
    let mut settings = ChatCompletionsSettings::new(url, model);
    settings.api_key = config.agent_api_key.clone();
    settings.instructions = config.agent_instructions.clone();
    settings.timeouts = Timeouts {
        connect: config.agent_connect_timeout,
        first_byte: config.agent_first_byte_timeout,
        idle: config.agent_idle_timeout,
        step: config.step_timeout(),
    };
    settings.retries.max_attempts = config.agent_tries.get();
    settings
}

fn agent_fault(error: InvalidSettings) -> ConfigError {
    let variable = match &error {
        InvalidSettings::BaseUrl(_) | InvalidSettings::Client(_) => "CHAT_AGENT_URL",
        InvalidSettings::Certificates(_) => "SSL_CERT_FILE",
        InvalidSettings::ApiKey => "CHAT_AGENT_API_KEY",
        InvalidSettings::Model => "CHAT_AGENT_MODEL",
    };
    ConfigError::of(variable, chain(&error))
}

/// Starts the tool servers as child processes, in the current runtime.
///
/// # Errors
/// The settings are invalid. A server that does not start is not an error.
pub(crate) fn tools(config: &Config) -> Result<McpToolset, ConfigError> {
    let (start_timeout, call_timeout) = (config.tool_start_timeout, config.tool_timeout);
    let configured = config
        .mcp_servers
        .servers
        .iter()
        .map(|server| server.with_limits(start_timeout, call_timeout));
    let mut servers: Vec<McpServer> = configured.collect();
    if config.has_demo_tools() {
        servers.insert(
            0,
            McpServer {
                start_timeout,
                call_timeout,
                ..task_server(config)?
            },
        );
    }
    McpToolset::start(servers).map_err(|error| ConfigError::of("CHAT_MCP_SERVERS", error))
}

#[cfg(feature = "demo")]
fn demo_agent(config: &Config) -> Result<Arc<dyn Agent>, ConfigError> {
    Ok(Arc::new(chat_demo::DemoAgent::new(config.demo_word_delay)))
}

#[cfg(not(feature = "demo"))]
fn demo_agent(_: &Config) -> Result<Arc<dyn Agent>, ConfigError> {
    Err(ConfigError::of(
        "CHAT_AGENT",
        "this program was built without the demo; set CHAT_AGENT_URL and CHAT_AGENT_MODEL",
    ))
}

#[cfg(feature = "demo")]
fn task_server(config: &Config) -> Result<McpServer, ConfigError> {
    crate::demo::task_server(config).map_err(|error| ConfigError::of("CHAT_DEMO_TOOLS", error))
}

#[cfg(not(feature = "demo"))]
fn task_server(_: &Config) -> Result<McpServer, ConfigError> {
    Err(ConfigError::of(
        "CHAT_DEMO_TOOLS",
        "this program was built without the demo",
    ))
}
