//! Timeouts. Every server here would send forever.

use std::time::Duration;

use chat_agent_http::{ChatCompletionsAgent, Timeouts};
use chat_domain::AgentErrorKind::{TimedOut, Unavailable};
use chat_test_support::stub_agent::{Answer, StubAgent, chunk};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{Events, done, events, hello, settings, text};

const SHORT: Duration = Duration::from_millis(400);
const UNREACHED: Duration = Duration::from_secs(3600);
const UNLIMITED: Timeouts = Timeouts {
    connect: UNREACHED,
    first_byte: UNREACHED,
    idle: UNREACHED,
    step: UNREACHED,
};

async fn within(timeouts: Timeouts, answer: Answer) -> (Events, usize) {
    let stub = StubAgent::start(move |_| answer.clone());
    let mut settings = settings(&stub.base_url());
    settings.timeouts = timeouts;
    let agent = ChatCompletionsAgent::new(settings).expect("usable settings");
    (events(&agent, hello()).await, stub.requests().len())
}

fn truncated_answer() -> (Answer, usize) {
    let event = format!("data: {}\n\n", chunk::text("Once upon"));
    let length = event.len();
    (Answer::sse(event), length)
}

#[tokio::test]
async fn a_missing_status_line_times_out() {
    let timeouts = Timeouts {
        first_byte: SHORT,
        ..UNLIMITED
    };
    // A slow model is not asked again, because that would add to its load.
    assert_eq!(
        within(timeouts, Answer::hanging()).await,
        (vec![Err(TimedOut)], 1)
    );
}

#[tokio::test]
async fn a_missing_body_times_out() {
    let timeouts = Timeouts {
        first_byte: SHORT,
        ..UNLIMITED
    };
    assert_eq!(
        within(timeouts, truncated_answer().0.hang_after(0)).await,
        (vec![Err(TimedOut)], 1)
    );
    assert_eq!(
        within(
            timeouts,
            Answer::raw(200, "application/json", "").hang_after(0)
        )
        .await,
        (vec![Err(TimedOut)], 1)
    );
}

#[tokio::test]
async fn silence_in_the_middle_times_out() {
    let timeouts = Timeouts {
        idle: SHORT,
        ..UNLIMITED
    };
    let (answer, length) = truncated_answer();
    assert_eq!(
        within(timeouts, answer.hang_after(length)).await,
        (vec![text("Once upon"), Err(TimedOut)], 1)
    );
    // Half an event does not count as progress either.
    let (answer, length) = truncated_answer();
    assert_eq!(
        within(timeouts, answer.hang_after(length - 3)).await,
        (vec![Err(TimedOut)], 1)
    );
    assert_eq!(
        within(
            timeouts,
            Answer::raw(200, "application/json", "{\"cho").hang_after(5)
        )
        .await,
        (vec![Err(TimedOut)], 1)
    );
}

#[tokio::test]
async fn silence_after_the_finish_reason_is_ignored() {
    let timeouts = Timeouts {
        idle: SHORT,
        ..UNLIMITED
    };
    let event = format!(
        "data: {}\n\ndata: {}\n\n",
        chunk::text("Hi"),
        chunk::finish("stop")
    );
    let length = event.len();
    assert_eq!(
        within(timeouts, Answer::sse(event).hang_after(length)).await,
        (vec![text("Hi"), done(0, 0)], 1)
    );
}

#[tokio::test]
async fn a_step_times_out_although_the_server_keeps_sending() {
    let timeouts = Timeouts {
        step: Duration::from_secs(1),
        ..UNLIMITED
    };
    let (answer, length) = truncated_answer();
    let endless = answer.drip_after(length, ": ping\n\n", Duration::from_millis(5));
    assert_eq!(
        within(timeouts, endless).await,
        (vec![text("Once upon"), Err(TimedOut)], 1)
    );
}

#[tokio::test]
async fn a_step_times_out_before_its_first_byte() {
    let timeouts = Timeouts {
        step: SHORT,
        ..UNLIMITED
    };
    assert_eq!(
        within(timeouts, Answer::hanging()).await,
        (vec![Err(TimedOut)], 1)
    );
}

#[tokio::test]
async fn keep_alive_comments_count_as_progress() {
    // Each comment arrives well before the timeout, and all of them together take longer than it.
    let timeouts = Timeouts {
        idle: Duration::from_secs(2),
        ..UNLIMITED
    };
    let body = format!(
        "{}data: {}\n\ndata: [DONE]\n\n",
        ": ping\n\n".repeat(30),
        chunk::text("Hi")
    );
    let answer = Answer::sse(body)
        .in_pieces(8)
        .slowly(Duration::from_millis(50));
    let started = std::time::Instant::now();
    assert_eq!(
        within(timeouts, answer).await,
        (vec![text("Hi"), done(0, 0)], 1)
    );
    assert!(
        started.elapsed() > timeouts.idle,
        "the comments took too little time to show anything"
    );
}

/// Returns an address where connections are neither accepted nor refused: the listener's queue is
/// full.
async fn silent_address() -> (String, tokio::net::TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind("127.0.0.1:0".parse().expect("an address"))
        .expect("a free port");
    let listener = socket.listen(1).expect("a listener");
    let address = listener.local_addr().expect("an address");
    let mut queue = Vec::new();
    while let Ok(connection) =
        tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(address)).await
    {
        queue.push(connection.expect("a place in the queue"));
    }
    (format!("http://{address}/v1"), listener, queue)
}

#[tokio::test]
async fn a_connection_attempt_times_out() {
    let (base_url, _listener, _queue) = silent_address().await;
    let mut settings = settings(&base_url);
    settings.timeouts = Timeouts {
        connect: SHORT,
        ..UNLIMITED
    };
    let agent = ChatCompletionsAgent::new(settings).expect("usable settings");
    assert_eq!(events(&agent, hello()).await, [Err(Unavailable)]);
}

#[tokio::test]
async fn unlimited_timeouts_are_allowed() {
    let endless = Timeouts {
        connect: Duration::MAX,
        first_byte: Duration::MAX,
        idle: Duration::MAX,
        step: Duration::MAX,
    };
    assert_eq!(
        within(endless, Answer::text(["Hi"])).await,
        (vec![text("Hi"), done(1, 1)], 1)
    );
}
