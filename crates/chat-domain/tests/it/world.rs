//! A server in miniature: the service over the fakes, its worker and its turns as tasks.

use std::sync::Arc;

use chat_domain::testing::{
    FakeTools, FixedEnvironment, MemoryStore, Script, ScriptedAgent, Signals,
};
use chat_domain::transcript::Entry;
use chat_domain::{
    Agent, BusyPolicy, ChatError, ChatService, ChatServiceConfig, ConversationId, Cursor, Item,
    ItemBody, StartTurn, StartedTurn, ToolOutcome, Turn, TurnEvent, TurnId, TurnLimits,
    TurnOutcome, TurnPage, TurnStatus, UserId,
};
use futures_util::StreamExt;
use tokio::task::{AbortHandle, JoinSet};

/// One server process over a store that may outlive it.
pub struct World {
    pub agent: Arc<ScriptedAgent>,
    pub tools: Arc<FakeTools>,
    pub signals: Arc<Signals>,
    pub service: Arc<ChatService>,
    tasks: Arc<std::sync::Mutex<JoinSet<()>>>,
    worker: AbortHandle,
}

pub fn ann() -> UserId {
    UserId::new("ann").unwrap()
}

/// Everything a server is made of, before it starts.
pub struct Setup {
    pub store: Arc<MemoryStore>,
    pub environment: Arc<FixedEnvironment>,
    pub limits: TurnLimits,
}

impl Setup {
    pub fn new() -> Self {
        Self {
            store: Arc::default(),
            environment: Arc::default(),
            limits: TurnLimits::default(),
        }
    }

    /// Starts a server. Several may run over one store, and a new one after a crash of the old.
    pub async fn start(&self, agent: ScriptedAgent, tools: FakeTools) -> World {
        let (agent, tools, signals) = (Arc::new(agent), Arc::new(tools), Arc::<Signals>::default());
        let service = ChatService::open(ChatServiceConfig {
            store: self.store.clone(),
            agent: agent.clone() as Arc<dyn Agent>,
            tools: tools.clone(),
            environment: self.environment.clone(),
            observer: signals.clone(),
            limits: self.limits.clone(),
        })
        .await
        .unwrap();
        let tasks = Arc::new(std::sync::Mutex::new(JoinSet::new()));
        let spawned = tasks.clone();
        let worker = tokio::spawn(
            service
                .clone()
                .work(move |task| drop(spawned.lock().unwrap().spawn(task))),
        )
        .abort_handle();
        World {
            agent,
            tools,
            signals,
            service,
            tasks,
            worker,
        }
    }

    /// A server whose agent says this, and no tools.
    pub async fn saying(&self, steps: impl IntoIterator<Item = Vec<Script>>) -> World {
        self.start(ScriptedAgent::new(steps), FakeTools::new())
            .await
    }
}

impl World {
    /// The process dies: nothing it holds does anything any more.
    pub fn crash(self) {
        self.worker.abort();
        self.tasks.lock().unwrap().abort_all();
    }

    pub fn spawn(&self, started: StartedTurn) -> Turn {
        if let Some(task) = started.task {
            self.tasks.lock().unwrap().spawn(task);
        }
        started.turn
    }

    pub async fn try_send(
        &self,
        conversation: Option<ConversationId>,
        text: &str,
        busy: BusyPolicy,
    ) -> Result<Turn, ChatError> {
        let request = StartTurn {
            owner: ann(),
            conversation,
            text: text.to_owned(),
            busy,
            idempotency: None,
        };
        self.service
            .start_turn(request)
            .await
            .map(|started| self.spawn(started))
    }

    pub async fn send(&self, conversation: Option<ConversationId>, text: &str) -> Turn {
        self.try_send(conversation, text, BusyPolicy::Enqueue)
            .await
            .unwrap()
    }

    /// All the news of a turn, until its end.
    pub async fn news(&self, turn: TurnId) -> Vec<TurnEvent> {
        let stream = self
            .service
            .watch_turn(&ann(), turn, Cursor::START)
            .await
            .unwrap();
        stream.map(|news| news.unwrap().1).collect().await
    }

    pub async fn outcome(&self, turn: TurnId) -> TurnOutcome {
        match self.news(turn).await.pop() {
            Some(TurnEvent::Ended(Turn {
                status: TurnStatus::Ended { outcome, .. },
                ..
            })) => outcome,
            other => panic!("no end: {other:?}"),
        }
    }

    /// The current state of the turn.
    pub async fn turn(&self, turn: TurnId) -> Turn {
        self.service.turn(&ann(), turn).await.unwrap().turn
    }

    /// The conversation's log, one line an item, superseded turns included.
    pub async fn log(&self, conversation: ConversationId) -> Vec<String> {
        let page = TurnPage {
            includes_superseded: true,
            ..TurnPage::ALL
        };
        let logs = self
            .service
            .turns(&ann(), conversation, page)
            .await
            .unwrap();
        logs.iter()
            .flat_map(|log| log.items.iter().map(line))
            .collect()
    }
}

pub fn line(item: &Item) -> String {
    match &item.body {
        ItemBody::Message(message) => format!("{:?}: {}", message.role, message.text),
        ItemBody::ToolCall(call) => format!("call: {} {}", call.tool, call.arguments.as_str()),
        ItemBody::ToolResult(result) => match &result.outcome {
            ToolOutcome::Succeeded(output) => format!("result: {}", output.0.as_str()),
            ToolOutcome::Failed(error) => format!("failed: {}", error.kind.code()),
            ToolOutcome::Unknown(cause) => format!("unknown: {}", cause.code()),
        },
    }
}

/// One line an entry.
pub fn lines(entries: &[Entry]) -> Vec<String> {
    let line = |entry: &Entry| match entry {
        Entry::User { text } => format!("User: {text}"),
        Entry::Assistant { text, calls, .. } if calls.is_empty() => format!("Assistant: {text}"),
        Entry::Assistant { text, calls, .. } => format!("Assistant: {text} +{}", calls.len()),
        Entry::ToolResult { content, .. } => format!("result: {content}"),
    };
    entries.iter().map(line).collect()
}
