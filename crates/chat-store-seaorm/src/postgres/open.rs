//! Opening a database that others may be using already.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, SqlxPostgresConnector, TransactionTrait};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection as _, Error};
use tokio::time::timeout;

use super::pool::Pool;
use crate::columns::{Columns, column};
use crate::connection::Connection as _;
use crate::error::StoreFault;
use crate::options::{OpenError, OpenOptions, must_migrate};
use crate::row::Row;
use crate::sql::Sql;

/// How many statements each connection keeps prepared.
const PREPARED: usize = 256;

/// The lock that a process holds while it migrates: the first eight bytes of `chat-migrations`.
const MIGRATING: i64 = i64::from_be_bytes(*b"chat-mig");

/// How long a pooler with a single connection is waited for when it is put to the test.
const PROBE: Duration = Duration::from_secs(1);

/// Joins the other users of the database, and brings it to where the store can use it.
pub(crate) async fn open(url: &str, options: &OpenOptions) -> Result<Pool, OpenError> {
    check_files(url)?;
    let connect = PgConnectOptions::from_str(url).map_err(|error| OpenError::Url {
        reason: error.to_string(),
    })?;
    let connect = connect
        .application_name("chat-server")
        .statement_cache_capacity(PREPARED)
        // Poolers refuse parameters that they do not know.
        .extra_float_digits(None)
        .disable_statement_logging();
    let pool = Pool::new(connect.clone(), options)?;
    check_settings(&pool).await?;
    check_statements(&connect)
        .await
        .map_err(|error| StoreFault::of(Arc::new(error)))?;
    migrate(connect, options).await?;
    Ok(pool)
}

/// Names a certificate or key of the address that cannot be read: the error of a connection does
/// not.
fn check_files(url: &str) -> Result<(), OpenError> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let is_file = matches!(
            &*name,
            "sslrootcert" | "ssl-root-cert" | "ssl-ca" | "sslcert" | "sslkey"
        ) && !value.starts_with("-----BEGIN");
        if is_file && let Err(source) = std::fs::File::open(&*value) {
            return Err(OpenError::File {
                path: value.into_owned().into(),
                source,
            });
        }
    }
    Ok(())
}

/// Refuses a database that cannot keep our text; warns of one that forgets what it said was
/// durable.
async fn check_settings(pool: &Pool) -> Result<(), OpenError> {
    const SETTINGS: Columns = Columns::new(
        "settings",
        "current_setting('server_encoding') AS server_encoding, \
         current_setting('fsync') AS fsync, \
         current_setting('synchronous_commit') AS synchronous_commit",
    );
    let query = Sql::new("SELECT {columns}").text("columns", SETTINGS.text);
    let found = pool.session().await?.query(query).await?;
    let Some(row) = found.first().map(|row| Row::new(&SETTINGS, row)) else {
        return Ok(());
    };
    let encoding: String = row.get(column!(SETTINGS, "server_encoding"))?;
    if encoding != "UTF8" {
        return Err(OpenError::Encoding(encoding));
    }
    for setting in [
        column!(SETTINGS, "fsync"),
        column!(SETTINGS, "synchronous_commit"),
    ] {
        if row.get::<String>(setting)? == "off" {
            tracing::warn!(
                setting = setting.name,
                "the database is set to forget acknowledged messages when it crashes"
            );
        }
    }
    Ok(())
}

/// Finds out whether a prepared statement is still there in the next transaction, also when a
/// pooler gives that one another connection.
async fn check_statements(connect: &PgConnectOptions) -> Result<(), Error> {
    let (mut one, mut other) = (connect.connect().await?, connect.connect().await?);
    sqlx::query("SELECT 1").execute(&mut one).await?;
    // A pooler gives this transaction the connection that the statement before has just left.
    let mut transaction = other.begin().await?;
    sqlx::query("SELECT 2").execute(&mut *transaction).await?;
    if let Ok(again) = timeout(PROBE, sqlx::query("SELECT 1").execute(&mut one)).await {
        again?;
    }
    transaction.commit().await
}

/// Brings the schema up to date. Of several processes that begin at once, one does it, and the
/// others wait.
async fn migrate(connect: PgConnectOptions, options: &OpenOptions) -> Result<(), OpenError> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(options.connect_timeout)
        .connect_with(connect)
        .await;
    let pool = pool.map_err(|error| StoreFault::Connect(Arc::new(error)))?;
    let db = SqlxPostgresConnector::from_sqlx_postgres_pool(pool);
    let done = bring_up_to_date(&db, options.migrate).await;
    db.close().await?;
    done
}

async fn bring_up_to_date(db: &DatabaseConnection, migrate: bool) -> Result<(), OpenError> {
    if !must_migrate(chat_migrations::compare(db).await?, migrate)? {
        return Ok(());
    }
    let transaction = db.begin().await?;
    transaction
        .execute_unprepared(&format!("SELECT pg_advisory_xact_lock({MIGRATING})"))
        .await?;
    // Another process may have done it since.
    if must_migrate(chat_migrations::compare(&transaction).await?, migrate)? {
        tracing::info!("migrating the database");
        chat_migrations::apply(&transaction).await?;
    }
    Ok(transaction.commit().await?)
}
