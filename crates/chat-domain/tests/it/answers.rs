//! How agents end their answers, and what they get back of them.

use std::time::Duration;

use chat_domain::testing::{FakeTools, Gate, Script, ScriptedAgent};
use chat_domain::transcript::{Entry, estimate_tokens};
use chat_domain::{
    AgentData, AgentErrorKind, ConversationId, FailureKind, FinishReason, Item, ItemBody, RawJson,
    StepEnd, StepEvent, StepRequest, TurnEvent, TurnFailure, TurnLimits, TurnOutcome, TurnStatus,
    Usage,
};

use crate::world::{Setup, World, lines};

fn failure(outcome: TurnOutcome) -> TurnFailure {
    match outcome {
        TurnOutcome::Failed(failure) => failure,
        other => panic!("not failed: {other:?}"),
    }
}

fn data(name: &str) -> Option<AgentData> {
    Some(AgentData::new(format!("{{\"name\":{name:?}}}")).unwrap())
}

fn call(agent_data: Option<AgentData>) -> Script {
    Script::Say(StepEvent::ToolCall {
        tool: "look".to_owned(),
        arguments: RawJson::from_valid("{}"),
        agent_data,
    })
}

fn done(agent_data: Option<AgentData>) -> Script {
    Script::Say(StepEvent::Done(StepEnd {
        usage: Usage::default(),
        finish: FinishReason::Complete,
        agent_data,
    }))
}

/// The data in the agent's last request: of each message, then of each of its calls.
fn given_back(world: &World) -> Vec<(Option<AgentData>, Vec<Option<AgentData>>)> {
    let entries = world.agent.requests().pop().unwrap().transcript.0;
    let data = |entry: Entry| match entry {
        Entry::Assistant {
            agent_data, calls, ..
        } => Some((
            agent_data,
            calls.into_iter().map(|call| call.agent_data).collect(),
        )),
        Entry::User { .. } | Entry::ToolResult { .. } => None,
    };
    entries.into_iter().filter_map(data).collect()
}

#[tokio::test(start_paused = true)]
async fn the_agent_gets_its_data_back_with_the_message_and_the_call_it_belongs_to() {
    let script = [
        vec![
            call(data("first")),
            call(None),
            call(data("third")),
            done(data("step")),
        ],
        vec![Script::text("Seen."), done(data("answer"))],
        vec![Script::text("Yes."), done(None)],
    ];
    let tools = FakeTools::new().answering("look", true, "1");
    let world = Setup::new().start(ScriptedAgent::new(script), tools).await;
    let turn = world.send(None, "Look").await;
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Completed);
    let asked = (data("step"), vec![data("first"), None, data("third")]);
    assert_eq!(given_back(&world), std::slice::from_ref(&asked));
    for text in ["And now?", "Later?"] {
        let next = world.send(Some(turn.conversation), text).await;
        assert_eq!(world.outcome(next.id).await, TurnOutcome::Completed);
        assert_eq!(
            given_back(&world)[..2],
            [asked.clone(), (data("answer"), Vec::new())]
        );
    }
}

fn texts(length: usize, finish: FinishReason) -> Vec<Script> {
    let text = (length > 0).then(|| Script::text(&"x".repeat(length)));
    text.into_iter().chain([Script::done(finish)]).collect()
}

#[tokio::test(start_paused = true)]
async fn a_turn_says_how_its_answer_ended() {
    for finish in [
        FinishReason::Complete,
        FinishReason::Length,
        FinishReason::ContentFilter,
    ] {
        let world = Setup::new().saying([texts(5, finish)]).await;
        let turn = world.send(None, "Go").await;
        let news = world.news(turn.id).await;
        let messages = news.iter().filter_map(|event| match event {
            TurnEvent::Item(Item {
                body: ItemBody::Message(message),
                ..
            }) => Some(message.finish),
            _ => None,
        });
        assert_eq!(messages.collect::<Vec<_>>(), [None, Some(finish)]);
        let Some(TurnEvent::Ended(ended)) = news.last() else {
            panic!("no end: {news:?}")
        };
        assert_eq!(
            (ended.finish, &ended.status),
            (Some(finish), &world.turn(turn.id).await.status)
        );
        assert!(matches!(
            &ended.status,
            TurnStatus::Ended {
                outcome: TurnOutcome::Completed,
                ..
            }
        ));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_broken_off_has_no_finish_reason() {
    let world = Setup::new()
        .saying([vec![Script::text("Half"), Script::Cut]])
        .await;
    let turn = world.send(None, "Go").await;
    assert_eq!(
        failure(world.outcome(turn.id).await).kind,
        FailureKind::AgentUnavailable
    );
    assert_eq!(world.turn(turn.id).await.finish, None);
    assert_eq!(
        world.log(turn.conversation).await,
        ["User: Go", "Assistant: Half"]
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_text_and_calls_fails_the_turn_and_says_why() {
    let blank = |finish| vec![Script::text("\n"), Script::text(" "), Script::done(finish)];
    for (script, kind, reason) in [
        (
            texts(0, FinishReason::Complete),
            FailureKind::AgentEmptyAnswer,
            "without text",
        ),
        (
            blank(FinishReason::Complete),
            FailureKind::AgentEmptyAnswer,
            "without text",
        ),
        (
            texts(0, FinishReason::Length),
            FailureKind::AgentEmptyAnswer,
            "token limit",
        ),
        (
            texts(0, FinishReason::ContentFilter),
            FailureKind::AgentRefused,
            "content filter",
        ),
        (
            vec![Script::Fail(AgentErrorKind::EmptyAnswer)],
            FailureKind::AgentEmptyAnswer,
            "The script failed.",
        ),
    ] {
        let world = Setup::new()
            .saying([script, vec![Script::text("Yes.")]])
            .await;
        let turn = world.send(None, "Go").await;
        let failure = failure(world.outcome(turn.id).await);
        assert_eq!(failure.kind, kind);
        assert!(failure.message.contains(reason), "{failure:?}");
        assert_eq!(world.log(turn.conversation).await, ["User: Go"]);
        let next = world.send(Some(turn.conversation), "And now?").await;
        assert_eq!(world.outcome(next.id).await, TurnOutcome::Completed);
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_after_tools_fails_the_turn_and_keeps_what_was_done() {
    let tools = FakeTools::new().answering("look", true, "1");
    let agent = ScriptedAgent::new([vec![call(None)], texts(0, FinishReason::Complete)]);
    let world = Setup::new().start(agent, tools).await;
    let turn = world.send(None, "Look").await;
    assert_eq!(
        failure(world.outcome(turn.id).await).kind,
        FailureKind::AgentEmptyAnswer
    );
    assert_eq!(
        world.log(turn.conversation).await,
        ["User: Look", "Assistant: ", "call: look {}", "result: 1"]
    );
}

#[tokio::test(start_paused = true)]
async fn calls_whose_arguments_were_cut_off_are_not_run_and_the_agent_gets_the_reason() {
    let tools = FakeTools::new().answering("look", true, "1");
    let cut = [
        Script::call("look", "{}"),
        Script::call("look", r#""{\"title\": \"mi""#),
        Script::done(FinishReason::Length),
    ];
    let world = Setup::new()
        .start(
            ScriptedAgent::new([cut.into(), vec![Script::text("I see.")]]),
            tools,
        )
        .await;
    let turn = world.send(None, "Look").await;
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Completed);
    assert_eq!(world.tools.calls().len(), 1);
    let read = lines(&world.agent.requests()[1].transcript.0);
    assert_eq!(read[..3], ["User: Look", "Assistant:  +2", "result: 1"]);
    assert!(
        read[3].contains("invalid_arguments") && read[3].contains("cut off at the limit of tokens"),
        "{read:?}"
    );
}

/// An agent that reads at most so many user messages, and says in its refusals that its limit is
/// `limit` tokens.
fn reading(most: usize, limit: Option<u64>) -> ScriptedAgent {
    ScriptedAgent::answering(move |request| {
        if asked(request) > most {
            vec![Script::Fail(AgentErrorKind::ContextTooLong { limit })]
        } else {
            vec![Script::text("Yes.")]
        }
    })
}

fn asked(request: &StepRequest) -> usize {
    request
        .transcript
        .0
        .iter()
        .filter(|entry| matches!(entry, Entry::User { .. }))
        .count()
}

/// How many user messages each request had that the agent was sent after the first `from`.
fn requested(world: &World, from: usize) -> Vec<usize> {
    world.agent.requests()[from..].iter().map(asked).collect()
}

/// A conversation of so many turns.
async fn conversation(world: &World, turns: usize) -> ConversationId {
    let first = world.send(None, "Question 0").await;
    assert_eq!(world.outcome(first.id).await, TurnOutcome::Completed);
    for n in 1..turns {
        let next = world
            .send(Some(first.conversation), &format!("Question {n}"))
            .await;
        assert_eq!(world.outcome(next.id).await, TurnOutcome::Completed);
    }
    first.conversation
}

#[tokio::test(start_paused = true)]
async fn a_conversation_too_long_for_the_agent_loses_its_oldest_turns_and_goes_on() {
    let setup = Setup::new();
    let before = setup
        .start(reading(usize::MAX, None), FakeTools::new())
        .await;
    let long = conversation(&before, 20).await;
    before.crash();

    let world = setup.start(reading(4, None), FakeTools::new()).await;
    let turn = world.send(Some(long), "And now?").await;
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Completed);
    assert_eq!(requested(&world, 0), [21, 11, 6, 3]);
    let last = world.agent.requests().pop().unwrap().transcript.0;
    assert_eq!(
        lines(&last),
        [
            "User: Question 18",
            "Assistant: Yes.",
            "User: Question 19",
            "Assistant: Yes.",
            "User: And now?"
        ]
    );
    assert_eq!(world.turn(turn.id).await.turns_left_out, 18);
    let shortened = world
        .signals
        .heard()
        .iter()
        .filter(|signal| signal.contains("ContextShortened"))
        .count();
    assert_eq!(shortened, 3);

    // The next turn leaves out the same at its second try, so that the text before it stays the
    // same.
    let next = world.send(Some(long), "And then?").await;
    assert_eq!(world.outcome(next.id).await, TurnOutcome::Completed);
    assert_eq!(requested(&world, 4), [22, 4]);
    assert_eq!(world.turn(next.id).await.turns_left_out, 18);
    // An agent that can read more gets everything again.
    world.crash();
    let world = setup
        .start(reading(usize::MAX, None), FakeTools::new())
        .await;
    let next = world.send(Some(long), "Again").await;
    assert_eq!(world.outcome(next.id).await, TurnOutcome::Completed);
    assert_eq!(
        (
            requested(&world, 0),
            world.turn(next.id).await.turns_left_out
        ),
        (vec![23], 0)
    );
}

#[tokio::test(start_paused = true)]
async fn the_limit_that_the_agent_names_is_used_for_the_next_try() {
    let setup = Setup::new();
    let before = setup
        .start(reading(usize::MAX, None), FakeTools::new())
        .await;
    let long = conversation(&before, 20).await;
    before.crash();
    let world = setup.start(reading(9, Some(100)), FakeTools::new()).await;
    let turn = world.send(Some(long), "And now?").await;
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Completed);
    let requests = requested(&world, 0);
    assert_eq!(requests.len(), 2, "{requests:?}");
    let sent: usize = lines(&world.agent.requests()[1].transcript.0)
        .iter()
        .map(|line| estimate_tokens(line))
        .sum();
    assert!((50..=110).contains(&sent), "{sent}");
}

#[tokio::test(start_paused = true)]
async fn a_turn_fails_as_too_long_only_when_it_does_not_fit_alone() {
    let setup = Setup::new();
    let before = setup
        .start(reading(usize::MAX, None), FakeTools::new())
        .await;
    let long = conversation(&before, 20).await;
    before.crash();
    // Whatever limit it names, it is not asked without end.
    for limit in [None, Some(0), Some(1), Some(150), Some(u64::MAX)] {
        let world = setup.start(reading(0, limit), FakeTools::new()).await;
        let turn = world.send(Some(long), "And now?").await;
        assert_eq!(
            failure(world.outcome(turn.id).await).kind,
            FailureKind::ContextTooLong
        );
        let requests = requested(&world, 0);
        assert_eq!(requests.last(), Some(&1), "{requests:?}");
        assert!(
            requests.is_sorted_by(|one, next| one > next) && requests.len() <= 8,
            "{requests:?}"
        );
        world.crash();
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_left_out_stays_left_out_in_later_steps_of_the_turn() {
    let setup = Setup::new();
    let before = setup
        .start(reading(usize::MAX, None), FakeTools::new())
        .await;
    let long = conversation(&before, 4).await;
    before.crash();
    let agent =
        ScriptedAgent::answering(
            |request| match (asked(request), request.transcript.0.last()) {
                (3.., _) => vec![Script::Fail(AgentErrorKind::ContextTooLong { limit: None })],
                (_, Some(Entry::ToolResult { .. })) => vec![Script::text("Seen.")],
                _ => vec![call(None)],
            },
        );
    let world = setup
        .start(agent, FakeTools::new().answering("look", true, "1"))
        .await;
    let turn = world.send(Some(long), "Look").await;
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Completed);
    assert_eq!(requested(&world, 0), [5, 3, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_after_text_was_shown_is_not_tried_again() {
    let setup = Setup::new();
    let before = setup
        .start(reading(usize::MAX, None), FakeTools::new())
        .await;
    let long = conversation(&before, 4).await;
    before.crash();
    let too_long = || Script::Fail(AgentErrorKind::ContextTooLong { limit: None });
    let world = setup
        .saying([
            vec![Script::text("Well, "), too_long()],
            vec![call(None), too_long()],
            vec![Script::text("Yes.")],
        ])
        .await;
    let turn = world.send(Some(long), "And now?").await;
    assert_eq!(
        failure(world.outcome(turn.id).await).kind,
        FailureKind::ContextTooLong
    );
    assert_eq!(world.agent.requests().len(), 1);
    // Calls that nobody has seen nor run yet do not matter.
    let turn = world.send(Some(long), "And now?").await;
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Completed);
    assert_eq!(requested(&world, 1), [6, 3]);
}

#[tokio::test(start_paused = true)]
async fn tries_with_fewer_turns_count_towards_the_deadline_and_not_towards_the_steps() {
    let limits = TurnLimits {
        steps: 1,
        turn: Duration::from_secs(60),
        ..TurnLimits::default()
    };
    let setup = Setup {
        limits,
        ..Setup::new()
    };
    let before = setup
        .start(reading(usize::MAX, None), FakeTools::new())
        .await;
    let long = conversation(&before, 8).await;
    before.crash();
    let world = setup.start(reading(2, None), FakeTools::new()).await;
    let turn = world.send(Some(long), "And now?").await;
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Completed);
    assert_eq!(requested(&world, 0), [9, 5, 3, 2]);
    world.crash();
    let never = || Script::Wait(Gate::new());
    let script = [
        vec![Script::Fail(AgentErrorKind::ContextTooLong { limit: None })],
        vec![never()],
    ];
    let world = setup.saying(script).await;
    let turn = world.send(Some(long), "And then?").await;
    assert_eq!(
        failure(world.outcome(turn.id).await).kind,
        FailureKind::TimeLimit
    );
}

#[tokio::test(start_paused = true)]
async fn turns_beyond_the_budget_are_counted_as_left_out() {
    let limits = TurnLimits {
        context_tokens: Some(60),
        ..TurnLimits::default()
    };
    let setup = Setup {
        limits,
        ..Setup::new()
    };
    let world = setup
        .start(reading(usize::MAX, None), FakeTools::new())
        .await;
    let long = conversation(&world, 10).await;
    let turn = world.send(Some(long), "And now?").await;
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Completed);
    let read = requested(&world, 10);
    assert!(read[0] < 10, "{read:?}");
    assert_eq!(
        world.turn(turn.id).await.turns_left_out,
        (11 - read[0]) as u64
    );
}
