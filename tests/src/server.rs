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

use crate::client::{Client, SECRET};
use crate::program;

/// File in the server's working directory to which each tool server appends `SERVER_ID OWN_ID`.
pub const PROCESSES: &str = "witness.processes";

/// The program under test.
const SERVER: &str = "chat-server-under-test";

/// A folder with a database, in which servers are started one after another. It is removed when the
/// last user is dropped.
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
    /// Creates a folder whose servers use a known secret.
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

    /// Creates a folder whose servers use the agent at this URL.
    pub fn with_agent(base_url: &str) -> Self {
        Self::new()
            .set("CHAT_AGENT_URL", base_url)
            .set("CHAT_AGENT_MODEL", "stub")
    }

    /// Adds a setting.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// Returns the folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the path of the database.
    pub fn database(&self) -> PathBuf {
        self.path().join("chat.db")
    }

    /// Starts a server and waits until it listens.
    pub fn start(&self) -> Server {
        self.start_as(Command::new(program(SERVER)))
    }

    /// Starts another build of the server.
    ///
    /// # Errors
    /// The server's output, if it does not listen.
    pub fn try_start(&self, program: &Path) -> Result<Server, String> {
        self.try_start_as(Command::new(program))
    }

    /// Starts a server that must exit at once. Returns its exit code and its log.
    pub fn refuses(&self) -> (Option<i32>, String) {
        let mut command = Command::new(program(SERVER));
        let mut child = self.prepare(&mut command).spawn().unwrap();
        let (output, log) = (
            whole(child.stdout.take().unwrap()),
            whole(child.stderr.take().unwrap()),
        );
        let code = exit_code(&mut child);
        assert_eq!(received("what the server says", &output), "", "it listens");
        (code, received("the server's log", &log))
    }

    fn start_as(&self, command: Command) -> Server {
        self.try_start_as(command).unwrap_or_else(|output| {
            panic!(
                "the server did not start
{output}"
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
        // Both pipes are read to their ends, so that the server never blocks on them.
        let log = whole(child.stderr.take().unwrap());
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, first_line) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = stdout.read_line(&mut line);
            // The test may have ended.
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
            let output = server
                .log
                .take()
                .map(|log| received("the server's log", &log));
            return Err(line + &output.unwrap_or_default());
        };
        server.address = address.parse().unwrap();
        Ok(server)
    }
}

/// Reads the output of a process in a thread.
fn whole(mut pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut output = Vec::new();
        let _ = pipe.read_to_end(&mut output);
        // The test may be over.
        let _ = sender.send(String::from_utf8_lossy(&output).into_owned());
    });
    receiver
}

fn received(what: &str, output: &Receiver<String>) -> String {
    wait::receive(what, output).unwrap_or_default()
}

/// Waits until a process has ended.
fn exit_code(child: &mut Child) -> Option<i32> {
    wait::value_blocking("the end of the server's process", || {
        child.try_wait().unwrap()
    })
    .code()
}

/// A running server. It is killed when it is dropped.
pub struct Server {
    child: Child,
    /// The address on which it listens.
    pub address: SocketAddr,
    log: Option<Receiver<String>>,
    folder: Arc<TempDir>,
}

impl Server {
    /// Returns a client for this user, with a valid token.
    pub fn client(&self, user: &str) -> Client {
        Client::new(self.address, user)
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills the server at once, as a power failure would. Returns its log.
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

    /// Limits the size of files that the server writes, as a full disk would. `None` removes the
    /// limit.
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

    /// Returns the process id of the test tool server that this server started last.
    pub fn tools(&self) -> Option<u32> {
        // Each tool server writes its server's id and its own to a file, because `/proc` may show
        // another PID namespace.
        let list = fs::read_to_string(self.folder.path().join(PROCESSES)).unwrap_or_default();
        let mut ids = list.lines().rev().filter_map(|line| line.split_once(' '));
        ids.find(|(server, _)| *server == self.child.id().to_string())
            .map(|(_, tools)| tools.parse().unwrap())
    }

    /// Freezes the test tool server.
    pub fn freeze_tools(&self) -> FrozenChild {
        let id = wait::value_blocking("the start of the tool server", || self.tools());
        assert!(signal(id, "STOP"));
        FrozenChild(id)
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        assert!(signal(self.child.id(), name));
    }

    /// Whether the server has exited by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Asks the server to stop and waits for its end. Returns its exit code and its log.
    pub fn terminate(self) -> (Option<i32>, String) {
        self.signal("TERM");
        self.ended()
    }

    /// Waits for the end of the server. Returns its exit code and its log.
    pub fn ended(mut self) -> (Option<i32>, String) {
        let code = exit_code(&mut self.child);
        (code, self.log())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking()
            && let Some(log) = self.log.take()
        {
            // A second panic would abort the test run.
            eprintln!(
                "--- the server's log\n{}",
                log.recv_timeout(wait::LIMIT).unwrap_or_default()
            );
        }
    }
}

/// A frozen child process.
pub struct FrozenChild(u32);

impl FrozenChild {
    /// Kills the process while it is frozen.
    pub fn kill(self) {
        assert!(signal(self.0, "KILL"));
    }
}

/// Sends a signal to a process. Returns whether the process exists.
pub fn signal(id: u32, name: &str) -> bool {
    Command::new("kill")
        .args([format!("-{name}"), id.to_string()])
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}
