//! Properties that cannot be seen from outside: the statements, and connections that fail.

mod faults;
mod statements;

use std::sync::Arc;
use std::time::Duration;

use chat_domain::testing::prelude::*;
use chat_domain::{
    BeginOutcome, BeginTurn, BusyPolicy, ConversationId, EndedTurn, HeldTurn, IdempotencyKey,
    ItemBody, Message, MessageId, NewItem, RawJson, StoreError, Target, Timestamp, Title, ToolCall,
    ToolCallId, ToolExecutor, ToolOutcome, ToolOutput, ToolResult, TurnId, TurnOutcome, Usage,
    UserId, WorkerId,
};
use uuid::Uuid;

use crate::SeaOrmStore;

const LEASE: Duration = Duration::from_secs(3600);

fn ann() -> UserId {
    UserId::new("ann").unwrap()
}

async fn enrolled(store: &SeaOrmStore) -> WorkerId {
    let worker = WorkerId(Uuid::now_v7());
    store.register(worker, LEASE).await.unwrap();
    worker
}

fn message(target: Target, worker: WorkerId) -> BeginTurn {
    BeginTurn {
        owner: ann(),
        target,
        turn: TurnId(Uuid::now_v7()),
        message: MessageId(Uuid::now_v7()),
        text: "hello".to_owned(),
        at: Timestamp(1),
        worker,
        busy: BusyPolicy::Enqueue,
        queue_limit: 256,
        idempotency: Some(IdempotencyKey {
            key: Uuid::now_v7().to_string(),
            fingerprint: [7; 32],
        }),
        retry_of: None,
    }
}

fn first_message(worker: WorkerId) -> BeginTurn {
    message(
        Target::New(ConversationId(Uuid::now_v7()), Title::new("hello").unwrap()),
        worker,
    )
}

fn running(begun: BeginOutcome) -> HeldTurn {
    match begun {
        BeginOutcome::Started(held) => held,
        other => panic!("not running: {other:?}"),
    }
}

fn item(body: ItemBody) -> NewItem {
    NewItem {
        at: Timestamp(2),
        body,
    }
}

fn answer() -> NewItem {
    item(ItemBody::Message(Message::assistant(
        MessageId(Uuid::now_v7()),
        "hi",
    )))
}

/// A step's message, its call, and the call's result.
fn step() -> [NewItem; 3] {
    let message = Message::assistant(MessageId(Uuid::now_v7()), String::new());
    let call = ToolCallId(Uuid::now_v7());
    let json = || RawJson::from_valid("{}");
    let outcome = ToolOutcome::Succeeded(ToolOutput(json()));
    [
        item(ItemBody::ToolCall(ToolCall {
            id: call,
            message: message.id,
            tool: "list".to_owned(),
            arguments: json(),
            executor: ToolExecutor::Server,
            agent_data: None,
        })),
        item(ItemBody::ToolResult(ToolResult {
            call,
            outcome,
            started_at: Timestamp(2),
            took: Duration::from_millis(1),
        })),
        item(ItemBody::Message(message)),
    ]
}

async fn end(store: &SeaOrmStore, held: &HeldTurn) -> Result<EndedTurn, StoreError> {
    store
        .end_turn(
            &held.lease,
            vec![answer()],
            TurnOutcome::Completed,
            Usage::default(),
            Timestamp(3),
        )
        .await
}

/// One whole turn.
async fn turn(store: &SeaOrmStore, target: Target, worker: WorkerId) -> HeldTurn {
    let held = running(store.begin(message(target, worker)).await.unwrap());
    let [call, result, message] = step();
    store
        .append_items(&held.lease, vec![message, call])
        .await
        .unwrap();
    store.append_items(&held.lease, vec![result]).await.unwrap();
    end(store, &held).await.unwrap();
    held
}

/// Runs something for each of many callers at once.
async fn at_once<T, F>(
    store: &Arc<SeaOrmStore>,
    count: usize,
    what: impl Fn(Arc<SeaOrmStore>, usize) -> F,
) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let callers: Vec<_> = (0..count)
        .map(|number| tokio::spawn(what(Arc::clone(store), number)))
        .collect();
    let mut answers = Vec::new();
    for caller in callers {
        answers.push(caller.await.unwrap());
    }
    answers
}
