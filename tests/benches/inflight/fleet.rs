//! The servers, and measurements of their processes.

use std::fmt;
use std::time::Duration;

use chat_test_postgres::{Cluster, Options};
use clap::ValueEnum;

use chat_tests::client::Client;
use chat_tests::server::{Home, Server};

use crate::load::ONE_IN;

/// Open files of a process that belong to no turn.
const OTHER_FILES: u64 = 500;

/// The database.
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

    /// Returns how many files a server has open with this many turns in flight: a connection to the
    /// agent for each, and one to each connected client.
    pub fn files(self, turns: usize) -> u64 {
        let here = turns.div_ceil(self.replicas());
        (2 * here - here / ONE_IN) as u64 + OTHER_FILES
    }

    /// Describes the result of [`Fleet::statements`].
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

/// Servers on one database, which is dropped last.
pub struct Fleet {
    servers: Vec<Server>,
    home: Home,
    cluster: Option<Cluster>,
}

impl Fleet {
    pub fn start(kind: Kind, agent: &str) -> Self {
        // All turns wait for longer than the default timeout of the agent.
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

    /// Returns a client for each server, without connections.
    pub fn clients(&self) -> Vec<Client> {
        self.servers
            .iter()
            .map(|server| server.client("ann"))
            .collect()
    }

    /// Returns the number of statements since the start: with PostgreSQL all statements; with
    /// SQLite the commits, which the index of the write-ahead log counts
    /// (<https://sqlite.org/walformat.html>, `iChange`). A separate test counts reads on SQLite.
    pub fn statements(&self) -> u64 {
        match &self.cluster {
            Some(cluster) => {
                let sum = "SELECT sum(calls) FROM pg_stat_statements JOIN pg_database ON oid = \
                dbid WHERE datname = 'chat'";
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

    /// Returns the memory of the servers in bytes (proc_pid_status(5), `VmRSS`).
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

    /// Returns the processor time of the servers. Linux counts it in hundredths of a second
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
