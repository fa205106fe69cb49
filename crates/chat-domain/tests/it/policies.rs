//! Several messages to one conversation, repetitions and retries.

use std::time::Duration;

use chat_domain::testing::{FakeTools, Gate, Script, ScriptedAgent};
use chat_domain::{
    BusyPolicy, ChatError, IdempotencyKey, InvalidInput, RetryTurn, StartTurn, TurnOutcome,
    TurnPage,
};
use futures_util::future::join_all;

use crate::world::{Setup, ann, lines};

fn echo() -> ScriptedAgent {
    ScriptedAgent::answering(|request| {
        let last = lines(&request.transcript.0).pop().unwrap_or_default();
        vec![
            Script::text("Re "),
            Script::text(last.trim_start_matches("User: ")),
        ]
    })
}

#[tokio::test(start_paused = true)]
async fn a_hundred_messages_at_once_are_answered_one_after_another() {
    let world = Setup::new().start(echo(), FakeTools::new()).await;
    let first = world.send(None, "m0").await;
    let texts: Vec<_> = (1..=128).map(|n| format!("m{n}")).collect();
    let sent = join_all(
        texts
            .iter()
            .map(|text| world.send(Some(first.conversation), text)),
    )
    .await;
    for turn in &sent {
        assert_eq!(world.outcome(turn.id).await, TurnOutcome::Completed);
    }
    let log = world.log(first.conversation).await;
    assert_eq!(log.len(), 258);
    for (n, pair) in log.chunks(2).enumerate() {
        assert_eq!(pair, [format!("User: m{n}"), format!("Assistant: Re m{n}")]);
    }
    for (n, request) in world.agent.requests().iter().enumerate() {
        let read = lines(&request.transcript.0);
        assert_eq!(
            read,
            log[..2 * n + 1],
            "turn {n} reads something else than all before it"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn reject_names_the_running_turn() {
    let gate = Gate::new();
    let world = Setup::new()
        .saying([vec![Script::Wait(gate.clone())]])
        .await;
    let first = world.send(None, "one").await;
    let refused = world
        .try_send(Some(first.conversation), "two", BusyPolicy::Reject)
        .await;
    assert!(matches!(refused, Err(ChatError::Busy(turn)) if turn == first.id));
    gate.open();
    world.outcome(first.id).await;
    world
        .try_send(Some(first.conversation), "two", BusyPolicy::Reject)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn interrupt_answers_the_last_and_ends_all_before() {
    let script = ScriptedAgent::answering(|request| {
        match lines(&request.transcript.0).last().map(String::as_str) {
            Some("User: last") => vec![Script::text("Here.")],
            _ => vec![Script::text("Wor"), Script::Wait(Gate::new())],
        }
    });
    let world = Setup::new().start(script, FakeTools::new()).await;
    let first = world.send(None, "first").await;
    let mut turns = vec![first.clone()];
    for text in ["second", "third", "last"] {
        turns.push(
            world
                .try_send(Some(first.conversation), text, BusyPolicy::Interrupt)
                .await
                .unwrap(),
        );
    }
    let sent = tokio::time::Instant::now();
    assert_eq!(world.outcome(turns[3].id).await, TurnOutcome::Completed);
    assert_eq!(
        sent.elapsed(),
        Duration::ZERO,
        "where the turn runs, no heartbeat is waited for"
    );
    let mut outcomes = Vec::new();
    for turn in &turns {
        outcomes.push(world.outcome(turn.id).await);
    }
    let cancelled = TurnOutcome::Cancelled;
    assert_eq!(
        outcomes,
        [
            cancelled.clone(),
            cancelled.clone(),
            cancelled,
            TurnOutcome::Completed
        ]
    );
    let log = world.log(first.conversation).await;
    assert_eq!(
        log.iter().filter(|line| line.starts_with("User")).count(),
        4
    );
    assert_eq!(log[log.len() - 2..], ["User: last", "Assistant: Here."]);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_request_attaches_to_its_turn() {
    let world = Setup::new().start(echo(), FakeTools::new()).await;
    let key = |fingerprint| {
        Some(IdempotencyKey {
            key: "k".to_owned(),
            fingerprint: [fingerprint; 32],
        })
    };
    let request = |fingerprint| StartTurn {
        owner: ann(),
        conversation: None,
        text: "once".to_owned(),
        busy: BusyPolicy::Reject,
        idempotency: key(fingerprint),
    };
    let first = world.service.start_turn(request(1)).await.unwrap();
    assert!(!first.repeated);
    let first = world.spawn(first);
    for _ in 0..3 {
        let again = world.service.start_turn(request(1)).await.unwrap();
        assert!(again.repeated && again.task.is_none());
        assert_eq!(again.turn.id, first.id);
        world.outcome(again.turn.id).await;
    }
    assert!(matches!(
        world.service.start_turn(request(2)).await,
        Err(ChatError::IdempotencyMismatch)
    ));
    assert_eq!(world.agent.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_retry_answers_the_same_message_again() {
    let world = Setup::new()
        .saying([
            vec![Script::text("A")],
            vec![Script::text("B")],
            vec![Script::text("B2")],
        ])
        .await;
    let first = world.send(None, "one").await;
    world.outcome(first.id).await;
    let second = world.send(Some(first.conversation), "two").await;
    world.outcome(second.id).await;
    let retry = RetryTurn {
        owner: ann(),
        turn: second.id,
        busy: BusyPolicy::Enqueue,
        idempotency: None,
    };
    let third = world.spawn(world.service.retry_turn(retry).await.unwrap());
    world.outcome(third.id).await;
    assert_eq!(third.retry_of, Some(second.id));
    assert_eq!(
        lines(&world.agent.requests()[2].transcript.0),
        ["User: one", "Assistant: A", "User: two"]
    );
    assert_eq!(
        world.log(first.conversation).await,
        [
            "User: one",
            "Assistant: A",
            "User: two",
            "Assistant: B",
            "User: two",
            "Assistant: B2"
        ]
    );
    // A superseded turn cannot be retried: the retry would supersede the turn that replaced it.
    let retry = RetryTurn {
        owner: ann(),
        turn: second.id,
        busy: BusyPolicy::Enqueue,
        idempotency: None,
    };
    assert!(matches!(
        world.service.retry_turn(retry).await,
        Err(ChatError::Superseded)
    ));
    let seen = world
        .service
        .turns(&ann(), first.conversation, TurnPage::ALL)
        .await
        .unwrap();
    assert_eq!(
        seen.iter().map(|log| log.turn.id).collect::<Vec<_>>(),
        [first.id, third.id]
    );
}

#[tokio::test(start_paused = true)]
async fn bad_messages_are_refused_and_change_nothing() {
    let setup = Setup::new();
    let world = setup.saying([]).await;
    let refused = async |text: &str| match world.try_send(None, text, BusyPolicy::Enqueue).await {
        Err(ChatError::Invalid(why)) => why,
        other => panic!("not refused: {other:?}"),
    };
    for blank in ["", " \t\n", "\u{2003}\u{a0}\u{3000}"] {
        assert_eq!(refused(blank).await, InvalidInput::MessageEmpty);
    }
    assert_eq!(refused("a\0b").await, InvalidInput::Nul);
    let limit = setup.limits.message_chars;
    assert_eq!(
        refused(&"é".repeat(limit + 1)).await,
        InvalidInput::MessageTooLong {
            limit,
            length: limit + 1
        }
    );
    world.send(None, &"é".repeat(limit)).await;
    let page = chat_domain::ConversationPage::last_active(None, 9);
    assert_eq!(
        world
            .service
            .conversations(&ann(), page)
            .await
            .unwrap()
            .len(),
        1
    );
}
