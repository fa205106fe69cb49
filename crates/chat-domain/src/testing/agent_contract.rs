//! The contract of every [`Agent`], case by case. [`agent_contract!`](crate::agent_contract) runs
//! all cases.
// A failed case is a failed test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt;
use uuid::Uuid;

use super::{Gate, Script};
use crate::transcript::{Entry, Transcript};
use crate::{
    Agent, AgentErrorKind, ConversationId, FinishReason, RawJson, StepEvent, StepRequest, ToolSpec,
    TurnId, UserId,
};

/// Makes one test of each case of the agent's contract.
///
/// Takes an expression whose future gives an [`AgentUnderTest`].
#[macro_export]
macro_rules! agent_contract {
    ($agent:expr) => {
        $crate::agent_contract! { @cases $agent;
            text_comes_as_it_is_said
            calls_come_whole_and_byte_for_byte
            a_cut_answer_is_an_error
            failures_keep_their_kind
            a_finish_reason_reaches_the_caller
            steps_do_not_mix
        }
    };
    (@cases $agent:expr; $($case:ident)+) => {$(
        #[tokio::test]
        async fn $case() {
            $crate::testing::agent_contract::$case($agent.await).await;
        }
    )+};
}

/// Makes an agent, and the server behind it, do what a case needs.
#[async_trait]
pub trait AgentUnderTest: Send + Sync {
    /// An agent whose every step does this. Of failures, only those in [`kinds`](Self::kinds) are
    /// asked for.
    async fn agent(&self, script: Vec<Script>) -> Arc<dyn Agent>;

    /// The failures that can be brought about.
    fn kinds(&self) -> Vec<AgentErrorKind>;
}

fn request(text: &str) -> StepRequest {
    StepRequest {
        owner: UserId::new("ann").unwrap(),
        conversation: ConversationId(Uuid::now_v7()),
        turn: TurnId(Uuid::now_v7()),
        transcript: Transcript(vec![Entry::User {
            text: text.to_owned(),
        }]),
        tools: vec![ToolSpec {
            name: "add_task".to_owned(),
            description: "Adds a task.".to_owned(),
            input_schema: RawJson::from_valid(
                r#"{"type":"object","properties":{"title":{"type":"string"}}}"#,
            ),
            repeatable: false,
        }],
    }
}

/// Everything a step says; the error's kind, if it ends with one.
async fn heard(agent: &Arc<dyn Agent>) -> (Vec<StepEvent>, Option<AgentErrorKind>) {
    let mut stream = match agent.step(request("Hello")).await {
        Ok(stream) => stream,
        Err(error) => return (Vec::new(), Some(error.kind)),
    };
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => events.push(event),
            Err(error) => {
                assert!(stream.next().await.is_none(), "something follows an error");
                return (events, Some(error.kind));
            }
        }
    }
    (events, None)
}

fn text_of(events: &[StepEvent]) -> String {
    events
        .iter()
        .filter_map(|event| {
            if let StepEvent::Text(text) = event {
                Some(text.as_str())
            } else {
                None
            }
        })
        .collect()
}

/// Text comes at once, not only at the end; the last event is the one `Done`.
pub async fn text_comes_as_it_is_said(under_test: impl AgentUnderTest) {
    let gate = Gate::new();
    let script = vec![
        Script::text("Hé"),
        Script::text("llo 🦀"),
        Script::Wait(gate.clone()),
        Script::text(" 日本"),
    ];
    let agent = under_test.agent(script).await;
    let mut stream = agent.step(request("Hello")).await.unwrap();
    let mut early = String::new();
    while early != "Héllo 🦀" {
        match stream.next().await.expect("more text").unwrap() {
            StepEvent::Text(text) => early.push_str(&text),
            other => panic!("not text: {other:?}"),
        }
    }
    gate.open();
    let rest: Vec<StepEvent> = stream.map(Result::unwrap).collect().await;
    assert_eq!(text_of(&rest), " 日本");
    assert!(
        rest.iter()
            .all(|event| *event != StepEvent::Text(String::new()))
    );
    let done = |event: &&StepEvent| matches!(event, StepEvent::Done(_));
    assert_eq!(rest.iter().filter(done).count(), 1);
    assert!(rest.last().as_ref().is_some_and(done));
}

/// Each call comes whole, in order, with its arguments as they were written.
pub async fn calls_come_whole_and_byte_for_byte(under_test: impl AgentUnderTest) {
    let odd = r#"{"b": 123456789012345678901234567890, "a":1e400,"s":"\u00e9 🦀"}"#;
    let script = vec![
        Script::text("Two calls."),
        Script::call("add_task", odd),
        Script::call("add_task", "{}"),
    ];
    let (events, error) = heard(&under_test.agent(script).await).await;
    assert_eq!((text_of(&events).as_str(), error), ("Two calls.", None));
    let calls: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            StepEvent::ToolCall {
                tool, arguments, ..
            } => Some((tool.as_str(), arguments.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(calls, [("add_task", odd), ("add_task", "{}")]);
}

/// An answer that stops without its end mark is an error, never a short answer.
pub async fn a_cut_answer_is_an_error(under_test: impl AgentUnderTest) {
    let (events, error) = heard(
        &under_test
            .agent(vec![Script::text("Half a"), Script::Cut])
            .await,
    )
    .await;
    assert!(
        !events
            .iter()
            .any(|event| matches!(event, StepEvent::Done(_)))
    );
    assert_eq!(
        (text_of(&events).as_str(), error),
        ("Half a", Some(AgentErrorKind::Unavailable))
    );
}

/// A failure has its kind.
pub async fn failures_keep_their_kind(under_test: impl AgentUnderTest) {
    for kind in under_test.kinds() {
        let (events, error) = heard(&under_test.agent(vec![Script::Fail(kind)]).await).await;
        assert_eq!((events, error), (Vec::new(), Some(kind)));
    }
}

/// The last event says why the agent stopped writing.
pub async fn a_finish_reason_reaches_the_caller(under_test: impl AgentUnderTest) {
    for finish in FinishReason::ALL {
        let script = vec![Script::text("Half a sentence"), Script::done(*finish)];
        let (events, error) = heard(&under_test.agent(script).await).await;
        let Some(StepEvent::Done(end)) = events.last() else {
            panic!("{finish:?}: {events:?}, {error:?}")
        };
        assert_eq!(end.finish, *finish);
    }
}

/// Concurrent steps do not mix.
pub async fn steps_do_not_mix(under_test: impl AgentUnderTest) {
    let agents = futures_util::future::join_all(
        (0..8).map(|n| under_test.agent(vec![Script::text(&format!("I am {n}."))])),
    )
    .await;
    let answers = futures_util::future::join_all(agents.iter().map(heard)).await;
    for (n, (events, error)) in answers.into_iter().enumerate() {
        assert_eq!((text_of(&events), error), (format!("I am {n}."), None));
    }
}
