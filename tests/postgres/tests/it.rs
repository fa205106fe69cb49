//! Start, stop and removal of clusters.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs
)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chat_test_postgres::{Cluster, Mode, Options, database, query};

fn cluster() -> Cluster {
    let cluster = Cluster::start(Options::default()).unwrap();
    cluster.create_database("shop").unwrap();
    cluster
}

#[test]
fn commits_survive_every_stop() {
    let mut cluster = cluster();
    let url = cluster.url("shop");
    query(&url, "CREATE TABLE t (n int)").unwrap();
    let mut expected = 0;
    for stop in [
        None,
        Some(Mode::Immediate),
        Some(Mode::Fast),
        Some(Mode::Smart),
    ] {
        query(&url, "INSERT INTO t VALUES (1)").unwrap();
        expected += 1;
        match stop {
            Some(mode) => cluster.stop(mode).unwrap(),
            None => cluster.kill().unwrap(),
        }
        let refused = query(&url, "SELECT 1").unwrap_err().to_string();
        assert!(refused.contains("Connection refused"), "{refused}");
        assert!(cluster.stop(Mode::Fast).is_err(), "it did not run");
        cluster.restart().unwrap();
        assert_eq!(
            query(&url, "SELECT count(*) FROM t").unwrap(),
            expected.to_string()
        );
    }
    assert!(cluster.restart().is_err(), "it runs already");
    assert!(
        cluster.logs().contains("received fast shutdown request"),
        "{}",
        cluster.logs()
    );
}

#[test]
fn settings_are_applied_and_errors_reported() {
    let options = Options {
        durable: true,
        settings: vec![("max_connections", "17".to_owned())],
        ..Options::default()
    };
    let cluster = Cluster::start(options).unwrap();
    let sql = "SELECT current_setting('max_connections'), current_setting('fsync'), \
    current_setting('full_page_writes')";
    assert_eq!(cluster.query("postgres", sql).unwrap(), "17|on|on");
    let refused = cluster
        .query("postgres", "SELECT nothing")
        .unwrap_err()
        .to_string();
    assert!(refused.contains("\"nothing\" does not exist"), "{refused}");
    let wrong = Options {
        settings: vec![("max_connections", "many".to_owned())],
        ..Options::default()
    };
    let refused = Cluster::start(wrong).unwrap_err().to_string();
    assert!(refused.contains("max_connections"), "{refused}");
    // A connection without the password is refused.
    let without = format!(
        "postgres://postgres:wrong@127.0.0.1:{}/postgres",
        cluster.port()
    );
    let refused = query(&without, "SELECT 1").unwrap_err().to_string();
    assert!(
        refused.contains("password authentication failed") && !refused.contains("wrong@"),
        "{refused}"
    );
}

#[test]
fn tls_is_required_and_the_certificate_is_valid() {
    let cluster = Cluster::start(Options {
        tls: true,
        ..Options::default()
    })
    .unwrap();
    let by = |mode: &str, authority: PathBuf| {
        query(
            &format!(
                "{}?sslmode={mode}&sslrootcert={}",
                cluster.url("postgres"),
                authority.display()
            ),
            "SELECT ssl FROM pg_stat_ssl \
             WHERE pid = pg_backend_pid()",
        )
    };
    assert_eq!(by("verify-full", cluster.authority()).unwrap(), "t");
    let refused = by("verify-full", cluster.foreign_authority())
        .unwrap_err()
        .to_string();
    assert!(refused.contains("certificate verify failed"), "{refused}");
    let refused = by("disable", cluster.authority()).unwrap_err().to_string();
    assert!(refused.contains("no encryption"), "{refused}");
}

#[test]
fn a_standby_has_every_acknowledged_commit() {
    let mut primary = cluster();
    let mut standby = primary.standby().unwrap();
    query(&primary.url("shop"), "CREATE TABLE t (n int)").unwrap();
    query(&primary.url("shop"), "INSERT INTO t VALUES (7)").unwrap();
    let refused = standby
        .query("shop", "INSERT INTO t VALUES (8)")
        .unwrap_err()
        .to_string();
    assert!(refused.contains("read-only"), "{refused}");
    primary.kill().unwrap();
    standby.promote().unwrap();
    assert_eq!(standby.query("shop", "SELECT n FROM t").unwrap(), "7");
    query(&standby.url("shop"), "INSERT INTO t VALUES (8)").unwrap();
}

#[test]
fn each_test_gets_its_own_database() {
    let (one, other) = (database(), database());
    one.query("CREATE TABLE t (n int)").unwrap();
    other.query("CREATE TABLE t (n int)").unwrap();
    let url = one.url().to_owned();
    drop(one);
    assert!(
        query(&url, "SELECT 1")
            .unwrap_err()
            .to_string()
            .contains("does not exist")
    );
    assert_eq!(other.query("SELECT count(*) FROM t").unwrap(), "0");
}

/// Waits until the folder and the process are gone.
fn gone(folder: &Path, postmaster: u32) -> bool {
    let started = Instant::now();
    while folder.exists() || runs(postmaster) {
        if started.elapsed() > Duration::from_secs(30) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Whether the process exists.
fn runs(process: u32) -> bool {
    Command::new("kill")
        .args(["-0", &process.to_string()])
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}

fn postmaster(folder: &Path) -> u32 {
    let file = std::fs::read_to_string(folder.join("data/postmaster.pid")).unwrap();
    file.lines().next().unwrap().parse().unwrap()
}

#[test]
fn dropping_a_cluster_removes_it() {
    let cluster = cluster();
    let folder = cluster.folder().to_owned();
    let process = postmaster(&folder);
    drop(cluster);
    assert!(!folder.exists() && !runs(process));
}

#[test]
fn killing_the_owner_removes_its_cluster() {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_temporary-postgres"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: Vec<String> = BufReader::new(owner.stdout.take().unwrap())
        .lines()
        .take(2)
        .map(Result::unwrap)
        .collect();
    let url = lines[0]
        .strip_prefix("export CHAT_TEST_POSTGRES_URL='")
        .unwrap()
        .strip_suffix('\'')
        .unwrap();
    assert_eq!(query(url, "SELECT 1").unwrap(), "1");
    let folder = Path::new(
        lines[1]
            .strip_prefix("Its folder ")
            .unwrap()
            .split(' ')
            .next()
            .unwrap(),
    );
    let process = postmaster(folder);
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(
        gone(folder, process),
        "{} or its process {process} is still there",
        folder.display()
    );
}
