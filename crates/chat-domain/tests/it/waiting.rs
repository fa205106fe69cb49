//! The cost of turns while they wait for the agent.

use std::time::Duration;

use chat_domain::testing::{FakeTools, Gate, Script, ScriptedAgent};
use chat_domain::{Cursor, TurnOutcome};
use futures_util::StreamExt;
use futures_util::future::join_all;

use crate::world::{Setup, ann};

/// How often the store is asked in a minute while so many turns wait, each with a reader where it
/// runs and one at another server.
async fn asked_while_waiting(turns: usize) -> u64 {
    let (setup, gate) = (Setup::new(), Gate::new());
    let held = gate.clone();
    let agent = ScriptedAgent::answering(move |_| {
        vec![Script::Wait(held.clone()), Script::text("At last.")]
    });
    let here = setup.start(agent, FakeTools::new()).await;
    let there = setup.saying([]).await;
    let mut readers = Vec::new();
    let mut begun = Vec::new();
    for _ in 0..turns {
        let turn = here.send(None, "Hi").await;
        for server in [&here, &there] {
            readers.push(tokio::spawn(
                server
                    .service
                    .watch_turn(&ann(), turn.id, Cursor::START)
                    .await
                    .unwrap()
                    .count(),
            ));
        }
        begun.push(turn.id);
    }
    gate.reached_by(turns).await;
    // Off the beat of all clocks, so that none of them strikes at the very end.
    tokio::time::sleep(Duration::from_millis(5_050)).await;
    let before = setup.store.calls();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let asked = setup.store.calls() - before;
    gate.open();
    join_all(readers).await;
    for turn in begun {
        assert_eq!(here.outcome(turn).await, TurnOutcome::Completed);
    }
    asked
}

#[tokio::test(start_paused = true)]
async fn the_store_is_asked_as_often_for_many_waiting_turns_as_for_one() {
    let one = asked_while_waiting(1).await;
    assert!(one > 0);
    for turns in [20, 200] {
        assert_eq!(asked_while_waiting(turns).await, one, "{turns} turns");
    }
}
