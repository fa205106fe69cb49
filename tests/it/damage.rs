//! Damaged, replaced, moved and incomplete database files: a server refuses to start with a clear
//! message, and acknowledges nothing that it cannot store.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use chat_test_support::stub_agent::{Answer, StubAgent};
use reqwest::Method;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, Row};

use chat_tests::client::{Client, read};
use chat_tests::server::{Home, Server};

fn agent() -> StubAgent {
    StubAgent::start(|_| Answer::text(["Hello."]))
}

/// Returns the path of a file next to the database.
fn sibling_file(home: &Home, suffix: &str) -> PathBuf {
    format!("{}{suffix}", home.database().display()).into()
}

async fn connect(database: &Path) -> SqliteConnection {
    SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(database))
        .await
        .unwrap()
}

async fn say(client: &Client, text: &str) -> String {
    client.chat(None, text).await["conversation_id"]
        .as_str()
        .unwrap()
        .to_owned()
}

async fn conversations(server: &Server) -> usize {
    server.client("ann").get("/conversations?limit=100").await["conversations"]
        .as_array()
        .unwrap()
        .len()
}

async fn readiness(client: &Client) -> (u16, String) {
    let (status, body) = read(
        client
            .anywhere(Method::GET, "/health/ready")
            .send()
            .await
            .unwrap(),
    )
    .await;
    (
        status.as_u16(),
        body["code"].as_str().unwrap_or_default().to_owned(),
    )
}

async fn refusal(client: &Client) -> (u16, String) {
    let (status, body) = client.try_chat("", None, "Is anybody there?").await;
    (
        status.as_u16(),
        body["code"].as_str().unwrap_or_default().to_owned(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_leaves_one_database_file() {
    let agent = agent();
    let home = Home::with_agent(&agent.base_url());
    let server = home.start();
    let conversation = say(&server.client("ann"), "Hi").await;
    let (code, log) = tokio::task::spawn_blocking(move || server.terminate())
        .await
        .unwrap();
    assert_eq!(code, Some(0), "{log}");
    for suffix in ["-wal", "-shm"] {
        assert!(!sibling_file(&home, suffix).exists(), "{suffix} is left");
    }
    let copy = Home::with_agent(&agent.base_url());
    fs::copy(home.database(), copy.database()).unwrap();
    assert_eq!(
        copy.start().client("ann").transcript(&conversation).await,
        ["user: Hi", "assistant: Hello."]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_next_to_a_foreign_log_is_refused() {
    let agent = agent();
    let home = Home::with_agent(&agent.base_url());
    let server = home.start();
    let ann = server.client("ann");
    let conversation = say(&ann, "Before").await;
    let backup = home.path().join("backup.db");
    let mut connection = connect(&home.database()).await;
    sqlx::query("VACUUM INTO ?")
        .bind(backup.to_str().unwrap())
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    say(&ann, "After").await;
    server.kill();
    fs::copy(&backup, home.database()).unwrap();
    let (code, log) = home.refuses();
    assert_eq!(code, Some(4), "{log}");
    assert!(
        log.contains("DATABASE_URL") && log.contains("chat.db-wal") && log.contains("delete"),
        "{log}"
    );
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(sibling_file(&home, suffix)).unwrap();
    }
    let server = home.start();
    assert_eq!(conversations(&server).await, 1);
    assert_eq!(
        server.client("ann").transcript(&conversation).await,
        ["user: Before", "assistant: Hello."]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_next_to_a_log_is_refused() {
    let agent = agent();
    let home = Home::with_agent(&agent.base_url());
    let server = home.start();
    say(&server.client("ann"), "Hi").await;
    server.kill();
    let saved = home.path().join("saved.db");
    fs::rename(home.database(), &saved).unwrap();
    for is_empty in [false, true] {
        if is_empty {
            fs::write(home.database(), []).unwrap();
        }
        let (code, log) = home.refuses();
        assert_eq!(code, Some(4), "{log}");
        assert!(
            log.contains("chat.db-wal") && log.contains("nothing was changed"),
            "{log}"
        );
        assert_eq!(home.database().exists(), is_empty);
    }
    fs::rename(saved, home.database()).unwrap();
    assert_eq!(conversations(&home.start()).await, 1);
}

/// Overwrites the root page of the messages table.
async fn damage(database: &Path) {
    let mut connection = connect(database).await;
    let page = sqlx::query("SELECT rootpage FROM sqlite_schema WHERE name = 'messages'")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    let size = sqlx::query("PRAGMA page_size")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let number = |row: sqlx::sqlite::SqliteRow| u64::try_from(row.get::<i64, _>(0)).unwrap();
    let (page, size) = (number(page), number(size));
    let file = File::options().write(true).open(database).unwrap();
    file.write_all_at(
        &vec![0xa5; usize::try_from(size).unwrap()],
        (page - 1) * size,
    )
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_page_stops_writes() {
    let agent = agent();
    let home = Home::with_agent(&agent.base_url());
    let server = home.start();
    let conversation = say(&server.client("ann"), "Hi").await;
    tokio::task::spawn_blocking(move || server.terminate())
        .await
        .unwrap();
    damage(&home.database()).await;
    let server = home.start();
    let ann = server.client("ann");
    let damaged = (500, "store_corrupt".to_owned());
    let read_messages = ann.request(
        Method::GET,
        &format!("/conversations/{conversation}/messages"),
    );
    let (status, problem) = read(read_messages.send().await.unwrap()).await;
    assert_eq!(
        (
            status.as_u16(),
            problem["code"].as_str().unwrap().to_owned()
        ),
        damaged,
        "{problem}"
    );
    assert_eq!(readiness(&ann).await, damaged);
    assert_eq!(refusal(&ann).await, damaged);
    let log = server.kill();
    assert!(log.contains("the database is damaged"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_database_is_refused_at_the_start() {
    let agent = agent();
    let home = Home::with_agent(&agent.base_url());
    let server = home.start();
    say(&server.client("ann"), "Hi").await;
    let mut connection = connect(&home.database()).await;
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    server.kill();
    damage(&home.database()).await;
    let (code, log) = home.refuses();
    assert_eq!(code, Some(4), "{log}");
    assert!(
        log.contains("is damaged") && log.contains("backup"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_log_is_detected_and_a_shutdown_loses_nothing() {
    let agent = agent();
    let home = Home::with_agent(&agent.base_url());
    let server = home.start();
    let ann = server.client("ann");
    let conversation = say(&ann, "Hi").await;
    fs::remove_file(sibling_file(&home, "-wal")).unwrap();
    let unavailable = (503, "store_unavailable".to_owned());
    assert_eq!(refusal(&ann).await, unavailable);
    assert_eq!(readiness(&ann).await, unavailable);
    tokio::task::spawn_blocking(move || server.terminate())
        .await
        .unwrap();
    let server = home.start();
    assert_eq!(
        server.client("ann").transcript(&conversation).await,
        ["user: Hi", "assistant: Hello."]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_database_is_detected() {
    let agent = agent();
    let home = Home::with_agent(&agent.base_url());
    let server = home.start();
    let ann = server.client("ann");
    say(&ann, "Hi").await;
    File::options()
        .write(true)
        .open(home.database())
        .unwrap()
        .set_len(0)
        .unwrap();
    let unavailable = (503, "store_unavailable".to_owned());
    assert_eq!(refusal(&ann).await, unavailable);
    assert_eq!(readiness(&ann).await, unavailable);
}
