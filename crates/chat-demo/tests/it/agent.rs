//! The agent by itself: how it speaks.

use std::time::Duration;

use chat_demo::DemoAgent;
use chat_domain::transcript::{Entry, Transcript};
use chat_domain::{Agent, ConversationId, FinishReason, RawJson, StepEnd, StepEvent, StepRequest, ToolSpec, TurnId};
use futures_util::StreamExt;
use tokio::time::Instant;
use uuid::Uuid;

use crate::support::user;

fn request(text: &str, tools: &[&str]) -> StepRequest {
    let spec = |name: &&str| ToolSpec {
        name: (*name).to_owned(),
        description: String::new(),
        input_schema: RawJson::from_valid("{}"),
        repeatable: false,
    };
    StepRequest {
        owner: user("ann"),
        conversation: ConversationId(Uuid::now_v7()),
        turn: TurnId(Uuid::now_v7()),
        transcript: Transcript(vec![Entry::User { text: text.into() }]),
        tools: tools.iter().map(spec).collect(),
    }
}

async fn heard(agent: &DemoAgent, request: StepRequest) -> Vec<StepEvent> {
    agent.step(request).await.unwrap().map(Result::unwrap).collect().await
}

#[tokio::test(start_paused = true)]
async fn it_speaks_word_by_word_and_takes_its_time() {
    let agent = DemoAgent::new(Duration::from_millis(15));
    let began = Instant::now();
    let events = heard(&agent, request("Hello", &[])).await;
    let (words, last) = events.split_at(events.len() - 1);
    let words: Vec<&str> = words
        .iter()
        .map(|event| match event {
            StepEvent::Text(word) => word.as_str(),
            other => panic!("no word: {other:?}"),
        })
        .collect();
    assert_eq!(words.concat(), "Hello! I keep your task list. Tell me what to add, or ask what is on your list.");
    assert_eq!(words.get(..3), Some(["Hello! ", "I ", "keep "].as_slice()));
    let StepEvent::Done(StepEnd { usage, finish: FinishReason::Complete, agent_data: None }) = &last[0] else { panic!("not done") };
    assert!(usage.input_tokens > 0 && usage.output_tokens > usage.input_tokens);
    assert_eq!(began.elapsed(), Duration::from_millis(15) * u32::try_from(words.len()).unwrap());
}

#[tokio::test]
async fn a_call_comes_whole() {
    let events = heard(&DemoAgent::new(Duration::ZERO), request("Add task: \"Buy 'milk'\" \u{1F95B}", &["add_task"])).await;
    let expected = RawJson::from_valid(r#"{"title":"\"Buy 'milk'\" 🥛"}"#);
    assert_eq!(events.first(), Some(&StepEvent::Call { tool: "add_task".into(), arguments: expected, agent_data: None }));
    assert!(matches!(events.get(1..), Some([StepEvent::Done(_)])));
}

#[tokio::test]
async fn a_tool_that_is_not_offered_is_not_called() {
    let events = heard(&DemoAgent::new(Duration::ZERO), request("Add task: milk", &["list_tasks"])).await;
    assert!(events.iter().all(|event| !matches!(event, StepEvent::Call { .. })));
    assert_eq!(events.first(), Some(&StepEvent::Text("The ".into())));
}
