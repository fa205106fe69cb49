//! A PgBouncer in front of a cluster.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::cluster::free_port;
use crate::command::cannot_start;
use crate::{Cluster, Error, query};

/// Environment variable with the path of PgBouncer.
pub const PGBOUNCER_VARIABLE: &str = "CHAT_TEST_PGBOUNCER";

/// A pooler in transaction mode: each transaction of a client may use another server connection. It
/// is stopped when it is dropped, or together with its cluster.
#[derive(Debug)]
pub struct PgBouncer {
    process: Child,
    folder: PathBuf,
    port: u16,
    password: String,
}

impl PgBouncer {
    /// Starts the program from `CHAT_TEST_PGBOUNCER` in front of this cluster, with additional
    /// settings such as `max_prepared_statements = 100`.
    ///
    /// # Errors
    /// The variable is unset or the program does not start.
    pub fn start(cluster: &Cluster, settings: &[&str]) -> Result<Self, Error> {
        let program = std::env::var_os(PGBOUNCER_VARIABLE)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
            .ok_or_else(|| {
                Error::new(
                    "this test needs PgBouncer: run it by `cargo xtask test --pgbouncer PATH`, or \
                name the program in CHAT_TEST_PGBOUNCER",
                )
            })?;
        let port = free_port()?;
        let folder = cluster.folder().join(format!("pgbouncer-{port}"));
        std::fs::create_dir(&folder).map_err(Error::io(folder.display()))?;
        cluster.owner.chown(&folder)?;
        let path = |name: &str| folder.join(name).display().to_string();
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={server}\n\n[pgbouncer]\nlisten_addr = \
            127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = scram-sha-256\nauth_file = {users}\n\
             pool_mode = transaction\npidfile = {pid}\n{settings}\n",
            server = cluster.port(),
            users = path("users"),
            pid = path("pid"),
            settings = settings.join("\n"),
        );
        for (name, text) in [
            ("users", format!("\"postgres\" \"{}\"\n", cluster.password)),
            ("settings.ini", text),
        ] {
            std::fs::write(folder.join(name), text).map_err(Error::io(path(name)))?;
            cluster.owner.chown(&folder.join(name))?;
        }
        let mut command = cluster.owner.command(&program);
        let log = std::fs::File::create(folder.join("log")).map_err(Error::io(path("log")))?;
        command
            .arg(folder.join("settings.ini"))
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let process = command
            .spawn()
            .map_err(|error| cannot_start("pgbouncer", &error))?;
        let mut pooler = Self {
            process,
            folder,
            port,
            password: cluster.password.clone(),
        };
        let started = Instant::now();
        while let Err(error) = query(&pooler.url("postgres"), "SELECT 1") {
            let ended = pooler
                .process
                .try_wait()
                .map_err(Error::io("pgbouncer"))?
                .is_some();
            if ended || started.elapsed() > Duration::from_secs(30) {
                let log = std::fs::read_to_string(pooler.folder.join("log")).unwrap_or_default();
                return Err(Error::new(format!(
                    "PgBouncer did not start: {error}\n{log}"
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(pooler)
    }

    /// Returns the URL of a database through the pooler, with the superuser's name and password.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres:{}@127.0.0.1:{}/{database}",
            self.password, self.port
        )
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        // The folder has the process id, which may be reused.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
