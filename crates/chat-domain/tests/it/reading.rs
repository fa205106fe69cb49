//! Readers: live, resumed, on another server, of turns that wait or have gone.

use std::time::Duration;

use chat_domain::testing::{FakeTools, Gate, RefusedCall, Script, ScriptedAgent};
use chat_domain::{
    ChatError, Cursor, InvalidInput, Position, TurnEvent, TurnId, TurnOutcome, UserId,
};
use futures_util::StreamExt;

use crate::world::{Setup, ann};

fn text(events: &[TurnEvent]) -> String {
    events
        .iter()
        .filter_map(|event| {
            if let TurnEvent::Text { delta, .. } = event {
                Some(delta.as_str())
            } else {
                None
            }
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn text_is_delivered_before_it_is_stored() {
    let gate = Gate::new();
    let world = Setup::new()
        .saying([vec![
            Script::text("Hel"),
            Script::Wait(gate.clone()),
            Script::text("lo."),
        ]])
        .await;
    let turn = world.send(None, "Hi").await;
    let mut stream = world
        .service
        .watch_turn(&ann(), turn.id, Cursor::START)
        .await
        .unwrap();
    assert!(matches!(
        stream.next().await,
        Some(Ok((_, TurnEvent::Item(_))))
    ));
    assert!(
        matches!(stream.next().await, Some(Ok((_, TurnEvent::Text { delta, .. }))) if delta == "Hel")
    );
    gate.open();
    let rest: Vec<_> = stream.map(|news| news.unwrap().1).collect().await;
    assert_eq!(text(&rest), "lo.");
}

#[tokio::test(start_paused = true)]
async fn each_place_can_be_resumed_from_live_and_later() {
    let tools = FakeTools::new().answering("look", true, "1");
    let script = [
        vec![
            Script::text("Let me "),
            Script::text("look."),
            Script::call("look", "{}"),
        ],
        vec![Script::text("It is "), Script::text("1.")],
    ];
    let world = Setup::new().start(ScriptedAgent::new(script), tools).await;
    let turn = world.send(None, "Hi").await;
    let stream = world
        .service
        .watch_turn(&ann(), turn.id, Cursor::START)
        .await
        .unwrap();
    let delivered: Vec<_> = stream.map(Result::unwrap).collect().await;
    let all: Vec<_> = delivered.iter().map(|(_, event)| event.clone()).collect();
    for (n, (cursor, _)) in delivered.iter().enumerate() {
        let stream = world
            .service
            .watch_turn(&ann(), turn.id, *cursor)
            .await
            .unwrap();
        let rest: Vec<_> = stream.map(|news| news.unwrap().1).collect().await;
        let joined: Vec<_> = all[..=n].iter().cloned().chain(rest).collect();
        assert_eq!(text(&joined), text(&all));
        let others = |events: &[TurnEvent]| {
            events
                .iter()
                .filter(|event| !matches!(event, TurnEvent::Text { .. }))
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(others(&joined), others(&all));
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_on_another_server_sees_the_same_and_can_cancel() {
    let (setup, gate) = (Setup::new(), Gate::new());
    let here = setup
        .saying([vec![Script::text("Working"), Script::Wait(gate.clone())]])
        .await;
    let there = setup.saying([]).await;
    let turn = here.send(None, "Hi").await;
    let mut stream = there
        .service
        .watch_turn(&ann(), turn.id, Cursor::START)
        .await
        .unwrap();
    let mut events = Vec::new();
    while text(&events) != "Working" {
        events.push(stream.next().await.unwrap().unwrap().1);
    }
    let started = tokio::time::Instant::now();
    there.service.cancel_turn(&ann(), turn.id).await.unwrap();
    let rest: Vec<_> = stream.map(|news| news.unwrap().1).collect().await;
    assert!(matches!(rest.last(), Some(TurnEvent::Ended(_))));
    assert!(
        started.elapsed() <= Duration::from_millis(1_500),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(here.outcome(turn.id).await, TurnOutcome::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_a_waiting_turn_follows_it_when_it_runs() {
    let gate = Gate::new();
    let world = Setup::new()
        .saying([
            vec![Script::Wait(gate.clone()), Script::text("one")],
            vec![Script::text("two")],
        ])
        .await;
    let first = world.send(None, "1").await;
    let second = world.send(Some(first.conversation), "2").await;
    let stream = world
        .service
        .watch_turn(&ann(), second.id, Cursor::START)
        .await
        .unwrap();
    gate.reached_by(1).await;
    gate.open();
    let events: Vec<_> = stream.map(|news| news.unwrap().1).collect().await;
    assert_eq!(text(&events), "two");
}

#[tokio::test(start_paused = true)]
async fn wrong_cursors_and_foreign_turns_are_refused() {
    let world = Setup::new()
        .saying([vec![Script::text("Hello")], vec![Script::text("Again")]])
        .await;
    let turn = world.send(None, "Hi").await;
    world.outcome(turn.id).await;
    let beyond = Cursor {
        position: Position(3),
        ..Cursor::START
    };
    let refused = world
        .service
        .watch_turn(&ann(), turn.id, beyond)
        .await
        .err();
    assert!(
        matches!(refused, Some(ChatError::Invalid(InvalidInput::Cursor))),
        "{refused:?}"
    );
    let bob = UserId::new("bob").unwrap();
    let foreign = world
        .service
        .watch_turn(&bob, turn.id, Cursor::START)
        .await
        .err();
    assert!(matches!(foreign, Some(ChatError::TurnNotFound)));
    let gate = Gate::new();
    let world = Setup::new()
        .saying([vec![Script::Wait(gate.clone()), Script::text("Yes.")]])
        .await;
    let live = world.send(None, "Hi").await;
    assert!(matches!(
        world
            .service
            .watch_turn(&bob, live.id, Cursor::START)
            .await
            .err(),
        Some(ChatError::TurnNotFound)
    ));
    assert!(matches!(
        world.service.cancel_turn(&bob, live.id).await,
        Err(ChatError::TurnNotFound)
    ));
    let unknown = TurnId(uuid::Uuid::nil());
    assert!(matches!(
        world
            .service
            .watch_turn(&ann(), unknown, Cursor::START)
            .await
            .err(),
        Some(ChatError::TurnNotFound)
    ));
    gate.open();
    assert_eq!(world.outcome(live.id).await, TurnOutcome::Completed);
}

#[tokio::test(start_paused = true)]
async fn deleting_a_conversation_stops_its_turn_and_its_readers() {
    let gate = Gate::new();
    let world = Setup::new()
        .saying([vec![Script::text("Hello"), Script::Wait(gate.clone())]])
        .await;
    let turn = world.send(None, "Hi").await;
    let stream = world
        .service
        .watch_turn(&ann(), turn.id, Cursor::START)
        .await
        .unwrap();
    gate.reached_by(1).await;
    let deleted = tokio::time::Instant::now();
    world
        .service
        .delete(&ann(), turn.conversation)
        .await
        .unwrap();
    let last = stream.collect::<Vec<_>>().await.pop();
    assert_eq!(deleted.elapsed(), Duration::ZERO);
    assert!(
        matches!(last, Some(Err(ChatError::TurnNotFound))),
        "{last:?}"
    );
    assert!(matches!(
        world.service.turn(&ann(), turn.id).await,
        Err(ChatError::TurnNotFound)
    ));
}

#[tokio::test(start_paused = true)]
async fn a_cursor_may_be_ahead_of_the_worker_that_runs_the_turn() {
    let setup = Setup::new();
    let world = setup.saying([vec![Script::text("Hello.")]]).await;
    let other = setup.saying([]).await;
    setup.store.lose_answer(RefusedCall::EndsWithItems);
    let turn = world.send(None, "Hi").await;
    // The end is stored, and the worker has not heard of it yet.
    tokio::time::sleep(Duration::from_millis(10)).await;
    let stream = other
        .service
        .watch_turn(&ann(), turn.id, Cursor::START)
        .await
        .unwrap();
    let news: Vec<_> = stream.map(|news| news.unwrap()).collect().await;
    let mut readers = Vec::new();
    for (cursor, _) in &news {
        let reader = world.service.watch_turn(&ann(), turn.id, *cursor).await;
        readers.push(reader.unwrap());
    }
    for (seen, reader) in readers.into_iter().enumerate() {
        let rest: Vec<_> = reader.map(|news| news.unwrap()).collect().await;
        assert_eq!(rest, news[seen + 1..], "after {:?}", news[seen]);
    }
}
