//! A cluster: a postmaster and its data.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::command::{Owner, cannot_start, run};
use crate::database::{self, query};
use crate::folder::{Folder, secret};
use crate::{Error, binaries, tls};

/// Limit of a start or stop on a slow machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Options of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether commits survive a power failure. Without this, commits are faster and still survive
    /// the death of PostgreSQL's processes.
    pub durable: bool,
    /// Whether connections must use TLS, with a certificate of a temporary authority (see
    /// [`Cluster::authority`]).
    pub tls: bool,
    /// Further PostgreSQL settings, such as `("max_connections", "20")`.
    pub settings: Vec<(&'static str, String)>,
}

/// Shutdown modes of PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Waits until the last connection has ended.
    Smart,
    /// Closes connections and rolls their transactions back.
    Fast,
    /// Stops at once, as after a crash. The next start runs recovery.
    Immediate,
}

/// A temporary PostgreSQL server with the superuser `postgres`. Dropping it stops the server and
/// removes its data.
pub struct Cluster {
    pub(crate) options: Options,
    pub(crate) owner: Owner,
    pub(crate) programs: PathBuf,
    pub(crate) password: String,
    port: u16,
    /// The postmaster while it runs.
    postmaster: Option<Child>,
    /// The last field, so that it is dropped last. It stops the postmaster if that still runs.
    pub(crate) folder: Folder,
}

impl Cluster {
    /// Creates and starts a cluster.
    ///
    /// # Errors
    /// PostgreSQL is missing or does not start. The message says why.
    pub fn start(options: Options) -> Result<Self, Error> {
        let mut cluster = Self::prepare(options, secret(16)?)?;
        let password = cluster.folder.path().join("password");
        std::fs::write(&password, &cluster.password).map_err(Error::io(password.display()))?;
        cluster.owner.chown(&password)?;
        let mut initdb = cluster.program("initdb");
        initdb.args([
            "--username=postgres",
            "--encoding=UTF8",
            "--no-locale",
            "--auth=scram-sha-256",
            "--no-sync",
            "--no-instructions",
        ]);
        initdb
            .arg("--pwfile")
            .arg(&password)
            .arg("-D")
            .arg(cluster.data());
        run(&mut initdb)?;
        std::fs::remove_file(&password).map_err(Error::io(password.display()))?;
        cluster.write("pg_hba.conf", &hba(cluster.options.tls))?;
        if cluster.options.tls {
            tls::make_certificates(cluster.folder.path())?;
            for file in ["server.crt", "server.key"] {
                let (made, here) = (cluster.folder.path().join(file), cluster.data().join(file));
                std::fs::rename(&made, &here).map_err(Error::io(made.display()))?;
                cluster.owner.chown(&here)?;
            }
        }
        cluster.start_on_free_port()?;
        Ok(cluster)
    }

    /// Creates a cluster whose folder is empty.
    pub(crate) fn prepare(options: Options, password: String) -> Result<Self, Error> {
        let programs = binaries::find()?;
        let owner = Owner::find()?;
        let folder = Folder::new(&owner, &programs.join("pg_ctl"))?;
        Ok(Self {
            options,
            owner,
            programs,
            password,
            port: 0,
            postmaster: None,
            folder,
        })
    }

    /// Returns the URL of a database, with the superuser's name and password.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres:{}@127.0.0.1:{}/{database}",
            self.password, self.port
        )
    }

    /// Returns the port on 127.0.0.1, which is the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the cluster's folder, which is removed with the cluster.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the path of the certificate (PEM) of the authority that signed the server's
    /// certificate. Requires [`Options::tls`].
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join(tls::AUTHORITY)
    }

    /// Returns the path of the certificate (PEM) of an authority that signed nothing. Requires
    /// [`Options::tls`].
    pub fn foreign_authority(&self) -> PathBuf {
        self.folder.path().join(tls::FOREIGN_AUTHORITY)
    }

    /// Creates an empty database.
    ///
    /// # Errors
    /// PostgreSQL returned an error.
    pub fn create_database(&self, name: &str) -> Result<(), Error> {
        self.query(
            "postgres",
            &format!("CREATE DATABASE {}", database::quoted(name)),
        )
        .map(drop)
    }

    /// Runs a statement as superuser. Returns one line per row, with columns separated by `|`.
    ///
    /// # Errors
    /// PostgreSQL returned an error.
    pub fn query(&self, database: &str, sql: &str) -> Result<String, Error> {
        // The Unix socket needs no TLS.
        let folder = self.folder.path().display();
        query(
            &format!(
                "postgres://postgres:{}@/{database}?host={folder}&port={}",
                self.password, self.port
            ),
            sql,
        )
    }

    /// Stops the cluster and waits for its end.
    ///
    /// # Errors
    /// The cluster does not run, or does not stop in time.
    pub fn stop(&mut self, mode: Mode) -> Result<(), Error> {
        self.terminate(match mode {
            Mode::Smart => "TERM",
            Mode::Fast => "INT",
            Mode::Immediate => "QUIT",
        })
    }

    /// Kills the postmaster with SIGKILL, which ends its other processes too.
    ///
    /// # Errors
    /// The cluster does not run.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.terminate("KILL")
    }

    /// Starts a stopped or killed cluster on the same port, and waits until it accepts connections.
    ///
    /// # Errors
    /// The cluster does not start. The message ends with its log.
    pub fn restart(&mut self) -> Result<(), Error> {
        let started = Instant::now();
        loop {
            match self.launch() {
                // Processes of a killed postmaster may take a moment to end, and the next start
                // must wait for them.
                Err(_)
                    if self.log_tail().contains("pre-existing shared memory block")
                        && started.elapsed() < TIMEOUT =>
                {
                    std::thread::sleep(Duration::from_millis(50));
                }
                done => return done,
            }
        }
    }

    /// Returns PostgreSQL's log.
    pub fn logs(&self) -> String {
        std::fs::read(self.log())
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    /// Starts the cluster on a free port, which it keeps.
    pub(crate) fn start_on_free_port(&mut self) -> Result<(), Error> {
        let started = Instant::now();
        loop {
            self.port = free_port()?;
            match self.launch() {
                // Another process took the port.
                Err(_)
                    if self.log_tail().contains("Address already in use")
                        && started.elapsed() < TIMEOUT => {}
                done => return done,
            }
        }
    }

    fn launch(&mut self) -> Result<(), Error> {
        if self.postmaster.is_some() {
            return Err(Error::new("the cluster is already running"));
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .map_err(Error::io("the log"))?;
        let mut command = self.program("postgres");
        command
            .arg("-D")
            .arg(self.data())
            .args(["-p", &self.port.to_string(), "-h", "127.0.0.1", "-k"])
            .arg(self.folder.path());
        for (name, value) in self.settings() {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let errors = log.try_clone().map_err(Error::io("the log"))?;
        command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0);
        let mut postmaster = command
            .spawn()
            .map_err(|error| cannot_start("postgres", &error))?;
        let started = Instant::now();
        loop {
            if self.is_ready(postmaster.id()) {
                self.postmaster = Some(postmaster);
                return Ok(());
            }
            if let Some(status) = postmaster.try_wait().map_err(Error::io("postgres"))? {
                return Err(Error::new(format!(
                    "PostgreSQL did not start ({status}): {}",
                    self.log_tail()
                )));
            }
            if started.elapsed() > TIMEOUT {
                self.postmaster = Some(postmaster);
                return Err(Error::new(format!(
                    "PostgreSQL was not ready after {TIMEOUT:?}: {}",
                    self.log_tail()
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether the postmaster with this id reports in its file that it accepts connections.
    fn is_ready(&self, id: u32) -> bool {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let mut lines = file.lines();
        lines.next() == Some(&id.to_string())
            && lines
                .nth(6)
                .is_some_and(|status| status.trim_end() == "ready")
    }

    fn terminate(&mut self, signal: &str) -> Result<(), Error> {
        let Some(postmaster) = &mut self.postmaster else {
            return Err(Error::new("the cluster is not running"));
        };
        run(Command::new("kill").args(["-s", signal, &postmaster.id().to_string()]))?;
        let started = Instant::now();
        while postmaster
            .try_wait()
            .map_err(Error::io("postgres"))?
            .is_none()
        {
            if started.elapsed() > TIMEOUT {
                return Err(Error::new(format!(
                    "PostgreSQL has not stopped after {TIMEOUT:?}: {}",
                    self.log_tail()
                )));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.postmaster = None;
        Ok(())
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = Vec::new();
        let mut set = |name, value: &str| settings.push((name, value.to_owned()));
        set("shared_buffers", "32MB");
        // Needed for synchronous replication.
        set("wal_level", "replica");
        set("log_line_prefix", "%m [%p] %a ");
        if !self.options.durable {
            set("fsync", "off");
            set("full_page_writes", "off");
        }
        if self.options.tls {
            set("ssl", "on");
        }
        settings.extend(self.options.settings.iter().cloned());
        settings
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Returns the end of the log.
    fn log_tail(&self) -> String {
        let log = self.logs();
        let lines: Vec<&str> = log.lines().collect();
        lines
            .iter()
            .skip(lines.len().saturating_sub(10))
            .copied()
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Returns a command for one of PostgreSQL's programs, run by the cluster's owner.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = self.owner.command(&self.programs.join(name));
        // Settings of the caller's environment must not apply to the cluster.
        for (variable, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG"))
        {
            command.env_remove(variable);
        }
        command.current_dir(self.folder.path());
        command
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        let path = self.data().join(name);
        std::fs::write(&path, text).map_err(Error::io(path.display()))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut postmaster) = self.postmaster.take()
            && run(Command::new("kill").args(["-s", "QUIT", &postmaster.id().to_string()])).is_ok()
        {
            let _ = postmaster.wait();
        }
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Cluster")
            .field("folder", &self.folder.path())
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// Returns the authentication rules: a password is required over the network, because other users
/// of the machine can reach the port.
fn hba(tls: bool) -> String {
    let host = if tls { "hostssl" } else { "host" };
    format!(
        "local all all scram-sha-256\n{host} all all 127.0.0.1/32 scram-sha-256\n{host} \
        replication all 127.0.0.1/32 scram-sha-256\n"
    )
}

/// Returns a free port of 127.0.0.1 outside the range for outgoing connections, so that a stopped
/// cluster finds its port free again.
///
/// # Errors
/// There is no free port.
pub fn free_port() -> Result<u16, Error> {
    for _ in 0..1000 {
        let random = u16::from_str_radix(&secret(2)?, 16).unwrap_or_default();
        let port = 15_000 + random % 17_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Error::new("there is no free port on 127.0.0.1"))
}
