//! The task list's file.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::sync::Mutex;

/// The longest title, in characters.
const LONGEST_TITLE: usize = 200;
/// How many tasks a list may hold, so that it can always be shown whole.
const MOST_TASKS: i64 = 250;

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
    CREATE TABLE IF NOT EXISTS calls (
        sequence INTEGER PRIMARY KEY, call_id TEXT, user_id TEXT NOT NULL, tool TEXT NOT NULL, at INTEGER NOT NULL
    ) STRICT;
";

/// Who calls.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) user: String,
    /// The call's id, if it has one.
    pub(crate) call: Option<String>,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Add { title: String },
    List { status: Status },
    Complete { task_id: i64 },
    Update { task_id: i64, title: String },
    Delete { task_id: i64 },
}

/// Which tasks are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    #[default]
    All,
    Pending,
    Completed,
}

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TaskError {
    /// It cannot be done; the sentence says why.
    #[error("{0}")]
    Refused(String),
    #[error("The task list could not be read or written.")]
    Database(#[from] sqlx::Error),
}

/// All users' tasks, in one file.
pub(crate) struct TaskList {
    options: SqliteConnectOptions,
    /// None after a failure or a call that was dropped in the middle: a connection in doubt is never used again.
    connection: Mutex<Option<SqliteConnection>>,
}

impl TaskList {
    pub(crate) async fn open(file: &Path) -> Result<Self, sqlx::Error> {
        create(file)?;
        let options = SqliteConnectOptions::new()
            .filename(file)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            // A server that was left behind may still be finishing its last call.
            .busy_timeout(Duration::from_secs(5))
            .disable_statement_logging();
        let mut connection = options.connect().await?;
        connection.execute(SCHEMA).await?;
        Ok(Self { options, connection: Mutex::new(Some(connection)) })
    }

    /// Carries a request out, in one transaction, and writes it down.
    pub(crate) async fn carry_out(&self, caller: &Caller, request: &Request) -> Result<Value, TaskError> {
        let mut place = self.connection.lock().await;
        let mut connection = match place.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        let outcome = in_transaction(&mut connection, caller, request).await;
        if !matches!(outcome, Err(TaskError::Database(_))) {
            *place = Some(connection);
        }
        outcome
    }
}

/// Creates the file if it is not there: it holds what users wrote, so nobody else may read it. SQLite gives the files that it
/// puts beside it the same mode.
fn create(file: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(file) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

async fn in_transaction(connection: &mut SqliteConnection, caller: &Caller, request: &Request) -> Result<Value, TaskError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    note(&mut transaction, caller, request).await?;
    let outcome = match earlier_answer(&mut transaction, caller).await? {
        Some(answer) => Ok(answer),
        None => answer(&mut transaction, caller, request).await,
    };
    // Also after a refusal: nothing was changed, but the call is to be on record.
    if !matches!(outcome, Err(TaskError::Database(_))) {
        transaction.commit().await?;
    }
    outcome
}

async fn note(connection: &mut SqliteConnection, caller: &Caller, request: &Request) -> Result<(), sqlx::Error> {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    sqlx::query("INSERT INTO calls (call_id, user_id, tool, at) VALUES (?, ?, ?, ?)")
        .bind(&caller.call)
        .bind(&caller.user)
        .bind(request.tool())
        .bind(i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
        .execute(connection)
        .await?;
    Ok(())
}

async fn earlier_answer(connection: &mut SqliteConnection, caller: &Caller) -> Result<Option<Value>, sqlx::Error> {
    let answer: Option<String> = sqlx::query_scalar("SELECT answer FROM answers WHERE user_id = ? AND call_id = ?")
        .bind(&caller.user)
        .bind(&caller.call)
        .fetch_optional(connection)
        .await?;
    answer.map(|answer| serde_json::from_str(&answer).map_err(|error| sqlx::Error::Decode(error.into()))).transpose()
}

async fn answer(connection: &mut SqliteConnection, caller: &Caller, request: &Request) -> Result<Value, TaskError> {
    let user = caller.user.as_str();
    let answer = match request {
        Request::List { status } => return Ok(list(connection, user, *status).await?),
        Request::Add { title } => add(connection, user, &checked(title)?).await?,
        Request::Complete { task_id } => {
            let done = "SELECT completed FROM tasks WHERE user_id = ? AND task_id = ? AND deleted = 0";
            let already: Option<bool> = sqlx::query_scalar(done).bind(user).bind(task_id).fetch_optional(&mut *connection).await?;
            let change = "UPDATE tasks SET completed = 1 WHERE user_id = ? AND task_id = ? AND deleted = 0 RETURNING title";
            let title = sqlx::query_scalar(change).bind(user).bind(task_id).fetch_optional(&mut *connection).await?;
            let mut answer = changed(*task_id, "completed", title)?;
            if let (Some(true), Some(answer)) = (already, answer.as_object_mut()) {
                answer.insert("already".to_owned(), Value::Bool(true));
            }
            answer
        }
        Request::Update { task_id, title } => {
            let change = "UPDATE tasks SET title = ? WHERE user_id = ? AND task_id = ? AND deleted = 0 RETURNING title";
            let title = sqlx::query_scalar(change).bind(checked(title)?).bind(user).bind(task_id).fetch_optional(&mut *connection).await?;
            changed(*task_id, "updated", title)?
        }
        Request::Delete { task_id } => {
            let change = "UPDATE tasks SET deleted = 1 WHERE user_id = ? AND task_id = ? AND deleted = 0 RETURNING title";
            let title = sqlx::query_scalar(change).bind(user).bind(task_id).fetch_optional(&mut *connection).await?;
            changed(*task_id, "deleted", title)?
        }
    };
    if let Some(call) = &caller.call {
        let keep = "INSERT INTO answers (user_id, call_id, answer) VALUES (?, ?, ?)";
        sqlx::query(keep).bind(user).bind(call).bind(answer.to_string()).execute(connection).await?;
    }
    Ok(answer)
}

async fn list(connection: &mut SqliteConnection, user: &str, status: Status) -> Result<Value, sqlx::Error> {
    let rows: Vec<(i64, String, bool)> =
        sqlx::query_as("SELECT task_id, title, completed FROM tasks WHERE user_id = ? AND deleted = 0 ORDER BY task_id")
            .bind(user)
            .fetch_all(connection)
            .await?;
    let wanted = |completed: bool| match status {
        Status::All => true,
        Status::Pending => !completed,
        Status::Completed => completed,
    };
    let tasks: Vec<Value> = rows
        .into_iter()
        .filter(|(_, _, completed)| wanted(*completed))
        .map(|(task_id, title, completed)| json!({ "task_id": task_id, "title": title, "completed": completed }))
        .collect();
    Ok(json!({ "tasks": tasks }))
}

async fn add(connection: &mut SqliteConnection, user: &str, title: &str) -> Result<Value, TaskError> {
    // Deleted tasks keep their rows, so that their numbers are not given again.
    let count = "SELECT COUNT(*) FILTER (WHERE deleted = 0), COALESCE(MAX(task_id), 0) + 1 FROM tasks WHERE user_id = ?";
    let (tasks, task_id): (i64, i64) = sqlx::query_as(count).bind(user).fetch_one(&mut *connection).await?;
    if tasks >= MOST_TASKS {
        return Err(TaskError::Refused(format!("The list is full: it holds {MOST_TASKS} tasks. Delete some first.")));
    }
    let insert = "INSERT INTO tasks (user_id, task_id, title) VALUES (?, ?, ?)";
    sqlx::query(insert).bind(user).bind(task_id).bind(title).execute(connection).await?;
    Ok(json!({ "task_id": task_id, "status": "created", "title": title }))
}

fn changed(task_id: i64, status: &str, title: Option<String>) -> Result<Value, TaskError> {
    match title {
        Some(title) => Ok(json!({ "task_id": task_id, "status": status, "title": title })),
        None => Err(TaskError::Refused(format!("There is no task {task_id} on the list."))),
    }
}

/// The title without white space around it.
fn checked(title: &str) -> Result<String, TaskError> {
    let title = title.trim();
    match title.chars().count() {
        0 => Err(TaskError::Refused("A task needs a title.".to_owned())),
        length if length > LONGEST_TITLE => {
            Err(TaskError::Refused(format!("The title has {length} characters. At most {LONGEST_TITLE} are allowed.")))
        }
        _ if title.chars().any(char::is_control) => Err(TaskError::Refused("A title is one line of plain text.".to_owned())),
        _ => Ok(title.to_owned()),
    }
}

impl Request {
    /// The tool's name.
    pub(crate) fn tool(&self) -> &'static str {
        match self {
            Self::Add { .. } => "add_task",
            Self::List { .. } => "list_tasks",
            Self::Complete { .. } => "complete_task",
            Self::Update { .. } => "update_task",
            Self::Delete { .. } => "delete_task",
        }
    }
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
