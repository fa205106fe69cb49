//! One cluster: a postmaster and its data.

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

/// How long a start or a stop may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What may differ between clusters.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether what is committed survives a power cut. If not, all is faster, and what is committed
    /// still survives the death of PostgreSQL's processes.
    pub durable: bool,
    /// Whether connections must be encrypted, with a certificate of a throw-away authority (see
    /// [`Cluster::authority`]).
    pub tls: bool,
    /// Further settings of PostgreSQL, such as `("max_connections", "20")`.
    pub settings: Vec<(&'static str, String)>,
}

/// How a cluster is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// When the last connection has ended.
    Smart,
    /// Connections are ended, what they were doing is rolled back, and all is written.
    Fast,
    /// At once, without a word, as after a crash: the next start recovers.
    Immediate,
}

/// A PostgreSQL server of its own, with the superuser `postgres`. Dropping it stops it and removes
/// all its data.
pub struct Cluster {
    pub(crate) options: Options,
    pub(crate) owner: Owner,
    pub(crate) programs: PathBuf,
    pub(crate) password: String,
    port: u16,
    /// The process, while it runs.
    postmaster: Option<Child>,
    /// Dropped last of what is here: it stops the process if it still runs.
    pub(crate) folder: Folder,
}

impl Cluster {
    /// Makes a cluster and starts it.
    ///
    /// # Errors
    /// If PostgreSQL is missing or does not start: a sentence that says why.
    pub fn start(options: Options) -> Result<Self, Error> {
        let mut cluster = Self::prepare(options, secret(16)?)?;
        let password = cluster.folder.path().join("password");
        std::fs::write(&password, &cluster.password).map_err(Error::io(password.display()))?;
        cluster.owner.take(&password)?;
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
                cluster.owner.take(&here)?;
            }
        }
        cluster.start_somewhere()?;
        Ok(cluster)
    }

    /// A cluster that has a folder and nothing in it.
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

    /// A database's address, with the superuser's name and password.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres:{}@127.0.0.1:{}/{database}",
            self.password, self.port
        )
    }

    /// The port of 127.0.0.1 where it listens; the same after a new start.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where all of it is. The folder goes with the cluster.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The certificate of the authority that signed the server's (PEM). Only with [`Options::tls`].
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join(tls::AUTHORITY)
    }

    /// The certificate of an authority that signed nothing here (PEM). Only with [`Options::tls`].
    pub fn foreign_authority(&self) -> PathBuf {
        self.folder.path().join(tls::FOREIGN_AUTHORITY)
    }

    /// Makes an empty database.
    ///
    /// # Errors
    /// If PostgreSQL refuses.
    pub fn create_database(&self, name: &str) -> Result<(), Error> {
        self.query(
            "postgres",
            &format!("CREATE DATABASE {}", database::quoted(name)),
        )
        .map(drop)
    }

    /// What a statement of the superuser gives: a line for each row, columns separated by `|`.
    ///
    /// # Errors
    /// If PostgreSQL refuses.
    pub fn query(&self, database: &str, sql: &str) -> Result<String, Error> {
        // Through the socket in our folder: encryption is not asked for there.
        let folder = self.folder.path().display();
        query(
            &format!(
                "postgres://postgres:{}@/{database}?host={folder}&port={}",
                self.password, self.port
            ),
            sql,
        )
    }

    /// Stops it and waits until it has stopped.
    ///
    /// # Errors
    /// If it does not run, or does not stop.
    pub fn stop(&mut self, mode: Mode) -> Result<(), Error> {
        self.end(match mode {
            Mode::Smart => "TERM",
            Mode::Fast => "INT",
            Mode::Immediate => "QUIT",
        })
    }

    /// Kills the postmaster with SIGKILL. Its other processes notice and end.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.end("KILL")
    }

    /// Starts it after a stop or a kill, on the same port, and waits until it takes connections.
    ///
    /// # Errors
    /// If it does not start; the sentence ends with its log.
    pub fn start_again(&mut self) -> Result<(), Error> {
        let begun = Instant::now();
        loop {
            match self.launch() {
                // What a killed postmaster leaves behind may take a moment to end, and until then
                // no other may start.
                Err(_)
                    if self.log_tail().contains("pre-existing shared memory block")
                        && begun.elapsed() < PATIENCE =>
                {
                    std::thread::sleep(Duration::from_millis(50));
                }
                done => return done,
            }
        }
    }

    /// What PostgreSQL has logged so far.
    pub fn logs(&self) -> String {
        std::fs::read(self.log())
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    /// Starts it on a free port, which it keeps.
    pub(crate) fn start_somewhere(&mut self) -> Result<(), Error> {
        let begun = Instant::now();
        loop {
            self.port = free_port()?;
            match self.launch() {
                // Somebody was quicker.
                Err(_)
                    if self.log_tail().contains("Address already in use")
                        && begun.elapsed() < PATIENCE => {}
                done => return done,
            }
        }
    }

    fn launch(&mut self) -> Result<(), Error> {
        if self.postmaster.is_some() {
            return Err(Error::new("the cluster runs already"));
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
        let begun = Instant::now();
        loop {
            if self.says_ready(postmaster.id()) {
                self.postmaster = Some(postmaster);
                return Ok(());
            }
            if let Some(status) = postmaster.try_wait().map_err(Error::io("postgres"))? {
                return Err(Error::new(format!(
                    "PostgreSQL did not start ({status}): {}",
                    self.log_tail()
                )));
            }
            if begun.elapsed() > PATIENCE {
                self.postmaster = Some(postmaster);
                return Err(Error::new(format!(
                    "PostgreSQL was not ready after {PATIENCE:?}: {}",
                    self.log_tail()
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether the postmaster of this id says in its file that it takes connections.
    fn says_ready(&self, id: u32) -> bool {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let mut lines = file.lines();
        lines.next() == Some(&id.to_string())
            && lines
                .nth(6)
                .is_some_and(|status| status.trim_end() == "ready")
    }

    fn end(&mut self, signal: &str) -> Result<(), Error> {
        let Some(postmaster) = &mut self.postmaster else {
            return Err(Error::new("the cluster does not run"));
        };
        run(Command::new("kill").args(["-s", signal, &postmaster.id().to_string()]))?;
        let begun = Instant::now();
        while postmaster
            .try_wait()
            .map_err(Error::io("postgres"))?
            .is_none()
        {
            if begun.elapsed() > PATIENCE {
                return Err(Error::new(format!(
                    "PostgreSQL has not stopped after {PATIENCE:?}: {}",
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
        // A synchronous standby must be able to follow, and a primary to wait for it.
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

    /// The end of the log, which says why it did not start.
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

    /// One of PostgreSQL's programs, run by the cluster's owner.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = self.owner.command(&self.programs.join(name));
        // Settings of whoever runs us are not the cluster's.
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

/// Who may come in how: over the network with a password alone, since other users of the machine
/// can reach the port too.
fn hba(tls: bool) -> String {
    let host = if tls { "hostssl" } else { "host" };
    format!(
        "local all all scram-sha-256\n{host} all all 127.0.0.1/32 scram-sha-256\n{host} replication all 127.0.0.1/32 scram-sha-256\n"
    )
}

/// A port of 127.0.0.1 that nobody listens on, of those that systems give to no outgoing
/// connection: a cluster that was stopped must find it free again.
///
/// # Errors
/// If there is none.
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
