//! Conversations with the agent.

use std::sync::Arc;
use std::time::Duration;

use chat_demo::DemoAgent;
use chat_domain::testing::MemoryStore;
use chat_domain::transcript::{Entry, Transcript};
use chat_domain::{Agent, ConversationId, FinishReason, StepEvent, StepRequest, TurnId};
use chat_tools_mcp::{McpServer, McpToolset};
use futures_util::StreamExt;
use tokio::time::Instant;
use uuid::Uuid;

use crate::support::{Chat, Tasks, user};

#[tokio::test(start_paused = true)]
async fn an_answer_is_streamed_word_by_word_with_delays() {
    let delay = Duration::from_millis(15);
    let request = StepRequest {
        owner: user("ann"),
        conversation: ConversationId(Uuid::now_v7()),
        turn: TurnId(Uuid::now_v7()),
        transcript: Transcript(vec![Entry::User {
            text: "What can you do?".to_owned(),
        }]),
        tools: Vec::new(),
    };
    let started = Instant::now();
    let stream = DemoAgent::new(delay).step(request).await.unwrap();
    let mut events: Vec<StepEvent> = stream.map(Result::unwrap).collect().await;
    let Some(StepEvent::Done(end)) = events.pop() else {
        panic!("not done: {events:?}")
    };
    assert_eq!(end.finish, FinishReason::Complete);
    assert!(end.usage.input_tokens > 0 && end.usage.output_tokens > end.usage.input_tokens);
    assert_eq!(events.first(), Some(&StepEvent::Text("I ".to_owned())));
    assert_eq!(
        started.elapsed(),
        delay * u32::try_from(events.len()).unwrap()
    );
}

#[tokio::test]
async fn tasks_are_added_listed_completed_and_deleted() {
    let (tasks, store) = (Tasks::new(), Arc::new(MemoryStore::new()));
    let chat = Chat::new(Arc::clone(&store), tasks.start()).await;
    let unclear = "Which task do you mean? Say its number or its title.";
    let lines = [
        ("What is on my list?", "You have no tasks yet."),
        (
            "Add task: Buy groceries",
            "Added 'Buy groceries' to your tasks.",
        ),
        (
            "add {task_id} \"\\\"",
            "Added '{task_id} \"\\\"' to your tasks.",
        ),
        ("add Call mom", "Added 'Call mom' to your tasks."),
        ("Complete the first one", "Marked 'Buy groceries' as done."),
        (
            "delete task 2",
            "Deleted '{task_id} \"\\\"' from your tasks.",
        ),
        ("delete task 2", unclear),
        ("delete it", unclear),
        ("complete call MOM!", "Marked 'Call mom' as done."),
        (
            "Show my tasks",
            "Here are your tasks:\n1. [x] Buy groceries\n3. [x] Call mom",
        ),
        ("delete the last one", "Deleted 'Call mom' from your tasks."),
        ("list", "Here are your tasks:\n1. [x] Buy groceries"),
    ];
    let conversation = chat.talk("ann", None, &lines).await;
    chat.talk("bob", None, &[("list", "You have no tasks yet.")])
        .await;
    // A restarted server continues with the stored conversation and list.
    let chat = Chat::new(store, tasks.start()).await;
    let lines = [("list", "Here are your tasks:\n1. [x] Buy groceries")];
    chat.talk("ann", Some(conversation), &lines).await;
}

#[tokio::test]
async fn failures_of_tools_are_reported() {
    let tasks = Tasks::new();
    let chat = Chat::new(Arc::new(MemoryStore::new()), tasks.start()).await;
    let (_, answer) = chat
        .say("ann", None, &format!("add {}", "x".repeat(201)))
        .await;
    assert!(
        answer.starts_with("That did not work. ") && answer.contains("At most 200 are allowed."),
        "{answer}"
    );
}

#[tokio::test]
async fn a_tool_that_is_not_offered_is_not_called() {
    let missing = McpToolset::start(vec![McpServer::new("tasks", "/no/such/program")]).unwrap();
    let chat = Chat::new(Arc::new(MemoryStore::new()), Arc::new(missing)).await;
    let unavailable = "The task list is not available. Please try again in a moment.";
    let lines = [("add milk", unavailable), ("complete 1", unavailable)];
    chat.talk("ann", None, &lines).await;
}

#[tokio::test]
async fn an_unknown_message_is_answered_with_the_help() {
    let chat = Chat::new(Arc::new(MemoryStore::new()), Tasks::new().start()).await;
    let (_, help) = chat.say("ann", None, "What can you do?").await;
    let expected = format!("I did not understand that; I know only simple English.\n{help}");
    chat.talk("ann", None, &[("tell me a joke", &expected)])
        .await;
}
