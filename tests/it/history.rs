//! A long conversation.

use chat_domain::{
    BeginOutcome, BeginTurn, BusyPolicy, ConversationId, EndTurn, ItemBody, Message, MessageId,
    NewItem, Target, Timestamp, Title, TurnId, TurnLog, TurnOutcome, Usage, UserId, WorkerId,
    WorkerLeases,
};
use chat_store_seaorm::{OpenOptions, SeaOrmStore};
use chat_test_support::stub_agent::{Answer, StubAgent};
use uuid::Uuid;

use chat_tests::server::Home;

const TURNS: u32 = 2_500;

/// Creates a conversation of 5,000 messages in the store, without a server.
async fn long_conversation(home: &Home) -> ConversationId {
    let url = format!("sqlite://{}", home.database().display());
    let store = SeaOrmStore::open(&url, OpenOptions::default())
        .await
        .unwrap();
    let worker = WorkerId(Uuid::now_v7());
    store
        .register(worker, std::time::Duration::from_secs(60))
        .await
        .unwrap();
    let conversation = ConversationId(Uuid::now_v7());
    for n in 0..TURNS {
        let target = if n == 0 {
            Target::New(conversation, Title::from_message("Long"))
        } else {
            Target::Existing(conversation)
        };
        let at = Timestamp(i64::from(n));
        let begin = BeginTurn {
            owner: UserId::new("ann").unwrap(),
            target,
            turn: TurnId(Uuid::now_v7()),
            message: MessageId(Uuid::now_v7()),
            text: format!("Question {n}"),
            at,
            worker,
            busy: BusyPolicy::Enqueue,
            queue_limit: 1,
            idempotency: None,
            retry_of: None,
        };
        let Ok(BeginOutcome::Started(held)) = store.begin(begin).await else {
            panic!("turn {n} is not running")
        };
        let body = ItemBody::Message(Message::assistant(
            MessageId(Uuid::now_v7()),
            format!("Answer {n}"),
        ));
        store
            .end(EndTurn {
                lease: held.lease,
                last: vec![NewItem { at, body }],
                outcome: TurnOutcome::Completed,
                usage: Usage::default(),
                at,
            })
            .await
            .unwrap();
    }
    store.close().await;
    conversation
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_messages_are_read_and_sent() {
    let agent = StubAgent::start(|_| Answer::text(["Here."]));
    let home = Home::with_agent(&agent.base_url());
    let conversation = long_conversation(&home).await.to_string();
    let server = home.start();
    let ann = server.client("ann");
    let expected: Vec<String> = (0..TURNS)
        .flat_map(|n| {
            [
                format!("user: Question {n}"),
                format!("assistant: Answer {n}"),
            ]
        })
        .collect();
    assert_eq!(ann.transcript(&conversation).await, expected);
    let (status, reply) = ann
        .try_chat("?messages=turn", Some(&conversation), "And now?")
        .await;
    assert_eq!(
        (status.as_u16(), &reply["response"]),
        (200, &"Here.".into())
    );
    let read: Vec<String> = agent.requests()[0]
        .messages()
        .iter()
        .map(chat_tests::client::line)
        .collect();
    assert_eq!(read[..5_000], expected);
    assert_eq!(read[5_000..], ["user: And now?"]);
    // One reply can contain all of them.
    let reply = ann.chat(Some(&conversation), "Once more").await;
    assert_eq!(reply["messages"].as_array().unwrap().len(), 5_004);
}
