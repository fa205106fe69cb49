//! The tool server of the tests: its log, and the gate for its calls.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use chat_test_support::wait;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::server::Home;

/// Program of the tool server.
pub const TOOLS: &str = "witness-tools";

/// Tools whose calls wait for the test. Their log is next to the database.
pub struct Witness {
    log: PathBuf,
    gate: Option<tokio::net::TcpListener>,
}

impl Witness {
    /// Creates tools that answer at once.
    pub fn new(home: Home) -> (Self, Home) {
        Self::with(home, None)
    }

    /// Creates tools that wait for the test.
    pub fn gated(home: Home) -> (Self, Home) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::with(home, Some(listener))
    }

    fn with(home: Home, gate: Option<TcpListener>) -> (Self, Home) {
        let log = home.path().join("witness.log");
        let address = gate.as_ref().map_or("-".to_owned(), |gate| {
            gate.local_addr().unwrap().to_string()
        });
        let servers = json!([{
            "name": "witness", "command": crate::program(TOOLS), "args": [&log, address],
        }]);
        let gate = gate.map(|gate| {
            gate.set_nonblocking(true).unwrap();
            tokio::net::TcpListener::from_std(gate).unwrap()
        });
        (
            Self { log, gate },
            home.set("CHAT_MCP_SERVERS", servers.to_string()),
        )
    }

    /// Waits until a tool is within a call.
    pub async fn reached(&self) -> Held {
        let called = async {
            let (stream, _) = self.gate.as_ref().unwrap().accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            // Unread data would reset the connection when the socket is closed, and lose the
            // answer.
            stream.read_line(&mut String::new()).await.unwrap();
            Held(stream.into_inner().into_std().unwrap())
        };
        wait::within("a call of a tool", called).await
    }

    /// Returns the log without call ids and users.
    pub fn log(&self) -> Vec<String> {
        self.lines()
            .iter()
            .map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "))
            .collect()
    }

    /// Returns the log.
    pub fn lines(&self) -> Vec<String> {
        read(&self.log)
    }
}

fn read(log: &Path) -> Vec<String> {
    std::fs::read_to_string(log)
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// A tool within a call.
pub struct Held(std::net::TcpStream);

impl Held {
    /// Lets the call continue.
    pub fn release(mut self) {
        self.0.set_nonblocking(false).unwrap();
        // The tool server may have died.
        let _ = self.0.write_all(b"go\n");
    }
}
