//! A server on a free port of 127.0.0.1, over the domain's fakes.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use chat_domain::testing::{FakeTools, FixedEnvironment, MemoryStore, ScriptedAgent, Signals};
use chat_domain::{Agent, ChatService, ChatServiceConfig, TurnLimits, UserId};
use chat_protocol::Code;
use chat_server::testing::Page;
use chat_server::testing::Tasks;
use chat_server::testing::{AppState, HttpLimits, TokenVerifier, server};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Accepts `token-of-<user>` as a valid token of that user; has an expired and an early token.
struct Tokens;

impl TokenVerifier for Tokens {
    fn verify(&self, token: &str) -> Result<UserId, Code> {
        match token {
            "expired" => Err(Code::TokenExpired),
            "early" => Err(Code::TokenNotYetValid),
            "panic" => panic!("on purpose"),
            other => other
                .strip_prefix("token-of-")
                .and_then(UserId::new)
                .ok_or(Code::InvalidToken),
        }
    }
}

/// The options of a test server.
pub struct Setup {
    pub agent: Arc<dyn Agent>,
    pub tools: FakeTools,
    pub limits: TurnLimits,
    pub http: HttpLimits,
    pub page: Page,
    pub origins: Vec<String>,
    pub chatkit_example: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            agent: Arc::new(ScriptedAgent::new([])),
            tools: FakeTools::new(),
            limits: TurnLimits {
                poll: Duration::from_millis(20),
                ..TurnLimits::default()
            },
            http: HttpLimits::default(),
            page: Page::default(),
            origins: Vec::new(),
            chatkit_example: false,
        }
    }
}

/// A running server.
pub struct Server {
    pub address: SocketAddr,
    pub store: Arc<MemoryStore>,
    pub state: AppState,
    pub client: Client,
    parts: Parts,
}

/// The running parts; stopped when dropped.
struct Parts {
    worker: Option<tokio::task::JoinHandle<()>>,
    handle: actix_web::dev::ServerHandle,
}

impl Drop for Parts {
    fn drop(&mut self) {
        if let Some(worker) = &self.worker {
            worker.abort();
        }
        drop(self.handle.stop(false));
    }
}

impl Server {
    pub async fn start(setup: Setup) -> Self {
        let store = Arc::new(MemoryStore::new());
        let config = ChatServiceConfig {
            store: store.clone(),
            agent: setup.agent,
            tools: Arc::new(setup.tools),
            environment: Arc::new(FixedEnvironment::new()),
            observer: Arc::new(Signals::default()),
            limits: setup.limits,
        };
        let service = ChatService::open(config).await.unwrap();
        let mut state = AppState::new(
            service.clone(),
            Tasks::new(tokio::runtime::Handle::current()),
            Arc::new(Tokens),
        );
        (state.cors_origins, state.chatkit_example) = (setup.origins.into(), setup.chatkit_example);
        state.set_limits(setup.http);
        state.page = Arc::new(setup.page);
        let mut server = Self::with_state(state, store);
        let tasks = server.state.runner.tasks.clone();
        server.parts.worker = Some(tokio::spawn(service.work(move |task| tasks.spawn(task))));
        server
    }

    /// A server of this service, without its worker.
    pub fn serving(service: Arc<ChatService>) -> Self {
        let state = AppState::new(
            service,
            Tasks::new(tokio::runtime::Handle::current()),
            Arc::new(Tokens),
        );
        Self::with_state(state, Arc::new(MemoryStore::new()))
    }

    fn with_state(state: AppState, store: Arc<MemoryStore>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let running = server(state.clone(), listener, 1, Duration::from_secs(1)).unwrap();
        let handle = running.handle();
        tokio::spawn(running);
        Self {
            address,
            store,
            state,
            client: client(),
            parts: Parts {
                worker: None,
                handle,
            },
        }
    }

    pub async fn with_page(page: Page) -> Self {
        Self::start(Setup {
            page,
            ..Setup::default()
        })
        .await
    }

    pub async fn with_agent(agent: ScriptedAgent) -> (Self, Arc<ScriptedAgent>) {
        let agent = Arc::new(agent);
        (
            Self::start(Setup {
                agent: agent.clone(),
                ..Setup::default()
            })
            .await,
            agent,
        )
    }

    /// A request without a token.
    pub fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("http://{}{path}", self.address))
    }

    /// A request of `ada` below her path.
    pub fn ada(&self, method: Method, path: &str) -> RequestBuilder {
        self.bare(method, &format!("/api/ada{path}"))
            .bearer_auth("token-of-ada")
    }

    pub async fn get(&self, path: &str) -> Value {
        answer(self.ada(Method::GET, path), 200).await
    }

    pub fn chat(&self, message: &str, conversation: Option<&Value>) -> RequestBuilder {
        self.ada(Method::POST, "/chat")
            .json(&json!({"message": message, "conversation_id": conversation}))
    }

    /// Sends a message and returns the reply.
    pub async fn say(&self, message: &str, conversation: Option<&Value>) -> Value {
        answer(self.chat(message, conversation), 200).await
    }

    /// The number of conversations of `ada`.
    pub async fn conversations(&self) -> usize {
        self.get("/conversations?limit=100").await["conversations"]
            .as_array()
            .unwrap()
            .len()
    }

    /// Writes these bytes on a new connection, and reads until the server closes it.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        read_to_end(stream).await
    }
}

/// A client with a time limit for each request.
fn client() -> Client {
    Client::builder()
        .timeout(chat_test_support::wait::LIMIT)
        .build()
        .unwrap()
}

/// Reads until the other side closes or resets the connection.
pub async fn read_to_end(mut stream: TcpStream) -> String {
    let mut read = Vec::new();
    // The connection may be reset or closed after the response.
    let _ =
        chat_test_support::wait::within("the end of a connection", stream.read_to_end(&mut read))
            .await;
    String::from_utf8_lossy(&read).into_owned()
}

/// Sends a request, and returns the JSON of a response with this status.
pub async fn answer(request: RequestBuilder, status: u16) -> Value {
    let response = request.send().await.unwrap();
    let (got, text) = (response.status().as_u16(), response.text().await.unwrap());
    assert_eq!(got, status, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// Sends a request that fails with this code, and checks the problem.
pub async fn refusal(request: RequestBuilder, code: Code) -> Value {
    check_refusal(request.send().await.unwrap(), code).await
}

pub async fn check_refusal(response: Response, code: Code) -> Value {
    let row = code.row();
    let chatkit = response.url().path().ends_with("/chatkit");
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.unwrap();
    assert_eq!(
        status,
        StatusCode::from_u16(row.status).unwrap(),
        "{} {text}",
        row.code
    );
    assert_eq!(
        headers["content-type"], "application/problem+json",
        "{text}"
    );
    let retry = headers
        .get("retry-after")
        .map(|value| value.to_str().unwrap().parse().unwrap());
    assert_eq!(retry, row.retry_after, "{text}");
    assert_eq!(
        headers.contains_key("www-authenticate"),
        row.status == 401,
        "{text}"
    );
    check_common_headers(&headers);
    let problem: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(problem["code"], row.code, "{text}");
    assert_eq!(problem["status"], row.status);
    assert_eq!(problem["title"], row.title);
    assert_eq!(problem["type"], format!("/problems/{}", row.code));
    let detail = problem["detail"].as_str().unwrap();
    let is_stored =
        problem["conversation_id"].is_string() && detail.ends_with(Code::ReplyTimeout.row().advice);
    let turn_ended = code == Code::Internal
        && problem["turn_id"].is_string()
        && detail.ends_with("if it fails again, tell the operator.");
    assert!(
        detail.ends_with(row.advice) || is_stored || turn_ended,
        "{text}"
    );
    assert_eq!(
        problem["instance"],
        format!("urn:uuid:{}", headers["x-request-id"].to_str().unwrap())
    );
    assert_eq!(
        problem.get("message"),
        chatkit.then_some(&problem["detail"]),
        "only on ChatKit's routes"
    );
    let usual = [
        "type", "title", "status", "detail", "code", "instance", "message",
    ];
    for member in problem
        .as_object()
        .unwrap()
        .keys()
        .filter(|member| !usual.contains(&member.as_str()))
    {
        assert!(
            row.members.contains(&member.as_str()),
            "{} has no member {member}",
            row.code
        );
    }
    problem
}

pub fn check_common_headers(headers: &reqwest::header::HeaderMap) {
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["referrer-policy"], "no-referrer");
    assert_eq!(headers["cache-control"], "no-store");
}
