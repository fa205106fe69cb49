//! SIGTERM under load.

use chat_test_support::stub_agent::{Answer, Gate, StubAgent};
use chat_test_support::wait;
use futures_util::future::join_all;
use reqwest::Method;

use chat_tests::client::read;
use chat_tests::server::Home;

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_turn_is_lost() {
    let gate = Gate::new();
    let held = gate.clone();
    // The first process's agent never finishes its answers; the next one's answers at once.
    let agent = StubAgent::start(move |_| Answer::text(["Hello."]).held(&held));
    let home = Home::with_agent(&agent.base_url()).set("CHAT_SHUTDOWN_GRACE", "500ms");
    let server = home.start();
    let ann = server.client("ann");
    let mut streams = join_all((0..40).map(|n| {
        let ann = ann.clone();
        async move { ann.stream(None, &format!("m{n}")).await }
    }))
    .await;
    let mut turns = Vec::new();
    for stream in &mut streams {
        turns.push(stream.until("message").await.swap_remove(0).data);
    }
    // Several messages are queued in one conversation, and senders continue to send.
    let conversation = turns[0]["conversation_id"].as_str().unwrap().to_owned();
    let mut queued = ann.stream(Some(&conversation), "queued").await;
    turns.push(queued.next().await.unwrap().data);
    let sending = (0..4).map(|sender| {
        let ann = ann.clone();
        tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for n in 0..200 {
                let text = format!("late {sender} {n}");
                let Ok(response) = ann
                    .message("", None, &text)
                    .header("accept", "text/event-stream")
                    .send()
                    .await
                else {
                    break;
                };
                if response.status() != 200 {
                    assert_eq!(read(response).await.1["code"], "shutting_down");
                    break;
                }
                let mut events = chat_tests::client::Events::of(response);
                let Some(opened) = events.next().await else {
                    break;
                };
                acknowledged.push(opened.data);
            }
            acknowledged
        })
    });
    let sending: Vec<_> = sending.collect();
    let (code, log) = tokio::task::spawn_blocking(move || server.terminate())
        .await
        .unwrap();
    assert_eq!(code, Some(0), "{log}");
    for sent in sending {
        turns.extend(sent.await.unwrap());
    }
    gate.open();
    let server = home.start();
    let ann = server.client("ann");
    for turn in &turns {
        let id = turn["turn_id"].as_str().unwrap();
        assert_eq!(ann.last_position_of(id).await.name, "done");
    }
    let answered = ann.transcript(&conversation).await;
    assert_eq!(
        answered[1..],
        ["assistant: Hello.", "user: queued", "assistant: Hello."]
    );
    let first = ann
        .get(&format!("/turns/{}", turns[0]["turn_id"].as_str().unwrap()))
        .await;
    assert_eq!(first["status"], "completed", "{first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_queue_does_not_delay_the_shutdown() {
    // The turns are short, so that one is always about to end and start the next.
    let agent = StubAgent::start(|_| Answer::text(["Hello."]));
    let home = Home::with_agent(&agent.base_url()).set("CHAT_SHUTDOWN_GRACE", "50ms");
    let server = home.start();
    let ann = server.client("ann");
    let conversation = ann.chat(None, "first").await["conversation_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut turns = Vec::new();
    for n in 0..200 {
        let mut events = ann.stream(Some(&conversation), &format!("m{n}")).await;
        turns.push(
            events.next().await.unwrap().data["turn_id"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    let (code, log) = tokio::task::spawn_blocking(move || server.terminate())
        .await
        .unwrap();
    assert_eq!(code, Some(0), "{log}");
    let server = home.start();
    let ann = server.client("ann");
    for turn in &turns {
        assert_eq!(ann.last_position_of(turn).await.name, "done");
    }
    let transcript = ann.transcript(&conversation).await;
    assert_eq!(transcript.len(), 402);
    for (n, pair) in transcript.chunks(2).skip(1).enumerate() {
        assert_eq!(
            pair,
            [format!("user: m{n}"), "assistant: Hello.".to_owned()]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_reports_its_shutdown() {
    let gate = Gate::new();
    let held = gate.clone();
    let agent = StubAgent::start(move |_| Answer::text(["Hello."]).held(&held));
    let home = Home::with_agent(&agent.base_url())
        .set("CHAT_SHUTDOWN_GRACE", "30s")
        .set("CHAT_SHUTDOWN_NOTICE", "30s");
    let server = home.start();
    let ann = server.client("ann");
    let mut running = ann.stream(None, "Hi").await;
    let opened = running.until("message").await.swap_remove(0).data;
    server.signal("TERM");
    let ready = async || {
        read(
            ann.anywhere(Method::GET, "/health/ready")
                .send()
                .await
                .unwrap(),
        )
        .await
    };
    wait::until("a server that is not ready", async || {
        ready().await.0 != 200
    })
    .await;
    let (status, problem) = ready().await;
    assert_eq!(
        (status.as_u16(), &problem["code"]),
        (503, &"shutting_down".into())
    );
    // A second signal ends the process at once.
    server.signal("TERM");
    let (code, _) = tokio::task::spawn_blocking(move || server.ended())
        .await
        .unwrap();
    assert_ne!(code, Some(0));
    gate.open();
    let heir = home.start();
    let turn = opened["turn_id"].as_str().unwrap();
    assert_eq!(heir.client("ann").last_position_of(turn).await.name, "done");
}
