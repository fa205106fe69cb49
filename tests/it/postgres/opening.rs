//! Start on a PostgreSQL database, and rejected connections.

use chat_test_postgres::{Cluster, Options, database};
use chat_test_support::stub_agent::{Answer, StubAgent};

use super::home;

fn hello() -> StubAgent {
    StubAgent::start(|_| Answer::text(["Hello."]))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_five_concurrent_servers_creates_the_schema() {
    let agent = hello();
    let database = database();
    let home = home(database.url(), &agent.base_url());
    let servers: Vec<_> = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..5).map(|_| scope.spawn(|| home.start())).collect();
        starting
            .into_iter()
            .map(|server| server.join().unwrap())
            .collect()
    });
    for server in &servers {
        assert_eq!(
            server.client("ann").chat(None, "Hi").await["response"],
            "Hello."
        );
    }
    let logs: Vec<_> = servers
        .into_iter()
        .map(chat_tests::server::Server::kill)
        .collect();
    let steps: usize = database
        .query("SELECT count(*) FROM seaql_migrations")
        .unwrap()
        .parse()
        .unwrap();
    assert!(steps > 0);
    assert_eq!(
        database
            .query("SELECT count(DISTINCT version) FROM seaql_migrations")
            .unwrap(),
        steps.to_string(),
        "{logs:?}"
    );
    // A second server finds the schema complete.
    assert!(!home.start().kill().contains("migrating"));
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_and_password_are_checked_and_not_logged() {
    let cluster = Cluster::start(Options {
        tls: true,
        ..Options::default()
    })
    .unwrap();
    cluster.create_database("chat").unwrap();
    let password = cluster
        .url("chat")
        .split(['@', ':'])
        .nth(2)
        .unwrap()
        .to_owned();
    let agent = hello();
    let url = |authority: std::path::PathBuf| {
        format!(
            "{}?sslmode=verify-full&sslrootcert={}",
            cluster.url("chat"),
            authority.display()
        )
    };
    let good = url(cluster.authority());

    let server = home(&good, &agent.base_url())
        .set("CHAT_LOG_FILTER", "trace")
        .start();
    assert_eq!(
        server.client("ann").chat(None, "Hi").await["response"],
        "Hello."
    );
    assert_eq!(
        cluster
            .query(
                "chat",
                "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE \
                usename = 'postgres' \
                                      AND application_name = 'chat-server'"
            )
            .unwrap(),
        "t"
    );
    let mut logs = vec![server.kill()];

    for (url, reason) in [
        (url(cluster.foreign_authority()), "certificate"),
        (
            good.replace("127.0.0.1", "127.0.0.2"),
            "could not be reached|refused",
        ),
        (
            good.replace(&password, "wrong-password"),
            "password authentication failed",
        ),
        (
            good.replace("/chat?", "/nothing?"),
            "\"nothing\" does not exist",
        ),
        (cluster.url("chat") + "?sslmode=disable", "no encryption"),
    ] {
        let (code, log) = home(&url, &agent.base_url()).refuses();
        assert_eq!(code, Some(4), "{reason}: {log}");
        assert!(
            reason.split('|').any(|reason| log.contains(reason)),
            "{reason}: {log}"
        );
        logs.push(log);
    }
    for log in logs {
        assert!(
            !log.contains(&password) && !log.contains("wrong-password"),
            "{log}"
        );
    }
}
