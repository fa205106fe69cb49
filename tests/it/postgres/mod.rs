//! Several servers on one PostgreSQL.

mod backup;
mod balancer;
mod opening;
mod outages;
mod pgbouncer;
mod recovery;
mod replicas;

use chat_test_postgres::Database;
use serde_json::Value;

use chat_tests::client::{Client, Event};
use chat_tests::server::Home;

/// Returns a home for servers on this database, with short leases.
fn home(database: &str, agent: &str) -> Home {
    let settings = [
        ("DATABASE_URL", database),
        // Long enough for a busy machine, on which a server must not seem dead nor the database
        // unavailable.
        ("CHAT_LEASE", "4s"),
        ("CHAT_HEARTBEAT", "300ms"),
        ("CHAT_SWEEP", "200ms"),
        ("CHAT_POLL", "100ms"),
        ("CHAT_DATABASE_CONNECTIONS", "6"),
        ("CHAT_DATABASE_CONNECT_TIMEOUT", "20s"),
        ("CHAT_DATABASE_STATEMENT_TIMEOUT", "20s"),
        ("CHAT_DATABASE_ACQUIRE_TIMEOUT", "30s"),
        ("CHAT_DATABASE_TIMEOUT", "50s"),
    ];
    settings
        .into_iter()
        .fold(Home::with_agent(agent), |home, (name, value)| {
            home.set(name, value)
        })
}

/// Returns the turn and the conversation of an event.
fn ids(opened: &Event) -> (String, String) {
    let id = |name: &str| opened.data[name].as_str().unwrap().to_owned();
    (id("turn_id"), id("conversation_id"))
}

/// Returns all stored rows of a user's conversations.
fn rows(database: &Database, user: &str) -> String {
    let conversations = format!("SELECT id FROM conversations WHERE owner = '{user}'");
    let all = ["turns", "messages", "tool_calls"]
        .map(|table| format!("{table} WHERE conversation_id IN ({conversations})"));
    let all = all
        .into_iter()
        .chain([format!("conversations WHERE owner = '{user}'")]);
    all.map(|rows| {
        database
            .query(&format!("SELECT * FROM {rows} ORDER BY id"))
            .unwrap()
    })
    .collect::<Vec<_>>()
    .join("\n")
}

/// Returns a turn from the API.
async fn turn(client: &Client, id: &str) -> Value {
    client.get(&format!("/turns/{id}")).await
}
