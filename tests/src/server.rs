//! The program as a process.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use tempfile::TempDir;

use crate::client::Client;
use crate::program;

/// The secret that tokens are signed with.
pub const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The program that is tested.
const SERVER: &str = "chat-server-under-test";

/// A folder with a database, in which servers are started, one after another. Removed when the last that uses it is dropped.
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
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Self { folder: Arc::new(TempDir::new().unwrap()), variables }
    }

    /// The same, with an agent at this address.
    pub fn with_agent(base_url: &str) -> Self {
        Self::new().set("CHAT_AGENT_URL", base_url).set("CHAT_AGENT_MODEL", "stub")
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

    /// The same, with the folder on a file system of 3 MiB that only the server sees, for as long as it runs.
    /// Linux lets everybody make one in name spaces of their own; Debian's util-linux has the command.
    pub fn start_on_a_small_disk(&self) -> Server {
        let mut command = Command::new("unshare");
        let script = "mount -t tmpfs -o size=3m none \"$0\" && cd \"$0\" && exec \"$1\"";
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
        command.arg(self.path()).arg(program(SERVER));
        self.start_as(command)
    }

    /// Starts a server that must refuse to serve. Gives its exit code and its log.
    pub fn refuses(&self) -> (Option<i32>, String) {
        let mut command = Command::new(program(SERVER));
        let output = self.prepare(&mut command).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "it listens");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
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
        command.current_dir(self.path()).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.variables.iter().cloned()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())
    }

    fn try_start_as(&self, mut command: Command) -> Result<Server, String> {
        let mut child = self.prepare(&mut command).spawn().unwrap();
        let mut log = child.stderr.take().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let Some((_, address)) = line.trim().split_once(" listens on http://") else {
            let mut said = String::new();
            log.read_to_string(&mut said).unwrap();
            child.wait().unwrap();
            return Err(line + &said);
        };
        let address = address.parse().unwrap();
        // Both are read to the end, so that the server never waits for a reader.
        let log = std::thread::spawn(move || {
            let mut said = Vec::new();
            log.read_to_end(&mut said).unwrap();
            String::from_utf8_lossy(&said).into_owned()
        });
        std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        Ok(Server { child, address, log: Some(log), _folder: self.folder.clone() })
    }
}

/// A server that listens. Killed when dropped.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    log: Option<std::thread::JoinHandle<String>>,
    _folder: Arc<TempDir>,
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
        self.child.wait().unwrap();
        self.log.take().unwrap().join().unwrap()
    }

    /// A path as the server sees it.
    pub fn sees(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.child.id()));
        root.join(path.strip_prefix("/").unwrap())
    }

    /// The child processes of the server that run this program.
    pub fn children(&self, name: &str) -> Vec<u32> {
        // The kernel lists the children of each thread apart, and the one that starts them is any.
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten();
        let children = tasks.flat_map(|task| {
            let list = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            list.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<u32>>()
        });
        let runs = |id: &u32| {
            let command = std::fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
            command.split('\0').next().is_some_and(|program| program.ends_with(name))
        };
        children.filter(runs).collect()
    }

    /// Stops a child process of the server in its tracks.
    pub fn freeze_child(&self, name: &str) -> FrozenChild {
        loop {
            if let Some(id) = self.children(name).first() {
                assert!(signal(*id, "STOP"));
                return FrozenChild(*id);
            }
        }
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
        let code = self.child.wait().unwrap().code();
        (code, self.log.take().unwrap().join().unwrap())
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
            eprintln!("--- the server's log\n{}", log.join().unwrap_or_default());
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
    Command::new("kill").args([format!("-{name}"), id.to_string()]).stderr(Stdio::null()).status().unwrap().success()
}
