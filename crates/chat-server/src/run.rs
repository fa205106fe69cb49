//! Start, serving and shutdown of the server.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_server::{Server, ServerHandle};
use chat_domain::{ChatService, ChatServiceConfig, Environment, SystemEnvironment, Timestamp};
use chat_store_seaorm::SeaOrmStore;
use chat_tools_mcp::McpToolset;
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::adapters;
use crate::app;
use crate::auth::JwtVerifier;
use crate::config::{Config, JwtSecret};
use crate::dev;
use crate::observer::{LogObserver, chain};
use crate::open_files;
use crate::page::Page;
use crate::serve_error::ServeError;
use crate::sign_in::OneTimeCode;
use crate::signals::{Signals, survive_file_size_limit};
use crate::state::AppState;
use crate::tasks::Tasks;

/// Connections that the system queues until the server accepts them. The system may have a lower
/// limit.
const BACKLOG: u32 = 4_096;

/// The time for the rest of the shutdown after the grace period: releasing turns, ending streams,
/// deregistering.
const FINAL_TIME: Duration = Duration::from_secs(2);

/// How long closing the database may take, which moves its write-ahead log into its file.
const CLOSE_TIME: Duration = Duration::from_secs(5);

/// How long handing over the running turns may take. After that other servers wait for the lease to
/// expire.
const HAND_OVER_TIME: Duration = Duration::from_secs(5);

/// Serves until a signal stops the server, then hands over the turns that still run.
///
/// # Errors
/// The server cannot start, or a part of it has failed.
pub fn serve(config: &Config, migrate: bool) -> Result<(), ServeError> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = config.turn_threads {
        runtime.worker_threads(threads.0);
    }
    let runtime = runtime
        .enable_all()
        .thread_name("turns")
        .build()
        .map_err(ServeError::System)?;
    let outcome = runtime.block_on(async {
        let mut signals = Signals::new().map_err(ServeError::System)?;
        survive_file_size_limit().map_err(ServeError::System)?;
        tokio::select! {
            running = RunningServer::start(config, migrate) => running?.until(signals).await,
            () = signals.stop() => Ok(()),
        }
    });
    // A thread that hangs in a system call must not keep the process alive.
    runtime.shutdown_timeout(FINAL_TIME);
    outcome
}

/// A running server.
struct RunningServer<'a> {
    config: &'a Config,
    state: AppState,
    store: Arc<SeaOrmStore>,
    tools: Arc<McpToolset>,
    worker: JoinHandle<()>,
    http: ServerHandle,
    served: JoinHandle<io::Result<()>>,
}

impl<'a> RunningServer<'a> {
    async fn start(config: &'a Config, migrate: bool) -> Result<Self, ServeError> {
        let file_limit = open_files::raise_limit();
        // The address is bound first, so that a taken port is reported at once. Listening begins
        // last, so that no client waits for a server that does not start.
        let socket =
            bind(config.listen).map_err(|error| ServeError::Address(config.listen, error))?;
        let agent = adapters::agent(config)?;
        let store = Arc::new(
            adapters::store(config, migrate)
                .await
                .map_err(ServeError::Database)?,
        );
        let tools = Arc::new(adapters::tools(config)?);
        let environment = Arc::new(SystemEnvironment);
        let service_config = ChatServiceConfig {
            store: store.clone(),
            agent,
            tools: tools.clone(),
            environment: environment.clone(),
            observer: Arc::new(LogObserver),
            limits: config.turn_limits(),
        };
        let service = ChatService::open(service_config)
            .await
            .map_err(ServeError::Worker)?;

        let secret = match &config.jwt_secret {
            Some(secret) => secret.clone(),
            None => dev::secret(&config.database_url.sibling_file("dev-secret"))
                .map_err(ServeError::DevSecret)?,
        };
        let verifier = JwtVerifier::new(
            &secret,
            config.jwt_issuer.as_deref(),
            config.jwt_audience.as_deref(),
        );
        let tasks = Tasks::new(tokio::runtime::Handle::current());
        let mut state = AppState::new(service.clone(), tasks.clone(), Arc::new(verifier));
        state.set_limits(open_files::http_limits(config, file_limit));
        let code = match config.jwt_secret {
            Some(_) => None,
            None => Some(dev::code(&secret).map_err(ServeError::DevSecret)?),
        };
        state.page = Arc::new(Page::new(config, code));
        state.cors_origins = config
            .cors_origins
            .iter()
            .flat_map(|origins| origins.0.iter().cloned())
            .collect();
        state.chatkit_example = config.chatkit_example;

        let listener = listen(socket).map_err(|error| ServeError::Address(config.listen, error))?;
        let address = listener.local_addr().map_err(ServeError::System)?;
        let server = http_server(config, &state, listener).map_err(ServeError::System)?;
        let http = server.handle();
        let served = tokio::spawn(server);
        let worker = tokio::spawn(service.work(move |task| tasks.spawn(task)));
        let greeting = greeting(&state.page, &secret, address, environment.now())
            .map_err(ServeError::Token)?;
        // The parent process may have closed the pipe.
        let _ = io::stdout()
            .write_all(greeting.as_bytes())
            .and_then(|()| io::stdout().flush());
        tracing::info!(
            %address,
            version = env!("CARGO_PKG_VERSION"),
            agent = ?config.agent_kind(),
            "serving"
        );
        if !config.unknown_variables.is_empty() {
            tracing::warn!(
                variables = config.unknown_variables.join(", "),
                "unknown environment variables that begin with CHAT_"
            );
        }
        if !config.mcp_servers.unknown_keys.is_empty() {
            let keys = config.mcp_servers.unknown_keys.join(", ");
            tracing::warn!(keys, "unknown keys in CHAT_MCP_SERVERS");
        }
        Ok(Self {
            config,
            state,
            store,
            tools,
            worker,
            http,
            served,
        })
    }

    /// Serves until the first signal, then stops; a second signal ends the process at once.
    async fn until(mut self, mut signals: Signals) -> Result<(), ServeError> {
        let outcome = tokio::select! {
            () = signals.stop() => Ok(()),
            served = &mut self.served => {
                let ended = served.unwrap_or_else(|error| Err(io::Error::other(error)));
                let stopped = || io::Error::other("the HTTP server has stopped");
                Err(ServeError::System(ended.err().unwrap_or_else(stopped)))
            }
            _ = &mut self.worker => Err(ServeError::WorkerEnded),
        };
        tokio::spawn(async move {
            signals.stop().await;
            tracing::warn!("second signal, exiting without a hand-over");
            std::process::exit(130);
        });
        self.stop(outcome.is_ok()).await;
        outcome
    }

    /// Lets running turns end within the grace period, and hands over the rest.
    async fn stop(self, graceful: bool) {
        let grace = self.config.shutdown_grace;
        tracing::info!(
            grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
            "stopping"
        );
        self.state.drain();
        if let Some(notice) = self.config.shutdown_notice.filter(|_| graceful) {
            tokio::time::sleep(notice).await;
        }
        self.state.runner.service.close();
        let mut closed = tokio::spawn(self.http.stop(true));
        let finished = graceful
            && timeout(grace, self.state.runner.tasks.finished())
                .await
                .is_ok();
        if !finished {
            tracing::info!("grace period over, handing over the running turns");
        }
        if let Some(Err(error)) = within(
            HAND_OVER_TIME,
            "hand over turns",
            self.state.runner.service.hand_over(),
        )
        .await
        {
            tracing::warn!(
                error = chain(&error),
                "turns not handed over, other servers claim them when the lease expires"
            );
        }
        // Clients whose turn has ended read its end; the others resume on another server.
        let has_closed = finished && timeout(FINAL_TIME, &mut closed).await.is_ok();
        self.state.end_streams();
        if !has_closed {
            let _ = timeout(FINAL_TIME, self.state.runner.tasks.finished()).await;
            let _ = closed.await;
        }
        // The readers use the store, which is closed next.
        let _ = timeout(FINAL_TIME, self.state.readers.finished()).await;
        within(
            McpToolset::SHUTDOWN_LIMIT,
            "stop tools",
            self.tools.shutdown(),
        )
        .await;
        within(CLOSE_TIME, "close database", self.store.close()).await;
        tracing::info!("stopped");
    }
}

/// The result of `work`; `None` if it takes too long, because nothing may block a shutdown.
async fn within<T>(
    limit: Duration,
    operation: &'static str,
    work: impl Future<Output = T>,
) -> Option<T> {
    let outcome = timeout(limit, work).await.ok();
    if outcome.is_none() {
        tracing::warn!(operation, "shutdown operation timed out");
    }
    outcome
}

/// The send buffer of a connection, in bytes; Linux doubles it. Without this bound the system
/// buffers megabytes of an unread reply, which then counts as sent.
const SEND_BUFFER: u32 = 128 << 10;

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // A restarted server must not wait for the last packets of old connections.
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit the size.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    Ok(socket)
}

fn listen(socket: TcpSocket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG)?.into_std()
}

fn http_server(config: &Config, state: &AppState, listener: TcpListener) -> io::Result<Server> {
    let threads = match config.http_threads {
        Some(threads) => threads.0,
        None => std::thread::available_parallelism()?.get(),
    };
    app::server(
        state.clone(),
        listener,
        threads,
        config.shutdown_grace + HAND_OVER_TIME + FINAL_TIME * 2,
    )
}

fn greeting(
    page: &Page,
    secret: &JwtSecret,
    address: SocketAddr,
    now: Timestamp,
) -> Result<String, jsonwebtoken::errors::Error> {
    let mut text = format!(
        "chat-server {} listens on http://{address}\n",
        env!("CARGO_PKG_VERSION")
    );
    if let Some(code) = page.code.as_ref().and_then(OneTimeCode::text) {
        text.push('\n');
        text.push_str(&dev::welcome(secret, &code, address, now)?);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn an_operation_that_hangs_is_not_awaited() {
        assert_eq!(
            within(Duration::from_millis(1), "hanging", pending::<()>()).await,
            None
        );
        assert_eq!(
            within(Duration::from_secs(3600), "answering", async { 7 }).await,
            Some(7)
        );
    }
}
