//! The program as a process: start, errors of the start, and shutdown.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use chat_test_support::wait::{self, Watchdog};

pub const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The program in this folder, on any free port, with an agent that is not used.
pub fn program(folder: &Path) -> Command {
    let mut command = bare(folder);
    command
        .env("CHAT_AGENT_URL", "http://127.0.0.1:9/v1")
        .env("CHAT_AGENT_MODEL", "m");
    command
}

/// The program in this folder, on any free port, without further settings.
pub fn bare(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chat-server"));
    command
        .current_dir(folder)
        .env_clear()
        .env("CHAT_LISTEN", "127.0.0.1:0")
        .stdin(Stdio::null());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// A server that listens. Killed when dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    pub stdout: BufReader<ChildStdout>,
    pub stderr: BufReader<ChildStderr>,
    _watchdog: Watchdog,
}

impl Server {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let watchdog = Watchdog::of(&child);
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let Some((_, address)) = line.trim().split_once(" listens on http://") else {
            let mut log = String::new();
            stderr.read_to_string(&mut log).unwrap();
            panic!("no address in {line:?}; the log:\n{log}");
        };
        Self {
            child,
            address: address.parse().unwrap(),
            stdout,
            stderr,
            _watchdog: watchdog,
        }
    }

    /// The text up to the first line with `mark`.
    pub fn read_until(reader: &mut impl BufRead, mark: &str) -> String {
        let mut text = String::new();
        while !text.lines().last().is_some_and(|line| line.contains(mark)) {
            assert!(
                reader.read_line(&mut text).unwrap() > 0,
                "no {mark:?} in:\n{text}"
            );
        }
        text
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([format!("-{name}"), self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    pub fn exit_code(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Sends a message, and returns the connection with the unread reply.
    pub fn send(&self, token: &str) -> TcpStream {
        let body = r#"{"message": "Add task: Buy groceries"}"#;
        let mut stream = TcpStream::connect(self.address).unwrap();
        let head = format!(
            "POST /api/demo/chat HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program that ends by itself. Returns its exit code and its standard error.
pub fn run_to_end(command: &mut Command) -> (Option<i32>, String) {
    let child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _watchdog = Watchdog::of(&child);
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

pub fn token() -> String {
    token_of("demo", jsonwebtoken::get_current_timestamp() + 600)
}

pub fn token_of(user: &str, exp: u64) -> String {
    signed(&serde_json::json!({"sub": user, "exp": exp}))
}

pub fn signed(claims: &serde_json::Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).unwrap()
}

/// An agent that never answers. Its requests arrive at the listener.
pub fn silent_agent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    (listener, url)
}

pub fn with_agent(folder: &Path, url: &str) -> Command {
    let mut command = program(folder);
    command
        .env("CHAT_AGENT_URL", url)
        .env("CHAT_JWT_SECRET", SECRET);
    command
}

/// Waits for a request to the agent.
pub fn request_to_agent(agent: &TcpListener) -> TcpStream {
    agent.set_nonblocking(true).unwrap();
    let (mut stream, _) = wait::value_blocking("a request to the agent", || agent.accept().ok());
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(wait::LIMIT)).unwrap();
    let mut first = [0; 16];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"POST /v1/chat/co");
    stream
}

#[cfg(feature = "demo")]
#[test]
fn without_settings_the_printed_token_works() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(&mut bare(folder.path()));
    let text = Server::read_until(&mut server.stdout, "API documentation");
    // The printed address signs a browser in once.
    let code = text
        .lines()
        .find_map(|line| {
            line.trim()
                .strip_prefix(&format!("http://{}/#code=", server.address))
        })
        .unwrap()
        .to_owned();
    let mut stream = TcpStream::connect(server.address).unwrap();
    let body = format!(r#"{{"code": "{code}"}}"#);
    let head =
        "POST /sign-in HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json";
    write!(
        stream,
        "{head}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut signed_in = String::new();
    stream.read_to_string(&mut signed_in).unwrap();
    assert!(
        signed_in.starts_with("HTTP/1.1 200 ") && signed_in.contains("\"token\""),
        "{signed_in}"
    );
    let token = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("TOKEN="))
        .unwrap();
    assert!(
        text.contains(&format!("curl -s http://{}/api/demo/chat", server.address)),
        "{text}"
    );

    let mut answer = String::new();
    server.send(token).read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 ")
            && answer.contains("conversation_id")
            && answer.contains("Buy groceries"),
        "{answer}"
    );
    server.signal("TERM");
    assert_eq!(server.exit_code(), Some(0));

    // The secret and the token are still valid after a restart.
    let server = Server::start(&mut bare(folder.path()));
    let mut answer = String::new();
    server.send(token).read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn invalid_settings_are_named_without_a_backtrace() {
    let folder = tempfile::tempdir().unwrap();
    let (code, stderr_text) = run_to_end(
        program(folder.path())
            .env("CHAT_LEASE", "soon")
            .env("RUST_BACKTRACE", "1"),
    );
    assert_eq!(code, Some(2));
    assert_eq!(
        stderr_text,
        "chat-server: the configuration is invalid:\n  CHAT_LEASE: \"soon\" is not a time above 0, such as \
         500ms, 10s, 5m or 1h\n"
    );
    let (code, stderr_text) = run_to_end(program(folder.path()).env("CHAT_LISTEN", "0.0.0.0:0"));
    assert!(
        code == Some(2) && stderr_text.contains("set CHAT_JWT_SECRET"),
        "{stderr_text}"
    );
    let (code, stderr_text) =
        run_to_end(program(folder.path()).env("CHAT_AGENT_URL", "https://user:hunter2@host/"));
    assert!(
        code == Some(2)
            && stderr_text.contains("CHAT_AGENT_URL: ")
            && !stderr_text.contains("hunter2"),
        "{stderr_text}"
    );
    let (code, _) = run_to_end(program(folder.path()).arg("--no-such-flag"));
    assert_eq!(code, Some(2));
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "something was written"
    );
    let (code, stderr_text) = run_to_end(
        program(folder.path()).env("CHAT_MCP_SERVERS", r#"[{"name": "a b", "command": "c"}]"#),
    );
    assert!(
        code == Some(2) && stderr_text.contains("CHAT_MCP_SERVERS: "),
        "{stderr_text}"
    );
}

#[test]
fn only_tokens_of_the_secret_and_the_user_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(
        program(folder.path())
            .env("CHAT_JWT_SECRET", SECRET)
            .env("CHAT_LOG_FORMAT", "json"),
    );
    let later = jsonwebtoken::get_current_timestamp() + 600;
    let cases = [
        (
            "garbage".to_owned(),
            "401",
            "invalid_token",
            r#"www-authenticate: Bearer error="invalid_token""#,
        ),
        (
            token_of("demo", 1),
            "401",
            "token_expired",
            r#"www-authenticate: Bearer error="invalid_token""#,
        ),
        (token_of("eve", later), "403", "wrong_user", ""),
        (
            signed(&serde_json::json!({"sub": "demo"})),
            "401",
            "invalid_token",
            r#"www-authenticate: Bearer error="invalid_token""#,
        ),
    ];
    let tokens = cases.clone().map(|(token, ..)| token);
    for (token, status, code, challenge) in cases {
        let mut answer = String::new();
        server.send(&token).read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} "))
                && answer.contains(&format!(r#""code":"{code}""#)),
            "{answer}"
        );
        assert!(answer.contains(challenge), "{answer}");
    }
    // A path that is not UTF-8 belongs to no user, even if a user has the replacement character as
    // name.
    let mut stream = TcpStream::connect(server.address).unwrap();
    let token = token_of("\u{fffd}", later);
    let head = format!(
        "GET /api/%FF/conversations HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 403 ") && answer.contains("wrong_user"),
        "{answer}"
    );
    let log = Server::read_until(&mut server.stderr, "the token has no `exp`");
    assert!(
        log.contains("is not a JSON Web Token") && log.contains("the token's `exp` is in the past"),
        "{log}"
    );
    assert!(
        tokens.iter().all(|token| !log.contains(token)),
        "a token is in the log:\n{log}"
    );
    let answered = log
        .lines()
        .find(|line| line.contains(r#""message":"answered""#))
        .unwrap();
    assert!(
        serde_json::from_str::<serde_json::Value>(answered).unwrap()["elapsed_ms"].is_f64(),
        "{answered}"
    );
}

#[test]
fn a_taken_port_has_its_own_code() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, stderr_text) = run_to_end(program(folder.path()).env("CHAT_LISTEN", &address));
    assert_eq!(code, Some(3), "{stderr_text}");
    assert!(
        stderr_text.contains(&address)
            && stderr_text.contains("the port is in use")
            && stderr_text.contains("CHAT_LISTEN"),
        "{stderr_text}"
    );
}

#[test]
fn a_database_that_cannot_be_opened_has_its_own_code() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("notes.txt"),
        "this is not a database, whatever its name says".repeat(100),
    )
    .unwrap();
    let (code, stderr_text) =
        run_to_end(program(folder.path()).env("DATABASE_URL", "sqlite://notes.txt/chat.db"));
    assert_eq!(code, Some(4), "{stderr_text}");
    assert!(
        stderr_text.contains("DATABASE_URL") && stderr_text.contains("notes.txt/chat.db"),
        "{stderr_text}"
    );
    let (code, stderr_text) =
        run_to_end(program(folder.path()).env("DATABASE_URL", "sqlite://notes.txt"));
    assert_eq!(code, Some(4), "{stderr_text}");
}

#[test]
fn a_database_in_use_has_its_own_code() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Server::start(&mut program(folder.path()));
    let (code, stderr_text) = run_to_end(&mut program(folder.path()));
    assert_eq!(code, Some(5), "{stderr_text}");
    assert!(
        stderr_text.contains("chat.db is in use by another server"),
        "{stderr_text}"
    );
}

#[test]
fn pending_migrations_have_their_own_code() {
    let folder = tempfile::tempdir().unwrap();
    let (code, stderr_text) = run_to_end(program(folder.path()).arg("--no-migrate"));
    assert_eq!(code, Some(6), "{stderr_text}");
    assert!(
        stderr_text.contains("start once without --no-migrate"),
        "{stderr_text}"
    );
    drop(Server::start(&mut program(folder.path())));
    drop(Server::start(program(folder.path()).arg("--no-migrate")));
}

#[test]
fn a_turn_that_outlasts_the_grace_period_is_handed_over() {
    let folder = tempfile::tempdir().unwrap();
    let (agent, url) = silent_agent();
    let server = Server::start(with_agent(folder.path(), &url).env("CHAT_SHUTDOWN_GRACE", "50ms"));
    let _request = server.send(&token());
    let _question = request_to_agent(&agent);
    server.signal("TERM");
    assert_eq!(server.exit_code(), Some(0));

    let _next = Server::start(&mut with_agent(folder.path(), &url));
    let _again = request_to_agent(&agent);
}

#[test]
fn a_silent_client_does_not_block_a_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&mut program(folder.path()));
    let silent = TcpStream::connect(server.address).unwrap();
    // Connections are accepted in order: once this one has its reply, the silent one is accepted.
    assert!(get(server.address, "/health/live").starts_with("HTTP/1.1 200 "));
    let asked = Instant::now();
    server.signal("TERM");
    assert_eq!(server.exit_code(), Some(0));
    assert!(
        asked.elapsed() < Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
    );
    drop(silent);
}

#[test]
fn one_unread_reply_ends_its_connection() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(program(folder.path()).env("CHAT_STREAM_WRITE_TIMEOUT", "1s"));
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream
        .write_all(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    Server::read_until(&mut server.stderr, "client does not read its reply");
    assert!(get(server.address, "/health/live").starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (agent, url) = silent_agent();
    let mut server = Server::start(
        with_agent(folder.path(), &url)
            .env("CHAT_SHUTDOWN_GRACE", "1h")
            .env("CHAT_LOG_FORMAT", "json"),
    );
    let _request = server.send(&token());
    let _question = request_to_agent(&agent);
    server.signal("INT");
    let log = Server::read_until(&mut server.stderr, r#""message":"stopping""#);
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect(line);
        assert!(
            line["timestamp"].is_string() && line["level"].is_string(),
            "{line}"
        );
    }
    assert!(
        !log.contains("groceries"),
        "the message is in the log:\n{log}"
    );
    server.signal("INT");
    assert_eq!(server.exit_code(), Some(130));
}

/// Sends a `GET` on a connection that is closed after the response.
pub fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes(),
        )
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn requests_are_accepted_during_the_shutdown_notice() {
    let folder = tempfile::tempdir().unwrap();
    let (agent, url) = silent_agent();
    let server = Server::start(with_agent(folder.path(), &url).env("CHAT_SHUTDOWN_NOTICE", "1h"));
    assert!(get(server.address, "/health/ready").starts_with("HTTP/1.1 200 "));
    server.signal("TERM");
    let is_not_ready = || !get(server.address, "/health/ready").starts_with("HTTP/1.1 200 ");
    wait::value_blocking("a server that is not ready", || {
        is_not_ready().then_some(())
    });
    let _request = server.send(&token());
    let _question = request_to_agent(&agent);
    server.signal("TERM");
    assert_eq!(server.exit_code(), Some(130));

    let brief = Server::start(
        with_agent(folder.path(), &url)
            .env("CHAT_SHUTDOWN_NOTICE", "10ms")
            .env("CHAT_SHUTDOWN_GRACE", "10ms"),
    );
    brief.signal("TERM");
    assert_eq!(brief.exit_code(), Some(0));
}

#[test]
fn ca_certificates_are_needed_for_https_only() {
    let folder = tempfile::tempdir().unwrap();
    let none = folder.path().join("none.pem");
    std::fs::write(&none, "").unwrap();
    let without = |url: &str| {
        let mut command = program(folder.path());
        command
            .env("CHAT_AGENT_URL", url)
            .env("SSL_CERT_FILE", &none)
            .env("SSL_CERT_DIR", folder.path().join("no-folder"));
        command
    };
    let server = Server::start(&mut without("http://127.0.0.1:9/v1"));
    drop(server);

    let (code, stderr_text) = run_to_end(&mut without("https://127.0.0.1:9/v1"));
    assert_eq!(code, Some(2), "{stderr_text}");
    assert!(
        stderr_text.contains("no CA certificates")
            && stderr_text.contains("ca-certificates")
            && stderr_text.contains("SSL_CERT_FILE"),
        "{stderr_text}"
    );
}

/// Waits for a condition; fails after a minute.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "it never came true that {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A server with a tool server behind a shell that ignores the end of its input and SIGTERM, and
/// the processes of the tool server.
fn with_stubborn_tools(folder: &Path) -> (Server, Vec<String>) {
    let script = "trap '' TERM; sleep 300 & echo $! $$ > pids.new; mv pids.new pids; cat > /dev/null; sleep 300; :";
    let tools = serde_json::json!({ "mcpServers": { "stubborn": { "command": "sh", "args": ["-c", script] } } });
    let server = Server::start(
        program(folder)
            .env("CHAT_JWT_SECRET", SECRET)
            .env("CHAT_MCP_SERVERS", tools.to_string()),
    );
    eventually("the tool server has started", || {
        folder.join("pids").exists()
    });
    let pids: Vec<String> = std::fs::read_to_string(folder.join("pids"))
        .unwrap()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    assert!(pids.len() == 2 && pids.iter().all(|pid| runs(pid)));
    (server, pids)
}

/// Whether a process runs. A zombie does not.
fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ")
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

#[test]
fn a_shutdown_ends_all_processes_of_tool_servers() {
    let folder = tempfile::tempdir().unwrap();
    let (server, pids) = with_stubborn_tools(folder.path());
    server.signal("TERM");
    assert_eq!(server.exit_code(), Some(0));
    assert!(
        !pids.iter().any(|pid| runs(pid)),
        "{pids:?} run after the stop"
    );
}

#[test]
fn a_server_that_is_killed_leaves_no_process_of_a_tool_server() {
    let folder = tempfile::tempdir().unwrap();
    let (mut server, pids) = with_stubborn_tools(folder.path());
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    eventually("the processes have ended", || {
        !pids.iter().any(|pid| runs(pid))
    });
}
