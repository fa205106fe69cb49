//! Outages and failovers of the database, and network failures.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chat_test_postgres::{Cluster, Mode, Options};
use chat_test_support::proxy::{Cut, Lost, Proxy, Trap};
use chat_test_support::stub_agent::{Answer, Gate, StubAgent};
use chat_test_support::wait::{until, within};
use reqwest::Method;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::ids;
use crate::concurrency::echo;
use chat_tests::client::{Client, read};
use chat_tests::server::{Home, Server};
use chat_tests::witness::Witness;

/// A cluster, and a proxy in front of it that can fail.
struct Site {
    cluster: Cluster,
    network: Arc<Proxy>,
}

impl Site {
    fn new() -> Self {
        let cluster = Cluster::start(Options::default()).unwrap();
        cluster.create_database("chat").unwrap();
        let network = Arc::new(Proxy::start(([127, 0, 0, 1], cluster.port()).into()));
        Self { cluster, network }
    }

    fn home(&self, agent: &StubAgent) -> Home {
        let url = self.network.through(
            ([127, 0, 0, 1], self.cluster.port()).into(),
            &self.cluster.url("chat"),
        );
        let limits = [
            ("CHAT_DATABASE_CONNECT_TIMEOUT", "3s"),
            ("CHAT_DATABASE_STATEMENT_TIMEOUT", "3s"),
            ("CHAT_DATABASE_ACQUIRE_TIMEOUT", "5s"),
            ("CHAT_DATABASE_TIMEOUT", "6s"),
        ];
        limits.into_iter().fold(
            super::home(&url, &agent.base_url()),
            |home, (name, value)| home.set(name, value),
        )
    }

    /// Stops the database, and restarts it after a pause.
    fn restart(&mut self, mode: Option<Mode>, pause: Duration) {
        match mode {
            Some(mode) => self.cluster.stop(mode).unwrap(),
            None => self.cluster.kill().unwrap(),
        }
        std::thread::sleep(pause);
        self.cluster.restart().unwrap();
    }
}

/// Codes of an unavailable database, of one that was lost during a request, or of a standby.
const UNAVAILABLE_CODES: [&str; 3] = ["store_unavailable", "store_timeout", "store_read_only"];

/// Retries a request until it succeeds. Every error must say that the database is unavailable.
async fn retry_until_success<F: Future<Output = reqwest::Result<reqwest::Response>>>(
    mut send: impl FnMut() -> F,
) -> Value {
    let answered = async {
        loop {
            let response = send().await.unwrap();
            let retry_after = response.headers().get("retry-after").cloned();
            let (status, body) = read(response).await;
            if status == 200 {
                return body;
            }
            assert_eq!(status, 503, "{body}");
            assert!(
                UNAVAILABLE_CODES.contains(&body["code"].as_str().unwrap()),
                "{body}"
            );
            assert!(retry_after.is_some(), "{body}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within("an answer from a server after a database outage", answered).await
}

/// Concurrent senders, each with its own conversation, that retry until they are answered.
struct Senders {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<(String, Vec<String>)>>,
}

impl Senders {
    fn start(servers: &[&Server], senders: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<Client> = servers.iter().map(|server| server.client("ann")).collect();
        let sending = |sender: usize| {
            let (clients, stop) = (clients.clone(), stop.clone());
            async move {
                let (mut conversation, mut sent) = (None::<String>, Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    let text = format!("s{sender} m{}", sent.len());
                    let mut attempts = 0;
                    let reply = retry_until_success(|| {
                        // The next attempt goes to another server, as behind a load balancer.
                        attempts += 1;
                        let client = &clients[(sender + attempts) % clients.len()];
                        let request =
                            client.message("?messages=turn", conversation.as_deref(), &text);
                        request
                            .header("idempotency-key", text.replace(' ', "-"))
                            .send()
                    });
                    let reply = reply.await;
                    assert_eq!(reply["response"], format!("Re {text}"), "{reply}");
                    conversation = Some(reply["conversation_id"].as_str().unwrap().to_owned());
                    sent.push(text);
                }
                (conversation.unwrap(), sent)
            }
        };
        Self {
            tasks: (0..senders)
                .map(|sender| tokio::spawn(sending(sender)))
                .collect(),
            stop: stop.clone(),
        }
    }

    /// Stops the senders, and asserts that every answered message is stored once and in order.
    async fn assert_nothing_lost(self, client: &Client) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            let (conversation, sent) = task.await.unwrap();
            let expected: Vec<String> = sent
                .iter()
                .flat_map(|text| [format!("user: {text}"), format!("assistant: Re {text}")])
                .collect();
            assert_eq!(client.transcript(&conversation).await, expected);
        }
    }
}

async fn code(client: &Client, path: &str) -> (u16, Value) {
    let (status, body) = read(client.anywhere(Method::GET, path).send().await.unwrap()).await;
    (status.as_u16(), body["code"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_survive_a_database_restart() {
    for mode in [Mode::Fast, Mode::Immediate] {
        let gate = Gate::new();
        let held = gate.clone();
        let agent = StubAgent::start(move |recorded| {
            let last = recorded.messages().pop().unwrap();
            match (
                last["role"].as_str().unwrap(),
                last["content"].as_str().unwrap(),
            ) {
                ("user", "Pay") => Answer::calls([("pay", "{}")]),
                ("user", _) => Answer::text(["Done."]).held(&held),
                _ => Answer::text(["Paid."]),
            }
        });
        let mut site = Site::new();
        let (witness, home) = Witness::gated(site.home(&agent));
        let (a, b) = (home.start(), home.start());
        let ann = a.client("ann");
        let mut opened = Vec::new();
        for n in 0..8 {
            opened.push(ids(&ann
                .stream(None, &format!("m{n}"))
                .await
                .next()
                .await
                .unwrap()));
        }
        until("eight requests to the agent", async || {
            agent.requests().len() == 8
        })
        .await;
        let mut paying = ann.stream(None, "Pay").await;
        let pay = ids(&paying.until("tool_call").await[0]);
        let tool = witness.reached().await;
        site.cluster.stop(mode).unwrap();
        // Requests fail soon, and requests that need no database succeed.
        for server in [&a, &b] {
            let started = Instant::now();
            let client = server.client("ann");
            for response in [
                client.message("", None, "Anybody?").send().await.unwrap(),
                client
                    .request(Method::GET, "/conversations")
                    .send()
                    .await
                    .unwrap(),
                client
                    .request(Method::POST, &format!("/turns/{}/cancel", opened[0].0))
                    .send()
                    .await
                    .unwrap(),
            ] {
                assert!(response.headers().contains_key("retry-after"));
                assert_eq!(read(response).await.1["code"], "store_unavailable");
            }
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "{:?}",
                started.elapsed()
            );
            assert_eq!(
                code(&client, "/health/ready").await,
                (503, "store_unavailable".into())
            );
            assert_eq!(code(&client, "/health/live").await.0, 200);
        }
        // Answers arrive, and a tool ends, while nothing can be stored.
        gate.open();
        tool.release();
        until("the calls of both tools", async || witness.log().len() == 2).await;
        site.cluster.restart().unwrap();
        for (n, (turn, conversation)) in opened.iter().enumerate() {
            let on = if n % 2 == 0 { &a } else { &b }.client("ann");
            retry_until_success(|| on.request(Method::GET, &format!("/turns/{turn}")).send()).await;
            assert_eq!(on.last_position_of(turn).await.name, "done");
            assert_eq!(
                on.transcript(conversation).await,
                [format!("user: m{n}"), "assistant: Done.".to_owned()]
            );
        }
        assert_eq!(ann.last_position_of(&pay.0).await.name, "done");
        assert_eq!(
            ann.transcript(&pay.1).await,
            ["user: Pay", "assistant: Paid."]
        );
        // The outcome may be unknown, but the tool did not run again.
        assert_eq!(witness.log(), ["begin pay", "end pay"]);
        // Failed requests left nothing behind.
        assert_eq!(
            site.cluster
                .query("chat", "SELECT count(*) FROM turns")
                .unwrap(),
            "9"
        );
        assert_eq!(
            site.cluster
                .query("chat", "SELECT count(*) FROM turns WHERE ended_at IS NULL")
                .unwrap(),
            "0"
        );
        for server in [&a, &b] {
            until("a server that is ready", async || {
                code(&server.client("ann"), "/health/ready").await.0 == 200
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_lose_nothing_in_database_and_network_failures() {
    let agent = echo();
    let mut site = Site::new();
    let home = site.home(&agent);
    let (a, b) = (home.start(), home.start());
    let senders = Senders::start(&[&a, &b], 8);
    let answered = || agent.requests().len();
    // Some requests succeed between two faults.
    let calm = async || {
        let goal = answered() + 16;
        until("more answers", async || answered() >= goal).await;
    };
    let network = site.network.clone();
    let pause = Duration::from_millis(300);
    calm().await;
    for mode in [Some(Mode::Fast), Some(Mode::Immediate), None] {
        site.restart(mode, pause);
        calm().await;
    }
    for cut in [Cut::Close, Cut::Reset] {
        network.cut(cut);
        calm().await;
    }
    network.refuse();
    network.cut(Cut::Reset);
    tokio::time::sleep(pause).await;
    network.forward();
    calm().await;
    network.stall();
    tokio::time::sleep(Duration::from_secs(1)).await;
    network.forward();
    calm().await;
    // Longer than the lease. Connections that lost bytes stay silent.
    network.silence();
    tokio::time::sleep(Duration::from_secs(5)).await;
    network.forward();
    calm().await;
    senders.assert_nothing_lost(&b.client("ann")).await;
    assert!(
        agent
            .requests()
            .iter()
            .all(|request| request.rejection.is_none())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_continue_after_a_failover() {
    let agent = echo();
    let mut site = Site::new();
    let mut standby = site.cluster.standby().unwrap();
    let home = site.home(&agent);
    let (a, b) = (home.start(), home.start());
    let senders = Senders::start(&[&a, &b], 8);
    until("40 requests to the agent", async || {
        agent.requests().len() >= 40
    })
    .await;
    site.cluster.kill().unwrap();
    // A server on a standby reports that it is read-only.
    site.network
        .point_to(([127, 0, 0, 1], standby.port()).into());
    let ann = a.client("ann");
    until("a server that is not ready", async || {
        code(&ann, "/health/ready").await.0 == 503
    })
    .await;
    let refused = ann.message("", None, "Anybody?").send().await.unwrap();
    assert_eq!(refused.status(), 503);
    standby.promote().unwrap();
    let goal = agent.requests().len() + 40;
    until("40 more requests to the agent", async || {
        agent.requests().len() >= goal
    })
    .await;
    senders.assert_nothing_lost(&b.client("ann")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_with_a_lost_message_or_answer_is_done_once() {
    let site = Site::new();
    for lost in [Lost::Answer, Lost::Message] {
        let (network, traps) = (
            site.network.clone(),
            Arc::new(std::sync::Mutex::new(Vec::new())),
        );
        let set_trap = {
            let (network, traps) = (network.clone(), traps.clone());
            move || {
                let trap = Trap::commit(lost);
                network.set_trap(trap.clone());
                traps.lock().unwrap().push(trap);
            }
        };
        // The next writes are lost: the calls, then the end.
        let before_answer = set_trap.clone();
        let agent = StubAgent::start(move |recorded| {
            match recorded.messages().pop().unwrap()["role"].as_str() {
                Some("user") if recorded.number == 0 => Answer::text(["Hello."]),
                Some("user") => {
                    before_answer();
                    Answer::calls([("pay", "{}")])
                }
                _ => {
                    before_answer();
                    Answer::text(["Paid."])
                }
            }
        });
        // The server writes only for requests.
        let home = site
            .home(&agent)
            .set("CHAT_LEASE", "3h")
            .set("CHAT_HEARTBEAT", "1h")
            .set("CHAT_SWEEP", "1h");
        let (witness, home) = Witness::gated(home);
        let server = home.start();
        let ann = server.client("ann");
        assert_eq!(ann.chat(None, "Hi").await["response"], "Hello.");
        set_trap();
        let sent = tokio::spawn(
            ann.message("", None, "Pay")
                .header("idempotency-key", format!("{lost:?}"))
                .send(),
        );
        let tool = witness.reached().await;
        set_trap();
        tool.release();
        let (status, reply) = read(sent.await.unwrap().unwrap()).await;
        assert_eq!(
            (status.as_u16(), &reply["response"]),
            (200, &"Paid.".into()),
            "{lost:?}: {reply}"
        );
        let traps = std::mem::take(&mut *traps.lock().unwrap());
        assert_eq!(
            traps.iter().map(Trap::has_triggered).collect::<Vec<_>>(),
            [true; 4],
            "{lost:?}"
        );
        assert_eq!(reply["tool_calls"][0]["status"], "succeeded", "{reply}");
        assert_eq!(
            ann.transcript(reply["conversation_id"].as_str().unwrap())
                .await,
            ["user: Pay", "assistant: Paid."]
        );
        assert_eq!(witness.log(), ["begin pay", "end pay"]);
        assert_eq!(
            ann.get("/conversations").await["conversations"]
                .as_array()
                .unwrap()
                .len(),
            if lost == Lost::Answer { 2 } else { 4 }
        );
        assert!(
            agent
                .requests()
                .iter()
                .all(|request| request.rejection.is_none())
        );
    }
}
