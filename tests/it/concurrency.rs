//! Concurrent messages to one conversation.

use std::collections::HashSet;

use chat_test_support::stub_agent::{Answer, Gate, StubAgent};
use chat_test_support::wait;
use futures_util::future::join_all;
use serde_json::Value;

use chat_tests::client::{Client, line};
use chat_tests::server::{Home, Server};

/// Returns an agent that echoes the last message.
pub fn echo() -> StubAgent {
    StubAgent::start(|recorded| {
        let last = recorded.messages().pop().unwrap();
        Answer::text(["Re ", last["content"].as_str().unwrap()])
    })
}

fn contents(messages: &[Value]) -> Vec<String> {
    messages.iter().map(line).collect()
}

/// Sends 128 concurrent messages to one conversation, over all these servers in turn.
pub async fn assert_answered_in_sequence(servers: &[&Server], agent: &StubAgent) {
    let clients: Vec<_> = servers.iter().map(|server| server.client("ann")).collect();
    let ann = &clients[0];
    let conversation = ann.chat(None, "m0").await["conversation_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let texts: Vec<String> = (1..=128).map(|n| format!("m{n}")).collect();
    let send = |(text, client): (&String, &Client)| {
        let (text, client, conversation) = (text.clone(), client.clone(), conversation.clone());
        async move {
            client
                .try_chat("?messages=turn", Some(&conversation), &text)
                .await
        }
    };
    let replies = join_all(texts.iter().zip(clients.iter().cycle()).map(send)).await;
    for (text, (status, reply)) in texts.iter().zip(&replies) {
        assert_eq!(
            (status.as_u16(), &reply["response"]),
            (200, &format!("Re {text}").into())
        );
    }
    let transcript = ann.transcript(&conversation).await;
    assert_eq!(transcript.len(), 258);
    for pair in transcript.chunks(2) {
        let question = pair[0].strip_prefix("user: ").unwrap();
        assert_eq!(pair[1], format!("assistant: Re {question}"));
    }
    assert_eq!(
        transcript.iter().collect::<HashSet<_>>().len(),
        258,
        "doubled"
    );
    // Each transcript contains all earlier turns and no later ones.
    let requests = agent.requests();
    assert_eq!(requests.len(), 129);
    for (n, request) in requests.iter().enumerate() {
        assert!(request.rejection.is_none(), "{:?}", request.rejection);
        assert_eq!(contents(&request.messages()), transcript[..2 * n + 1]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queued_messages_are_answered_in_sequence() {
    let agent = echo();
    let server = Home::with_agent(&agent.base_url()).start();
    assert_answered_in_sequence(&[&server], &agent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reject_names_the_running_turn() {
    let gate = Gate::new();
    let held = gate.clone();
    let agent = StubAgent::start(move |recorded| {
        let answer = Answer::text(["Done."]);
        if recorded.number == 0 {
            answer
        } else {
            answer.held(&held)
        }
    });
    let server = Home::with_agent(&agent.base_url()).start();
    let ann = server.client("ann");
    let conversation = ann.chat(None, "first").await["conversation_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let (rejections, mut received) = tokio::sync::mpsc::unbounded_channel();
    let attempts = (0..128).map(|n| {
        let (ann, conversation, rejections) =
            (ann.clone(), conversation.clone(), rejections.clone());
        tokio::spawn(async move {
            let (status, body) = ann
                .try_chat("?busy=reject", Some(&conversation), &format!("m{n}"))
                .await;
            if status == 409 {
                rejections.send(body).unwrap();
                return None;
            }
            Some((status, body))
        })
    });
    let attempts: Vec<_> = attempts.collect();
    let mut running = HashSet::new();
    for _ in 0..127 {
        let body = wait::within("a rejected message", received.recv())
            .await
            .unwrap();
        assert_eq!(body["code"], "conversation_busy");
        running.insert(body["turn_id"].as_str().unwrap().to_owned());
    }
    gate.open();
    let answered: Vec<_> = join_all(attempts)
        .await
        .into_iter()
        .filter_map(Result::unwrap)
        .collect();
    assert_eq!(answered.len(), 1);
    assert_eq!(answered[0].0, 200);
    assert_eq!(
        running,
        HashSet::from([answered[0].1["turn_id"].as_str().unwrap().to_owned()])
    );
    assert_eq!(ann.transcript(&conversation).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupt_answers_the_last_message_and_ends_all_turns() {
    let agent = StubAgent::start(|recorded| {
        match recorded.messages().pop().unwrap()["content"]
            .as_str()
            .unwrap()
        {
            "last" => Answer::text(["Here."]),
            _ => Answer::text(["Working"]).hang_after(40),
        }
    });
    let server = Home::with_agent(&agent.base_url()).start();
    let ann = server.client("ann");
    let mut events = ann.stream(None, "first").await;
    let opened = events.until("message").await.swap_remove(0).data;
    let conversation = opened["conversation_id"].as_str().unwrap();
    let texts: Vec<String> = (0..32).map(|n| format!("m{n}")).collect();
    let all = join_all(
        texts
            .iter()
            .map(|text| ann.try_chat("?busy=interrupt&messages=turn", Some(conversation), text)),
    );
    // The last message is sent after all others have arrived.
    let users = async || {
        let page = ann
            .get(&format!("/conversations/{conversation}/messages?limit=200"))
            .await;
        page["messages"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|message| message["role"] == "user")
            .count()
    };
    let last = async {
        wait::until("33 messages of the user", async || users().await == 33).await;
        ann.try_chat("?busy=interrupt", Some(conversation), "last")
            .await
    };
    let (replies, (status, reply)) = futures_util::future::join(all, last).await;
    assert_eq!(
        (status.as_u16(), &reply["response"]),
        (200, &"Here.".into())
    );
    for (status, reply) in replies {
        assert_eq!(
            (status.as_u16(), &reply["status"]),
            (200, &"cancelled".into()),
            "{reply}"
        );
    }
    assert_eq!(
        events.rest().await.last().unwrap().data["status"],
        "cancelled"
    );
    let transcript = ann.transcript(conversation).await;
    assert_eq!(
        transcript
            .iter()
            .filter(|line| line.starts_with("user: "))
            .count(),
        34
    );
    assert_eq!(
        transcript[transcript.len() - 2..],
        ["user: last", "assistant: Here."]
    );
    assert!(
        agent
            .requests()
            .iter()
            .all(|request| request.rejection.is_none())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnected_client_does_not_stop_its_turn() {
    let gate = Gate::new();
    let held = gate.clone();
    let agent = StubAgent::start(move |_| Answer::text(["Hello."]).held(&held));
    let server = Home::with_agent(&agent.base_url()).start();
    let ann = server.client("ann");
    let mut events = ann.stream(None, "Hi").await;
    let opened = events.until("message").await.swap_remove(0).data;
    drop(events);
    gate.open();
    let turn = opened["turn_id"].as_str().unwrap();
    assert_eq!(ann.last_position_of(turn).await.name, "done");
    assert_eq!(
        ann.transcript(opened["conversation_id"].as_str().unwrap())
            .await,
        ["user: Hi", "assistant: Hello."]
    );
}
