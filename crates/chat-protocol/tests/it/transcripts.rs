//! Snapshots of every kind of response and event, over the real use case and the domain's fakes.

use std::sync::Arc;

use chat_domain::testing::{
    FakeTools, FixedEnvironment, Gate, LogBuilder, MemoryStore, Script, ScriptedAgent, Signals,
};
use chat_domain::{
    Agent, AgentErrorKind, BusyPolicy, CallError, ChatError, ChatService, ChatServiceConfig,
    ConversationId, Cursor, FailureKind, FinishReason, InvalidInput, Item, Position, RetryTurn,
    StartTurn, ToolError, ToolErrorKind, ToolOutcome, Turn, TurnEvent, TurnFailure, TurnId,
    TurnLimits, TurnOutcome, TurnPage, TurnStatus, UnknownCause, UserId,
};
use chat_protocol::chatkit;
use chat_protocol::native::ConversationObject;
use chat_protocol::native::Query;
use chat_protocol::native::TurnDetailObject;
use chat_protocol::native::messages;
use chat_protocol::native::{ConversationPageRequest, MessagePageRequest, ToolCallPageRequest};
use chat_protocol::native::{events, reply};
use chat_protocol::{Code, Problem};
use futures_util::StreamExt;
use serde::Serialize;

struct Chat {
    service: Arc<ChatService>,
    owner: UserId,
}

impl Chat {
    async fn new(agent: impl Agent + 'static) -> Self {
        let tools = FakeTools::new()
            .answering("add_task", false, r#"{"task_id": 1,  "status": "created"}"#)
            .with("fail", false, |_| {
                Box::pin(async {
                    Err(ToolError::new(ToolErrorKind::Failed, "The list is full.").into())
                })
            })
            .with("vanish", false, |_| {
                Box::pin(async { Err(CallError::Unknown) })
            });
        let config = ChatServiceConfig {
            store: Arc::new(MemoryStore::new()),
            agent: Arc::new(agent),
            tools: Arc::new(tools),
            environment: Arc::new(FixedEnvironment::new()),
            observer: Arc::new(Signals::default()),
            limits: TurnLimits {
                calls_at_once: 1,
                ..TurnLimits::default()
            },
        };
        Self {
            service: ChatService::open(config).await.unwrap(),
            owner: UserId::new("ada").unwrap(),
        }
    }

    async fn start(&self, text: &str, conversation: Option<ConversationId>) -> Turn {
        let (owner, text) = (self.owner.clone(), text.to_owned());
        let started = StartTurn {
            owner,
            conversation,
            text,
            busy: BusyPolicy::Enqueue,
            idempotency: None,
        };
        let started = self.service.start_turn(started).await.unwrap();
        if let Some(task) = started.task {
            tokio::spawn(task);
        }
        started.turn
    }

    /// All events of a turn, each with the cursor after it.
    async fn events(&self, turn: TurnId) -> Vec<(Cursor, TurnEvent)> {
        let events = self
            .service
            .watch_turn(&self.owner, turn, Cursor::START)
            .await
            .unwrap();
        events.map(Result::unwrap).collect().await
    }

    async fn frames(&self, turn: &Turn) -> String {
        let frames = self
            .events(turn.id)
            .await
            .into_iter()
            .map(|(cursor, event)| events::event(turn.id, cursor, &event));
        std::iter::once(events::opening(turn))
            .chain(frames)
            .collect()
    }

    /// A turn after its end, and its items.
    async fn ended(&self, turn: &Turn) -> (Turn, Vec<Item>) {
        let mut items = Vec::new();
        let mut ended = turn.clone();
        for (_, event) in self.events(turn.id).await {
            match event {
                TurnEvent::Item(item) => items.push(item),
                TurnEvent::Ended(turn) => ended = turn,
                _ => {}
            }
        }
        (ended, items)
    }

    /// The reply to a turn, with the whole conversation.
    async fn reply(&self, turn: &Turn) -> Result<reply::ChatReply, Problem> {
        let (ended, items) = self.ended(turn).await;
        self.reply_to(ended, items).await
    }

    async fn reply_to(&self, ended: Turn, items: Vec<Item>) -> Result<reply::ChatReply, Problem> {
        let logs = self
            .service
            .turns(&self.owner, ended.conversation, reply::turns_up_to(&ended))
            .await
            .unwrap();
        reply::reply(ended, items, Some(&logs))
    }
}

fn with_tools() -> ScriptedAgent {
    ScriptedAgent::new([
        vec![
            Script::text("I will "),
            Script::text("try.\n"),
            Script::call("add_task", "{ \"title\":\n\"Milk\" }"),
            Script::call("fail", "{}"),
            Script::call("vanish", r#"{"n":1}"#),
        ],
        vec![Script::text("One of three.")],
    ])
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_turn_with_tools() {
    let chat = Chat::new(with_tools()).await;
    let turn = chat.start("Add task: Milk", None).await;
    insta::assert_snapshot!("turn_with_tools_events", chat.frames(&turn).await);
    insta::assert_snapshot!(
        "turn_with_tools_reply",
        pretty(&chat.reply(&turn).await.unwrap())
    );
    let view = chat.service.turn(&chat.owner, turn.id).await.unwrap();
    insta::assert_snapshot!(
        "turn_with_tools_detail",
        pretty(&TurnDetailObject::from(view))
    );

    let query = Query::new("limit=2");
    let request = ToolCallPageRequest::decode(turn.conversation, &query).unwrap();
    let found = chat
        .service
        .tool_calls(&chat.owner, turn.conversation, request.page())
        .await
        .unwrap();
    insta::assert_snapshot!("tool_calls_page", pretty(&request.encode(found)));
}

#[tokio::test(start_paused = true)]
async fn conversations_and_messages() {
    let chat = Chat::new(ScriptedAgent::new([])).await;
    let first = chat.start("Hello\nthere", None).await;
    chat.events(first.id).await;
    let second = chat.start("More", Some(first.conversation)).await;
    chat.events(second.id).await;
    chat.start("Another", None).await;
    let conversation = chat
        .service
        .conversation(&chat.owner, first.conversation)
        .await
        .unwrap();
    insta::assert_snapshot!(
        "conversation",
        pretty(&ConversationObject::from(&conversation))
    );
    let request = ConversationPageRequest::decode(&Query::new("limit=1")).unwrap();
    let found = chat
        .service
        .conversations(&chat.owner, request.page())
        .await
        .unwrap();
    insta::assert_snapshot!("conversations_page", pretty(&request.encode(found)));
    let request = MessagePageRequest::decode(first.conversation, &Query::new("limit=3")).unwrap();
    let found = chat
        .service
        .turns(&chat.owner, first.conversation, request.page())
        .await
        .unwrap();
    insta::assert_snapshot!("messages_page", pretty(&request.encode(&found)));
}

/// Incomplete answers, and an answer for which the oldest turns were left out: in the stream, in
/// the reply, in the list, in ChatKit.
#[tokio::test(start_paused = true)]
async fn incomplete_answers() {
    let too_long = || vec![Script::Fail(AgentErrorKind::ContextTooLong { limit: None })];
    let chat = Chat::new(ScriptedAgent::new([
        vec![Script::text("Half of"), Script::done(FinishReason::Length)],
        vec![
            Script::text("I may"),
            Script::done(FinishReason::ContentFilter),
        ],
        too_long(),
        vec![Script::text("Yes.")],
    ]))
    .await;
    let mut turn = chat.start("First", None).await;
    chat.events(turn.id).await;
    for text in ["Second", "Third"] {
        turn = chat.start(text, Some(turn.conversation)).await;
        chat.events(turn.id).await;
    }
    insta::assert_snapshot!("not_whole_events", chat.frames(&turn).await);
    insta::assert_snapshot!("not_whole_reply", pretty(&chat.reply(&turn).await.unwrap()));
    let logs = chat
        .service
        .turns(&chat.owner, turn.conversation, TurnPage::ALL)
        .await
        .unwrap();
    let items: Vec<_> = logs.iter().flat_map(chatkit::items).collect();
    insta::assert_snapshot!("not_whole_chatkit", pretty(&items));
}

#[tokio::test(start_paused = true)]
async fn failed_cancelled_and_superseded_turns() {
    let gate = Gate::new();
    let chat = Chat::new(ScriptedAgent::new([
        vec![Script::Fail(AgentErrorKind::TimedOut)],
        vec![Script::text("Half"), Script::Wait(gate.clone())],
        vec![Script::text("Whole.")],
    ]))
    .await;
    let failed = chat.start("First", None).await;
    insta::assert_snapshot!("failed_events", chat.frames(&failed).await);
    insta::assert_snapshot!(
        "failed_reply",
        pretty(&chat.reply(&failed).await.unwrap_err().body())
    );

    let cancelled = chat.start("Second", Some(failed.conversation)).await;
    gate.reached_by(1).await;
    let view = chat.service.turn(&chat.owner, cancelled.id).await.unwrap();
    insta::assert_snapshot!("running_detail", pretty(&TurnDetailObject::from(view)));
    chat.service
        .cancel_turn(&chat.owner, cancelled.id)
        .await
        .unwrap();
    insta::assert_snapshot!("cancelled_events", chat.frames(&cancelled).await);
    insta::assert_snapshot!(
        "cancelled_reply",
        pretty(&chat.reply(&cancelled).await.unwrap())
    );

    let retry = RetryTurn {
        owner: chat.owner.clone(),
        turn: cancelled.id,
        busy: BusyPolicy::Enqueue,
        idempotency: None,
    };
    let started = chat.service.retry_turn(retry).await.unwrap();
    tokio::spawn(started.task.unwrap());
    chat.events(started.turn.id).await;
    let all = TurnPage {
        includes_superseded: true,
        ..TurnPage::ALL
    };
    let logs = chat
        .service
        .turns(&chat.owner, failed.conversation, all)
        .await
        .unwrap();
    let shown: Vec<_> = logs.iter().flat_map(messages).flatten().collect();
    insta::assert_snapshot!("all_messages", pretty(&shown));
}

#[tokio::test(start_paused = true)]
async fn a_reply_includes_its_own_turn_even_if_superseded() {
    let chat = Chat::new(ScriptedAgent::new([])).await;
    let first = chat.start("First", None).await;
    chat.events(first.id).await;
    let second = chat.start("Second", Some(first.conversation)).await;
    let (ended, items) = chat.ended(&second).await;
    let retry = RetryTurn {
        owner: chat.owner.clone(),
        turn: first.id,
        busy: BusyPolicy::Enqueue,
        idempotency: None,
    };
    chat.service.retry_turn(retry).await.unwrap();
    let reply = chat.reply_to(ended, items).await.unwrap();
    assert!(
        reply
            .messages
            .iter()
            .any(|message| message.turn_id == second.id.0)
    );
}

#[test]
fn a_discarded_draft() {
    let mut log = LogBuilder::new();
    log.user("Hi");
    let log = log.ended(1, TurnOutcome::Completed);
    let message = chat_domain::MessageId(FixedEnvironment::id(9));
    let cursor = Cursor {
        position: Position(1),
        text: None,
        ended: false,
    };
    insta::assert_snapshot!(
        "discarded",
        events::event(log.turn.id, cursor, &TurnEvent::Discarded { message })
    );
}

#[test]
fn an_interrupted_stream() {
    let problem = Problem::from(Code::StoreUnavailable).in_turn(
        ConversationId(FixedEnvironment::id(1)),
        TurnId(FixedEnvironment::id(2)),
    );
    insta::assert_snapshot!("broken", events::interrupted(&problem));
}

#[test]
fn assistant_messages_depend_on_text_calls_and_outcome() {
    let failed = || {
        TurnOutcome::Failed(TurnFailure {
            kind: FailureKind::AgentTimeout,
            message: "The agent took too long.".into(),
        })
    };
    let shown = |build: &dyn Fn(&mut LogBuilder), status: TurnStatus| {
        let mut log = LogBuilder::new();
        log.user("Hi");
        build(&mut log);
        let [user, assistant] = messages(&log.log(1, status));
        (
            user.unwrap().error.is_some(),
            assistant.map(|message| message.error.is_some()),
        )
    };
    let ended = |outcome| TurnStatus::Ended {
        at: FixedEnvironment::START,
        outcome,
    };
    let nothing = |_: &mut LogBuilder| {};
    let says = |text: &'static str| {
        move |log: &mut LogBuilder| {
            log.assistant(text);
        }
    };
    let (empty, text) = (says(""), says("Half"));
    let call = |log: &mut LogBuilder| {
        let message = log.assistant("");
        let call = log.call(message, "add_task");
        log.outcome(call.id, ToolOutcome::Unknown(UnknownCause::Stopped));
    };
    assert_eq!(shown(&nothing, TurnStatus::Queued), (false, None));
    assert_eq!(shown(&nothing, TurnStatus::Running), (false, None));
    assert_eq!(shown(&nothing, ended(failed())), (true, None));
    assert_eq!(shown(&empty, ended(failed())), (true, None));
    assert_eq!(shown(&empty, ended(TurnOutcome::Cancelled)), (false, None));
    assert_eq!(
        shown(&empty, ended(TurnOutcome::Completed)),
        (false, Some(false))
    );
    assert_eq!(shown(&text, ended(failed())), (false, Some(true)));
    assert_eq!(shown(&call, ended(failed())), (false, Some(true)));
    assert_eq!(shown(&call, TurnStatus::Running), (false, Some(false)));
}

#[test]
fn refusals_of_the_domain() {
    let errors = [
        ChatError::Invalid(InvalidInput::MessageEmpty),
        ChatError::Invalid(InvalidInput::MessageTooLong {
            limit: 5,
            length: 6,
        }),
        ChatError::Invalid(InvalidInput::Nul),
        ChatError::Invalid(InvalidInput::Title),
        ChatError::Invalid(InvalidInput::Cursor),
        ChatError::ConversationNotFound,
        ChatError::TurnNotFound,
        ChatError::Busy(TurnId(FixedEnvironment::id(3))),
        ChatError::QueueFull,
        ChatError::IdempotencyMismatch,
        ChatError::ShuttingDown,
        ChatError::Store(chat_domain::StoreError::Internal("a secret".into())),
    ];
    let bodies: Vec<_> = errors
        .iter()
        .map(|error| Problem::from(error).body())
        .collect();
    insta::assert_snapshot!("refusals", pretty(&bodies));
}

#[test]
fn every_failure_of_a_turn_has_its_own_code() {
    for kind in FailureKind::ALL {
        assert_eq!(Code::from(*kind).row().code, kind.code());
    }
}
