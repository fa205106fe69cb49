//! The database: where it is, what it holds, and what can befall it.

use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::time::sleep;

use crate::evidence::Tables;

/// A database that servers work on.
pub enum Database {
    Sqlite { options: SqliteConnectOptions },
}

/// How a column is told in JSON.
#[derive(Clone, Copy)]
enum Kind {
    Id,
    Text,
    Number,
}

use Kind::{Id, Number, Text};

/// The columns that matter, each with the name it has in the evidence.
const CONVERSATIONS: &[(Kind, &str, &str)] =
    &[(Id, "id", "id"), (Text, "owner", "owner"), (Number, "last_position", "last_position"), (Number, "last_ordinal", "last_ordinal")];
const TURNS: &[(Kind, &str, &str)] = &[
    (Id, "id", "id"),
    (Id, "conversation_id", "conversation"),
    (Text, "owner", "owner"),
    (Number, "ordinal", "ordinal"),
    (Text, "status", "status"),
    (Number, "epoch", "epoch"),
    (Number, "CASE WHEN cancel_requested THEN 1 ELSE 0 END", "cancel_requested"),
    (Id, "retry_of", "retry_of"),
    (Number, "CASE WHEN superseded THEN 1 ELSE 0 END", "superseded"),
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
];

impl Database {
    /// The file that servers in this folder use.
    pub fn sqlite(file: &Path) -> Self {
        Self::Sqlite {
            options: SqliteConnectOptions::new().filename(file).busy_timeout(Duration::from_secs(20)).disable_statement_logging(),
        }
    }

    /// All rows of all tables.
    pub async fn tables(&self) -> sqlx::Result<Tables> {
        Ok(Tables {
            conversations: self.rows("conversations", CONVERSATIONS).await?,
            turns: self.rows("turns", TURNS).await?,
            messages: self.rows("messages", MESSAGES).await?,
            calls: self.rows("tool_calls", CALLS).await?,
        })
    }

    /// How many turns run or wait.
    pub async fn open_turns(&self) -> sqlx::Result<i64> {
        let query = "SELECT COUNT(*) FROM turns WHERE ended_at IS NULL";
        match self {
            Self::Sqlite { options } => sqlx::query_scalar(query).fetch_one(&mut connect(options).await?).await,
        }
    }

    async fn rows<T: DeserializeOwned>(&self, table: &str, columns: &[(Kind, &str, &str)]) -> sqlx::Result<Vec<T>> {
        let column = |(kind, expression, name): &(Kind, &str, &str)| format!("'{name}', {}", self.column(*kind, expression));
        let columns = columns.iter().map(column).collect::<Vec<_>>().join(", ");
        let rows: Vec<String> = match self {
            Self::Sqlite { options } => {
                let query = sqlx::AssertSqlSafe(format!("SELECT json_object({columns}) FROM {table}"));
                sqlx::query_scalar(query).fetch_all(&mut connect(options).await?).await?
            }
        };
        rows.iter().map(|row| serde_json::from_str(row).map_err(|error| sqlx::Error::Decode(format!("{row}: {error}").into()))).collect()
    }

    fn column(&self, kind: Kind, expression: &str) -> String {
        match (self, kind) {
            (Self::Sqlite { .. }, Id) => format!("CASE WHEN {expression} IS NULL THEN NULL ELSE lower(hex({expression})) END"),
            (_, Text) => format!("CAST({expression} AS TEXT)"),
            (_, Number) => expression.to_owned(),
        }
    }

    /// Keeps everybody from writing for some time, as a slow disk or a backup would.
    pub async fn hold(&self, time: Duration) -> sqlx::Result<()> {
        match self {
            Self::Sqlite { options } => {
                let mut connection = connect(options).await?;
                sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await?;
                sleep(time).await;
                connection.close().await
            }
        }
    }
}

async fn connect(options: &SqliteConnectOptions) -> sqlx::Result<SqliteConnection> {
    options.connect().await
}
