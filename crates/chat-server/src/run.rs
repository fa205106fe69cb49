//! The life of the server: start, serve, stop without losing anything.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_server::{Server, ServerHandle};
use chat_domain::{ChatService, ChatServiceConfig, Environment, StoreError, SystemEnvironment};
use chat_store_seaorm::{OpenError, SeaOrmStore};
use chat_tools_mcp::McpToolset;
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::adapters;
use crate::app;
use crate::auth::JwtVerifier;
use crate::config::HttpLimits;
use crate::config::{Config, ConfigError, JwtSecret};
use crate::dev::{self, DevSecretError};
use crate::observer::{LogObserver, chain};
use crate::page::Page;
use crate::sign_in::OneTimeCode;
use crate::signals::{Signals, survive_file_size_limit};
use crate::state::AppState;
use crate::tasks::Tasks;

/// Connections that the system accepts before we do. The system may have a lower limit of its own.
const BACKLOG: u32 = 4_096;

/// The time for the rest of the shutdown after the grace period: releasing turns, ending streams,
/// deregistering.
const LAST_MOMENTS: Duration = Duration::from_secs(2);

/// How long closing the database may take: its write-ahead log is moved into its file.
const CLOSING: Duration = Duration::from_secs(5);

/// How long the turns that still run may take to be handed over. Then the lease does it.
const HAND_OVER: Duration = Duration::from_secs(5);

/// Ten thousand clients, each with a connection to an agent, and the rest.
const WANTED_FILES: u64 = 65_536;
const NEEDED_FILES: u64 = 16_384;

/// Files that belong to no client: the database, the tools, the listener, the log.
const RESERVED_FILES: u64 = 128;
const FEWEST_CONNECTIONS: usize = 16;

/// Why the server does not run, or runs no more.
#[derive(Debug)]
pub enum ServeError {
    /// The configuration is wrong.
    Config(ConfigError),
    /// The address cannot be listened on.
    Address(SocketAddr, io::Error),
    /// The database cannot be opened.
    Database(OpenError),
    /// The secret of development mode cannot be had.
    DevSecret(DevSecretError),
    /// The store does not take this server as a worker.
    Worker(StoreError),
    /// A token for development mode cannot be signed.
    Token(jsonwebtoken::errors::Error),
    /// The operating system refuses what every server needs.
    System(io::Error),
    /// The worker stopped without a request.
    WorkerEnded,
}

impl ServeError {
    /// The code that the process exits with; `docs/configuration.md` lists them.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
            Self::Address(..) => 3,
            Self::Database(OpenError::InUse { .. }) => 5,
            Self::Database(OpenError::Pending(_)) => 6,
            Self::Database(OpenError::Url { .. }) => 2,
            Self::Database(_) | Self::DevSecret(_) => 4,
            Self::Worker(_) | Self::Token(_) | Self::System(_) | Self::WorkerEnded => 1,
        }
    }
}

/// A sentence for people: what is wrong, and what to do about it.
impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Address(address, error) => {
                let advice = match error.kind() {
                    ErrorKind::AddrInUse => {
                        "the port is in use; stop the program that uses it, or set CHAT_LISTEN to another"
                    }
                    ErrorKind::AddrNotAvailable => {
                        "this machine has no such address; set CHAT_LISTEN to one that it has"
                    }
                    ErrorKind::PermissionDenied => {
                        "this user may not listen there; set CHAT_LISTEN to a port above 1023"
                    }
                    _ => return write!(f, "cannot listen on {address}: {error}"),
                };
                write!(f, "cannot listen on {address}: {advice}")
            }
            Self::Database(error) => {
                write!(f, "DATABASE_URL: {}", chain(error))?;
                match error {
                    OpenError::InUse { .. } => f.write_str("; stop that server, or give this one a database of its own"),
                    OpenError::Pending(_) => f.write_str("; start once without --no-migrate to apply them"),
                    OpenError::Damaged { .. } => f.write_str(
                        "; nothing was changed. Restore a backup: delete the file and those beside it that end in -wal and -shm, then \
                         put the backup in its place",
                    ),
                    OpenError::Replaced { log, .. } => write!(
                        f,
                        ": a server was killed, and the file was replaced afterwards, for example by a backup. Nothing was changed. To serve \
                         the file as it is, delete {} and the file beside it that ends in -shm",
                        log.display()
                    ),
                    OpenError::Leftover { leftover, .. } => write!(
                        f,
                        "; nothing was changed. Put the database or its backup back; if that is a backup, or if you want to begin with an \
                         empty database, delete {} first",
                        leftover.display()
                    ),
                    OpenError::Pooler(_) => f.write_str("; replace or set up the pooler, or connect to PostgreSQL without it"),
                    OpenError::Encoding(_) => f.write_str("; make another one with ENCODING 'UTF8' TEMPLATE template0"),
                    _ => Ok(()),
                }
            }
            Self::DevSecret(error) => error.fmt(f),
            Self::Worker(error) => write!(
                f,
                "the database does not take this server: {}",
                chain(error)
            ),
            Self::Token(error) => write!(f, "no token can be signed: {error}"),
            Self::System(error) => write!(
                f,
                "the operating system refuses what a server needs: {error}"
            ),
            Self::WorkerEnded => {
                f.write_str("the worker that runs the turns has stopped; the log says more")
            }
        }
    }
}

impl std::error::Error for ServeError {}

impl From<ConfigError> for ServeError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// Serves until a signal asks it to stop, then hands over what still runs.
///
/// # Errors
/// Why it could not start, or had to stop.
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
            running = Running::start(config, migrate) => running?.until(signals).await,
            () = signals.stop() => Ok(()),
        }
    });
    // A thread that hangs in a system call must not keep the process.
    runtime.shutdown_timeout(LAST_MOMENTS);
    outcome
}

/// A server that serves.
struct Running<'a> {
    config: &'a Config,
    state: AppState,
    store: Arc<SeaOrmStore>,
    tools: Arc<McpToolset>,
    worker: JoinHandle<()>,
    http: ServerHandle,
    served: JoinHandle<io::Result<()>>,
}

impl<'a> Running<'a> {
    async fn start(config: &'a Config, migrate: bool) -> Result<Self, ServeError> {
        let open_files = raise_open_files();
        // The address is taken first, and listened on last: no client waits for a server that will
        // not come.
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
        let deps = ChatServiceConfig {
            store: store.clone(),
            agent,
            tools: tools.clone(),
            environment: environment.clone(),
            observer: Arc::new(LogObserver),
            limits: config.turn_limits(),
        };
        let service = ChatService::open(deps).await.map_err(ServeError::Worker)?;

        let secret = match &config.jwt_secret {
            Some(secret) => secret.clone(),
            None => dev::secret(&config.database_url.beside("dev-secret"))
                .map_err(ServeError::DevSecret)?,
        };
        let verifier = JwtVerifier::new(
            &secret,
            config.jwt_issuer.as_deref(),
            config.jwt_audience.as_deref(),
        );
        let tasks = Tasks::new(tokio::runtime::Handle::current());
        let mut state = AppState::new(service.clone(), tasks.clone(), Arc::new(verifier));
        state.set_limits(http_limits(config, open_files));
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
        // The parent process may not listen.
        let _ = io::stdout()
            .write_all(greeting.as_bytes())
            .and_then(|()| io::stdout().flush());
        tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), agent = ?config.agent_kind(), "serving");
        if !config.unknown_variables.is_empty() {
            tracing::warn!(
                variables = config.unknown_variables.join(", "),
                "these variables look like settings, but there are none of these names"
            );
        }
        if !config.mcp_servers.ignored_keys.is_empty() {
            let keys = config.mcp_servers.ignored_keys.join(", ");
            tracing::warn!(keys, "these keys of CHAT_MCP_SERVERS mean nothing here");
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
            served = &mut self.served => Err(ServeError::System(served.map_or_else(io::Error::other, |ended| {
                ended.err().unwrap_or_else(|| io::Error::other("the HTTP server has stopped"))
            }))),
            _ = &mut self.worker => Err(ServeError::WorkerEnded),
        };
        tokio::spawn(async move {
            signals.stop().await;
            tracing::warn!("stopped at once by a second signal");
            std::process::exit(130);
        });
        self.stop(outcome.is_ok()).await;
        outcome
    }

    /// Lets what runs finish within the grace period, and hands over the rest.
    async fn stop(self, in_order: bool) {
        let grace = self.config.shutdown_grace;
        tracing::info!(
            grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
            "stopping"
        );
        self.state.drain();
        if let Some(notice) = self.config.shutdown_notice.filter(|_| in_order) {
            tokio::time::sleep(notice).await;
        }
        self.state.runner.service.close();
        let mut closed = tokio::spawn(self.http.stop(true));
        let finished = in_order
            && timeout(grace, self.state.runner.tasks.finished())
                .await
                .is_ok();
        if !finished {
            tracing::info!("the grace period is over; what still runs is handed over");
        }
        if let Some(Err(error)) = within(
            HAND_OVER,
            "handing over the turns",
            self.state.runner.service.hand_over(),
        )
        .await
        {
            tracing::warn!(
                error = chain(&error),
                "turns could not be handed over; another server takes them when the lease has run out"
            );
        }
        // A client that waits for a turn that has ended gets its end; one that waits for another
        // resumes elsewhere.
        let closed_already = finished && timeout(LAST_MOMENTS, &mut closed).await.is_ok();
        self.state.end_streams();
        if !closed_already {
            let _ = timeout(LAST_MOMENTS, self.state.runner.tasks.finished()).await;
            let _ = closed.await;
        }
        // They read from the store, which is about to be closed.
        let _ = timeout(LAST_MOMENTS, self.state.readers.finished()).await;
        within(
            McpToolset::SHUTDOWN_LIMIT,
            "stopping the tools",
            self.tools.shutdown(),
        )
        .await;
        within(CLOSING, "closing the database", self.store.close()).await;
        tracing::info!("stopped");
    }
}

/// The result of `work`, unless it takes too long: nothing may keep a server from stopping.
async fn within<T>(
    limit: Duration,
    what: &'static str,
    work: impl Future<Output = T>,
) -> Option<T> {
    let outcome = timeout(limit, work).await.ok();
    if outcome.is_none() {
        tracing::warn!(what, "takes too long and is not waited for");
    }
    outcome
}

/// The part of an unread reply that the system keeps for a connection, in bytes; Linux doubles it.
/// Without a bound the system takes megabytes, and a reply of that size counts as sent although
/// it is not read.
const SEND_BUFFER: u32 = 128 << 10;

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // A server that restarts does not wait for the old connections' last packets.
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit it.
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
        config.shutdown_grace + HAND_OVER + LAST_MOMENTS * 2,
    )
}

fn greeting(
    page: &Page,
    secret: &JwtSecret,
    address: SocketAddr,
    now: chat_domain::Timestamp,
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

/// Each client is an open file, and the usual limit is too low for thousands. Returns how many
/// files this process may open.
fn raise_open_files() -> Option<u64> {
    match rlimit::increase_nofile_limit(WANTED_FILES) {
        Ok(limit) => {
            if limit < NEEDED_FILES {
                tracing::warn!(
                    limit,
                    needed = NEEDED_FILES,
                    "this process may open few files; for thousands of clients raise the limit (ulimit -n)"
                );
            }
            Some(limit)
        }
        Err(error) => {
            tracing::warn!(%error, "the limit of open files cannot be raised");
            None
        }
    }
}

/// The limits of the settings; where they do not say how many connections there may be, as many as
/// the open files allow.
fn http_limits(config: &Config, open_files: Option<u64>) -> HttpLimits {
    let mut limits = config.http_limits();
    let Some(allowed) = open_files.map(connections_of) else {
        return limits;
    };
    match config.connection_limit {
        None => limits.connections = limits.connections.min(allowed),
        Some(limit) if limit.get() > allowed => tracing::warn!(
            limit,
            allowed,
            "CHAT_CONNECTION_LIMIT is higher than the limit of open files allows (ulimit -n); connections may fail"
        ),
        Some(_) => {}
    }
    limits
}

/// Half of the files is for clients: the turn of each may need a connection to the agent.
fn connections_of(open_files: u64) -> usize {
    let connections = open_files.saturating_sub(RESERVED_FILES) / 2;
    usize::try_from(connections)
        .unwrap_or(usize::MAX)
        .max(FEWEST_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_everything_else() {
        assert_eq!(connections_of(65_536), 32_704);
        assert_eq!(connections_of(1_024), 448);
        assert_eq!(connections_of(64), FEWEST_CONNECTIONS);
        assert!(connections_of(u64::MAX) > 1 << 40);
    }

    #[tokio::test]
    async fn what_hangs_is_not_waited_for() {
        assert_eq!(
            within(
                Duration::from_millis(1),
                "hanging",
                std::future::pending::<()>()
            )
            .await,
            None
        );
        assert_eq!(
            within(Duration::from_secs(3600), "answering", async { 7 }).await,
            Some(7)
        );
    }
}
