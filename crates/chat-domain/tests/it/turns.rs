//! Turns that nothing disturbs, and what ends them otherwise.

use std::time::Duration;

use chat_domain::testing::{FakeTools, Gate, Script, ScriptedAgent};
use chat_domain::{
    AgentErrorKind, CallError, FailureKind, RawJson, StepEvent, ToolErrorKind, ToolOutcome, ToolOutput, TurnEvent, TurnLimits, TurnOutcome,
    Usage,
};

use crate::world::{Setup, ann, lines};

fn failure(outcome: TurnOutcome) -> FailureKind {
    match outcome {
        TurnOutcome::Failed(failure) => failure.kind,
        other => panic!("not failed: {other:?}"),
    }
}

/// A tool that answers once the gate is open.
fn slow_tool(gate: &Gate) -> FakeTools {
    let gate = gate.clone();
    FakeTools::new().with("slow", false, move |_| {
        let gate = gate.clone();
        Box::pin(async move {
            gate.pass().await;
            Ok(ToolOutput(RawJson::from_valid("1")))
        })
    })
}

#[tokio::test(start_paused = true)]
async fn a_turn_is_stored_answered_and_told() {
    let world = Setup::new().saying([vec![Script::text("Hel"), Script::text("lo.")]]).await;
    let turn = world.send(None, "Hi").await;
    let news = world.news(turn.id).await;
    let kinds: Vec<_> = news
        .iter()
        .map(|event| match event {
            TurnEvent::Text { delta, .. } => format!("text {delta}"),
            TurnEvent::Discarded { .. } => "discarded".to_owned(),
            TurnEvent::Item(item) => crate::world::line(item),
            TurnEvent::Ended(turn) => format!("ended {:?}", turn.usage),
        })
        .collect();
    let usage = Usage { input_tokens: 10, output_tokens: 5 };
    assert_eq!(kinds.last(), Some(&format!("ended {usage:?}")));
    assert_eq!(kinds.iter().filter_map(|kind| kind.strip_prefix("text ")).collect::<String>(), "Hello.");
    assert_eq!(world.log(turn.conversation).await, ["User: Hi", "Assistant: Hello."]);
    assert_eq!(world.service.conversation(&ann(), turn.conversation).await.unwrap().title.as_str(), "Hi");
}

#[tokio::test(start_paused = true)]
async fn the_agent_reads_all_that_was_said_and_done() {
    let tools = FakeTools::new().answering("add_task", false, r#"{"task_id":1}"#);
    let script = [
        vec![Script::text("Adding."), Script::call("add_task", r#"{"title":"milk"}"#)],
        vec![Script::text("Added.")],
        vec![Script::text("Milk.")],
    ];
    let world = Setup::new().start(ScriptedAgent::new(script), tools).await;
    let first = world.send(None, "Add milk").await;
    assert_eq!(world.outcome(first.id).await, TurnOutcome::Completed);
    let second = world.send(Some(first.conversation), "What is there?").await;
    assert_eq!(world.outcome(second.id).await, TurnOutcome::Completed);
    let expected = ["User: Add milk", "Assistant: Adding. +1", r#"result: {"task_id":1}"#, "Assistant: Added.", "User: What is there?"];
    let requests = world.agent.requests();
    assert_eq!(
        requests.iter().map(|request| lines(&request.transcript.0)).collect::<Vec<_>>(),
        [&expected[..1], &expected[..3], &expected[..]]
    );
    assert_eq!(world.tools.calls().len(), 1);
    let log = world.log(first.conversation).await;
    assert_eq!(log[1..4], ["Assistant: Adding.", r#"call: add_task {"title":"milk"}"#, r#"result: {"task_id":1}"#]);
}

#[tokio::test(start_paused = true)]
async fn calls_of_a_step_run_side_by_side_within_a_limit() {
    let gate = Gate::new();
    let tools = slow_tool(&gate);
    let calls = (0..5).map(|n| Script::call("slow", &format!(r#"{{"n":{n}}}"#))).collect();
    let setup = Setup { limits: TurnLimits { calls_at_once: 3, ..TurnLimits::default() }, ..Setup::new() };
    let world = setup.start(ScriptedAgent::new([calls, vec![Script::text("Done.")]]), tools).await;
    let turn = world.send(None, "Go").await;
    gate.reached_by(3).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.tools.calls().len(), 3);
    gate.open();
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Completed);
    assert_eq!(world.tools.calls().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_tools_failure_is_an_answer_for_the_agent() {
    let tools = FakeTools::new()
        .with("lost", false, |_| Box::pin(async { Err(CallError::Unknown) }))
        .with("huge", false, |_| Box::pin(async { Ok(ToolOutput(RawJson::from_valid(format!("\"{}\"", "x".repeat(300 << 10))))) }));
    let calls =
        vec![Script::call("missing", "{}"), Script::call("lost", "{}"), Script::call("huge", "{}"), Script::call("huge", "\"nonsense\"")];
    let world = Setup::new().start(ScriptedAgent::new([calls, vec![Script::text("I see.")]]), tools).await;
    let turn = world.send(None, "Go").await;
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Completed);
    let log = world.log(turn.conversation).await;
    let mut results = log[6..10].to_vec();
    results.sort();
    assert_eq!(results, ["failed: invalid_arguments", "failed: too_large", "failed: unknown_tool", "unknown"]);
    assert_eq!(world.agent.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn tools_the_agent_ran_itself_are_recorded_with_its_answer() {
    let ran = StepEvent::Ran {
        tool: "search".to_owned(),
        arguments: RawJson::from_valid(r#"{"q":"rust"}"#),
        outcome: ToolOutcome::Succeeded(ToolOutput(RawJson::from_valid("[1]"))),
        took: Duration::from_millis(20),
    };
    let world = Setup::new().saying([vec![Script::Say(ran), Script::text("Found.")], vec![Script::text("Yes.")]]).await;
    let turn = world.send(None, "Search").await;
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Completed);
    assert_eq!(world.log(turn.conversation).await, ["User: Search", "Assistant: Found.", r#"call: search {"q":"rust"}"#, "result: [1]"]);
    let next = world.send(Some(turn.conversation), "Sure?").await;
    assert_eq!(world.outcome(next.id).await, TurnOutcome::Completed);
    let read = lines(&world.agent.requests()[1].transcript.0);
    assert_eq!(read, ["User: Search", "Assistant:  +1", "result: [1]", "Assistant: Found.", "User: Sure?"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_agent_ends_the_turn_and_keeps_what_was_said() {
    for (kind, code) in [
        (AgentErrorKind::TimedOut, "agent_timeout"),
        (AgentErrorKind::Unavailable, "agent_unavailable"),
        (AgentErrorKind::Misconfigured, "agent_misconfigured"),
        (AgentErrorKind::Overloaded { retry_after: None }, "agent_overloaded"),
        (AgentErrorKind::Protocol, "agent_protocol_error"),
        (AgentErrorKind::ContextTooLong { limit: None }, "context_too_long"),
        (AgentErrorKind::Refused, "agent_refused"),
    ] {
        let script = [vec![Script::text("Half"), Script::call("never", "{}"), Script::Fail(kind)], vec![Script::text("Again.")]];
        let world = Setup::new().saying(script).await;
        let turn = world.send(None, "Go").await;
        assert_eq!(failure(world.outcome(turn.id).await).code(), code);
        assert_eq!(world.log(turn.conversation).await, ["User: Go", "Assistant: Half"]);
        let next = world.send(Some(turn.conversation), "And now?").await;
        assert_eq!(world.outcome(next.id).await, TurnOutcome::Completed);
    }
}

#[tokio::test(start_paused = true)]
async fn limits_end_a_turn() {
    let limits = TurnLimits { steps: 2, calls_per_step: 3, answer_bytes: 10, turn: Duration::from_secs(60), ..TurnLimits::default() };
    let setup = Setup { limits, ..Setup::new() };
    let call = || Script::call("look", "{}");
    let tools = || FakeTools::new().answering("look", true, "1");
    let world = setup.start(ScriptedAgent::answering(move |_| vec![call()]), tools()).await;
    let turn = world.send(None, "Go").await;
    assert_eq!(failure(world.outcome(turn.id).await), FailureKind::StepLimit);
    assert_eq!(world.agent.requests().len(), 2);
    for script in [vec![Script::text("12345"), Script::text("678901")], vec![call(), call(), call(), call()]] {
        let world = setup.start(ScriptedAgent::new([script]), tools()).await;
        let turn = world.send(None, "Go").await;
        assert_eq!(failure(world.outcome(turn.id).await), FailureKind::AgentProtocolError);
    }
    let world = setup.saying([vec![Script::text("Still"), Script::Wait(Gate::new())]]).await;
    let turn = world.send(None, "Go").await;
    assert_eq!(failure(world.outcome(turn.id).await), FailureKind::TimeLimit);
    assert_eq!(world.log(turn.conversation).await, ["User: Go", "Assistant: Still"]);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_stops_the_agent_and_keeps_its_words() {
    let gate = Gate::new();
    let world = Setup::new().saying([vec![Script::text("I was sa"), Script::Wait(gate.clone())]]).await;
    let turn = world.send(None, "Go").await;
    gate.reached_by(1).await;
    let asked = tokio::time::Instant::now();
    assert!(!world.service.cancel_turn(&ann(), turn.id).await.unwrap().status.is_ended());
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Cancelled);
    assert_eq!(asked.elapsed(), Duration::ZERO, "where the turn runs, no heartbeat is waited for");
    assert_eq!(world.log(turn.conversation).await, ["User: Go", "Assistant: I was sa"]);
    assert!(world.service.cancel_turn(&ann(), turn.id).await.unwrap().status.is_ended());
}

#[tokio::test(start_paused = true)]
async fn a_cancel_leaves_running_tools_unknown_and_waiting_ones_not_run() {
    let gate = Gate::new();
    let tools = slow_tool(&gate);
    let setup = Setup { limits: TurnLimits { calls_at_once: 1, ..TurnLimits::default() }, ..Setup::new() };
    let calls = vec![Script::call("slow", "{}"), Script::call("slow", "{}")];
    let world = setup.start(ScriptedAgent::new([calls]), tools).await;
    let turn = world.send(None, "Go").await;
    gate.reached_by(1).await;
    world.service.cancel_turn(&ann(), turn.id).await.unwrap();
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Cancelled);
    assert_eq!(world.log(turn.conversation).await[4..], ["unknown", &format!("failed: {}", ToolErrorKind::NotRun.code())]);
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_there_when_the_cancel_comes_counts() {
    let gate = Gate::new();
    let tools = slow_tool(&gate);
    let world = Setup::new().start(ScriptedAgent::new([vec![Script::call("slow", "{}")]]), tools).await;
    let turn = world.send(None, "Go").await;
    gate.reached_by(1).await;
    world.service.cancel_turn(&ann(), turn.id).await.unwrap();
    gate.open();
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Cancelled);
    assert_eq!(world.log(turn.conversation).await[3..], ["result: 1"]);
}
