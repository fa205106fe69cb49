//! A temporary PostgreSQL for tests: a cluster in its own folder, on a free port of 127.0.0.1. It
//! is removed when its owner ends for any reason.
//!
//! Most tests need one empty database. `cargo xtask test` starts one cluster for all of them and
//! names it in `CHAT_TEST_POSTGRES_URL`. A test creates a database there:
//!
//! ```no_run
//! let database = chat_test_postgres::database(); // dropped with this value
//! assert!(database.url().starts_with("postgres://"));
//! ```
//!
//! A test that stops its database, disconnects it or fails over starts its own [`Cluster`]:
//!
//! ```no_run
//! use chat_test_postgres::{Cluster, Mode, Options};
//!
//! let mut cluster = Cluster::start(Options::default())?;
//! cluster.create_database("chat")?;
//! let url = cluster.url("chat");
//! cluster.stop(Mode::Immediate)?;
//! cluster.restart()?;
//! # Ok::<(), chat_test_postgres::Error>(())
//! ```
//!
//! To start a cluster by hand, until Ctrl-C: `cargo run -p chat-test-postgres`.

mod binaries;
mod cluster;
mod command;
mod database;
mod error;
mod folder;
mod pgbouncer;
mod replica;
mod tls;

pub use binaries::install_if_missing;
pub use cluster::{Cluster, Mode, Options, free_port};
pub use database::{Database, URL_VARIABLE, database, query};
pub use error::Error;
pub use pgbouncer::{PGBOUNCER_VARIABLE, PgBouncer};
