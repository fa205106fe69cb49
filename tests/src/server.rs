//! The program as a process.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use chat_test_support::wait;
use rlimit::Resource;
use tempfile::TempDir;

use crate::client::Client;
use crate::program;

/// The secret that tokens are signed with.
pub const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The program that is tested.
const SERVER: &str = "chat-server-under-test";

/// A folder with a database, in which servers are started, one after another. Removed when the last
/// that uses it is dropped.
#[derive(Clone)]
pub struct Home {
    folder: Arc<TempDir>,
    variables: Vec<(String, String)>,
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Home {
    /// A new folder; a server there has a known secret.
    pub fn new() -> Self {
        let variables = [("CHAT_LISTEN", "127.0.0.1:0"), ("CHAT_JWT_SECRET", SECRET)];
        let variables = variables
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        Self {
            folder: Arc::new(TempDir::new().unwrap()),
            variables,
        }
    }

    /// The same, with an agent at this address.
    pub fn with_agent(base_url: &str) -> Self {
        Self::new()
            .set("CHAT_AGENT_URL", base_url)
            .set("CHAT_AGENT_MODEL", "stub")
    }

    /// With this setting.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The file of the database.
    pub fn database(&self) -> PathBuf {
        self.path().join("chat.db")
    }

    /// Starts a server and waits until it listens.
    pub fn start(&self) -> Server {
        self.start_as(Command::new(program(SERVER)))
    }

    /// The same with another build of the server.
    ///
    /// # Errors
    /// What the server said if it does not listen.
    pub fn try_start(&self, program: &Path) -> Result<Server, String> {
        self.try_start_as(Command::new(program))
    }

    /// Starts a server that must refuse to serve. Gives its exit code and its log.
    pub fn refuses(&self) -> (Option<i32>, String) {
        let mut command = Command::new(program(SERVER));
        let mut child = self.prepare(&mut command).spawn().unwrap();
        let (said, log) = (
            whole(child.stdout.take().unwrap()),
            whole(child.stderr.take().unwrap()),
        );
        let code = exit_code(&mut child);
        assert_eq!(received("what the server says", &said), "", "it listens");
        (code, received("the server's log", &log))
    }

    fn start_as(&self, command: Command) -> Server {
        self.try_start_as(command).unwrap_or_else(|said| {
            panic!(
                "the server did not start
{said}"
            )
        })
    }

    fn prepare<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
            .envs(self.variables.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
    }

    fn try_start_as(&self, mut command: Command) -> Result<Server, String> {
        let mut child = self.prepare(&mut command).spawn().unwrap();
        // Both are read to the end, so that the server never waits for a reader.
        let log = whole(child.stderr.take().unwrap());
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, first_line) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = stdout.read_line(&mut line);
            // The test may have given up.
            let _ = sender.send(line);
            std::io::copy(&mut stdout, &mut std::io::sink())
        });
        let mut server = Server {
            child,
            address: ([0, 0, 0, 0], 0).into(),
            log: Some(log),
            folder: self.folder.clone(),
        };
        let line = wait::receive("the first line of the server", &first_line).unwrap_or_default();
        let Some((_, address)) = line.trim().split_once(" listens on http://") else {
            exit_code(&mut server.child);
            let said = server
                .log
                .take()
                .map(|log| received("the server's log", &log));
            return Err(line + &said.unwrap_or_default());
        };
        server.address = address.parse().unwrap();
        Ok(server)
    }
}

/// Reads all that a process writes, in a thread of its own.
fn whole(mut pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut said = Vec::new();
        let _ = pipe.read_to_end(&mut said);
        // The test may be over.
        let _ = sender.send(String::from_utf8_lossy(&said).into_owned());
    });
    receiver
}

fn received(what: &str, said: &Receiver<String>) -> String {
    wait::receive(what, said).unwrap_or_default()
}

/// Waits until a process has ended.
fn exit_code(child: &mut Child) -> Option<i32> {
    wait::value_blocking("the end of the server's process", || {
        child.try_wait().unwrap()
    })
    .code()
}

/// A server that listens. Killed when dropped.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    log: Option<Receiver<String>>,
    folder: Arc<TempDir>,
}

impl Server {
    /// A client for this user, with a valid token.
    pub fn client(&self, user: &str) -> Client {
        Client::new(self.address, user)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it at once, as a power cut would. Gives its log.
    pub fn kill(mut self) -> String {
        self.child.kill().unwrap();
        exit_code(&mut self.child);
        self.log()
    }

    fn log(&mut self) -> String {
        self.log
            .take()
            .map(|log| received("the end of the server's log", &log))
            .unwrap_or_default()
    }

    /// Lets no file that the server writes become longer than this, as a full disk would; `None`
    /// lets all grow again.
    pub fn limit_files(&self, length: Option<u64>) {
        let id = self.child.id().try_into().unwrap();
        let (mut soft, mut hard) = (0, 0);
        rlimit::prlimit(id, Resource::FSIZE, None, Some((&mut soft, &mut hard))).unwrap();
        rlimit::prlimit(
            id,
            Resource::FSIZE,
            Some((length.unwrap_or(hard), hard)),
            None,
        )
        .unwrap();
    }

    /// The process of the tool server of the tests that this server has started last.
    pub fn tools(&self) -> Option<u32> {
        // Each tool server writes down its server's id and its own: there may be no `/proc` that
        // knows them.
        let list = fs::read_to_string(self.folder.path().join(crate::witness::PROCESSES))
            .unwrap_or_default();
        let mut ids = list.lines().rev().filter_map(|line| line.split_once(' '));
        ids.find(|(server, _)| *server == self.child.id().to_string())
            .map(|(_, tools)| tools.parse().unwrap())
    }

    /// Stops the tool server of the tests in its tracks.
    pub fn freeze_tools(&self) -> FrozenChild {
        let id = wait::value_blocking("the start of the tool server", || self.tools());
        assert!(signal(id, "STOP"));
        FrozenChild(id)
    }

    /// Sends it a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        assert!(signal(self.child.id(), name));
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Asks it to stop and waits until it has. Gives its exit code and its log.
    pub fn terminate(self) -> (Option<i32>, String) {
        self.signal("TERM");
        self.ended()
    }

    /// Waits until it has ended. Gives its exit code and its log.
    pub fn ended(mut self) -> (Option<i32>, String) {
        let code = exit_code(&mut self.child);
        (code, self.log())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking()
            && let Some(log) = self.log.take()
        {
            // No second panic.
            eprintln!(
                "--- the server's log\n{}",
                log.recv_timeout(wait::LIMIT).unwrap_or_default()
            );
        }
    }
}

/// A child process that was stopped in its tracks.
pub struct FrozenChild(u32);

impl FrozenChild {
    /// Ends it without its ever having gone on.
    pub fn kill(self) {
        assert!(signal(self.0, "KILL"));
    }
}

/// Sends a process a signal; says whether there is such a process.
pub fn signal(id: u32, name: &str) -> bool {
    Command::new("kill")
        .args([format!("-{name}"), id.to_string()])
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}
