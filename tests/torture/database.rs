//! The database: its location, its rows, and its faults.

use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chat_test_postgres::{Cluster, Mode, Options};
use chat_tests::server::signal;
use serde::de::DeserializeOwned;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::time::sleep;

use crate::evidence::Tables;

/// A database that servers use.
pub enum Database {
    /// A file, which one server owns.
    Sqlite(SqliteConnectOptions),
    /// A temporary PostgreSQL server.
    Postgres(PgConnectOptions, Arc<Mutex<Cluster>>),
}

/// Name of the database in the cluster.
const NAME: &str = "chat";

/// Selects the backends of the servers.
const BACKENDS: &str = "FROM pg_stat_activity WHERE datname = 'chat' AND pid <> pg_backend_pid()";

/// How a column is converted to JSON.
#[derive(Clone, Copy)]
enum Kind {
    Id,
    Text,
    Number,
}

use Kind::{Id, Number, Text};

/// The relevant columns, with their names in the evidence.
const CONVERSATIONS: &[(Kind, &str, &str)] = &[
    (Id, "id", "id"),
    (Text, "owner", "owner"),
    (Number, "last_position", "last_position"),
    (Number, "last_ordinal", "last_ordinal"),
];
const TURNS: &[(Kind, &str, &str)] = &[
    (Id, "id", "id"),
    (Id, "conversation_id", "conversation"),
    (Text, "owner", "owner"),
    (Number, "ordinal", "ordinal"),
    (Text, "status", "status"),
    (Number, "epoch", "epoch"),
    (Number, "attempt", "attempt"),
    (
        Number,
        "spent_us + COALESCE(ended_at - attempt_started_at, 0)",
        "ran_us",
    ),
    (
        Number,
        "CASE WHEN cancel_requested THEN 1 ELSE 0 END",
        "cancel_requested",
    ),
    (Id, "retry_of", "retry_of"),
    (
        Number,
        "CASE WHEN superseded THEN 1 ELSE 0 END",
        "superseded",
    ),
    (Text, "failure_kind", "failure"),
];
const MESSAGES: &[(Kind, &str, &str)] = &[
    (Id, "id", "id"),
    (Id, "conversation_id", "conversation"),
    (Id, "turn_id", "turn"),
    (Number, "position", "position"),
    (Text, "role", "role"),
    (Text, "text", "text"),
];
const CALLS: &[(Kind, &str, &str)] = &[
    (Id, "id", "id"),
    (Id, "conversation_id", "conversation"),
    (Id, "turn_id", "turn"),
    (Id, "message_id", "message"),
    (Number, "position", "position"),
    (Text, "tool", "tool"),
    (Text, "arguments", "arguments"),
    (Number, "result_position", "result_position"),
    (Text, "outcome", "outcome"),
    (Text, "output", "output"),
    (Text, "error_message", "error"),
    (Text, "unknown_cause", "unknown_cause"),
];

impl Database {
    /// The file that servers in this folder use.
    pub fn sqlite(file: &Path) -> Self {
        Self::Sqlite(
            SqliteConnectOptions::new()
                .filename(file)
                .busy_timeout(Duration::from_secs(20))
                .disable_statement_logging(),
        )
    }

    /// Starts a temporary PostgreSQL. Returns it with its URL for the servers.
    pub fn postgres() -> Result<(Self, String), Box<dyn Error + Send + Sync>> {
        let cluster = Cluster::start(Options {
            settings: vec![("max_connections", "300".to_owned())],
            ..Options::default()
        })?;
        cluster.create_database(NAME)?;
        let url = cluster.url(NAME);
        let options: PgConnectOptions = url.parse()?;
        Ok((
            Self::Postgres(
                options.disable_statement_logging(),
                Arc::new(Mutex::new(cluster)),
            ),
            url,
        ))
    }

    /// Makes the database reject every answer of the agent that contains this mark.
    pub async fn reject_answers(&self, mark: &str) -> sqlx::Result<()> {
        match self {
            Self::Sqlite(options) => {
                let trigger = format!(
                    "CREATE TRIGGER refuse BEFORE INSERT ON messages WHEN NEW.role = 'assistant' \
                    AND instr(NEW.text, '{mark}') > 0 \
                     BEGIN SELECT RAISE(ABORT, 'the campaign refuses this value'); END"
                );
                sqlx::raw_sql(sqlx::AssertSqlSafe(trigger))
                    .execute(&mut options.connect().await?)
                    .await
                    .map(drop)
            }
            Self::Postgres(options, _) => {
                let trigger = format!(
                    "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
                     $$ BEGIN RAISE EXCEPTION 'the campaign refuses this value'; END $$; \
                     CREATE TRIGGER refuse BEFORE INSERT ON messages FOR EACH ROW \
                     WHEN (NEW.role = 'assistant' AND strpos(NEW.text, '{mark}') > 0) EXECUTE \
                     FUNCTION refuse()"
                );
                sqlx::raw_sql(sqlx::AssertSqlSafe(trigger))
                    .execute(&mut options.connect().await?)
                    .await
                    .map(drop)
            }
        }
    }

    /// Returns all rows of all tables.
    pub async fn tables(&self) -> sqlx::Result<Tables> {
        Ok(Tables {
            conversations: self.rows("conversations", CONVERSATIONS).await?,
            turns: self.rows("turns", TURNS).await?,
            messages: self.rows("messages", MESSAGES).await?,
            calls: self.rows("tool_calls", CALLS).await?,
        })
    }

    /// Returns how many turns are running or queued.
    pub async fn open_turns(&self) -> sqlx::Result<i64> {
        let query = "SELECT COUNT(*) FROM turns WHERE ended_at IS NULL";
        match self {
            Self::Sqlite(options) => {
                sqlx::query_scalar(query)
                    .fetch_one(&mut options.connect().await?)
                    .await
            }
            Self::Postgres(options, _) => {
                sqlx::query_scalar(query)
                    .fetch_one(&mut options.connect().await?)
                    .await
            }
        }
    }

    async fn rows<T: DeserializeOwned>(
        &self,
        table: &str,
        columns: &[(Kind, &str, &str)],
    ) -> sqlx::Result<Vec<T>> {
        let column = |(kind, expression, name): &(Kind, &str, &str)| {
            format!("'{name}', {}", self.column(*kind, expression))
        };
        let columns = columns.iter().map(column).collect::<Vec<_>>().join(", ");
        let rows: Vec<String> = match self {
            Self::Sqlite(options) => {
                let query =
                    sqlx::AssertSqlSafe(format!("SELECT json_object({columns}) FROM {table}"));
                sqlx::query_scalar(query)
                    .fetch_all(&mut options.connect().await?)
                    .await?
            }
            Self::Postgres(options, _) => {
                let query = sqlx::AssertSqlSafe(format!(
                    "SELECT CAST(json_build_object({columns}) AS TEXT) FROM {table}"
                ));
                sqlx::query_scalar(query)
                    .fetch_all(&mut options.connect().await?)
                    .await?
            }
        };
        rows.iter()
            .map(|row| {
                serde_json::from_str(row)
                    .map_err(|error| sqlx::Error::Decode(format!("{row}: {error}").into()))
            })
            .collect()
    }

    fn column(&self, kind: Kind, expression: &str) -> String {
        match (self, kind) {
            (Self::Sqlite(_), Id) => format!(
                "CASE WHEN {expression} IS NULL THEN NULL ELSE lower(hex({expression})) END"
            ),
            (_, Id | Text) => format!("CAST({expression} AS TEXT)"),
            (_, Number) => expression.to_owned(),
        }
    }

    /// Blocks all writes for some time, as a slow disk or a backup would.
    pub async fn block_writes(&self, time: Duration) -> sqlx::Result<()> {
        match self {
            Self::Sqlite(options) => {
                let mut connection = options.connect().await?;
                sqlx::query("BEGIN IMMEDIATE")
                    .execute(&mut connection)
                    .await?;
                sleep(time).await;
                connection.close().await
            }
            Self::Postgres(options, _) => {
                let mut connection = options.connect().await?;
                sqlx::query("BEGIN").execute(&mut connection).await?;
                sqlx::query("LOCK TABLE turns IN EXCLUSIVE MODE")
                    .execute(&mut connection)
                    .await?;
                sleep(time).await;
                connection.close().await
            }
        }
    }

    /// Cuts all connections of the servers.
    pub async fn cut(&self) -> sqlx::Result<()> {
        let Self::Postgres(options, _) = self else {
            return Ok(());
        };
        let query = sqlx::AssertSqlSafe(format!(
            "SELECT count(pg_terminate_backend(pid)) {BACKENDS}"
        ));
        sqlx::query(query)
            .execute(&mut options.connect().await?)
            .await
            .map(drop)
    }

    /// Kills a backend of a server, after which PostgreSQL ends all backends and recovers; or
    /// freezes it for some time, like a network that loses packets.
    pub async fn kill_or_freeze_backend(&self, pause: Option<Duration>) -> sqlx::Result<()> {
        let Self::Postgres(options, _) = self else {
            return Ok(());
        };
        let query = sqlx::AssertSqlSafe(format!("SELECT pid {BACKENDS} ORDER BY random() LIMIT 1"));
        let backend: Option<i32> = sqlx::query_scalar(query)
            .fetch_optional(&mut options.connect().await?)
            .await?;
        let Some(backend) = backend.and_then(|id| u32::try_from(id).ok()) else {
            return Ok(());
        };
        signal(backend, if pause.is_some() { "STOP" } else { "KILL" });
        if let Some(pause) = pause {
            sleep(pause).await;
            signal(backend, "CONT");
        }
        Ok(())
    }

    /// Stops or kills the database, and restarts it.
    pub async fn restart(
        &self,
        stop: Option<Mode>,
        away: Duration,
    ) -> Result<(), chat_test_postgres::Error> {
        let Self::Postgres(_, cluster) = self else {
            return Ok(());
        };
        let cluster = Arc::clone(cluster);
        let restart = move || {
            let mut cluster = cluster.lock().unwrap();
            match stop {
                Some(mode) => cluster.stop(mode)?,
                None => cluster.kill()?,
            }
            std::thread::sleep(away);
            cluster.restart()
        };
        tokio::task::spawn_blocking(restart).await.unwrap()
    }
}
