//! Permanent errors of the store, and what bounds a turn's attempts and its time.

use std::time::Duration;

use chat_domain::testing::{FakeTools, Gate, RefusedCall, Script, ScriptedAgent};
use chat_domain::{
    Cursor, FailureKind, RawJson, ToolOutput, TurnEvent, TurnFailure, TurnId, TurnLimits,
    TurnOutcome, TurnStatus,
};
use futures_util::StreamExt;

use crate::world::{Setup, World, ann, line};

fn internal(outcome: &TurnOutcome) -> bool {
    matches!(outcome, TurnOutcome::Failed(TurnFailure { kind: FailureKind::Internal, message }) if !message.is_empty())
}

/// A server whose agent calls a tool, then answers; `n` counts the messages.
async fn calling(setup: &Setup) -> World {
    let tools = FakeTools::new().answering("look", true, "1");
    let agent = ScriptedAgent::answering(|request| match request.transcript.0.last() {
        Some(chat_domain::transcript::Entry::User { .. }) => {
            vec![Script::text("Looking."), Script::call("look", "{}")]
        }
        _ => vec![Script::text("Done.")],
    });
    setup.start(agent, tools).await
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_the_store_refuses_for_good_ends_and_its_queue_goes_on() {
    for refused in [
        vec![RefusedCall::Histories],
        vec![RefusedCall::Appends],
        vec![RefusedCall::Appends, RefusedCall::EndsWithItems],
        vec![
            RefusedCall::Appends,
            RefusedCall::EndsWithItems,
            RefusedCall::Ends,
        ],
        vec![RefusedCall::Histories, RefusedCall::Ends],
    ] {
        let (setup, gate) = (Setup::new(), Gate::new());
        let world = calling(&setup).await;
        setup.store.hold_ends(&gate);
        setup.store.refuse(refused.clone());
        let first = world.send(None, "1").await;
        let second = world.send(Some(first.conversation), "2").await;
        let stream = world
            .service
            .watch_turn(&ann(), first.id, Cursor::START)
            .await
            .unwrap();
        gate.open();
        let news: Vec<_> = stream.map(|news| news.unwrap().1).collect().await;
        let Some(TurnEvent::Ended(ended)) = news.last() else {
            panic!("{refused:?}: no end: {news:?}")
        };
        let TurnStatus::Ended { outcome, .. } = &ended.status else {
            panic!("{ended:?}")
        };
        assert!(internal(outcome), "{refused:?}: {outcome:?}");
        setup.store.refuse([]);
        assert_eq!(
            world.outcome(first.id).await,
            *outcome,
            "{refused:?}: the store says otherwise"
        );
        let asked = world.agent.requests().len();
        assert!(asked <= 2, "{refused:?}: the agent was asked {asked} times");
        // The queue and the conversation continue, whatever became of the second turn.
        world.outcome(second.id).await;
        let third = world.send(Some(first.conversation), "3").await;
        assert_eq!(
            world.outcome(third.id).await,
            TurnOutcome::Completed,
            "{refused:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_said_is_kept_if_the_store_takes_that() {
    let setup = Setup::new();
    let world = calling(&setup).await;
    setup.store.refuse([RefusedCall::Appends]);
    let turn = world.send(None, "Go").await;
    assert!(internal(&world.outcome(turn.id).await));
    assert_eq!(
        world.log(turn.conversation).await,
        ["User: Go", "Assistant: Looking."]
    );
}

/// The items of a turn that a reader gets, and those that are stored.
async fn delivered_and_stored(world: &World, turn: TurnId) -> (Vec<String>, Vec<String>) {
    let news = world.news(turn).await;
    let delivered = news.iter().filter_map(|event| match event {
        TurnEvent::Item(item) => Some(line(item)),
        _ => None,
    });
    let stored = world.service.turn(&ann(), turn).await.unwrap();
    (delivered.collect(), stored.items.iter().map(line).collect())
}

#[tokio::test(start_paused = true)]
async fn a_refused_write_may_have_been_done_by_a_call_whose_answer_was_lost() {
    let setup = Setup::new();
    let world = calling(&setup).await;
    setup.store.lose_answer(RefusedCall::Appends);
    setup.store.refuse([RefusedCall::Appends]);
    let turn = world.send(None, "Go").await;
    let (delivered, stored) = delivered_and_stored(&world, turn.id).await;
    assert_eq!(delivered, stored);
    assert_eq!(
        stored,
        [
            "User: Go",
            "Assistant: Looking.",
            "call: look {}",
            "unknown: interrupted"
        ]
    );
    assert!(internal(&world.outcome(turn.id).await));
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_can_be_neither_written_nor_read_is_ended_by_force() {
    let setup = Setup::new();
    let world = calling(&setup).await;
    setup.store.lose_answer(RefusedCall::Appends);
    setup
        .store
        .refuse([RefusedCall::Appends, RefusedCall::Turns]);
    let turn = world.send(None, "Go").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    setup.store.refuse([]);
    let (delivered, stored) = delivered_and_stored(&world, turn.id).await;
    assert_eq!(delivered, stored);
    assert_eq!(stored.last().unwrap(), "unknown: interrupted");
    assert!(internal(&world.outcome(turn.id).await));
}

#[tokio::test(start_paused = true)]
async fn a_refused_end_may_have_been_done_by_a_call_whose_answer_was_lost() {
    let setup = Setup::new();
    let world = calling(&setup).await;
    setup.store.lose_answer(RefusedCall::EndsWithItems);
    setup
        .store
        .refuse([RefusedCall::Appends, RefusedCall::EndsWithItems]);
    let turn = world.send(None, "Go").await;
    let (delivered, stored) = delivered_and_stored(&world, turn.id).await;
    assert_eq!(delivered, stored);
    assert_eq!(stored, ["User: Go", "Assistant: Looking."]);
}

#[tokio::test(start_paused = true)]
async fn an_end_whose_answer_was_lost_is_the_end_that_readers_get() {
    let setup = Setup::new();
    let world = setup
        .saying([vec![Script::text("Hello.")], vec![Script::text("Again.")]])
        .await;
    setup.store.lose_answer(RefusedCall::EndsWithItems);
    setup.store.refuse([RefusedCall::Ends]);
    let first = world.send(None, "Hi").await;
    let second = world.send(Some(first.conversation), "Hi again").await;
    assert_eq!(world.outcome(first.id).await, TurnOutcome::Completed);
    setup.store.refuse([]);
    // The next turn was handed over with the lost answer.
    assert_eq!(world.outcome(second.id).await, TurnOutcome::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_turn_whose_last_items_are_refused_ends_with_a_result_for_each_call() {
    for refused in [RefusedCall::Ends, RefusedCall::EndsWithItems] {
        let setup = Setup::new();
        let store = setup.store.clone();
        let tools = FakeTools::new().with("look", true, move |_| {
            store.refuse([RefusedCall::Appends, refused]);
            Box::pin(async { Ok(ToolOutput(RawJson::from_valid("1"))) })
        });
        let agent = ScriptedAgent::new([vec![Script::call("look", "{}")]]);
        let world = setup.start(agent, tools).await;
        let turn = world.send(None, "Go").await;
        let (delivered, stored) = delivered_and_stored(&world, turn.id).await;
        assert_eq!(delivered, stored, "{refused:?}");
        assert_eq!(
            stored.last().unwrap(),
            "unknown: interrupted",
            "{refused:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_draft_that_the_store_refuses_costs_no_worker_its_lease() {
    let (setup, gate) = (Setup::new(), Gate::new());
    setup.store.refuse([RefusedCall::Drafts]);
    let world = setup
        .saying([vec![
            Script::text("Hel"),
            Script::Wait(gate.clone()),
            Script::text("lo."),
        ]])
        .await;
    let other = setup.saying([]).await;
    let turn = world.send(None, "Hi").await;
    gate.reached_by(1).await;
    tokio::time::sleep(setup.limits.lease * 3).await;
    gate.open();
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Completed);
    assert_eq!(
        world.log(turn.conversation).await,
        ["User: Hi", "Assistant: Hello."]
    );
    assert!(
        other.agent.requests().is_empty(),
        "another worker took the turn"
    );
}

#[tokio::test(start_paused = true)]
async fn a_transient_error_of_any_length_is_no_permanent_one() {
    let setup = Setup::new();
    let world = calling(&setup).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    let turn = world.send(None, "Go").await;
    setup.store.set_unreachable(true);
    tokio::time::sleep(Duration::from_secs(60)).await;
    setup.store.set_unreachable(false);
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Completed);
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_is_of_the_turn_and_not_of_its_attempts() {
    let limits = TurnLimits {
        turn: Duration::from_secs(60),
        attempts: 9,
        ..TurnLimits::default()
    };
    let setup = Setup {
        limits,
        ..Setup::new()
    };
    let hanging = || ScriptedAgent::answering(|_| vec![Script::Wait(Gate::new())]);
    let mut world = setup.start(hanging(), FakeTools::new()).await;
    let begun = tokio::time::Instant::now();
    let turn = world.send(None, "Go").await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(15)).await;
        world.crash();
        world = setup.start(hanging(), FakeTools::new()).await;
    }
    let outcome = world.outcome(turn.id).await;
    assert!(
        matches!(
            &outcome,
            TurnOutcome::Failed(TurnFailure {
                kind: FailureKind::TimeLimit,
                ..
            })
        ),
        "{outcome:?}"
    );
    // Nobody held the turn for at most a lease and a sweep after each crash.
    let most = setup.limits.turn + 3 * (setup.limits.lease + setup.limits.sweep);
    assert!(begun.elapsed() <= most, "it took {:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_waits_has_all_its_time_when_it_starts() {
    let limits = TurnLimits {
        turn: Duration::from_secs(60),
        ..TurnLimits::default()
    };
    let (setup, first, second) = (
        Setup {
            limits,
            ..Setup::new()
        },
        Gate::new(),
        Gate::new(),
    );
    let script = [
        vec![Script::Wait(first.clone())],
        vec![Script::Wait(second.clone()), Script::text("Done.")],
    ];
    let world = setup.saying(script).await;
    let running = world.send(None, "1").await;
    let waiting = world.send(Some(running.conversation), "2").await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    first.open();
    second.reached_by(1).await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    second.open();
    assert_eq!(world.outcome(waiting.id).await, TurnOutcome::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_released_counts_as_an_attempt() {
    let limits = TurnLimits {
        turn: Duration::from_secs(20),
        ..TurnLimits::default()
    };
    let (setup, gate) = (
        Setup {
            limits,
            ..Setup::new()
        },
        Gate::new(),
    );
    let world = setup
        .saying([
            vec![Script::text("Hello."), Script::Wait(gate.clone())],
            vec![Script::text("At last.")],
        ])
        .await;
    let turn = world.send(None, "Hi").await;
    gate.reached_by(1).await;
    setup.store.set_unreachable(true);
    gate.open();
    // Past the limit and the lease the run gives the turn back.
    tokio::time::sleep(Duration::from_secs(40)).await;
    setup.store.set_unreachable(false);
    let outcome = world.outcome(turn.id).await;
    assert!(
        matches!(
            &outcome,
            TurnOutcome::Failed(TurnFailure {
                kind: FailureKind::TimeLimit,
                ..
            })
        ),
        "{outcome:?}"
    );
    let started: Vec<_> = world
        .signals
        .heard()
        .into_iter()
        .filter(|signal| signal.starts_with("TurnStarted"))
        .collect();
    assert!(
        started.len() == 2 && started[1].contains("attempt: 2"),
        "{started:?}"
    );
}
