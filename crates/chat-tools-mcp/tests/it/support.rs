//! Test servers and helpers.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chat_domain::{
    CallError, ConversationId, Invocation, RawJson, ToolCallId, ToolErrorKind, Toolset, TurnId,
    UserId,
};
use chat_tools_mcp::{McpServer, McpToolset};
use tempfile::TempDir;
use uuid::Uuid;

/// Number of tools of the test server.
pub const ALL_TOOLS: usize = 16;

/// The settings and the log of a test server.
pub struct TestServer {
    pub settings: McpServer,
    pub directory: TempDir,
}

impl TestServer {
    pub fn new(name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = McpServer::new(name, program());
        settings
            .args
            .push(directory.path().join("log").display().to_string());
        Self {
            settings,
            directory,
        }
    }

    pub fn with(mut self, option: &str) -> Self {
        self.settings.args.push(option.to_owned());
        self
    }

    /// Adds the option with a file in the server's directory, which does not exist yet.
    pub fn with_file(self, option: &str) -> Self {
        let file = self.file();
        self.with(&format!("{option}={}", file.display()))
    }

    pub fn file(&self) -> PathBuf {
        self.directory.path().join("file")
    }

    /// Adds the option with a file that contains these bytes.
    pub fn with_bytes(self, option: &str, bytes: impl AsRef<[u8]>) -> Self {
        let file = self.directory.path().join(option);
        std::fs::write(&file, bytes).unwrap();
        self.with(&format!("{option}={}", file.display()))
    }

    pub fn log(&self) -> Vec<String> {
        std::fs::read_to_string(self.directory.path().join("log"))
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// How often the log contains this line.
    pub fn logged(&self, line: &str) -> usize {
        self.log().iter().filter(|logged| *logged == line).count()
    }

    pub fn start(&self) -> McpToolset {
        McpToolset::start(vec![self.settings.clone()]).unwrap()
    }
}

/// Path of the test server, which cargo builds as an example of this package.
pub fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples/mcp-test-server")
        .with_extension(std::env::consts::EXE_EXTENSION);
    assert!(
        program.exists(),
        "{} is missing: build it with `cargo build -p chat-tools-mcp --examples`",
        program.display()
    );
    program
}

pub fn owner() -> UserId {
    UserId::new("ann").unwrap()
}

pub fn invocation(tool: &str, arguments: &str) -> Invocation {
    Invocation {
        owner: owner(),
        conversation: ConversationId(Uuid::now_v7()),
        turn: TurnId(Uuid::now_v7()),
        call: ToolCallId(Uuid::now_v7()),
        tool: tool.into(),
        arguments: RawJson::from_valid(arguments),
    }
}

pub async fn call(tools: &McpToolset, tool: &str, arguments: &str) -> Result<String, CallError> {
    tools
        .call(invocation(tool, arguments))
        .await
        .map(|output| output.0.as_str().to_owned())
}

pub fn kind(outcome: Result<String, CallError>) -> ToolErrorKind {
    match outcome {
        Err(CallError::Failed(error)) => error.kind,
        other => panic!("expected a failure, got {other:?}"),
    }
}

pub async fn names(tools: &McpToolset) -> Vec<String> {
    tools
        .specs(&owner())
        .await
        .into_iter()
        .map(|spec| spec.name)
        .collect()
}

/// Polls until `is_so` returns true, and panics at a limit.
pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let looked = tokio::time::timeout(Duration::from_secs(20), async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(looked.await.is_ok(), "timed out waiting until {what}");
}

/// Captures the log lines of this thread until it is dropped.
pub struct Logs {
    lines: Arc<Mutex<Vec<u8>>>,
    _subscriber: tracing::subscriber::DefaultGuard,
}

impl Logs {
    pub fn capture() -> Self {
        let lines = Arc::<Mutex<Vec<u8>>>::default();
        let writer = Arc::clone(&lines);
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::INFO)
            .with_ansi(false)
            .with_writer(move || LogWriter(Arc::clone(&writer)))
            .finish();
        Self {
            lines,
            _subscriber: tracing::subscriber::set_default(subscriber),
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.lines.lock().unwrap()).into_owned()
    }

    /// How many lines contain this text.
    pub fn count(&self, text: &str) -> usize {
        self.text()
            .lines()
            .filter(|line| line.contains(text))
            .count()
    }
}

struct LogWriter(Arc<Mutex<Vec<u8>>>);

impl io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
