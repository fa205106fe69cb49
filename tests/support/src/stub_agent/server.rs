//! The HTTP server of the stub.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};

use actix_web::body::BodyStream;
use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::LocalBoxStream;
use tokio::sync::watch;

use super::answer::Before;
use super::{Answer, Delivery, Recorded, check_request};
use crate::wait;

/// Large enough for any transcript and tools in tests.
const MAX_BODY: usize = 256 << 20;

/// A running stub server. Dropping it closes its connections and waits for its end.
#[derive(Debug)]
pub struct StubAgent {
    address: SocketAddr,
    record: Arc<Mutex<Vec<Recorded>>>,
    server: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    record: Arc<Mutex<Vec<Recorded>>>,
    script: Box<dyn Fn(&Recorded) -> Answer + Send + Sync>,
}

impl StubAgent {
    /// Starts a server that answers each request by `script`, which several threads may call
    /// concurrently.
    ///
    /// # Panics
    /// Panics if there is no free port or no thread.
    pub fn start(script: impl Fn(&Recorded) -> Answer + Send + Sync + 'static) -> Self {
        match Self::listen(Box::new(script)) {
            Ok(stub) => stub,
            Err(error) => unavailable(&error),
        }
    }

    /// Starts a server that gives these answers in order, and status 418 to further requests.
    ///
    /// # Panics
    /// Panics if there is no free port or no thread.
    pub fn with_answers(answers: impl IntoIterator<Item = Answer>) -> Self {
        let answers: Mutex<VecDeque<Answer>> = Mutex::new(answers.into_iter().collect());
        Self::start(move |_| {
            let next = answers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            next.unwrap_or_else(|| {
                Answer::error(
                    418,
                    "script_exhausted",
                    "the test's script has no answer to this request",
                )
            })
        })
    }

    /// Returns the base URL, such as `http://127.0.0.1:12345/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Returns all requests in order, including rejected ones.
    pub fn requests(&self) -> Vec<Recorded> {
        self.record
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn listen(script: Box<dyn Fn(&Recorded) -> Answer + Send + Sync>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let record = Arc::new(Mutex::new(Vec::new()));
        let shared = web::Data::new(Shared {
            record: record.clone(),
            script,
        });
        let (started, starting) = std::sync::mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name("stub-agent".into())
            .spawn(move || {
                actix_web::rt::System::new().block_on(async move {
                    let app = move || {
                        App::new()
                            .app_data(shared.clone())
                            .app_data(web::PayloadConfig::new(MAX_BODY))
                            .route("/v1/chat/completions", web::post().to(complete))
                    };
                    let server = HttpServer::new(app)
                        .workers(2)
                        .shutdown_timeout(0)
                        .disable_signals()
                        .listen(listener);
                    let server = server.map(HttpServer::run);
                    let _ = started.send(
                        server
                            .as_ref()
                            .map(|server| server.handle())
                            .map_err(|error| io::Error::other(error.to_string())),
                    );
                    if let Ok(server) = server {
                        let _ = server.await;
                    }
                });
            })?;
        let server = wait::receive("the start of the stub", &starting)
            .ok_or_else(|| io::Error::other("the stub did not start"))??;
        Ok(Self {
            address,
            record,
            server,
            thread: Some(thread),
        })
    }
}

impl Drop for StubAgent {
    fn drop(&mut self) {
        // Sends the stop command at once. The future would only wait for its completion.
        drop(self.server.stop(false));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[expect(clippy::panic, reason = "a test without its server fails")]
fn unavailable(error: &io::Error) -> ! {
    panic!("the stub agent cannot start: {error}")
}

async fn complete(shared: web::Data<Shared>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let (delivery, delivered) = watch::channel(None);
    let rejection = check_request(&body).err();
    let recorded = {
        let mut record = shared.record.lock().unwrap_or_else(PoisonError::into_inner);
        let headers = request.headers().iter();
        let recorded = Recorded {
            number: record.len(),
            peer: request.peer_addr(),
            headers: headers
                .map(|(name, value)| {
                    (
                        name.to_string(),
                        String::from_utf8_lossy(value.as_bytes()).into_owned(),
                    )
                })
                .collect(),
            body,
            rejection,
            delivery: delivered,
        };
        record.push(recorded.clone());
        recorded
    };
    let answer = match &recorded.rejection {
        Some(rejection) => Answer::error(400, "", &rejection.to_string()),
        None => (shared.script)(&recorded),
    };
    let guard = DeliveryGuard {
        delivery,
        ended: Delivery::Abandoned,
    };
    match &answer.before {
        Before::Nothing => {}
        Before::Gate(gate) => gate.pass().await,
        Before::Hang => std::future::pending().await,
    }
    let mut response = HttpResponse::build(
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
    );
    for (name, value) in &answer.headers {
        response.append_header((name.as_str(), value.as_str()));
    }
    response.body(BodyStream::new(Watched {
        body: Box::pin(answer.into_body()),
        guard,
    }))
}

/// A body that records how it ended.
struct Watched {
    body: LocalBoxStream<'static, io::Result<Bytes>>,
    guard: DeliveryGuard,
}

impl Stream for Watched {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.body.as_mut().poll_next(context);
        if matches!(next, Poll::Ready(None | Some(Err(_)))) {
            self.guard.ended = Delivery::Complete;
        }
        next
    }
}

struct DeliveryGuard {
    delivery: watch::Sender<Option<Delivery>>,
    ended: Delivery,
}

impl Drop for DeliveryGuard {
    fn drop(&mut self) {
        self.delivery.send_replace(Some(self.ended));
    }
}
