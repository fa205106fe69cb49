//! Crashes at every step, lost leases, outages of the store, and the graceful way out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chat_domain::testing::{FakeTools, Gate, Script, ScriptedAgent};
use chat_domain::{
    ChatError, Conversations, Cursor, FailureKind, RawJson, ToolOutput, TurnEvent, TurnFailure,
    TurnLimits, TurnOutcome, Unavailability,
};
use futures_util::StreamExt;

use crate::world::{Setup, ann};

/// A tool that counts how often it ran, and stops at the gate before (`Before`) or after (`After`)
/// its work is done.
fn counted(repeatable: bool, gate: &Gate, after: bool) -> (FakeTools, Arc<AtomicUsize>) {
    let (runs, gate) = (Arc::new(AtomicUsize::new(0)), gate.clone());
    let counter = runs.clone();
    let tools = FakeTools::new().with("pay", repeatable, move |_| {
        let (gate, runs) = (gate.clone(), counter.clone());
        Box::pin(async move {
            if !after {
                gate.pass().await;
            }
            runs.fetch_add(1, Ordering::SeqCst);
            if after {
                gate.pass().await;
            }
            Ok(ToolOutput(RawJson::from_valid(r#"{"paid":true}"#)))
        })
    });
    (tools, runs)
}

#[tokio::test(start_paused = true)]
async fn a_turn_whose_worker_died_is_taken_up_by_the_next() {
    let (setup, gate) = (Setup::new(), Gate::new());
    let dead = setup
        .saying([vec![
            Script::text("Half an ans"),
            Script::Wait(gate.clone()),
        ]])
        .await;
    let turn = dead.send(None, "Hi").await;
    gate.reached_by(1).await;
    let mut stream = dead
        .service
        .watch_turn(&ann(), turn.id, Cursor::START)
        .await
        .unwrap();
    stream.next().await;
    let (cursor, shown) = stream.next().await.unwrap().unwrap();
    assert!(matches!(shown, TurnEvent::Text { .. }));
    drop(stream);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    dead.crash();

    let died = tokio::time::Instant::now();
    let heir = setup.saying([vec![Script::text("A whole answer.")]]).await;
    let stream = heir
        .service
        .watch_turn(&ann(), turn.id, cursor)
        .await
        .unwrap();
    let news: Vec<_> = stream.map(|news| news.unwrap().1).collect().await;
    assert!(
        matches!(news.first(), Some(TurnEvent::Discarded { .. })),
        "{news:?}"
    );
    assert!(matches!(news.last(), Some(TurnEvent::Ended(_))));
    assert!(
        died.elapsed() <= setup.limits.lease + setup.limits.sweep,
        "{:?}",
        died.elapsed()
    );
    assert_eq!(
        heir.log(turn.conversation).await,
        ["User: Hi", "Assistant: A whole answer."]
    );
}

/// Crashes while the tool runs; gives how often it ran, and the log after recovery.
async fn crash_in_a_call(repeatable: bool, after: bool) -> (usize, Vec<String>) {
    let (setup, gate) = (Setup::new(), Gate::new());
    let (tools, runs) = counted(repeatable, &gate, after);
    let dead = setup
        .start(ScriptedAgent::new([vec![Script::call("pay", "{}")]]), tools)
        .await;
    let turn = dead.send(None, "Pay").await;
    gate.reached_by(1).await;
    dead.crash();
    let open = Gate::new();
    open.open();
    let (tools, again) = counted(repeatable, &open, after);
    let heir = setup
        .start(ScriptedAgent::new([vec![Script::text("Well.")]]), tools)
        .await;
    assert_eq!(heir.outcome(turn.id).await, TurnOutcome::Completed);
    let next = heir.send(Some(turn.conversation), "Go on").await;
    assert_eq!(heir.outcome(next.id).await, TurnOutcome::Completed);
    let log = heir.log(turn.conversation).await;
    (
        runs.load(Ordering::SeqCst) + again.load(Ordering::SeqCst),
        log[..5].to_vec(),
    )
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_may_have_run_is_not_run_again() {
    for (after, ran) in [(false, 0), (true, 1)] {
        let (runs, log) = crash_in_a_call(false, after).await;
        assert_eq!(runs, ran);
        assert_eq!(
            log,
            [
                "User: Pay",
                "Assistant: ",
                "call: pay {}",
                "unknown: interrupted",
                "Assistant: Well."
            ]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeatable_tool_is_run_again() {
    let (runs, log) = crash_in_a_call(true, true).await;
    assert_eq!(runs, 2);
    assert_eq!(
        log,
        [
            "User: Pay",
            "Assistant: ",
            "call: pay {}",
            r#"result: {"paid":true}"#,
            "Assistant: Well."
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_tool_with_a_result_never_runs_again() {
    let (setup, gate) = (Setup::new(), Gate::new());
    let open = Gate::new();
    open.open();
    let (tools, runs) = counted(true, &open, false);
    let script = [
        vec![Script::call("pay", "{}")],
        vec![Script::text("Pai"), Script::Wait(gate.clone())],
    ];
    let dead = setup.start(ScriptedAgent::new(script), tools).await;
    let turn = dead.send(None, "Pay").await;
    gate.reached_by(1).await;
    dead.crash();
    let heir = setup.saying([vec![Script::text("Paid.")]]).await;
    assert_eq!(heir.outcome(turn.id).await, TurnOutcome::Completed);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(
        heir.log(turn.conversation).await.last().unwrap(),
        "Assistant: Paid."
    );
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_kills_its_workers_is_given_up() {
    let setup = Setup::new();
    let mut turn = None;
    for _ in 0..3 {
        let gate = Gate::new();
        let dead = setup
            .start(
                ScriptedAgent::answering({
                    let gate = gate.clone();
                    move |_| vec![Script::Wait(gate.clone())]
                }),
                FakeTools::new(),
            )
            .await;
        if turn.is_none() {
            turn = Some(dead.send(None, "Die").await);
        }
        gate.reached_by(1).await;
        dead.crash();
    }
    let turn = turn.unwrap();
    let heir = setup.saying([vec![Script::text("Fine.")]]).await;
    let outcome = heir.outcome(turn.id).await;
    assert!(
        matches!(
            outcome,
            TurnOutcome::Failed(TurnFailure {
                kind: FailureKind::TooManyAttempts,
                ..
            })
        ),
        "{outcome:?}"
    );
    let next = heir.send(Some(turn.conversation), "And now?").await;
    assert_eq!(heir.outcome(next.id).await, TurnOutcome::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_lost_its_turns_writes_nothing() {
    let (setup, gate) = (Setup::new(), Gate::new());
    let frozen = setup
        .saying([vec![Script::text("Old"), Script::Wait(gate.clone())]])
        .await;
    let turn = frozen.send(None, "Hi").await;
    gate.reached_by(1).await;
    setup.store.delete_workers();
    let heir = setup.saying([vec![Script::text("New.")]]).await;
    assert_eq!(heir.outcome(turn.id).await, TurnOutcome::Completed);
    // Its heartbeat reports the loss, not only its next write.
    tokio::time::sleep(setup.limits.heartbeat * 2).await;
    assert!(
        frozen
            .signals
            .heard()
            .iter()
            .any(|signal| signal.starts_with("TurnReleased"))
    );
    gate.open();
    // Its reader goes over to the turn's new worker.
    assert_eq!(frozen.outcome(turn.id).await, TurnOutcome::Completed);
    assert_eq!(
        heir.log(turn.conversation).await,
        ["User: Hi", "Assistant: New."]
    );
    // It continues under another id.
    let next = frozen.send(None, "Next").await;
    assert_eq!(frozen.outcome(next.id).await, TurnOutcome::Completed);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(
        frozen
            .signals
            .heard()
            .iter()
            .any(|signal| signal.starts_with("WorkerReplaced"))
    );
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_store_delays_a_turn_and_loses_nothing() {
    let (setup, gate) = (Setup::new(), Gate::new());
    let open = Gate::new();
    open.open();
    let (tools, runs) = counted(false, &open, false);
    let script = [
        vec![Script::call("pay", "{}"), Script::Wait(gate.clone())],
        vec![Script::text("Paid.")],
    ];
    let world = setup.start(ScriptedAgent::new(script), tools).await;
    let turn = world.send(None, "Pay").await;
    gate.reached_by(1).await;
    setup.store.fail_next([Unavailability::Full; 12]);
    gate.open();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Completed);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(
        world.log(turn.conversation).await[3..],
        [r#"result: {"paid":true}"#, "Assistant: Paid."]
    );
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_those_who_live_keep_their_turns() {
    let (setup, gate) = (Setup::new(), Gate::new());
    let script = || {
        [vec![
            Script::text("Hel"),
            Script::Wait(gate.clone()),
            Script::text("lo."),
        ]]
    };
    let one = setup.saying(script()).await;
    // Out of step with the first.
    tokio::time::sleep(setup.limits.heartbeat / 2).await;
    let other = setup.saying(script()).await;
    let turns = [one.send(None, "Hi").await, other.send(None, "Hi").await];
    gate.reached_by(2).await;
    // Each lease has run out by the end, though nobody died.
    setup.store.set_unreachable(true);
    tokio::time::sleep(setup.limits.lease * 3).await;
    setup.store.set_unreachable(false);
    tokio::time::sleep(setup.limits.lease * 3).await;
    gate.open();
    for (world, turn) in [(&one, &turns[0]), (&other, &turns[1])] {
        assert_eq!(world.outcome(turn.id).await, TurnOutcome::Completed);
        assert_eq!(
            world.log(turn.conversation).await,
            ["User: Hi", "Assistant: Hello."]
        );
        let signals = world.signals.heard();
        assert!(
            !signals
                .iter()
                .any(|signal| signal.starts_with("TurnReleased")),
            "{signals:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever_when_the_store_stays_away() {
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
    let stream = world
        .service
        .watch_turn(&ann(), turn.id, Cursor::START)
        .await
        .unwrap();
    let asked = tokio::time::Instant::now();
    let last = stream.collect::<Vec<_>>().await.pop();
    assert!(matches!(last, Some(Err(ChatError::Store(_)))), "{last:?}");
    assert!(
        asked.elapsed() <= Duration::from_secs(31),
        "{:?}",
        asked.elapsed()
    );
    setup.store.set_unreachable(false);
    // Its time was up before the store came back.
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
    let next = world.send(Some(turn.conversation), "And now?").await;
    assert_eq!(world.outcome(next.id).await, TurnOutcome::Completed);
    assert_eq!(
        world.log(turn.conversation).await,
        ["User: Hi", "User: And now?", "Assistant: At last."]
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_message_changes_nothing_and_says_why() {
    let setup = Setup::new();
    let world = setup.saying([]).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    setup.store.fail_next([Unavailability::ReadOnly]);
    let refused = world
        .try_send(None, "Hi", chat_domain::BusyPolicy::Enqueue)
        .await;
    assert!(matches!(refused, Err(ChatError::Store(_))), "{refused:?}");
    let page = chat_domain::ConversationPage::last_active(None, 9);
    assert!(
        world
            .service
            .conversations(&ann(), page)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test(start_paused = true)]
async fn a_task_that_was_dropped_unrun_is_found_again() {
    let world = Setup::new().saying([vec![Script::text("Found.")]]).await;
    let request = chat_domain::StartTurn {
        owner: ann(),
        conversation: None,
        text: "Hi".into(),
        busy: Default::default(),
        idempotency: None,
    };
    let started = world.service.start_turn(request).await.unwrap();
    drop(started.task);
    assert_eq!(world.outcome(started.turn.id).await, TurnOutcome::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_runs_what_its_last_claim_took() {
    let (setup, gate) = (Setup::new(), Gate::new());
    let stuck = vec![Script::Wait(gate.clone())];
    let dead = setup.saying([stuck]).await;
    let turn = dead.send(None, "Hi").await;
    gate.reached_by(1).await;
    dead.crash();
    tokio::time::sleep(setup.limits.lease).await;
    let claims = Gate::new();
    setup.store.hold_claims(&claims);
    let heir = setup.saying([vec![Script::text("Hello.")]]).await;
    claims.reached_by(1).await;
    heir.service.close();
    tokio::time::sleep(Duration::from_millis(10)).await;
    claims.open();
    let outcome = tokio::time::timeout(Duration::from_secs(60), heir.outcome(turn.id)).await;
    assert_eq!(outcome, Ok(TurnOutcome::Completed));
}

#[tokio::test(start_paused = true)]
async fn what_still_runs_is_handed_over() {
    let (setup, gate) = (Setup::new(), Gate::new());
    let leaving = setup
        .saying([vec![Script::text("Unfin"), Script::Wait(gate.clone())]])
        .await;
    let turn = leaving.send(None, "Hi").await;
    gate.reached_by(1).await;
    leaving.service.close();
    assert!(matches!(
        leaving.try_send(None, "No", Default::default()).await,
        Err(ChatError::ShuttingDown)
    ));
    assert!(matches!(
        leaving.service.ready().await,
        Err(ChatError::ShuttingDown)
    ));
    leaving.service.hand_over().await.unwrap();
    let handed = tokio::time::Instant::now();
    let heir = setup.saying([vec![Script::text("Finished.")]]).await;
    assert_eq!(heir.outcome(turn.id).await, TurnOutcome::Completed);
    assert!(
        handed.elapsed() < Duration::from_secs(1),
        "{:?}",
        handed.elapsed()
    );
    assert_eq!(
        heir.log(turn.conversation).await,
        ["User: Hi", "Assistant: Finished."]
    );
}

#[tokio::test(start_paused = true)]
async fn a_queue_does_not_keep_a_worker_that_leaves() {
    let (setup, gate) = (Setup::new(), Gate::new());
    let leaving = setup
        .saying([vec![Script::text("One.")], vec![Script::text("Not here.")]])
        .await;
    setup.store.hold_ends(&gate);
    let first = leaving.send(None, "1").await;
    let second = leaving.send(Some(first.conversation), "2").await;
    gate.reached_by(1).await;
    let (service, handed) = (leaving.service.clone(), tokio::time::Instant::now());
    let handing = tokio::spawn(async move { service.hand_over().await });
    let mut looks = 0;
    while leaving.service.ready().await.is_ok() {
        looks += 1;
        assert!(
            looks < 100_000,
            "waited in vain for a service that is about to leave"
        );
        tokio::task::yield_now().await;
    }
    // The first turn's end is stored only now, and gives the second to a worker that takes nothing
    // more.
    gate.open();
    handing.await.unwrap().unwrap();
    assert_eq!(handed.elapsed(), Duration::ZERO);
    assert_eq!(leaving.agent.requests().len(), 1);
    let heir = setup.saying([vec![Script::text("Two.")]]).await;
    assert_eq!(heir.outcome(second.id).await, TurnOutcome::Completed);
    assert_eq!(
        heir.log(first.conversation).await,
        ["User: 1", "Assistant: One.", "User: 2", "Assistant: Two."]
    );
}

#[tokio::test(start_paused = true)]
async fn a_claimed_turn_that_was_cancelled_ends_at_once() {
    let (setup, gate) = (Setup::new(), Gate::new());
    let dead = setup.saying([vec![Script::Wait(gate.clone())]]).await;
    let turn = dead.send(None, "Hi").await;
    gate.reached_by(1).await;
    dead.crash();
    setup.store.request_cancel(&ann(), turn.id).await.unwrap();
    let heir = setup.saying([]).await;
    assert_eq!(heir.outcome(turn.id).await, TurnOutcome::Cancelled);
    assert!(heir.agent.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn no_tool_starts_while_the_lease_is_in_doubt() {
    let limits = TurnLimits {
        lease: Duration::from_secs(5),
        ..TurnLimits::default()
    };
    let (setup, gate) = (
        Setup {
            limits,
            ..Setup::new()
        },
        Gate::new(),
    );
    let open = Gate::new();
    open.open();
    let (tools, runs) = counted(false, &open, false);
    let held = gate.clone();
    let tools = tools.with("wait", false, move |_| {
        let gate = held.clone();
        Box::pin(async move {
            gate.pass().await;
            Ok(ToolOutput(RawJson::from_valid("1")))
        })
    });
    let script = [
        vec![Script::call("wait", "{}")],
        vec![Script::call("pay", "{}")],
        vec![Script::text("Paid.")],
    ];
    let world = setup.start(ScriptedAgent::new(script), tools).await;
    let turn = world.send(None, "Pay").await;
    gate.reached_by(1).await;
    // Heartbeats and sweeps fail for longer than the lease; then the store is back just for the
    // turn's own writes.
    setup.store.fail_heartbeats(true);
    tokio::time::sleep(Duration::from_secs(6)).await;
    gate.open();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    setup.store.fail_heartbeats(false);
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Completed);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_never_sent_is_not_run() {
    let limits = TurnLimits {
        lease: Duration::from_secs(5),
        ..TurnLimits::default()
    };
    let (setup, gate) = (
        Setup {
            limits,
            ..Setup::new()
        },
        Gate::new(),
    );
    let (tools, runs) = counted(false, &Gate::new(), false);
    let script = [vec![Script::Wait(gate.clone()), Script::call("pay", "{}")]];
    let world = setup.start(ScriptedAgent::new(script), tools).await;
    let turn = world.send(None, "Pay").await;
    gate.reached_by(1).await;
    setup.store.fail_heartbeats(true);
    tokio::time::sleep(Duration::from_secs(6)).await;
    gate.open();
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.service.cancel_turn(&ann(), turn.id).await.unwrap();
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Cancelled);
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    assert_eq!(
        world.log(turn.conversation).await.last().unwrap(),
        "failed: not_run"
    );
}
