//! The actix-web application, and the server that runs it.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
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
use tokio::net::TcpStream;

use crate::connection::{Connection, ConnectionLimit};
use crate::http::docs::ApiDescription;
use crate::state::AppState;
use crate::{http, openapi};

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
        .app_data(web::Data::new(ApiDescription(openapi::document)))
        .configure(http::configure)
        .wrap(Compress::default())
        .wrap(cors)
        .wrap(from_fn(http::envelope))
}

/// How long a browser may cache the answer to a preflight request, in seconds.
const CORS_MAX_AGE: usize = 600;

/// Lets pages of these origins use the server. Pages send their tokens themselves, because there
/// are no cookies.
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

/// A server on `listener`, to be awaited or spawned. It handles no signals: its handle stops it,
/// and then waits for streams for at most `grace`.
///
/// # Errors
/// The listener cannot be used.
pub fn server(
    state: AppState,
    listener: TcpListener,
    workers: usize,
    grace: Duration,
) -> io::Result<Server> {
    // actix-http 3 uses a clock that may be half a second slow, and ignores a deadline that is past
    // when it is set.
    let header_time = state.limits.body_time.max(Duration::from_secs(1));
    let write_time = state.limits.write_time;
    let limit = ConnectionLimit::new(state.limits.connections);
    let builder = Server::build()
        .workers(workers)
        .max_concurrent_connections(limit.max_accepted().div_ceil(workers.max(1)))
        .shutdown_timeout(grace.as_secs())
        .disable_signals();
    let draining = builder.graceful_shutdown_signal();
    // The same as `actix_web::HttpServer`, which does not support our own connection type.
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
            // A client that closes its side is gone. ChatKit's front end cancels a turn in this
            // way.
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
