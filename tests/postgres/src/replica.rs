//! A standby that follows a primary, and takes its place.

use std::time::{Duration, Instant};

use crate::command::run;
use crate::{Cluster, Error};

impl Cluster {
    /// A standby of this cluster that runs and follows it. From now on this cluster acknowledges a
    /// commit only when the standby has it too.
    ///
    /// # Errors
    /// If it cannot be made.
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
        standby.start_somewhere()?;
        self.query(
            "postgres",
            "ALTER SYSTEM SET synchronous_standby_names = '*'",
        )?;
        self.query("postgres", "SELECT pg_reload_conf()")?;
        let begun = Instant::now();
        while self.query("postgres", "SELECT sync_state FROM pg_stat_replication")? != "sync" {
            if begun.elapsed() > Duration::from_secs(60) {
                return Err(Error::new("the standby does not follow"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(standby)
    }

    /// Makes a standby a primary, which waits for no standby, and waits until it takes writes.
    ///
    /// # Errors
    /// If it is no standby.
    pub fn promote(&mut self) -> Result<(), Error> {
        run(self
            .program("pg_ctl")
            .arg("-D")
            .arg(self.data())
            .args(["-s", "-w", "promote"]))?;
        Ok(())
    }
}
