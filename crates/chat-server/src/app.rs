//! The application: what handlers share, and the server that runs them.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_cors::Cors;
use actix_http::HttpService;
use actix_server::Server;
use actix_service::{
    IntoServiceFactory, Service, ServiceFactoryExt, fn_factory, fn_service, map_config,
};
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderName};
use actix_web::middleware::{Compress, Condition, from_fn};
use actix_web::{App, Error, web};
use chat_domain::{ChatError, ChatService, UserId};
use chat_protocol::problem::Code;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::connection::{Connection, ConnectionLimit};
use crate::http;
use crate::memory::MemoryLimit;
use crate::page::Page;
use crate::problem::Refusal;
use crate::tasks::Tasks;

/// Says whose token it is. Knows no HTTP: which header a token comes in, and whose path it is used
/// on, is checked around it.
pub trait TokenVerifier: Send + Sync {
    /// The subject of a valid token.
    ///
    /// # Errors
    /// `InvalidToken`, `TokenExpired` or `TokenNotYetValid`.
    fn verify(&self, token: &str) -> Result<UserId, Code>;
}

/// What all handlers share. Cheap to clone; holds nothing of any conversation.
#[derive(Clone)]
pub struct AppState {
    /// The use case.
    pub service: Arc<ChatService>,
    /// Where work runs that outlives its request.
    pub tasks: Tasks,
    /// Where streams are read for clients: not work, for the turn of a stream may run elsewhere.
    pub readers: Tasks,
    /// Who asks.
    pub tokens: Arc<dyn TokenVerifier>,
    /// The chat page.
    pub page: Arc<Page>,
    /// What clients may do, and how long they wait.
    pub limits: HttpLimits,
    /// The memory that request bodies and unsent replies hold.
    pub memory: MemoryLimit,
    /// Pages of long replies that may be read from the store at the same time.
    pub page_reads: Arc<Semaphore>,
    /// Texts of long replies that may be kept whole while their clients read.
    pub large_texts: Arc<Semaphore>,
    /// The origins whose pages may use this server from browsers, besides its own.
    pub cors_origins: Arc<[String]>,
    /// Whether there is a page that shows ChatKit's component.
    pub chatkit_example: bool,
    /// Whether the server is about to stop.
    pub draining: Arc<AtomicBool>,
    /// When streams and waiting replies end, wherever their turns stand.
    pub leaving: CancellationToken,
}

/// How much a client may send, how long it may take to send and to read, and how long it waits for
/// an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// The largest body, in bytes.
    pub body_bytes: usize,
    /// How long a client may take to send its headers, and then its body.
    pub body_time: Duration,
    /// The time between two signs of life in an idle stream.
    pub keep_alive: Duration,
    /// How long a client may take to make room for the next piece of a reply or the next frame of a
    /// stream.
    pub write_time: Duration,
    /// How long a client may leave a long reply unread before what is ready for it is dropped, to
    /// be read from the store again.
    pub stall_time: Duration,
    /// How long a reply waits for the end of its turn.
    pub reply_time: Duration,
    /// How many connections there may be.
    pub connections: usize,
    /// How much memory unfinished request bodies and unsent replies may hold, all together, in
    /// bytes.
    pub memory_bytes: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            body_bytes: 1 << 20,
            body_time: Duration::from_secs(10),
            keep_alive: Duration::from_secs(15),
            write_time: Duration::from_secs(30),
            stall_time: Duration::from_secs(1),
            reply_time: Duration::from_secs(20 * 60),
            connections: 16_384,
            memory_bytes: 256 << 20,
        }
    }
}

impl AppState {
    /// State with default limits.
    pub fn new(service: Arc<ChatService>, tasks: Tasks, tokens: Arc<dyn TokenVerifier>) -> Self {
        Self {
            service,
            readers: tasks.apart(),
            tasks,
            tokens,
            page: Arc::default(),
            limits: HttpLimits::default(),
            memory: MemoryLimit::new(HttpLimits::default().memory_bytes),
            page_reads: Arc::new(Semaphore::new(PAGE_READS)),
            large_texts: Arc::new(Semaphore::new(LARGE_TEXTS)),
            cors_origins: Arc::default(),
            chatkit_example: false,
            draining: Arc::default(),
            leaving: CancellationToken::new(),
        }
    }

    /// Sets what clients may do.
    pub fn set_limits(&mut self, limits: HttpLimits) {
        self.memory = MemoryLimit::new(limits.memory_bytes);
        self.limits = limits;
    }

    /// From now on readiness says no, so that load balancers look elsewhere.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Ends streams and waiting replies: clients go on elsewhere. To be called when the turns have
    /// been handed over.
    pub fn leave(&self) {
        self.leaving.cancel();
    }

    /// Calls the use case on the shared runtime, so that a client that goes away cuts nothing off.
    pub(crate) async fn call<T, F>(
        &self,
        work: impl FnOnce(Arc<ChatService>) -> F,
    ) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ChatError>> + Send + 'static,
    {
        Ok(self.tasks.run(work(self.service.clone())).await??)
    }
}

/// The application of one worker thread.
pub fn app(
    state: AppState,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<BoxBody>,
        Error = Error,
        InitError = (),
    >,
> {
    let cors = Condition::new(!state.cors_origins.is_empty(), cors(&state.cors_origins));
    App::new()
        .app_data(web::Data::new(state))
        .configure(http::configure)
        .wrap(Compress::default())
        .wrap(cors)
        .wrap(from_fn(http::envelope))
}

/// How many pages of long replies are read at the same time: each may be large for the moment until
/// it is cut.
const PAGE_READS: usize = 4;

/// How many texts of long replies are kept whole while their clients read. Any other reply keeps a
/// bounded part, and its page is read again for the next part.
pub const LARGE_TEXTS: usize = 8;

/// How long a browser may remember what it was allowed, in seconds.
const CORS_MAX_AGE: usize = 600;

/// Lets pages of these origins use the server. They send their tokens themselves: nothing is done
/// in a browser's name by itself.
fn cors(origins: &[String]) -> Cors {
    let requests = [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::ACCEPT,
        header::ACCEPT_LANGUAGE,
    ];
    let ours = ["idempotency-key", "last-event-id"].map(HeaderName::from_static);
    let cors = Cors::default()
        .allowed_methods(["GET", "HEAD", "POST", "PATCH", "DELETE"])
        .allowed_headers(
            requests
                .into_iter()
                .chain(ours)
                .chain([http::CHATKIT_FRAME]),
        )
        .expose_headers([HeaderName::from_static("x-request-id"), header::RETRY_AFTER])
        .max_age(CORS_MAX_AGE);
    origins
        .iter()
        .fold(cors, |cors, origin| cors.allowed_origin(origin))
}

/// A server on `listener`, ready to be awaited or spawned. Handles no signals; stop it by its
/// handle, which waits for streams at most `grace` long.
///
/// # Errors
/// The listener cannot be used.
pub fn server(
    state: AppState,
    listener: TcpListener,
    workers: usize,
    grace: Duration,
) -> io::Result<Server> {
    // actix-http 3 reckons from a clock that may be half a second old, and does not notice a limit
    // that is past when it is set.
    let header_time = state.limits.body_time.max(Duration::from_secs(1));
    let write_time = state.limits.write_time;
    let limit = ConnectionLimit::new(state.limits.connections);
    let builder = Server::build()
        .workers(workers)
        .max_concurrent_connections(limit.most_accepted().div_ceil(workers.max(1)))
        .shutdown_timeout(grace.as_secs())
        .disable_signals();
    let draining = builder.graceful_shutdown_signal();
    // As `actix_web::HttpServer` does, which takes no connections of our own.
    let serve = move || {
        let draining = draining.clone();
        let app = app(state.clone())
            .into_factory()
            .map_err(|error: Error| error.error_response());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let draining = draining.clone();
                async move { draining.notified().await }
            })
            .client_request_timeout(header_time)
            .keep_alive(Duration::from_secs(75))
            // A client that closes its side is gone. By that alone do we learn that an answer in
            // ChatKit is to stop.
            .h1_allow_half_closed(false)
            .h1(map_config(app, |()| AppConfig::default()));
        let limit = limit.clone();
        fn_factory(move || {
            let (limit, http) = (limit.clone(), http.new_service(()));
            async move {
                let http = Rc::new(http.await?);
                Ok::<_, ()>(fn_service(move |stream: TcpStream| {
                    let peer = stream.peer_addr().ok();
                    let (connection, http) = (limit.admit(stream, write_time), http.clone());
                    async move {
                        let Some(connection) = connection else {
                            return Ok(());
                        };
                        let http = &*http;
                        poll_fn(|context| {
                            Service::<(Connection, Option<SocketAddr>)>::poll_ready(http, context)
                        })
                        .await?;
                        http.call((connection, peer)).await
                    }
                }))
            }
        })
    };
    Ok(builder.listen("chat", listener, serve)?.run())
}
