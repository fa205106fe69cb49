//! The tasks of all users, in one SQLite file.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Executor};

/// Longest title, in characters.
const MAX_TITLE_CHARS: usize = 200;
/// Most tasks of a user, so that a list fits in one answer.
const MAX_TASKS: i64 = 250;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS tasks (
        user_id TEXT NOT NULL, task_id INTEGER NOT NULL, title TEXT NOT NULL,
        completed INTEGER NOT NULL DEFAULT 0, deleted INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (user_id, task_id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS answers (
        user_id TEXT NOT NULL, call_id TEXT NOT NULL, answer TEXT NOT NULL,
        PRIMARY KEY (user_id, call_id)
    ) STRICT, WITHOUT ROWID;
";

/// A tool call, named and written as in MCP.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(tag = "tool", content = "arguments", rename_all = "snake_case")]
pub(crate) enum Request {
    AddTask { title: String },
    ListTasks { status: Option<Status> },
    CompleteTask { task_id: i64 },
    DeleteTask { task_id: i64 },
}

/// Filter of listed tasks.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    All,
    Pending,
    Completed,
}

/// The reason why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TaskError {
    /// The request is invalid. The message says why.
    #[error("{0}")]
    Rejected(String),
    #[error("The task list could not be read or written.")]
    Database(#[from] sqlx::Error),
}

pub(crate) struct TaskList {
    pool: SqlitePool,
}

impl TaskList {
    pub(crate) async fn open(file: &Path) -> Result<Self, sqlx::Error> {
        create_private(file)?;
        let options = SqliteConnectOptions::new()
            .filename(file)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            // The server of an earlier process may still run its last call.
            .busy_timeout(Duration::from_secs(5))
            .disable_statement_logging();
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options)
            .await?;
        pool.execute(SCHEMA).await?;
        Ok(Self { pool })
    }

    /// Executes a request in one transaction. Returns the first result if `call_id` is known.
    pub(crate) async fn call(
        &self,
        user: &str,
        call_id: Option<&str>,
        request: &Request,
    ) -> Result<Value, TaskError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let find = "SELECT answer FROM answers WHERE user_id = ? AND call_id = ?";
        let earlier: Option<String> = sqlx::query_scalar(find)
            .bind(user)
            .bind(call_id)
            .fetch_optional(&mut *transaction)
            .await?;
        if let Some(answer) = earlier {
            return Ok(
                serde_json::from_str(&answer).map_err(|error| sqlx::Error::Decode(error.into()))?
            );
        }
        let answer = match request {
            Request::ListTasks { status } => {
                return Ok(list(&mut transaction, user, *status).await?);
            }
            Request::AddTask { title } => {
                add(&mut transaction, user, validate_title(title)?).await?
            }
            Request::CompleteTask { task_id } => {
                set_status(&mut transaction, user, *task_id, "completed").await?
            }
            Request::DeleteTask { task_id } => {
                set_status(&mut transaction, user, *task_id, "deleted").await?
            }
        };
        if let Some(call_id) = call_id {
            let insert = "INSERT INTO answers (user_id, call_id, answer) VALUES (?, ?, ?)";
            let insert = sqlx::query(insert)
                .bind(user)
                .bind(call_id)
                .bind(answer.to_string());
            insert.execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(answer)
    }
}

/// Creates the file with access for its owner only, because it contains users' texts. SQLite gives
/// the same mode to the files that it creates next to it.
fn create_private(file: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(file) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

async fn list(
    connection: &mut SqliteConnection,
    user: &str,
    status: Option<Status>,
) -> Result<Value, sqlx::Error> {
    let completed = match status {
        None | Some(Status::All) => None,
        Some(Status::Pending) => Some(false),
        Some(Status::Completed) => Some(true),
    };
    let select = "SELECT task_id, title, completed FROM tasks \
         WHERE user_id = ?1 AND deleted = 0 AND completed = COALESCE(?2, completed) \
         ORDER BY task_id";
    let rows: Vec<(i64, String, bool)> = sqlx::query_as(select)
        .bind(user)
        .bind(completed)
        .fetch_all(connection)
        .await?;
    let task = |(task_id, title, completed)| {
        json!({
            "task_id": task_id, "title": title, "completed": completed,
        })
    };
    Ok(json!({ "tasks": rows.into_iter().map(task).collect::<Vec<_>>() }))
}

async fn add(
    connection: &mut SqliteConnection,
    user: &str,
    title: &str,
) -> Result<Value, TaskError> {
    // Deleted tasks keep their rows, so that their numbers are not reused.
    let count = "SELECT COUNT(*) FILTER (WHERE deleted = 0), COALESCE(MAX(task_id), 0) + 1 \
         FROM tasks WHERE user_id = ?";
    let (tasks, task_id): (i64, i64) = sqlx::query_as(count)
        .bind(user)
        .fetch_one(&mut *connection)
        .await?;
    if tasks >= MAX_TASKS {
        let reason = format!("The list is full: it holds {MAX_TASKS} tasks. Delete some first.");
        return Err(TaskError::Rejected(reason));
    }
    let insert = "INSERT INTO tasks (user_id, task_id, title) VALUES (?, ?, ?)";
    sqlx::query(insert)
        .bind(user)
        .bind(task_id)
        .bind(title)
        .execute(connection)
        .await?;
    Ok(json!({ "task_id": task_id, "status": "created", "title": title }))
}

/// Sets the status of a task.
async fn set_status(
    connection: &mut SqliteConnection,
    user: &str,
    task_id: i64,
    status: &str,
) -> Result<Value, TaskError> {
    let update = "UPDATE tasks SET completed = completed OR ?3 = 'completed', deleted = ?3 = \
    'deleted' \
         WHERE user_id = ?1 AND task_id = ?2 AND deleted = 0 RETURNING title";
    let update = sqlx::query_scalar(update)
        .bind(user)
        .bind(task_id)
        .bind(status);
    let title: Option<String> = update.fetch_optional(connection).await?;
    let missing = || TaskError::Rejected(format!("There is no task {task_id} on the list."));
    let title = title.ok_or_else(missing)?;
    Ok(json!({ "task_id": task_id, "status": status, "title": title }))
}

/// Trims and validates a title.
fn validate_title(title: &str) -> Result<&str, TaskError> {
    let title = title.trim();
    let reason = match title.chars().count() {
        0 => "A task needs a title.".to_owned(),
        length if length > MAX_TITLE_CHARS => {
            format!("The title has {length} characters. At most {MAX_TITLE_CHARS} are allowed.")
        }
        _ if title.chars().any(char::is_control) => "A title is one line of plain text.".to_owned(),
        _ => return Ok(title),
    };
    Err(TaskError::Rejected(reason))
}
