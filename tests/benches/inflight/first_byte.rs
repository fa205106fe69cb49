//! Measures the time from a client's request to the first byte of the server's request to the
//! agent, with a long history.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chat_test_support::stub_agent::chunk;
use futures_util::{StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::fleet::{Fleet, Kind};
use crate::load;
use crate::table::{goal, head, row};
use chat_tests::client::{Client, Events};

/// Number of turns in a conversation: a hundred messages.
const TURNS: usize = 50;

/// How many conversations are filled concurrently.
const CONCURRENT: usize = 16;

/// Goal: half of all messages are on their way to the agent within this many milliseconds.
const GOAL_MS: f64 = 20.0;

/// Fills conversations, then sends a message to each, one at a time. Returns the missed goal.
pub async fn measure(kind: Kind, conversations: usize) -> Vec<String> {
    let mut agent = Agent::start().await;
    let fleet = Fleet::start(kind, &agent.base_url);
    let client = fleet.clients().swap_remove(0);
    let filled: Vec<String> = stream::iter(0..conversations)
        .map(|_| fill(&client))
        .buffer_unordered(CONCURRENT)
        .collect()
        .await;
    agent.forget();
    let (mut through, mut straight) = (Vec::new(), Vec::new());
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for conversation in &filled {
        let sent = Instant::now();
        let request = client
            .message("", Some(conversation), &load::message(TURNS))
            .header("accept", "text/event-stream");
        let events = Events::of(request.send().await.unwrap()).rest().await;
        assert_eq!(events.last().unwrap().name, "done");
        through.push(agent.received().await - sent);
        // The baseline: the same bytes, sent directly to the agent.
        let body = agent.last_body();
        let request = http
            .post(format!("{}/chat/completions", agent.base_url))
            .body(body);
        let sent = Instant::now();
        request.send().await.unwrap().bytes().await.unwrap();
        straight.push(agent.received().await - sent);
    }
    println!(
        "\n{kind}: milliseconds to the agent's first byte; {conversations} conversations of {} \
        messages\n",
        2 * TURNS
    );
    head(&["", "50 %", "90 %", "99 %"]);
    let through = percentiles(through);
    let straight = percentiles(straight);
    let ms = |times: [f64; 3]| times.map(|time| format!("{time:.1}"));
    for (name, [half, most, nearly_all]) in [
        ("through the server", ms(through)),
        ("the same bytes, sent straight", ms(straight)),
    ] {
        row(&[&name, &half, &most, &nearly_all]);
    }
    println!(
        "\nThe last request had {} KiB.",
        agent.last_body().len() >> 10
    );
    goal(
        &format!("{kind}: median milliseconds to the agent's first byte"),
        through[0],
        GOAL_MS,
    )
    .into_iter()
    .collect()
}

fn percentiles(mut times: Vec<Duration>) -> [f64; 3] {
    times.sort_unstable();
    [50, 90, 99]
        .map(|percent| times[(times.len() * percent).div_ceil(100) - 1].as_secs_f64() * 1000.0)
}

async fn fill(client: &Client) -> String {
    let reply = client.chat(None, &load::message(0)).await;
    let conversation = reply["conversation_id"].as_str().unwrap().to_owned();
    for turn in 1..TURNS {
        let (status, reply) = client
            .try_chat("?messages=turn", Some(&conversation), &load::message(turn))
            .await;
        assert_eq!(status, 200, "{reply}");
    }
    conversation
}

/// An agent that records when a request's first byte arrives, and answers at once. It implements
/// only the necessary part of HTTP.
struct Agent {
    base_url: String,
    received: UnboundedReceiver<Instant>,
    last: Arc<Mutex<Vec<u8>>>,
}

impl Agent {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        let (tell, received) = unbounded_channel();
        let last = Arc::new(Mutex::new(Vec::new()));
        let kept = last.clone();
        // The task ends with the runtime.
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, tell.clone(), kept.clone()));
            }
        });
        Self {
            base_url,
            received,
            last,
        }
    }

    async fn received(&mut self) -> Instant {
        self.received.recv().await.unwrap()
    }

    fn forget(&mut self) {
        while self.received.try_recv().is_ok() {}
    }

    fn last_body(&self) -> Vec<u8> {
        self.last.lock().unwrap().clone()
    }
}

async fn serve(
    mut connection: TcpStream,
    tell: UnboundedSender<Instant>,
    last: Arc<Mutex<Vec<u8>>>,
) {
    let answer = answer();
    let mut unread = Vec::new();
    while connection.read_buf(&mut unread).await.unwrap_or(0) > 0 {
        let _ = tell.send(Instant::now());
        loop {
            if let Some(body) = whole(&unread) {
                *last.lock().unwrap() = body.to_vec();
                break;
            }
            if connection.read_buf(&mut unread).await.unwrap_or(0) == 0 {
                return;
            }
        }
        unread.clear();
        if connection.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// Returns the body of a request if it is complete.
fn whole(request: &[u8]) -> Option<&[u8]> {
    let end = request.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&request[..end])
        .unwrap()
        .to_ascii_lowercase();
    let length: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap()
        .parse()
        .unwrap();
    let body = &request[end + 4..];
    (body.len() >= length).then_some(body)
}

/// Returns an answer of 1,500 characters.
fn answer() -> Vec<u8> {
    let events = [
        chunk::text(&load::message(0).repeat(5)),
        chunk::finish("stop"),
        chunk::usage(1, 1),
    ];
    let body: String = events
        .into_iter()
        .map(|event| format!("data: {event}\n\n"))
        .collect();
    let body = format!("{body}data: [DONE]\n\n");
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
