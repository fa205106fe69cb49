//! Conversations, from the user's words to the answer.

use std::sync::Arc;

use chat_domain::testing::MemoryStore;
use chat_tools_mcp::{McpServer, McpToolset};

use crate::support::{Chat, Tasks};

#[tokio::test]
async fn a_task_from_its_first_mention_to_its_end() {
    let tasks = Tasks::new();
    let chat = Chat::new(Arc::new(MemoryStore::new()), tasks.start()).await;
    let lines = [
        ("What is on my list?", "You have no tasks yet."),
        (
            "Add task: Buy groceries",
            "Added 'Buy groceries' to your tasks.",
        ),
        ("remind me to call mom", "Added 'call mom' to your tasks."),
        (
            "What is on my list?",
            "Here are your tasks:\n1. [ ] Buy groceries\n2. [ ] call mom",
        ),
        ("Complete the first one", "Marked 'Buy groceries' as done."),
        ("rename it to Buy fruit", "Renamed task 1 to 'Buy fruit'."),
        ("what's left?", "This is left to do:\n2. [ ] call mom"),
        ("delete that one", "Deleted 'call mom' from your tasks."),
        ("Show my tasks", "Here are your tasks:\n1. [x] Buy fruit"),
        (
            "delete the last one",
            "Deleted 'Buy fruit' from your tasks.",
        ),
        ("my tasks", "You have no tasks yet."),
        ("add tea", "Added 'tea' to your tasks."),
        (
            "delete task 1",
            "That did not work: There is no task 1 on the list.",
        ),
        ("thanks!", "You are welcome."),
    ];
    chat.talk("ann", None, &lines).await;
}

#[tokio::test]
async fn tasks_are_found_by_their_titles_and_unclear_words_are_asked_about() {
    let tasks = Tasks::new();
    let chat = Chat::new(Arc::new(MemoryStore::new()), tasks.start()).await;
    let lines = [
        ("add Buy milk", "Added 'Buy milk' to your tasks."),
        (
            "add Buy oat milk to my list",
            "Added 'Buy oat milk' to your tasks.",
        ),
        (
            "add Water the plants",
            "Added 'Water the plants' to your tasks.",
        ),
        (
            "I'm done with the plants",
            "Marked 'Water the plants' as done.",
        ),
        (
            "done with milk",
            "Which task do you mean?\n1. [ ] Buy milk\n2. [ ] Buy oat milk",
        ),
        ("the second one", "Marked 'Buy oat milk' as done."),
        (
            "remove the unicorn",
            "Which task do you mean? None has that title. Your tasks are:\n1. [ ] Buy milk\n2. [x] Buy oat milk\n3. [x] Water the plants",
        ),
        ("never mind", "All right, I leave everything as it is."),
        (
            "rename \"buy oat milk\" to Buy soy milk",
            "Renamed task 2 to 'Buy soy milk'.",
        ),
        (
            "what have I done?",
            "This is done:\n2. [x] Buy soy milk\n3. [x] Water the plants",
        ),
        (
            "delete the second one",
            "Deleted 'Water the plants' from your tasks.",
        ),
        (
            "delete the second one",
            "Which task do you mean? The list is shorter than that.",
        ),
    ];
    chat.talk("ann", None, &lines).await;
}

#[tokio::test]
async fn no_other_task_than_the_one_that_was_meant_is_changed() {
    let tasks = Tasks::new();
    let chat = Chat::new(Arc::new(MemoryStore::new()), tasks.start()).await;
    let lines = [
        ("add alpha", "Added 'alpha' to your tasks."),
        ("complete it", "Marked 'alpha' as done."),
        ("add beta", "Added 'beta' to your tasks."),
        ("add gamma", "Added 'gamma' to your tasks."),
        (
            "what's left?",
            "This is left to do:\n2. [ ] beta\n3. [ ] gamma",
        ),
        ("complete gamma", "Marked 'gamma' as done."),
        ("complete the first one", "Marked 'beta' as done."),
        (
            "hello",
            "Hello! I keep your task list. Tell me what to add, or ask what is on your list.",
        ),
        (
            "delete it",
            "Which task do you mean? Say its number or its title.",
        ),
        (
            "delete everything",
            "Which task do you mean? I change one task at a time.",
        ),
        (
            "complete zzz",
            "Which task do you mean? None has that title. Your tasks are:\n1. [x] alpha\n2. [x] beta\n3. [x] gamma",
        ),
        (
            "delete it",
            "Which task do you mean? Say its number or its title.",
        ),
        ("the first", "Deleted 'alpha' from your tasks."),
    ];
    chat.talk("ann", None, &lines).await;
}

#[tokio::test]
async fn tasks_and_conversations_survive_restarts() {
    let (tasks, store) = (Tasks::new(), Arc::new(MemoryStore::new()));
    let tools = tasks.start();
    let chat = Chat::new(Arc::clone(&store), Arc::clone(&tools)).await;
    let before = [
        ("add one", "Added 'one' to your tasks."),
        ("add two", "Added 'two' to your tasks."),
        ("list", "Here are your tasks:\n1. [ ] one\n2. [ ] two"),
    ];
    let conversation = chat.talk("ann", None, &before).await;
    tools.shutdown().await;

    let chat = Chat::new(store, tasks.start()).await;
    let after = [
        ("complete the last one", "Marked 'two' as done."),
        ("list", "Here are your tasks:\n1. [ ] one\n2. [x] two"),
    ];
    chat.talk("ann", Some(conversation), &after).await;
}

#[tokio::test]
async fn users_have_lists_of_their_own() {
    let tasks = Tasks::new();
    let chat = Chat::new(Arc::new(MemoryStore::new()), tasks.start()).await;
    chat.talk(
        "ann",
        None,
        &[("add Ann's secret", "Added 'Ann's secret' to your tasks.")],
    )
    .await;
    let bob = [
        ("list", "You have no tasks yet."),
        (
            "delete task 1",
            "That did not work: There is no task 1 on the list.",
        ),
        (
            "add task: user_id ann",
            "Added 'user_id ann' to your tasks.",
        ),
        ("list", "Here are your tasks:\n1. [ ] user_id ann"),
    ];
    chat.talk("bob", None, &bob).await;
    chat.talk(
        "ann",
        None,
        &[("list", "Here are your tasks:\n1. [ ] Ann's secret")],
    )
    .await;
}

#[tokio::test]
async fn without_its_tools_it_says_so() {
    let nowhere = McpToolset::start(vec![McpServer::new("tasks", "/no/such/program")]).unwrap();
    let chat = Chat::new(Arc::new(MemoryStore::new()), Arc::new(nowhere)).await;
    let away = "The task list is not available right now, so nothing was changed. Please try again in a moment.";
    chat.talk(
        "ann",
        None,
        &[
            ("add milk", away),
            ("what's on my list?", away),
            ("complete the first one", away),
        ],
    )
    .await;
}

#[tokio::test]
async fn bad_titles_are_told() {
    let tasks = Tasks::new();
    let chat = Chat::new(Arc::new(MemoryStore::new()), tasks.start()).await;
    let long = format!("Add task: {}", "x".repeat(201));
    let refused = "That did not work: The title has 201 characters. At most 200 are allowed.";
    chat.talk(
        "ann",
        None,
        &[(&long, refused), ("list", "You have no tasks yet.")],
    )
    .await;
}
