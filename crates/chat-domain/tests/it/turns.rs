//! Turns that nothing disturbs, and what ends them otherwise.

use std::time::Duration;

use chat_domain::testing::{FakeTools, Gate, Script, ScriptedAgent};
use chat_domain::{
    AgentErrorKind, CallError, ConversationPage, FailureKind, RawJson, StartTurn, StepEvent,
    ToolError, ToolErrorKind, ToolOutcome, ToolOutput, TurnEvent, TurnLimits, TurnOutcome, Usage,
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
async fn a_turn_is_stored_answered_and_delivered() {
    let world = Setup::new()
        .saying([vec![Script::text("Hel"), Script::text("lo.")]])
        .await;
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
    let usage = Usage {
        input_tokens: 10,
        output_tokens: 5,
    };
    assert_eq!(kinds.last(), Some(&format!("ended {usage:?}")));
    assert_eq!(
        kinds
            .iter()
            .filter_map(|kind| kind.strip_prefix("text "))
            .collect::<String>(),
        "Hello."
    );
    assert_eq!(
        world.log(turn.conversation).await,
        ["User: Hi", "Assistant: Hello."]
    );
    assert_eq!(
        world
            .service
            .conversation(&ann(), turn.conversation)
            .await
            .unwrap()
            .title
            .as_str(),
        "Hi"
    );
}

#[tokio::test(start_paused = true)]
async fn the_agent_reads_all_that_was_said_and_done() {
    let tools = FakeTools::new().answering("add_task", false, r#"{"task_id":1}"#);
    let script = [
        vec![
            Script::text("Adding."),
            Script::call("add_task", r#"{"title":"milk"}"#),
        ],
        vec![Script::text("Added.")],
        vec![Script::text("Milk.")],
    ];
    let world = Setup::new().start(ScriptedAgent::new(script), tools).await;
    let first = world.send(None, "Add milk").await;
    assert_eq!(world.outcome(first.id).await, TurnOutcome::Completed);
    let second = world.send(Some(first.conversation), "What is there?").await;
    assert_eq!(world.outcome(second.id).await, TurnOutcome::Completed);
    let expected = [
        "User: Add milk",
        "Assistant: Adding. +1",
        r#"result: {"task_id":1}"#,
        "Assistant: Added.",
        "User: What is there?",
    ];
    let requests = world.agent.requests();
    assert_eq!(
        requests
            .iter()
            .map(|request| lines(&request.transcript.0))
            .collect::<Vec<_>>(),
        [&expected[..1], &expected[..3], &expected[..]]
    );
    assert_eq!(world.tools.calls().len(), 1);
    let log = world.log(first.conversation).await;
    assert_eq!(
        log[1..4],
        [
            "Assistant: Adding.",
            r#"call: add_task {"title":"milk"}"#,
            r#"result: {"task_id":1}"#
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn calls_of_a_step_run_side_by_side_within_a_limit() {
    let gate = Gate::new();
    let tools = slow_tool(&gate);
    let calls = (0..5)
        .map(|n| Script::call("slow", &format!(r#"{{"n":{n}}}"#)))
        .collect();
    let setup = Setup {
        limits: TurnLimits {
            calls_at_once: 3,
            ..TurnLimits::default()
        },
        ..Setup::new()
    };
    let world = setup
        .start(
            ScriptedAgent::new([calls, vec![Script::text("Done.")]]),
            tools,
        )
        .await;
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
        .with("lost", false, |_| {
            Box::pin(async { Err(CallError::Unknown) })
        })
        .with("huge", false, |_| {
            Box::pin(async {
                Ok(ToolOutput(RawJson::from_valid(format!(
                    "\"{}\"",
                    "x".repeat(300 << 10)
                ))))
            })
        });
    let calls = vec![
        Script::call("missing", "{}"),
        Script::call("lost", "{}"),
        Script::call("huge", "{}"),
        Script::call("huge", "\"nonsense\""),
    ];
    let world = Setup::new()
        .start(
            ScriptedAgent::new([calls, vec![Script::text("I see.")]]),
            tools,
        )
        .await;
    let turn = world.send(None, "Go").await;
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Completed);
    let log = world.log(turn.conversation).await;
    let mut results = log[6..10].to_vec();
    results.sort();
    assert_eq!(
        results,
        [
            "failed: invalid_arguments",
            "failed: too_large",
            "failed: unknown_tool",
            "unknown: answer_lost"
        ]
    );
    assert_eq!(world.agent.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn tools_the_agent_ran_itself_are_recorded_with_its_answer() {
    let ran = StepEvent::ExecutedTool {
        tool: "search".to_owned(),
        arguments: RawJson::from_valid(r#"{"q":"rust"}"#),
        outcome: ToolOutcome::Succeeded(ToolOutput(RawJson::from_valid("[1]"))),
        took: Duration::from_millis(20),
    };
    let world = Setup::new()
        .saying([
            vec![Script::Say(ran), Script::text("Found.")],
            vec![Script::text("Yes.")],
        ])
        .await;
    let turn = world.send(None, "Search").await;
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Completed);
    assert_eq!(
        world.log(turn.conversation).await,
        [
            "User: Search",
            "Assistant: Found.",
            r#"call: search {"q":"rust"}"#,
            "result: [1]"
        ]
    );
    let next = world.send(Some(turn.conversation), "Sure?").await;
    assert_eq!(world.outcome(next.id).await, TurnOutcome::Completed);
    let read = lines(&world.agent.requests()[1].transcript.0);
    assert_eq!(
        read,
        [
            "User: Search",
            "Assistant:  +1",
            "result: [1]",
            "Assistant: Found.",
            "User: Sure?"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_agent_ends_the_turn_and_keeps_what_was_said() {
    for (kind, code) in [
        (AgentErrorKind::TimedOut, "agent_timeout"),
        (AgentErrorKind::Unavailable, "agent_unavailable"),
        (AgentErrorKind::Misconfigured, "agent_misconfigured"),
        (
            AgentErrorKind::Overloaded { retry_after: None },
            "agent_overloaded",
        ),
        (AgentErrorKind::Protocol, "agent_protocol_error"),
        (
            AgentErrorKind::ContextTooLong { limit: None },
            "context_too_long",
        ),
        (AgentErrorKind::Refused, "agent_refused"),
    ] {
        let script = [
            vec![
                Script::text("Half"),
                Script::call("never", "{}"),
                Script::Fail(kind),
            ],
            vec![Script::text("Again.")],
        ];
        let world = Setup::new().saying(script).await;
        let turn = world.send(None, "Go").await;
        assert_eq!(failure(world.outcome(turn.id).await).code(), code);
        assert_eq!(
            world.log(turn.conversation).await,
            ["User: Go", "Assistant: Half"]
        );
        let next = world.send(Some(turn.conversation), "And now?").await;
        assert_eq!(world.outcome(next.id).await, TurnOutcome::Completed);
    }
}

#[tokio::test(start_paused = true)]
async fn limits_end_a_turn() {
    let limits = TurnLimits {
        steps: 2,
        calls_per_step: 3,
        answer_bytes: 10,
        turn: Duration::from_secs(60),
        ..TurnLimits::default()
    };
    let setup = Setup {
        limits,
        ..Setup::new()
    };
    let call = || Script::call("look", "{}");
    let tools = || FakeTools::new().answering("look", true, "1");
    let world = setup
        .start(ScriptedAgent::answering(move |_| vec![call()]), tools())
        .await;
    let turn = world.send(None, "Go").await;
    assert_eq!(
        failure(world.outcome(turn.id).await),
        FailureKind::StepLimit
    );
    assert_eq!(world.agent.requests().len(), 2);
    for script in [
        vec![Script::text("12345"), Script::text("678901")],
        vec![call(), call(), call(), call()],
    ] {
        let world = setup.start(ScriptedAgent::new([script]), tools()).await;
        let turn = world.send(None, "Go").await;
        assert_eq!(
            failure(world.outcome(turn.id).await),
            FailureKind::AgentProtocolError
        );
    }
    let world = setup
        .saying([vec![Script::text("Still"), Script::Wait(Gate::new())]])
        .await;
    let turn = world.send(None, "Go").await;
    assert_eq!(
        failure(world.outcome(turn.id).await),
        FailureKind::TimeLimit
    );
    assert_eq!(
        world.log(turn.conversation).await,
        ["User: Go", "Assistant: Still"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_cancel_stops_the_agent_and_keeps_its_words() {
    let gate = Gate::new();
    let world = Setup::new()
        .saying([vec![Script::text("I was sa"), Script::Wait(gate.clone())]])
        .await;
    let turn = world.send(None, "Go").await;
    gate.reached_by(1).await;
    let asked = tokio::time::Instant::now();
    assert!(
        !world
            .service
            .cancel_turn(&ann(), turn.id)
            .await
            .unwrap()
            .status
            .is_ended()
    );
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Cancelled);
    assert_eq!(
        asked.elapsed(),
        Duration::ZERO,
        "where the turn runs, no heartbeat is waited for"
    );
    assert_eq!(
        world.log(turn.conversation).await,
        ["User: Go", "Assistant: I was sa"]
    );
    assert!(
        world
            .service
            .cancel_turn(&ann(), turn.id)
            .await
            .unwrap()
            .status
            .is_ended()
    );
}

#[tokio::test(start_paused = true)]
async fn a_cancel_leaves_running_tools_unknown_and_waiting_ones_not_run() {
    let gate = Gate::new();
    let tools = slow_tool(&gate);
    let setup = Setup {
        limits: TurnLimits {
            calls_at_once: 1,
            ..TurnLimits::default()
        },
        ..Setup::new()
    };
    let calls = vec![Script::call("slow", "{}"), Script::call("slow", "{}")];
    let world = setup.start(ScriptedAgent::new([calls]), tools).await;
    let turn = world.send(None, "Go").await;
    gate.reached_by(1).await;
    world.service.cancel_turn(&ann(), turn.id).await.unwrap();
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Cancelled);
    assert_eq!(
        world.log(turn.conversation).await[4..],
        [
            "unknown: stopped",
            &format!("failed: {}", ToolErrorKind::NotRun.code())
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_there_when_the_cancel_comes_counts() {
    let gate = Gate::new();
    let tools = slow_tool(&gate);
    let world = Setup::new()
        .start(
            ScriptedAgent::new([vec![Script::call("slow", "{}")]]),
            tools,
        )
        .await;
    let turn = world.send(None, "Go").await;
    gate.reached_by(1).await;
    world.service.cancel_turn(&ann(), turn.id).await.unwrap();
    gate.open();
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Cancelled);
    assert_eq!(world.log(turn.conversation).await[3..], ["result: 1"]);
}

fn nested(levels: usize) -> String {
    format!(
        "{{\"a\":{}1{}}}",
        "[".repeat(levels - 1),
        "]".repeat(levels - 1)
    )
}

#[tokio::test(start_paused = true)]
async fn arguments_that_no_store_need_keep_are_refused_and_the_turn_goes_on() {
    let tools = FakeTools::new().answering("look", false, "1");
    let long = format!("{{\"a\":\"{}\"}}", "é".repeat(200 << 10));
    let calls = [nested(64), nested(65), nested(20_000), long]
        .map(|arguments| Script::call("look", &arguments));
    let world = Setup::new()
        .start(
            ScriptedAgent::new([calls.to_vec(), vec![Script::text("I see.")]]),
            tools,
        )
        .await;
    let turn = world.send(None, "Go").await;
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Completed);
    let log = world.log(turn.conversation).await;
    assert_eq!(log[2], format!("call: look {}", nested(64)));
    assert!(
        log[3..6]
            .iter()
            .all(|line| line.starts_with("call: look \"") && line.len() < 2_000),
        "{log:?}"
    );
    assert_eq!(log[6..9], ["failed: invalid_arguments"; 3]);
    assert_eq!(log[9..], ["result: 1", "Assistant: I see."]);
    let ran: Vec<_> = world
        .tools
        .calls()
        .into_iter()
        .map(|call| call.arguments.as_str().to_owned())
        .collect();
    assert_eq!(ran, [nested(64)]);
    let entries = lines(&world.agent.requests()[1].transcript.0);
    assert!(
        entries
            .iter()
            .any(|line| line.contains("nested more than 64 levels")),
        "{entries:?}"
    );
    assert!(
        entries.iter().any(|line| line.contains("bytes long")),
        "{entries:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_step_whose_calls_are_all_refused_is_followed_by_another() {
    let world = Setup::new()
        .saying([
            vec![Script::call("look", &nested(65))],
            vec![Script::text("I see.")],
        ])
        .await;
    let turn = world.send(None, "Go").await;
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Completed);
    assert_eq!(world.agent.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_nested_too_deep_fails_and_the_turn_goes_on() {
    let with = |levels: usize| {
        move |_| -> futures_util::future::BoxFuture<'static, _> {
            Box::pin(async move { Ok(ToolOutput(RawJson::from_valid(nested(levels)))) })
        }
    };
    let tools = FakeTools::new()
        .with("fits", false, with(64))
        .with("deep", false, with(65));
    let script = [
        vec![Script::call("fits", "{}")],
        vec![Script::call("deep", "{}")],
        vec![Script::text("I see.")],
    ];
    let world = Setup::new().start(ScriptedAgent::new(script), tools).await;
    let turn = world.send(None, "Go").await;
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Completed);
    let log = world.log(turn.conversation).await;
    assert_eq!(
        [&log[3], &log[6]],
        [&format!("result: {}", nested(64)), "failed: too_large"]
    );
    let entries = lines(&world.agent.requests()[2].transcript.0);
    assert!(
        entries
            .iter()
            .any(|line| line.contains("nested more than 64 levels")),
        "{entries:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_strict_readers_refuse_is_replaced_wherever_it_comes_from() {
    let tools = FakeTools::new().answering("look", false, r#"{"a":"\ud83d","b":"\u0000"}"#);
    let ran = StepEvent::ExecutedTool {
        tool: "se\0arch".to_owned(),
        arguments: RawJson::from_valid(r#"{"q":"\udc00"}"#),
        outcome: ToolOutcome::Succeeded(ToolOutput(RawJson::from_valid(r#""\ud83d""#))),
        took: Duration::from_millis(1),
    };
    let script = [
        vec![Script::Say(ran), Script::call("look", r#"{"a":"\ud83dx"}"#)],
        vec![Script::text("I see.")],
    ];
    let world = Setup::new().start(ScriptedAgent::new(script), tools).await;
    let turn = world.send(None, "Go").await;
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Completed);
    let expected = [
        "call: se\u{FFFD}arch {\"q\":\"\\ufffd\"}",
        "result: \"\\ufffd\"",
        "call: look {\"a\":\"\\ufffdx\"}",
        "result: {\"a\":\"\\ufffd\",\"b\":\"\\ufffd\"}",
    ];
    assert_eq!(world.log(turn.conversation).await[2..6], expected);
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_runs_into_a_time_limit_may_have_done_its_work() {
    let timed_out = |_| -> futures_util::future::BoxFuture<'static, _> {
        Box::pin(async {
            Err(ToolError::new(ToolErrorKind::TimedOut, "No answer in 30 s.").into())
        })
    };
    let tools = FakeTools::new()
        .with("pay", false, timed_out)
        .with("look", true, timed_out);
    let script = [
        vec![Script::call("pay", "{}")],
        vec![Script::call("look", "{}")],
        vec![Script::text("I see.")],
    ];
    let world = Setup::new().start(ScriptedAgent::new(script), tools).await;
    let turn = world.send(None, "Go").await;
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Completed);
    let log = world.log(turn.conversation).await;
    assert_eq!(
        [&log[3], &log[6]],
        ["unknown: timed_out", "failed: timed_out"]
    );

    let gate = Gate::new();
    let world = Setup::new()
        .start(
            ScriptedAgent::new([vec![Script::call("slow", "{}")]]),
            slow_tool(&gate),
        )
        .await;
    let turn = world.send(None, "Go").await;
    assert_eq!(
        failure(world.outcome(turn.id).await),
        FailureKind::TimeLimit
    );
    assert_eq!(
        world.log(turn.conversation).await.last().unwrap(),
        "unknown: turn_time_limit"
    );
}

#[tokio::test(start_paused = true)]
async fn send_returns_the_ended_turn_whether_it_runs_here_or_is_queued() {
    let gate = Gate::new();
    let world = Setup::new()
        .saying([
            vec![Script::Wait(gate.clone()), Script::text("one")],
            vec![Script::text("two")],
        ])
        .await;
    let first = world.service.send(StartTurn::new(ann(), "first"));
    let second = async {
        gate.reached_by(1).await;
        let page = ConversationPage::last_active(None, 1);
        let found = world.service.conversations(&ann(), page).await.unwrap();
        let message = StartTurn {
            conversation: Some(found[0].id),
            ..StartTurn::new(ann(), "second")
        };
        let queued = world.service.send(message);
        let open = async { gate.open() };
        futures_util::join!(queued, open).0
    };
    let (first, second) = futures_util::join!(first, second);
    for (view, answer) in [(first.unwrap(), "one"), (second.unwrap(), "two")] {
        assert!(view.turn.status.is_ended());
        assert!(format!("{:?}", view.items).contains(answer));
    }
}
