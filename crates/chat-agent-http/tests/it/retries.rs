//! Retries of requests.

use std::time::{Duration, Instant, SystemTime};

use chat_agent_http::{ChatCompletionsAgent, ChatCompletionsSettings};
use chat_domain::AgentErrorKind::{Misconfigured, Overloaded, Unavailable};
use chat_test_support::stub_agent::{Answer, StubAgent, chunk};

use crate::support::{Events, done, events, hello, settings, text};

/// Returns the events after these answers, and the number of requests.
async fn events_after(
    answers: Vec<Answer>,
    change: impl FnOnce(&mut ChatCompletionsSettings),
) -> (Events, usize) {
    let stub = StubAgent::with_answers(answers);
    let mut settings = settings(&stub.base_url());
    change(&mut settings);
    let events = events(
        &ChatCompletionsAgent::new(settings).expect("usable settings"),
        hello(),
    )
    .await;
    let requests = stub.requests();
    assert!(
        requests
            .iter()
            .all(|request| request.body == requests[0].body),
        "the same request each time"
    );
    (events, requests.len())
}

fn hello_again() -> Answer {
    Answer::text(["Hello again"])
}

fn answered() -> Events {
    vec![text("Hello again"), done(1, 1)]
}

#[tokio::test]
async fn a_transient_error_is_retried() {
    for status in [408, 429, 500, 502, 503, 504, 529] {
        let failure = || Answer::error(status, "", "not now");
        assert_eq!(
            events_after(vec![failure(), failure(), hello_again()], |_| ()).await,
            (answered(), 3),
            "{status}"
        );
    }
}

#[tokio::test]
async fn a_permanent_error_is_not_retried() {
    for status in [301, 400, 401, 402, 403, 404, 405, 413, 418, 422] {
        let (events, requests) = events_after(
            vec![Answer::error(status, "", "never"), hello_again()],
            |_| (),
        )
        .await;
        assert!(
            events[0].is_err() && requests == 1,
            "{status}: {events:?}, {requests} requests"
        );
    }
    let no_credit = Answer::error(429, "insufficient_quota", "pay");
    assert_eq!(
        events_after(vec![no_credit, hello_again()], |_| ()).await,
        (vec![Err(Misconfigured)], 1)
    );
    let too_long = Answer::error(500, "context_length_exceeded", "…");
    assert_eq!(
        events_after(vec![too_long, hello_again()], |_| ()).await.1,
        1
    );
}

#[tokio::test]
async fn attempts_are_limited() {
    let failures = || (0..9).map(|_| Answer::error(500, "", "not now")).collect();
    for (max_attempts, sent) in [(0, 1), (1, 1), (2, 2), (5, 5)] {
        let requests = events_after(failures(), |settings| {
            settings.retries.max_attempts = max_attempts
        })
        .await;
        assert_eq!(requests, (vec![Err(Unavailable)], sent), "{max_attempts}");
    }
}

#[tokio::test]
async fn x_should_retry_false_prevents_a_retry() {
    let forbidden = Answer::error(500, "", "never").header("x-should-retry", "false");
    assert_eq!(
        events_after(vec![forbidden, hello_again()], |_| ()).await,
        (vec![Err(Unavailable)], 1)
    );
    let allowed = Answer::error(500, "", "later").header("x-should-retry", "true");
    assert_eq!(
        events_after(vec![allowed, hello_again()], |_| ()).await,
        (answered(), 2)
    );
}

#[tokio::test]
async fn retry_after_delays_the_retry() {
    let started = Instant::now();
    let later = Answer::error(429, "", "later").header("retry-after", "1");
    assert_eq!(
        events_after(vec![later, hello_again()], |_| ()).await,
        (answered(), 2)
    );
    assert!(started.elapsed() >= Duration::from_secs(1));
    let past =
        Answer::error(503, "", "later").header("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT");
    let now = Answer::error(503, "", "later").header("retry-after", "0");
    assert_eq!(
        events_after(vec![past, now, hello_again()], |_| ()).await,
        (answered(), 3)
    );
}

#[tokio::test]
async fn a_retry_after_over_the_limit_fails_at_once() {
    for status in [429, 500, 503] {
        let later = Answer::error(status, "", "later").header("retry-after", "61");
        let overloaded = Overloaded {
            retry_after: Some(Duration::from_secs(61)),
        };
        assert_eq!(
            events_after(vec![later, hello_again()], |_| ()).await,
            (vec![Err(overloaded)], 1),
            "{status}"
        );
    }
    // The header may be a date in whole seconds, and some of the time has passed.
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(600));
    let later = Answer::error(429, "", "later").header("retry-after", &date);
    let (events, requests) = events_after(vec![later, hello_again()], |_| ()).await;
    let Err(Overloaded {
        retry_after: Some(left),
    }) = events[0]
    else {
        panic!("{events:?}")
    };
    assert!(
        requests == 1 && (Duration::from_secs(540)..=Duration::from_secs(600)).contains(&left),
        "{left:?}"
    );
}

#[tokio::test]
async fn a_retry_after_beyond_the_step_timeout_fails_at_once() {
    let started = Instant::now();
    let later = Answer::error(429, "", "later").header("retry-after", "50");
    let overloaded = Overloaded {
        retry_after: Some(Duration::from_secs(50)),
    };
    let events = events_after(vec![later, hello_again()], |settings| {
        settings.timeouts.step = Duration::from_secs(40)
    })
    .await;
    assert_eq!(events, (vec![Err(overloaded)], 1));
    assert!(started.elapsed() < Duration::from_secs(40));
}

#[tokio::test]
async fn a_backoff_beyond_the_step_timeout_is_not_waited_for() {
    let started = Instant::now();
    let events = events_after(
        vec![Answer::error(500, "", "not now"), hello_again()],
        |settings| {
            settings.timeouts.step = Duration::from_secs(40);
            settings.retries.initial_backoff = Duration::from_secs(50);
            settings.retries.max_backoff = Duration::from_secs(50);
        },
    );
    assert_eq!(events.await, (vec![Err(Unavailable)], 1));
    assert!(started.elapsed() < Duration::from_secs(40));
}

#[tokio::test]
async fn nothing_is_retried_after_the_first_byte() {
    let event = format!("data: {}\n\n", chunk::text("Once upon"));
    let cut = || Answer::sse(event.clone() + "data").cut_after(event.len());
    assert_eq!(
        events_after(vec![cut(), hello_again()], |_| ()).await,
        (vec![text("Once upon"), Err(Unavailable)], 1)
    );
    let comment = Answer::sse(": ping\n\n: ping\n\n").cut_after(8);
    assert_eq!(
        events_after(vec![comment, hello_again()], |_| ()).await,
        (vec![Err(Unavailable)], 1)
    );
    let garbage = Answer::raw(200, "text/html", "<html>");
    assert_eq!(
        events_after(vec![garbage, hello_again()], |_| ()).await.1,
        1
    );
    let failed = Answer::chunks([serde_json::json!({ "error": { "type": "server_error" } })]);
    assert_eq!(
        events_after(vec![failed, hello_again()], |_| ()).await,
        (vec![Err(Unavailable)], 1)
    );
}
