//! PgBouncer in transaction mode.

use std::process::Command;

use chat_test_postgres::{Cluster, Options, PGBOUNCER_VARIABLE, PgBouncer};
use reqwest::Method;

use super::home;
use crate::concurrency::{assert_answered_in_sequence, echo};
use chat_tests::client::{Events, read};

/// Returns the setting for prepared statements if this version supports it.
fn with_prepared_statements(number: u32) -> Option<String> {
    let output = Command::new(std::env::var_os(PGBOUNCER_VARIABLE).expect(PGBOUNCER_VARIABLE))
        .arg("--version")
        .output()
        .unwrap();
    let version = String::from_utf8(output.stdout).unwrap();
    let number_of = |text: &str| text.trim().parse::<u32>().unwrap();
    // The output is `PgBouncer 1.24.1`, and lines about libraries.
    let mut numbers = version
        .lines()
        .next()
        .unwrap()
        .trim_start_matches("PgBouncer ")
        .split('.')
        .map(number_of);
    ((numbers.next().unwrap(), numbers.next().unwrap()) >= (1, 21))
        .then(|| format!("max_prepared_statements = {number}"))
}

fn cluster() -> Cluster {
    let cluster = Cluster::start(Options::default()).unwrap();
    cluster.create_database("chat").unwrap();
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbouncer_with_prepared_statements_works() {
    let Some(setting) = with_prepared_statements(200) else {
        panic!(
            "this PgBouncer is older than 1.21, which servers reject (see the other test); use a \
            newer one"
        );
    };
    let cluster = cluster();
    // Fewer connections than clients, so that clients share connections.
    let pooler = PgBouncer::start(&cluster, &[&setting, "default_pool_size = 4"]).unwrap();
    let agent = echo();
    let home = home(&pooler.url("chat"), &agent.base_url());
    let (a, b) = (home.start(), home.start());
    assert_answered_in_sequence(&[&a, &b], &agent).await;
    let bob = a.client("bob");
    let reply = bob.chat(None, "Hi").await;
    let (turn, conversation) = (
        reply["turn_id"].as_str().unwrap(),
        reply["conversation_id"].as_str().unwrap(),
    );
    let events = Events::of(b.client("bob").resume(turn, None).await)
        .rest()
        .await;
    assert_eq!(events.last().unwrap().name, "done");
    for path in [
        "/conversations".to_owned(),
        format!("/turns/{turn}"),
        format!("/conversations/{conversation}/messages"),
    ] {
        assert_eq!(bob.get(&path).await, b.client("bob").get(&path).await);
    }
    let retried = bob
        .request(Method::POST, &format!("/turns/{turn}/retry"))
        .send()
        .await
        .unwrap();
    assert_eq!(read(retried).await.0, 200);
    for server in [a, b] {
        let log = server.kill();
        assert!(!log.contains("ERROR"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbouncer_without_prepared_statements_is_rejected() {
    let cluster = cluster();
    let setting = with_prepared_statements(0);
    let pooler = PgBouncer::start(
        &cluster,
        &setting.iter().map(String::as_str).collect::<Vec<_>>(),
    )
    .unwrap();
    let (code, log) = home(&pooler.url("chat"), &echo().base_url()).refuses();
    assert_eq!(code, Some(4), "{log}");
    assert!(
        log.contains("PgBouncer")
            && log.contains("1.21")
            && log.contains("max_prepared_statements"),
        "{log}"
    );
}
