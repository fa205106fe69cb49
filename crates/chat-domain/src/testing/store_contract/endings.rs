//! Attempts, the time that they take, and the end of a turn that nothing else can end.

use super::*;

/// Each claim counts as an attempt, but for a turn that its worker handed over.
pub async fn an_interrupted_attempt_counts(store: Store) {
    let leaving = enrolled(&store, LEASE).await;
    let broken_off = running(store.begin(new_conversation(leaving, "one")).await);
    let handed_over = running(store.begin(new_conversation(leaving, "two")).await);
    let found = store
        .claim(Claim {
            holding: Some(vec![handed_over.turn.id]),
            ..claim(leaving)
        })
        .await
        .unwrap();
    assert_eq!(
        found
            .iter()
            .map(|held| (held.turn.id, held.attempt))
            .collect::<Vec<_>>(),
        [(broken_off.turn.id, 2)]
    );
    store
        .deregister(leaving, vec![handed_over.turn.id])
        .await
        .unwrap();
    let worker = enrolled(&store, LEASE).await;
    let mut claimed = store.claim(claim(worker)).await.unwrap();
    claimed.sort_by_key(|held| held.turn.id);
    let attempts: Vec<_> = claimed
        .iter()
        .map(|held| (held.turn.id, held.attempt))
        .collect();
    assert_eq!(
        attempts,
        [(broken_off.turn.id, 3), (handed_over.turn.id, 1)]
    );
}

/// The time that attempts take adds up, over claims and hand-overs. A queued turn has spent none.
pub async fn the_time_of_all_attempts_adds_up(store: Store) {
    let mut worker = enrolled(&store, LEASE).await;
    let mut held = running(store.begin(new_conversation(worker, "one")).await);
    let waiting = queued(
        store
            .begin(message_to(
                Target::Existing(held.turn.conversation),
                worker,
                "two",
            ))
            .await,
    );
    assert_eq!(held.spent, Duration::ZERO);
    let mut grown = 0;
    // Every store's clock advances.
    while grown < 3 {
        let hand_over = grown % 2 == 0;
        let claim = if hand_over {
            store.deregister(worker, vec![held.turn.id]).await.unwrap();
            worker = enrolled(&store, LEASE).await;
            claim(worker)
        } else {
            Claim {
                holding: Some(Vec::new()),
                ..claim(worker)
            }
        };
        let next = store.claim(claim).await.unwrap().pop().unwrap();
        assert!(
            next.spent >= held.spent,
            "{:?} after {:?}",
            next.spent,
            held.spent
        );
        grown += u32::from(next.spent > held.spent);
        held = next;
    }
    let next = complete(&store, &held).await.next.unwrap();
    assert_eq!((next.turn.id, next.spent), (waiting.id, Duration::ZERO));
}

/// The time after the end of a worker's lease does not count, whether the worker deregisters or
/// another takes over.
pub async fn the_time_after_a_lease_does_not_count(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    for deregisters in [true, false] {
        let late = enrolled(&store, EXPIRED).await;
        let held = running(store.begin(new_conversation(late, "one")).await);
        if deregisters {
            store.deregister(late, Vec::new()).await.unwrap();
        }
        let claimed = store.claim(claim(worker)).await.unwrap();
        let times: Vec<_> = claimed
            .iter()
            .map(|held| (held.turn.id, held.spent))
            .collect();
        assert_eq!(times, [(held.turn.id, Duration::ZERO)]);
    }
}

/// A forced end needs only the lease. It ends open calls, and the next turn begins in nobody's
/// hands.
pub async fn a_forced_end_leaves_the_next_turn_to_a_claim(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let held = running(store.begin(new_conversation(worker, "one")).await);
    let conversation = held.turn.conversation;
    let (message, said) = assistant("Working.");
    let call = tool_call(message, "{}");
    store
        .append_items(
            &held.lease,
            vec![said, new(ItemBody::ToolCall(call.clone()))],
        )
        .await
        .unwrap();
    let retry = BeginTurn {
        retry_of: retry(&held),
        ..message_to(Target::Existing(conversation), worker, "two")
    };
    let second = queued(store.begin(retry).await);
    let third = queued(
        store
            .begin(message_to(Target::Existing(conversation), worker, "three"))
            .await,
    );
    let failure = TurnFailure {
        kind: FailureKind::Internal,
        message: "It cannot be stored.".to_owned(),
    };
    let at = Timestamp(1_770_069_603_000_003);
    let stale = TurnLease {
        epoch: held.lease.epoch + 1,
        ..held.lease
    };
    assert!(matches!(
        store.force_end(&stale, failure.clone(), at).await,
        Err(StoreError::Refused(Refusal::LeaseLost))
    ));
    for _ in 0..2 {
        store
            .force_end(&held.lease, failure.clone(), at)
            .await
            .unwrap();
    }
    assert!(matches!(
        store.append_items(&held.lease, answer("late")).await,
        Err(StoreError::Refused(Refusal::LeaseLost))
    ));

    let view = store
        .view(&ann(), held.turn.id, Position::START)
        .await
        .unwrap();
    assert_eq!(
        view.turn.status,
        TurnStatus::Ended {
            at,
            outcome: TurnOutcome::Failed(failure)
        }
    );
    assert!(
        view.turn.superseded,
        "the retry runs and has not superseded it"
    );
    assert_eq!(positions(&view.items), [1, 2, 3, 4]);
    assert!(
        matches!(&view.items[3].body, ItemBody::ToolResult(result) if result.call == call.id && result.outcome == ToolOutcome::Unknown(UnknownCause::Interrupted))
    );
    let claimed = store.claim(claim(worker)).await.unwrap();
    assert_eq!(
        claimed
            .iter()
            .map(|held| (held.turn.id, held.attempt))
            .collect::<Vec<_>>(),
        [(second.id, 1)]
    );
    assert_eq!(
        (positions(&claimed[0].items), texts(&claimed[0].items)),
        (vec![5], vec!["two"])
    );
    let next = complete(&store, &claimed[0]).await.next.unwrap();
    assert_eq!((next.turn.id, positions(&next.items)), (third.id, vec![7]));
    complete(&store, &next).await;
}
