//! The servers, and what can be seen of them from outside.

use std::fmt;
use std::time::Duration;

use chat_test_postgres::{Cluster, Options};
use clap::ValueEnum;

use chat_tests::client::Client;
use chat_tests::server::{Home, Server};

use crate::load::OF;

/// Open files of a process that are no turn's.
const OTHER_FILES: u64 = 500;

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// One server.
    Sqlite,
    /// Two servers.
    Postgres,
}

impl Kind {
    fn replicas(self) -> usize {
        match self {
            Self::Sqlite => 1,
            Self::Postgres => 2,
        }
    }

    /// How many files a server has open with so many turns in flight: a connection to the agent for
    /// each, and one to each client that stays.
    pub fn files(self, turns: usize) -> u64 {
        let here = turns.div_ceil(self.replicas());
        (2 * here - here / OF) as u64 + OTHER_FILES
    }

    /// What [`Fleet::statements`] counts.
    pub fn counted(self) -> &'static str {
        match self {
            Self::Sqlite => "commits",
            Self::Postgres => "statements",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        })
    }
}

/// Servers on one database. The database goes last.
pub struct Fleet {
    servers: Vec<Server>,
    home: Home,
    cluster: Option<Cluster>,
}

impl Fleet {
    pub fn start(kind: Kind, agent: &str) -> Self {
        // All wait for longer than an agent may be silent by default.
        let home = Home::with_agent(agent).set("CHAT_AGENT_FIRST_BYTE_TIMEOUT", "4m");
        let (home, cluster) = match kind {
            Kind::Sqlite => (home, None),
            Kind::Postgres => {
                let settings = vec![("shared_preload_libraries", "pg_stat_statements".to_owned())];
                let cluster = Cluster::start(Options {
                    durable: true,
                    settings,
                    ..Options::default()
                })
                .unwrap();
                cluster.create_database("chat").unwrap();
                cluster
                    .query("postgres", "CREATE EXTENSION pg_stat_statements")
                    .unwrap();
                (home.set("DATABASE_URL", cluster.url("chat")), Some(cluster))
            }
        };
        let servers = (0..kind.replicas()).map(|_| home.start()).collect();
        Self {
            servers,
            home,
            cluster,
        }
    }

    /// A client at each server, without connections yet.
    pub fn clients(&self) -> Vec<Client> {
        self.servers
            .iter()
            .map(|server| server.client("ann"))
            .collect()
    }

    /// What has been counted since the start: with PostgreSQL all statements; with SQLite the
    /// commits, which the index of the write-ahead log counts (<https://sqlite.org/walformat.html>,
    /// `iChange`). That reading does not grow either, a test counts.
    pub fn statements(&self) -> u64 {
        match &self.cluster {
            Some(cluster) => {
                let sum = "SELECT sum(calls) FROM pg_stat_statements JOIN pg_database ON oid = dbid WHERE datname = 'chat'";
                cluster
                    .query("postgres", sum)
                    .unwrap()
                    .trim()
                    .parse()
                    .unwrap()
            }
            None => {
                let mut index = self.home.database().into_os_string();
                index.push("-shm");
                let index = std::fs::read(index).unwrap();
                u32::from_ne_bytes(index[8..12].try_into().unwrap()).into()
            }
        }
    }

    /// The memory that the servers have, in bytes (proc_pid_status(5), `VmRSS`).
    pub fn memory(&self) -> u64 {
        let resident = |server: &Server| {
            let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("VmRSS:"))
                .unwrap();
            line.split_whitespace()
                .next()
                .unwrap()
                .parse::<u64>()
                .unwrap()
                << 10
        };
        self.servers.iter().map(resident).sum()
    }

    /// The processor time that the servers have used. Linux counts it in hundredths of a second
    /// (proc_pid_stat(5), fields 14 and 15).
    pub fn cpu(&self) -> Duration {
        let ticks = |server: &Server| {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.id())).unwrap();
            let after_name = stat.rsplit_once(')').unwrap().1;
            after_name
                .split_whitespace()
                .skip(11)
                .take(2)
                .map(|ticks| ticks.parse::<u64>().unwrap())
                .sum::<u64>()
        };
        Duration::from_millis(self.servers.iter().map(ticks).sum::<u64>() * 10)
    }
}
