//! A chat with the demo agent and a task server in a child process.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chat_demo::DemoAgent;
use chat_domain::testing::MemoryStore;
use chat_domain::{
    BusyPolicy, ChatService, ChatServiceConfig, ConversationId, Cursor, Invocation, RawJson,
    StartTurn, SystemEnvironment, ToolCallId, Toolset, TurnEvent, TurnId, TurnLimits, UserId,
};
use chat_tools_mcp::{McpServer, McpToolset};
use futures_util::StreamExt;
use tempfile::TempDir;
use uuid::Uuid;

/// Path of the task server, which cargo builds as an example of this package.
pub fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples/demo-tasks")
        .with_extension(std::env::consts::EXE_EXTENSION);
    assert!(
        program.exists(),
        "{} is missing: build it with `cargo build -p chat-demo --examples`",
        program.display()
    );
    program
}

/// A directory with a task list.
pub struct Tasks(TempDir);

impl Tasks {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn file(&self) -> PathBuf {
        self.0.path().join("tasks.db")
    }

    pub fn start(&self) -> Arc<McpToolset> {
        let mut server = McpServer::new("tasks", program());
        server.args.push(self.file().display().to_string());
        Arc::new(McpToolset::start(vec![server]).unwrap())
    }
}

/// A chat service with the demo agent.
pub struct Chat(Arc<ChatService>);

impl Chat {
    pub async fn new(store: Arc<MemoryStore>, tools: Arc<McpToolset>) -> Self {
        let agent = Arc::new(DemoAgent::new(Duration::ZERO));
        let config = ChatServiceConfig {
            store,
            agent,
            tools,
            environment: Arc::new(SystemEnvironment),
            observer: Arc::new(()),
            limits: TurnLimits::default(),
        };
        Self(ChatService::open(config).await.unwrap())
    }

    /// Sends a message and returns the answer.
    pub async fn say(
        &self,
        owner: &str,
        conversation: Option<ConversationId>,
        text: &str,
    ) -> (ConversationId, String) {
        let owner = user(owner);
        let message = StartTurn {
            owner: owner.clone(),
            conversation,
            text: text.into(),
            busy: BusyPolicy::Enqueue,
            idempotency: None,
        };
        let started = self.0.start_turn(message).await.unwrap();
        tokio::spawn(started.task.unwrap());
        let events = self
            .0
            .watch_turn(&owner, started.turn.id, Cursor::START)
            .await
            .unwrap();
        let answer = events
            .filter_map(async |event| match event.unwrap().1 {
                TurnEvent::Text { delta, .. } => Some(delta),
                _ => None,
            })
            .collect()
            .await;
        (started.turn.conversation, answer)
    }

    /// Sends messages, each with its expected answer.
    pub async fn talk(
        &self,
        owner: &str,
        mut conversation: Option<ConversationId>,
        lines: &[(&str, &str)],
    ) -> ConversationId {
        for (said, expected) in lines {
            let (id, answer) = self.say(owner, conversation, said).await;
            assert_eq!(&answer, expected, "to {said:?}");
            conversation = Some(id);
        }
        conversation.unwrap()
    }
}

pub fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub fn invocation(owner: &str, tool: &str, arguments: &str) -> Invocation {
    Invocation {
        owner: user(owner),
        conversation: ConversationId(Uuid::now_v7()),
        turn: TurnId(Uuid::now_v7()),
        call: ToolCallId(Uuid::now_v7()),
        tool: tool.into(),
        arguments: RawJson::from_valid(arguments),
    }
}

pub async fn call(tools: &McpToolset, owner: &str, tool: &str, arguments: &str) -> String {
    tools
        .call(invocation(owner, tool, arguments))
        .await
        .unwrap()
        .0
        .as_str()
        .to_owned()
}
