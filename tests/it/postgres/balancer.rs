//! Replicas behind load balancers with the configurations in `docs/operations`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use chat_test_postgres::{Cluster, Mode, Options, free_port};
use chat_test_support::stub_agent::{Answer, Gate, StubAgent, chunk};
use chat_test_support::wait::{self, until};
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use super::{home, ids};
use crate::concurrency::echo;
use crate::streams::normalize;
use chat_tests::client::{Client, Events, read, text};
use chat_tests::server::Home;

const NGINX: &str = include_str!("../../../docs/operations/nginx.conf");
const HAPROXY: &str = include_str!("../../../docs/operations/haproxy.cfg");

/// Two replicas, and a load balancer in front of them.
struct Site {
    balancer: Child,
    at: SocketAddr,
    a: Home,
    b: Home,
    cluster: Cluster,
    _folder: TempDir,
}

impl Site {
    /// Uses the configuration of the docs, with other addresses and unprivileged file paths.
    fn new(
        agent: &StubAgent,
        configuration: &str,
        balancer: impl FnOnce(&Path, String) -> Command,
    ) -> Self {
        let cluster = Cluster::start(Options::default()).unwrap();
        cluster.create_database("chat").unwrap();
        let ports = [(); 3].map(|()| free_port().unwrap());
        let address = |port: u16| format!("127.0.0.1:{port}");
        let mut text = configuration.to_owned();
        for (port, ours) in [8080, 8081, 8082].into_iter().zip(ports) {
            assert!(text.contains(&address(port)));
            text = text.replace(&address(port), &address(ours));
        }
        let folder = TempDir::new().unwrap();
        let mut command = balancer(folder.path(), text);
        let balancer = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let home = home(&cluster.url("chat"), &agent.base_url()).set("CHAT_SHUTDOWN_NOTICE", "3s");
        let [a, b] =
            [ports[1], ports[2]].map(|port| home.clone().set("CHAT_LISTEN", address(port)));
        Self {
            balancer,
            at: ([127, 0, 0, 1], ports[0]).into(),
            a,
            b,
            cluster,
            _folder: folder,
        }
    }

    fn nginx(agent: &StubAgent) -> Self {
        Self::new(agent, NGINX, |folder, text| {
            let here = |name: &str| folder.join(name).display().to_string();
            let places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|kind| format!("{kind}_temp_path {};", here(kind)));
            let text = text
                .replace("/var/log/nginx/", &here(""))
                .replace("/run/nginx.pid", &here("pid"))
                .replace("\nhttp {", &format!("\nhttp {{ {}", places.join(" ")));
            std::fs::write(folder.join("conf"), text).unwrap();
            let mut command = Command::new(program("CHAT_TEST_NGINX"));
            command.args([
                "-p",
                &here(""),
                "-c",
                &here("conf"),
                "-e",
                &here("error.log"),
                "-g",
                "daemon off; master_process off;",
            ]);
            command
        })
    }

    fn haproxy(agent: &StubAgent) -> Self {
        Self::new(agent, HAPROXY, |folder, text| {
            std::fs::write(folder.join("cfg"), text).unwrap();
            let mut command = Command::new(program("CHAT_TEST_HAPROXY"));
            command.arg("-db").arg("-f").arg(folder.join("cfg"));
            command
        })
    }

    fn client(&self, user: &str) -> Client {
        Client::new(self.at, user)
    }

    /// Waits until the balancer forwards requests to a ready server.
    async fn until_ready(&self) {
        until(
            "a balancer that sends requests to a server",
            async || match self
                .client("ann")
                .anywhere(Method::GET, "/health/ready")
                .send()
                .await
            {
                Ok(response) => response.status() == 200,
                Err(_) => false,
            },
        )
        .await;
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.balancer.kill();
        let _ = self.balancer.wait();
    }
}

fn program(variable: &str) -> std::ffi::OsString {
    std::env::var_os(variable).unwrap_or_else(|| {
        panic!("this test needs a program: name it in {variable}, or see `cargo xtask help`")
    })
}

/// Waits for the end of a turn through the balancer, although replicas die.
async fn wait_for_end(
    client: &Client,
    turn: &str,
    last: Option<&str>,
) -> Vec<chat_tests::client::Event> {
    let resumed = async || {
        let response = client.resume(turn, last).await;
        match response.status().as_u16() {
            200 => Some(response),
            status => {
                assert!([502, 503, 504].contains(&status), "{status}");
                None
            }
        }
    };
    Events::of(wait::value("a stream by the balancer", resumed).await)
        .rest()
        .await
}

/// Returns an agent that sends "One, " and continues when the gate opens.
fn counting(gate: &Gate) -> StubAgent {
    let first = format!("data: {}\n\n", chunk::text("One, ")).len();
    let held = gate.clone();
    StubAgent::start(move |_| Answer::text(["One, ", "two."]).held_after(first, &held))
}

async fn assert_streams_are_forwarded_and_survive_a_replica(
    site: Site,
    agent: StubAgent,
    gate: Gate,
    repeats: bool,
) {
    let ann = site.client("ann");
    let a = site.a.start();
    site.until_ready().await;
    let mut streaming = ann.stream(None, "Count").await;
    // The text arrives while the agent's answer is incomplete, so the balancer does not buffer.
    let mut seen = streaming.until("text").await;
    assert_eq!(text(&seen), "One, ");
    let (turn, conversation) = ids(&seen[0]);
    let plain = tokio::spawn(ann.message("", None, "Without a key").send());
    let keyed = || {
        ann.message("", None, "With a key")
            .header("idempotency-key", "k")
            .send()
    };
    let first = tokio::spawn(keyed());
    until("three requests to the agent", async || {
        agent.requests().len() == 3
    })
    .await;
    let b = site.b.clone().set("CHAT_CHATKIT_EXAMPLE", "true").start();
    // The balancer prefers the server with fewer connections, so data of the second server is found
    // as soon as the balancer uses it.
    until("the second server behind the balancer", async || {
        ann.anywhere(Method::GET, "/chatkit-example")
            .send()
            .await
            .unwrap()
            .status()
            == 200
    })
    .await;
    a.kill();
    while let Some(event) = streaming.next().await {
        seen.push(event);
    }
    assert_ne!(seen.last().unwrap().name, "done");
    gate.open();
    let last = seen.iter().rev().find_map(|event| event.id.clone());
    let rest = wait_for_end(&ann, &turn, last.as_deref()).await;
    assert_eq!(rest.last().unwrap().name, "done");
    let direct = b.client("ann");
    assert_eq!(
        normalize(&rest),
        normalize(
            &Events::of(direct.resume(&turn, last.as_deref()).await)
                .rest()
                .await
        )
    );
    assert_eq!(
        direct.transcript(&conversation).await,
        ["user: Count", "assistant: One, two."]
    );
    // A request without a key is not sent again. A request with a key may be, by the balancer or by
    // the client.
    assert_eq!(plain.await.unwrap().unwrap().status(), 502);
    let first = read(first.await.unwrap().unwrap()).await;
    assert_eq!(first.0, if repeats { 200 } else { 502 }, "{}", first.1);
    let answered =
        async || Some(keyed().await.unwrap()).filter(|response| response.status() == 200);
    let again = read(wait::value("the answer to a repeated message", answered).await)
        .await
        .1;
    assert_eq!(again["response"], "One, two.");
    assert_eq!(
        site.cluster
            .query("chat", "SELECT count(*) FROM turns")
            .unwrap(),
        "3"
    );
}

async fn assert_cancellations_limits_and_disconnects_are_forwarded(
    mut site: Site,
    agent: StubAgent,
) {
    let (_a, _b) = (site.a.start(), site.b.start());
    let ann = site.client("ann");
    site.until_ready().await;
    // The cancellation goes to the other server, which has fewer connections.
    for _ in 0..2 {
        let mut streaming = ann.stream(None, "Count").await;
        let turn = ids(&streaming.until("text").await[0]).0;
        let cancelled = ann
            .request(Method::POST, &format!("/turns/{turn}/cancel"))
            .send()
            .await
            .unwrap();
        assert_eq!(cancelled.status(), 200);
        assert_eq!(
            streaming.rest().await.last().unwrap().data["status"],
            "cancelled"
        );
    }
    // Closing a ChatKit stream stops its turn.
    let message = json!({
        "content": [{ "type": "input_text", "text": "Count" }], "attachments": [],
        "inference_options": {},
    });
    let body = json!({ "type": "threads.create", "params": { "input": message } });
    let response = ann
        .anywhere(Method::POST, "/chatkit")
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    until("three requests to the agent", async || {
        agent.requests().len() == 3
    })
    .await;
    drop(response);
    let cancelled = "SELECT count(*) FROM turns WHERE status = 'cancelled'";
    until("three cancelled turns", async || {
        site.cluster.query("chat", cancelled).unwrap() == "3"
    })
    .await;
    let long = ann
        .request(Method::POST, "/chat")
        .header("content-type", "application/json")
        .body(vec![b' '; 3 << 19]);
    let (status, problem) = read(long.send().await.unwrap()).await;
    assert_eq!(
        (status.as_u16(), &problem["code"]),
        (413, &"body_too_large".into()),
        "{problem}"
    );
    // No server is ready. Clients get the reason and a retry time.
    site.cluster.stop(Mode::Fast).unwrap();
    for _ in 0..100 {
        let response = ann.message("", None, "Anybody?").send().await.unwrap();
        assert_eq!(response.headers()["retry-after"], "2");
        let (status, problem) = read(response).await;
        assert_eq!(
            (status.as_u16(), &problem["code"]),
            (503, &"store_unavailable".into()),
            "{problem}"
        );
    }
}

async fn assert_rolling_restart_loses_nothing(site: Site, agent: StubAgent) {
    let mut servers = vec![site.a.start(), site.b.start()];
    site.until_ready().await;
    let (stop, refused) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let send = |sender: usize| {
        let (client, stop, refused) = (site.client("ann"), stop.clone(), refused.clone());
        async move {
            let (mut conversation, mut sent) = (None::<String>, Vec::new());
            while !stop.load(Ordering::Relaxed) {
                let message_text = format!("s{sender} m{}", sent.len());
                let answered = async {
                    loop {
                        let request = client.message(
                            "?messages=turn",
                            conversation.as_deref(),
                            &message_text,
                        );
                        let response = request
                            .header("idempotency-key", message_text.replace(' ', "-"))
                            .send()
                            .await
                            .unwrap();
                        let (status, reply) = read(response).await;
                        if status == 200 {
                            return reply;
                        }
                        assert!(
                            [502, 503, 504].contains(&status.as_u16()),
                            "{status} {reply}"
                        );
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                };
                let reply = wait::within("an answer by the balancer", answered).await;
                assert_eq!(reply["response"], format!("Re {message_text}"), "{reply}");
                conversation = Some(reply["conversation_id"].as_str().unwrap().to_owned());
                sent.push(message_text);
            }
            (conversation.unwrap(), sent)
        }
    };
    let senders: Vec<_> = (0..8).map(|sender| tokio::spawn(send(sender))).collect();
    let calm = async || {
        let goal = agent.requests().len() + 40;
        until("40 more requests to the agent", async || {
            agent.requests().len() >= goal
        })
        .await;
    };
    calm().await;
    for home in [&site.a, &site.b, &site.a, &site.b] {
        let oldest = servers.remove(0);
        let (code, log) = tokio::task::spawn_blocking(move || oldest.terminate())
            .await
            .unwrap();
        assert_eq!(code, Some(0), "{log}");
        servers.push(home.start());
        calm().await;
    }
    stop.store(true, Ordering::Relaxed);
    for sender in senders {
        let (conversation, sent) = sender.await.unwrap();
        let expected: Vec<String> = sent
            .iter()
            .flat_map(|message_text| {
                [
                    format!("user: {message_text}"),
                    format!("assistant: Re {message_text}"),
                ]
            })
            .collect();
        assert_eq!(
            servers[0].client("ann").transcript(&conversation).await,
            expected
        );
    }
    eprintln!(
        "{} requests, of which {} were rejected and retried",
        agent.requests().len(),
        refused.load(Ordering::Relaxed)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_forwards_streams_that_survive_a_replica() {
    let gate = Gate::new();
    let agent = counting(&gate);
    assert_streams_are_forwarded_and_survive_a_replica(Site::nginx(&agent), agent, gate, false)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_forwards_streams_that_survive_a_replica() {
    let gate = Gate::new();
    let agent = counting(&gate);
    assert_streams_are_forwarded_and_survive_a_replica(Site::haproxy(&agent), agent, gate, true)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_forwards_cancellations_limits_and_disconnects() {
    let agent = counting(&Gate::new());
    assert_cancellations_limits_and_disconnects_are_forwarded(Site::nginx(&agent), agent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_forwards_cancellations_limits_and_disconnects() {
    let agent = counting(&Gate::new());
    assert_cancellations_limits_and_disconnects_are_forwarded(Site::haproxy(&agent), agent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_loses_nothing_in_a_rolling_restart() {
    let agent = echo();
    assert_rolling_restart_loses_nothing(Site::nginx(&agent), agent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_loses_nothing_in_a_rolling_restart() {
    let agent = echo();
    assert_rolling_restart_loses_nothing(Site::haproxy(&agent), agent).await;
}
