//! Standbys and failover.

use std::time::{Duration, Instant};

use crate::command::run;
use crate::{Cluster, Error};

impl Cluster {
    /// Starts a synchronous standby of this cluster. From then on this cluster acknowledges a
    /// commit only after the standby has it.
    ///
    /// # Errors
    /// The standby cannot be created.
    pub fn standby(&self) -> Result<Self, Error> {
        let mut standby = Self::prepare(self.options.clone(), self.password.clone())?;
        let mut backup = standby.program("pg_basebackup");
        backup.args([
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
            "--username=postgres",
            "--host=127.0.0.1",
        ]);
        backup
            .arg(format!("--port={}", self.port()))
            .arg("-D")
            .arg(standby.data())
            .env("PGPASSWORD", &self.password);
        run(&mut backup)?;
        standby.start_on_free_port()?;
        self.query(
            "postgres",
            "ALTER SYSTEM SET synchronous_standby_names = '*'",
        )?;
        self.query("postgres", "SELECT pg_reload_conf()")?;
        let started = Instant::now();
        while self.query("postgres", "SELECT sync_state FROM pg_stat_replication")? != "sync" {
            if started.elapsed() > Duration::from_secs(60) {
                return Err(Error::new("the standby does not replicate"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(standby)
    }

    /// Promotes a standby to a primary without standbys, and waits until it accepts writes.
    ///
    /// # Errors
    /// This cluster is not a standby.
    pub fn promote(&mut self) -> Result<(), Error> {
        run(self
            .program("pg_ctl")
            .arg("-D")
            .arg(self.data())
            .args(["-s", "-w", "promote"]))?;
        Ok(())
    }
}
