//! The contract of every [`ConversationStore`], case by case.
//! [`store_contract!`](crate::store_contract) runs all cases.
// A failed case is a failed test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod endings;
mod values;

pub use endings::*;
pub use values::*;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::StoreExt;
use crate::*;

/// Makes one test of each case of the store's contract.
///
/// Takes an expression whose future gives `(guard, Arc<dyn ConversationStore>)`: a new, empty
/// store, and whatever must live as long as it. The crate that uses it needs tokio with `macros`
/// and `rt`.
#[macro_export]
macro_rules! store_contract {
    ($store:expr) => {
        $crate::store_contract! { @cases $store;
            a_new_conversation_begins_running
            a_second_message_waits_and_runs_next
            reject_refuses_and_a_full_queue_refuses
            interrupt_cancels_the_running_and_the_waiting
            append_is_all_or_nothing_and_repeatable
            ending_is_repeatable_and_final
            a_repeated_end_gives_no_turn_that_was_claimed_since
            an_old_epoch_writes_nothing
            each_abandoned_turn_is_claimed_once
            a_living_workers_turns_are_safe
            a_claim_finds_turns_whose_answer_was_lost
            an_expired_worker_claims_no_turns_of_others
            a_handed_over_attempt_does_not_count
            an_interrupted_attempt_counts
            the_time_of_all_attempts_adds_up
            the_time_after_a_lease_does_not_count
            a_forced_end_leaves_the_next_turn_to_a_claim
            a_deleted_worker_learns_of_it
            an_idle_worker_may_return_soon_after_its_lease
            a_heartbeat_saves_drafts_and_brings_cancels
            a_version_changes_with_its_turn
            one_idempotency_key_gives_one_turn
            beginning_is_repeatable
            a_retry_supersedes_when_it_starts
            conversations_come_last_active_first
            turns_come_in_pages_both_ways
            tool_calls_keep_every_byte
            the_worst_accepted_values_are_kept_as_they_are
            titles_change_and_conversations_go
            a_cancel_returns_the_turn_as_it_is
            concurrent_messages_keep_order
            owners_are_kept_apart
            an_unknown_target_stores_nothing
            creation_order_does_not_change
            a_message_identifies_its_turn_and_a_retry_its_original_message
            a_released_key_begins_a_new_turn
            feedback_needs_messages_of_the_conversation
            answers_keep_what_the_agent_says_of_them
            what_was_broken_off_has_no_finish_reason
        }
    };
    (@cases $store:expr; $($case:ident)+) => {$(
        #[tokio::test]
        async fn $case() {
            let (_guard, store) = $store.await;
            $crate::testing::store_contract::$case(store).await;
        }
    )+};
}

mod answers;
pub use answers::*;

type Store = Arc<dyn ConversationStore>;

const LEASE: Duration = Duration::from_secs(3600);
/// Long ago for a store's clock, whatever its resolution.
const EXPIRED: Duration = Duration::ZERO;

fn owner(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn ann() -> UserId {
    owner("ann")
}

fn id() -> Uuid {
    Uuid::now_v7()
}

async fn enrolled(store: &Store, lease: Duration) -> WorkerId {
    let worker = WorkerId(id());
    store.register(worker, lease).await.unwrap();
    worker
}

fn message_to(target: Target, worker: WorkerId, text: &str) -> BeginTurn {
    BeginTurn {
        owner: ann(),
        target,
        turn: TurnId(id()),
        message: MessageId(id()),
        text: text.to_owned(),
        at: Timestamp(1_770_069_600_000_000),
        worker,
        busy: BusyPolicy::Enqueue,
        queue_limit: 256,
        idempotency: None,
        retry_of: None,
    }
}

fn new_conversation(worker: WorkerId, text: &str) -> BeginTurn {
    message_to(
        Target::New(ConversationId(id()), Title::from_message(text)),
        worker,
        text,
    )
}

fn running(begun: Result<BeginOutcome, StoreError>) -> HeldTurn {
    match begun {
        Ok(BeginOutcome::Started(held)) => held,
        other => panic!("not running: {other:?}"),
    }
}

fn queued(begun: Result<BeginOutcome, StoreError>) -> crate::Turn {
    match begun {
        Ok(BeginOutcome::Stored(turn)) => turn,
        other => panic!("not queued: {other:?}"),
    }
}

fn assistant(text: &str) -> (MessageId, NewItem) {
    let id = MessageId(id());
    let body = ItemBody::Message(Message::assistant(id, text));
    (
        id,
        NewItem {
            at: Timestamp(1_770_069_601_000_001),
            body,
        },
    )
}

fn answer(text: &str) -> Vec<NewItem> {
    vec![assistant(text).1]
}

fn tool_call(message: MessageId, arguments: &str) -> ToolCall {
    let arguments = RawJson::from_valid(arguments);
    ToolCall {
        id: ToolCallId(id()),
        message,
        tool: "add_task".to_owned(),
        arguments,
        executor: ToolExecutor::Server,
        agent_data: None,
    }
}

fn new(body: ItemBody) -> NewItem {
    NewItem {
        at: Timestamp(1_770_069_602_000_002),
        body,
    }
}

fn result(call: &ToolCall, outcome: ToolOutcome) -> NewItem {
    let (started_at, took) = (
        Timestamp(1_770_069_602_500_000),
        Duration::from_micros(3_141),
    );
    new(ItemBody::ToolResult(ToolResult {
        call: call.id,
        outcome,
        started_at,
        took,
    }))
}

async fn complete(store: &Store, held: &HeldTurn) -> EndedTurn {
    end(store, &held.lease, answer("Done.")).await.unwrap()
}

async fn end(
    store: &Store,
    lease: &TurnLease,
    last: Vec<NewItem>,
) -> Result<EndedTurn, StoreError> {
    let usage = Usage {
        input_tokens: 7,
        output_tokens: 3,
    };
    store
        .end_turn(
            lease,
            last,
            TurnOutcome::Completed,
            usage,
            Timestamp(1_770_069_603_000_003),
        )
        .await
}

fn claim(worker: WorkerId) -> Claim {
    Claim {
        worker,
        limit: 100,
        holding: None,
    }
}

fn positions(items: &[Item]) -> Vec<u64> {
    items.iter().map(|item| item.position.0).collect()
}

fn texts(items: &[Item]) -> Vec<&str> {
    fn text(item: &Item) -> Option<&str> {
        match &item.body {
            ItemBody::Message(message) => Some(message.text.as_str()),
            ItemBody::ToolCall(_) | ItemBody::ToolResult(_) => None,
        }
    }
    items.iter().filter_map(text).collect()
}

/// A first message makes a conversation with a running turn, and all of it can be read back.
pub async fn a_new_conversation_begins_running(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let text = "Ünïcode \u{1F980} \u{200B} \"quotes\" \\ and\nlines 日本";
    let begin = new_conversation(worker, text);
    let held = running(store.begin(begin.clone()).await);
    assert_eq!(held.owner, ann());
    assert_eq!(
        held.lease,
        TurnLease {
            turn: begin.turn,
            worker,
            epoch: held.lease.epoch
        }
    );
    assert_eq!(held.attempt, 1);
    assert_eq!(
        (held.turn.id, held.turn.conversation, held.turn.ordinal),
        (begin.turn, begin.target.id(), Ordinal(1))
    );
    assert_eq!(
        (&held.turn.status, held.turn.created_at),
        (&TurnStatus::Running, begin.at)
    );
    let body = ItemBody::Message(Message::user(begin.message, text));
    assert_eq!(
        held.items,
        [Item {
            position: Position(1),
            turn: begin.turn,
            at: begin.at,
            body
        }]
    );

    let conversation = store.conversation(&ann(), begin.target.id()).await.unwrap();
    assert_eq!(
        (&conversation.owner, conversation.title.as_str()),
        (&ann(), "Ünïcode 🦀 \u{200B} \"quotes\" \\ and")
    );
    assert_eq!(
        (conversation.created_at, conversation.updated_at),
        (begin.at, begin.at)
    );

    let ended = end(&store, &held.lease, answer("Hello.")).await.unwrap();
    let outcome = TurnOutcome::Completed;
    assert_eq!(
        ended.turn.status,
        TurnStatus::Ended {
            at: Timestamp(1_770_069_603_000_003),
            outcome
        }
    );
    assert_eq!(
        ended.turn.usage,
        Usage {
            input_tokens: 7,
            output_tokens: 3
        }
    );
    assert_eq!((positions(&ended.items), ended.next), (vec![2], None));

    let view = store
        .view(&ann(), begin.turn, Position::START)
        .await
        .unwrap();
    assert_eq!((&view.turn, view.draft), (&ended.turn, None));
    assert_eq!(texts(&view.items), [text, "Hello."]);
    let view = store.view(&ann(), begin.turn, Position(1)).await.unwrap();
    assert_eq!(view.items, ended.items);
    let updated = store
        .conversation(&ann(), begin.target.id())
        .await
        .unwrap()
        .updated_at;
    assert_eq!(updated, Timestamp(1_770_069_603_000_003));
}

/// A message that comes while a turn runs is durable at once, has no place yet, and runs when the
/// turn ends.
pub async fn a_second_message_waits_and_runs_next(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let first = running(store.begin(new_conversation(worker, "one")).await);
    let target = || Target::Existing(first.turn.conversation);
    let second = message_to(target(), worker, "two");
    let waiting = queued(store.begin(second.clone()).await);
    assert_eq!(
        (&waiting.status, waiting.ordinal),
        (&TurnStatus::Queued, Ordinal(2))
    );
    let third = queued(store.begin(message_to(target(), worker, "three")).await);

    let view = store
        .view(&ann(), waiting.id, Position::START)
        .await
        .unwrap();
    assert_eq!(
        (positions(&view.items), texts(&view.items)),
        (vec![0], vec!["two"])
    );
    let logs = store
        .logged_turns(&ann(), first.turn.conversation, TurnPage::ALL)
        .await
        .unwrap();
    assert_eq!(
        logs.iter()
            .map(|log| positions(&log.items))
            .collect::<Vec<_>>(),
        [vec![1], vec![0], vec![0]]
    );

    let ended = complete(&store, &first).await;
    assert_eq!(positions(&ended.items), [2]);
    let next = ended.next.expect("the next turn");
    assert_eq!(
        (
            next.turn.id,
            &next.turn.status,
            next.attempt,
            next.lease.worker
        ),
        (waiting.id, &TurnStatus::Running, 1, worker)
    );
    assert_eq!(
        (positions(&next.items), next.items[0].at),
        (vec![3], second.at)
    );
    let next = complete(&store, &next).await.next.expect("the last turn");
    assert_eq!((next.turn.id, positions(&next.items)), (third.id, vec![5]));
    assert_eq!(complete(&store, &next).await.next, None);

    let logs = store
        .logged_turns(&ann(), first.turn.conversation, TurnPage::ALL)
        .await
        .unwrap();
    assert_eq!(
        logs.iter()
            .flat_map(|log| positions(&log.items))
            .collect::<Vec<_>>(),
        [1, 2, 3, 4, 5, 6]
    );
    let fourth = running(store.begin(message_to(target(), worker, "four")).await);
    assert_eq!(
        (fourth.turn.ordinal, positions(&fourth.items)),
        (Ordinal(4), vec![7])
    );
}

/// `Reject` and a full queue refuse a message, and nothing of it is stored.
pub async fn reject_refuses_and_a_full_queue_refuses(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let first = running(store.begin(new_conversation(worker, "one")).await);
    let target = || Target::Existing(first.turn.conversation);
    let rejected = BeginTurn {
        busy: BusyPolicy::Reject,
        ..message_to(target(), worker, "no")
    };
    assert!(
        matches!(store.begin(rejected).await, Err(StoreError::Refused(Refusal::TurnRunning(turn))) if turn == first.turn.id)
    );
    let limited = |text: &str| BeginTurn {
        queue_limit: 1,
        ..message_to(target(), worker, text)
    };
    queued(store.begin(limited("two")).await);
    assert!(matches!(
        store.begin(limited("three")).await,
        Err(StoreError::Refused(Refusal::QueueFull))
    ));
    let interrupt = BeginTurn {
        busy: BusyPolicy::Interrupt,
        ..limited("four")
    };
    assert!(matches!(
        store.begin(interrupt).await,
        Err(StoreError::Refused(Refusal::QueueFull))
    ));
    let logs = store
        .logged_turns(&ann(), first.turn.conversation, TurnPage::ALL)
        .await
        .unwrap();
    assert_eq!(
        logs.iter()
            .map(|log| (texts(&log.items), log.turn.cancel_requested))
            .collect::<Vec<_>>(),
        [(vec!["one"], false), (vec!["two"], false)]
    );
    let next = complete(&store, &first).await.next.expect("the next turn");
    complete(&store, &next).await;
    let rejecting = BeginTurn {
        busy: BusyPolicy::Reject,
        ..message_to(target(), worker, "now")
    };
    assert_eq!(
        running(store.begin(rejecting).await).turn.ordinal,
        Ordinal(3)
    );
}

/// `Interrupt` asks to cancel all turns before; the waiting ones end in their order, with their
/// messages in the log.
pub async fn interrupt_cancels_the_running_and_the_waiting(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let first = running(store.begin(new_conversation(worker, "one")).await);
    let target = || Target::Existing(first.turn.conversation);
    let second = queued(store.begin(message_to(target(), worker, "two")).await);
    let third = queued(
        store
            .begin(BeginTurn {
                busy: BusyPolicy::Interrupt,
                ..message_to(target(), worker, "three")
            })
            .await,
    );
    assert!(!third.cancel_requested);
    assert_eq!(
        store.beat(worker, LEASE, Vec::new()).await.unwrap().cancel,
        [first.turn.id]
    );
    assert!(
        store
            .view(&ann(), second.id, Position::START)
            .await
            .unwrap()
            .turn
            .cancel_requested
    );

    let now = Timestamp(5);
    let ended = store
        .end_turn(
            &first.lease,
            answer("I was"),
            TurnOutcome::Cancelled,
            Usage::default(),
            now,
        )
        .await
        .unwrap();
    let next = ended.next.expect("the last turn");
    assert_eq!((next.turn.id, positions(&next.items)), (third.id, vec![4]));
    let skipped = store
        .view(&ann(), second.id, Position::START)
        .await
        .unwrap();
    assert_eq!(
        (&skipped.turn.status, positions(&skipped.items)),
        (
            &TurnStatus::Ended {
                at: now,
                outcome: TurnOutcome::Cancelled
            },
            vec![3]
        )
    );
    assert!(
        store
            .beat(worker, LEASE, Vec::new())
            .await
            .unwrap()
            .cancel
            .is_empty()
    );
    // When every waiting turn is cancelled, the conversation is idle afterwards.
    let fourth = queued(store.begin(message_to(target(), worker, "four")).await);
    store.request_cancel(&ann(), fourth.id).await.unwrap();
    assert_eq!(complete(&store, &next).await.next, None);
    assert!(
        store
            .view(&ann(), fourth.id, Position::START)
            .await
            .unwrap()
            .turn
            .status
            .is_ended()
    );
    running(store.begin(message_to(target(), worker, "five")).await);
}

/// Items get the next places, all or none; storing them again changes nothing.
pub async fn append_is_all_or_nothing_and_repeatable(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let held = running(store.begin(new_conversation(worker, "one")).await);
    let (message, said) = assistant("");
    let call = tool_call(message, "{}");
    let items = vec![said, new(ItemBody::ToolCall(call.clone()))];
    let placed = store
        .append_items(&held.lease, items.clone())
        .await
        .unwrap();
    assert_eq!(positions(&placed), [2, 3]);
    assert_eq!(
        placed
            .iter()
            .map(|item| (item.at, &item.body))
            .collect::<Vec<_>>(),
        items
            .iter()
            .map(|item| (item.at, &item.body))
            .collect::<Vec<_>>()
    );
    assert_eq!(
        store.append_items(&held.lease, items).await.unwrap(),
        placed
    );
    let outcome = ToolOutcome::Succeeded(ToolOutput(RawJson::from_valid("1")));
    let done = vec![result(&call, outcome)];
    let placed = store.append_items(&held.lease, done.clone()).await.unwrap();
    assert_eq!(positions(&placed), [4]);
    assert_eq!(store.append_items(&held.lease, done).await.unwrap(), placed);
    // A result of a call that is not there cannot be stored; nor is what came with it.
    let orphan = result(
        &tool_call(message, "{}"),
        ToolOutcome::Unknown(UnknownCause::Stopped),
    );
    assert!(
        store
            .append_items(&held.lease, vec![assistant("lost").1, orphan])
            .await
            .is_err()
    );
    let view = store
        .view(&ann(), held.turn.id, Position::START)
        .await
        .unwrap();
    assert_eq!(positions(&view.items), [1, 2, 3, 4]);
    assert_eq!(positions(&complete(&store, &held).await.items), [5]);
}

/// The same end again gives the same answer; items after it are refused.
pub async fn ending_is_repeatable_and_final(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let first = running(store.begin(new_conversation(worker, "one")).await);
    queued(
        store
            .begin(message_to(
                Target::Existing(first.turn.conversation),
                worker,
                "two",
            ))
            .await,
    );
    let last = answer("Done.");
    let failure = TurnFailure {
        kind: FailureKind::AgentTimeout,
        message: "Too slow.".to_owned(),
    };
    let outcome = TurnOutcome::Failed(failure);
    let once = store
        .end_turn(
            &first.lease,
            last.clone(),
            outcome.clone(),
            Usage::default(),
            Timestamp(9),
        )
        .await
        .unwrap();
    let again = store
        .end_turn(
            &first.lease,
            last,
            outcome.clone(),
            Usage::default(),
            Timestamp(9),
        )
        .await
        .unwrap();
    assert_eq!(once, again);
    assert_eq!(
        once.turn.status,
        TurnStatus::Ended {
            at: Timestamp(9),
            outcome
        }
    );
    assert!(matches!(
        store.append_items(&first.lease, answer("late")).await,
        Err(StoreError::Refused(Refusal::LeaseLost))
    ));
    let view = store
        .view(&ann(), first.turn.id, Position::START)
        .await
        .unwrap();
    assert_eq!(
        (view.turn, texts(&view.items)),
        (once.turn, vec!["one", "Done."])
    );
    assert_eq!(
        store
            .logged_turns(&ann(), first.turn.conversation, TurnPage::ALL)
            .await
            .unwrap()
            .len(),
        2
    );
}

/// The next turn is handed over once: by the end, or by the claim of a worker that did not learn of
/// the end.
pub async fn a_repeated_end_gives_no_turn_that_was_claimed_since(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let first = running(store.begin(new_conversation(worker, "one")).await);
    let second = queued(
        store
            .begin(message_to(
                Target::Existing(first.turn.conversation),
                worker,
                "two",
            ))
            .await,
    );
    let last = answer("Done.");
    let once = end(&store, &first.lease, last.clone()).await.unwrap();
    assert_eq!(once.next.map(|next| next.turn.id), Some(second.id));
    let found = store
        .claim(Claim {
            holding: Some(vec![first.turn.id]),
            ..claim(worker)
        })
        .await
        .unwrap();
    assert_eq!(
        found.iter().map(|held| held.turn.id).collect::<Vec<_>>(),
        [second.id]
    );
    let again = end(&store, &first.lease, last).await.unwrap();
    assert_eq!(
        (again.turn, again.items, again.next),
        (once.turn, once.items, None)
    );
    complete(&store, &found[0]).await;
}

/// Once a turn was claimed, the old lease writes nothing, not even a draft.
pub async fn an_old_epoch_writes_nothing(store: Store) {
    let dead = enrolled(&store, EXPIRED).await;
    let old = running(store.begin(new_conversation(dead, "one")).await);
    let draft = |text: &str| Draft {
        message: MessageId(id()),
        text: text.to_owned(),
    };
    store
        .beat(dead, EXPIRED, vec![(old.lease, draft("left behind"))])
        .await
        .unwrap();
    let worker = enrolled(&store, LEASE).await;
    let claimed = store.claim(claim(worker)).await.unwrap();
    assert_eq!(claimed.len(), 1);
    let view = store
        .view(&ann(), old.turn.id, Position::START)
        .await
        .unwrap();
    assert_eq!(view.draft, None, "a draft outlives its attempt");
    let new = &claimed[0];
    assert_eq!(
        (new.turn.id, new.lease.worker, new.attempt, &new.items),
        (old.turn.id, worker, 2, &old.items)
    );
    assert_eq!(new.owner, ann());
    assert!(new.lease.epoch > old.lease.epoch);
    assert!(matches!(
        store.append_items(&old.lease, answer("late")).await,
        Err(StoreError::Refused(Refusal::LeaseLost))
    ));
    assert!(matches!(
        end(&store, &old.lease, answer("late")).await,
        Err(StoreError::Refused(Refusal::LeaseLost))
    ));
    store
        .beat(worker, LEASE, vec![(old.lease, draft("old"))])
        .await
        .unwrap();
    let view = store
        .view(&ann(), old.turn.id, Position::START)
        .await
        .unwrap();
    assert_eq!(
        (view.turn.status, view.items, view.draft),
        (TurnStatus::Running, old.items, None)
    );
    complete(&store, new).await;
    assert!(matches!(
        end(&store, &old.lease, answer("late")).await,
        Err(StoreError::Refused(Refusal::LeaseLost))
    ));
}

/// However many claim, each abandoned turn goes to one of them.
pub async fn each_abandoned_turn_is_claimed_once(store: Store) {
    let dead = enrolled(&store, EXPIRED).await;
    let mut abandoned = HashSet::new();
    for _ in 0..20 {
        abandoned.insert(
            running(store.begin(new_conversation(dead, "one")).await)
                .turn
                .id,
        );
    }
    let workers = [
        enrolled(&store, LEASE).await,
        enrolled(&store, LEASE).await,
        enrolled(&store, LEASE).await,
    ];
    let mut claimed = Vec::new();
    while claimed.len() < 20 {
        let bites = workers.map(|worker| {
            store.claim(Claim {
                limit: 3,
                ..claim(worker)
            })
        });
        let bites: Vec<_> = futures_util::future::join_all(bites)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        assert!(bites.iter().all(|bite| bite.len() <= 3));
        assert!(
            bites.iter().any(|bite| !bite.is_empty()),
            "only {} of 20 were claimed",
            claimed.len()
        );
        claimed.extend(bites.into_iter().flatten().map(|held| held.turn.id));
    }
    assert_eq!(claimed.len(), 20);
    assert_eq!(claimed.into_iter().collect::<HashSet<_>>(), abandoned);
    assert!(store.claim(claim(workers[0])).await.unwrap().is_empty());
}

/// Turns of a worker that lives, and of the claimer itself, are not claimed; queued and ended ones
/// never are.
pub async fn a_living_workers_turns_are_safe(store: Store) {
    let living = enrolled(&store, LEASE).await;
    let held = running(store.begin(new_conversation(living, "one")).await);
    queued(
        store
            .begin(message_to(
                Target::Existing(held.turn.conversation),
                living,
                "two",
            ))
            .await,
    );
    let expired = enrolled(&store, EXPIRED).await;
    let own = running(store.begin(new_conversation(expired, "mine")).await);
    assert!(store.claim(claim(expired)).await.unwrap().is_empty());
    // Nobody claimed its turn, so the silent worker may come back to life.
    store.beat(expired, LEASE, Vec::new()).await.unwrap();
    let worker = enrolled(&store, LEASE).await;
    assert!(store.claim(claim(worker)).await.unwrap().is_empty());
    complete(&store, &own).await;
}

/// A worker that did not receive the answer that assigned a turn finds the turn by listing the
/// turns that it holds.
pub async fn a_claim_finds_turns_whose_answer_was_lost(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let known = running(store.begin(new_conversation(worker, "known")).await);
    let mislaid = running(store.begin(new_conversation(worker, "mislaid")).await);
    let other = enrolled(&store, LEASE).await;
    let foreign = running(store.begin(new_conversation(other, "foreign")).await);
    let found = store
        .claim(Claim {
            holding: Some(vec![known.turn.id]),
            ..claim(worker)
        })
        .await
        .unwrap();
    assert_eq!(
        found.iter().map(|held| held.turn.id).collect::<Vec<_>>(),
        [mislaid.turn.id]
    );
    assert!(found[0].lease.epoch > mislaid.lease.epoch);
    assert_eq!(
        found[0].attempt,
        mislaid.attempt + 1,
        "its attempt was interrupted"
    );
    complete(&store, &known).await;
    complete(&store, &foreign).await;
    complete(&store, &found[0]).await;
}

/// A worker whose own lease has run out claims no turns of others before its next heartbeat.
pub async fn an_expired_worker_claims_no_turns_of_others(store: Store) {
    let dead = enrolled(&store, EXPIRED).await;
    let left = running(store.begin(new_conversation(dead, "one")).await);
    let silent = enrolled(&store, EXPIRED).await;
    let own = running(store.begin(new_conversation(silent, "own")).await);
    for holding in [None, Some(vec![own.turn.id])] {
        assert_eq!(
            store
                .claim(Claim {
                    holding,
                    ..claim(silent)
                })
                .await
                .unwrap(),
            []
        );
    }
    assert_eq!(store.claim(claim(WorkerId(id()))).await.unwrap(), []);
    // It gets its own mislaid turns all the same, and no worker is deleted for that.
    let found = store
        .claim(Claim {
            holding: Some(Vec::new()),
            ..claim(silent)
        })
        .await
        .unwrap();
    assert_eq!(
        found.iter().map(|held| held.turn.id).collect::<Vec<_>>(),
        [own.turn.id]
    );
    store.beat(dead, EXPIRED, Vec::new()).await.unwrap();
    store.beat(silent, LEASE, Vec::new()).await.unwrap();
    let claimed = store.claim(claim(silent)).await.unwrap();
    assert_eq!(
        claimed.iter().map(|held| held.turn.id).collect::<Vec<_>>(),
        [left.turn.id]
    );
    complete(&store, &claimed[0]).await;
    complete(&store, &found[0]).await;
}

/// A retired worker's turns can be claimed at once, and its attempt at them is not counted.
pub async fn a_handed_over_attempt_does_not_count(store: Store) {
    let leaving = enrolled(&store, LEASE).await;
    let held = running(store.begin(new_conversation(leaving, "one")).await);
    store.deregister(leaving, vec![held.turn.id]).await.unwrap();
    assert!(matches!(
        store.beat(leaving, LEASE, Vec::new()).await,
        Err(StoreError::Refused(Refusal::LeaseLost))
    ));
    assert!(matches!(
        store.append_items(&held.lease, answer("late")).await,
        Err(StoreError::Refused(Refusal::LeaseLost))
    ));
    let worker = enrolled(&store, LEASE).await;
    let claimed = store.claim(claim(worker)).await.unwrap();
    assert_eq!(
        claimed
            .iter()
            .map(|held| (held.turn.id, held.attempt))
            .collect::<Vec<_>>(),
        [(held.turn.id, 1)]
    );
    complete(&store, &claimed[0]).await;
}

/// A worker whose turn was claimed is deleted, and learns of it.
pub async fn a_deleted_worker_learns_of_it(store: Store) {
    let silent = enrolled(&store, EXPIRED).await;
    running(store.begin(new_conversation(silent, "one")).await);
    running(store.begin(new_conversation(silent, "two")).await);
    let worker = enrolled(&store, LEASE).await;
    assert_eq!(
        store
            .claim(Claim {
                limit: 1,
                ..claim(worker)
            })
            .await
            .unwrap()
            .len(),
        1
    );
    assert!(matches!(
        store.beat(silent, LEASE, Vec::new()).await,
        Err(StoreError::Refused(Refusal::LeaseLost))
    ));
    // The turns it still held can be claimed too.
    assert_eq!(store.claim(claim(worker)).await.unwrap().len(), 1);
    assert!(matches!(
        store.beat(WorkerId(id()), LEASE, Vec::new()).await,
        Err(StoreError::Refused(Refusal::LeaseLost))
    ));
}

/// The registration of another worker does not forget one whose lease has just ended.
pub async fn an_idle_worker_may_return_soon_after_its_lease(store: Store) {
    let late = enrolled(&store, EXPIRED).await;
    let other = enrolled(&store, LEASE).await;
    store.beat(late, LEASE, Vec::new()).await.unwrap();
    store.beat(other, LEASE, Vec::new()).await.unwrap();
}

/// One heartbeat saves the drafts of many turns and brings the cancels of its own.
pub async fn a_heartbeat_saves_drafts_and_brings_cancels(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let other = enrolled(&store, LEASE).await;
    let first = running(store.begin(new_conversation(worker, "one")).await);
    let second = running(store.begin(new_conversation(worker, "two")).await);
    let foreign = running(store.begin(new_conversation(other, "three")).await);
    let draft = |text: &str| Draft {
        message: MessageId(id()),
        text: text.to_owned(),
    };
    let (one, two) = (draft("Half a wo"), draft("Zwei 日本"));
    let drafts = vec![(first.lease, one.clone()), (second.lease, two.clone())];
    assert!(
        store
            .beat(worker, LEASE, drafts)
            .await
            .unwrap()
            .cancel
            .is_empty()
    );
    assert_eq!(
        store
            .view(&ann(), first.turn.id, Position(1))
            .await
            .unwrap()
            .draft,
        Some(one.clone())
    );
    assert_eq!(
        store
            .view(&ann(), second.turn.id, Position(1))
            .await
            .unwrap()
            .draft,
        Some(two.clone())
    );

    // The message becomes an item: the draft is gone, and a late one does not bring it back.
    let said = NewItem {
        at: Timestamp(1),
        body: ItemBody::Message(Message::assistant(one.message, one.text.clone())),
    };
    store.append_items(&first.lease, vec![said]).await.unwrap();
    assert_eq!(
        store
            .view(&ann(), first.turn.id, Position(1))
            .await
            .unwrap()
            .draft,
        None
    );
    store
        .beat(worker, LEASE, vec![(first.lease, one)])
        .await
        .unwrap();
    assert_eq!(
        store
            .view(&ann(), first.turn.id, Position(2))
            .await
            .unwrap()
            .draft,
        None
    );
    let next = draft("next");
    store
        .beat(worker, LEASE, vec![(first.lease, next.clone())])
        .await
        .unwrap();
    assert_eq!(
        store
            .view(&ann(), first.turn.id, Position(2))
            .await
            .unwrap()
            .draft,
        Some(next)
    );

    store.request_cancel(&ann(), second.turn.id).await.unwrap();
    store.request_cancel(&ann(), foreign.turn.id).await.unwrap();
    assert_eq!(
        store.beat(worker, LEASE, Vec::new()).await.unwrap().cancel,
        [second.turn.id]
    );
    complete(&store, &second).await;
    assert!(
        store
            .beat(worker, LEASE, Vec::new())
            .await
            .unwrap()
            .cancel
            .is_empty()
    );
    assert_eq!(
        store
            .view(&ann(), second.turn.id, Position(1))
            .await
            .unwrap()
            .draft,
        None
    );
}

/// The version of a turn changes with each change of the turn, and only then.
pub async fn a_version_changes_with_its_turn(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let first = running(store.begin(new_conversation(worker, "one")).await);
    let second = queued(
        store
            .begin(message_to(
                Target::Existing(first.turn.conversation),
                worker,
                "two",
            ))
            .await,
    );
    let other = running(store.begin(new_conversation(worker, "other")).await);
    let (one, two) = (first.turn.id, second.id);
    let marks = async || {
        let marks = store
            .turn_versions(vec![one, two, TurnId(id()), other.turn.id])
            .await
            .unwrap();
        assert_eq!(marks.len(), 3, "{marks:?}");
        marks
    };
    let mut before = marks().await;
    assert_eq!(before, marks().await);
    let mut changed = async |what: &str, turns: &[TurnId]| {
        let now = marks().await;
        turns
            .iter()
            .for_each(|turn| assert_ne!(now[turn], before[turn], "{what}"));
        assert_eq!(now[&other.turn.id], before[&other.turn.id], "{what}");
        before = now;
    };
    let (message, last) = assistant("One, ");
    for text in ["One", "One, "] {
        let draft = Draft {
            message,
            text: text.to_owned(),
        };
        store
            .beat(worker, LEASE, vec![(first.lease, draft)])
            .await
            .unwrap();
        changed("a draft has grown", &[one]).await;
    }
    store.append_items(&first.lease, vec![last]).await.unwrap();
    changed("an item was added", &[one]).await;
    let next = end(&store, &first.lease, answer("Done."))
        .await
        .unwrap()
        .next
        .unwrap();
    changed("one has ended, the other begun", &[one, two]).await;
    let found = store
        .claim(Claim {
            holding: Some(vec![other.turn.id]),
            ..claim(worker)
        })
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    changed("it was claimed", &[two]).await;
    assert!(next.lease != found[0].lease);
    complete(&store, &found[0]).await;
    changed("it has ended", &[two]).await;
    store.delete(&ann(), first.turn.conversation).await.unwrap();
    assert_eq!(
        store.turn_versions(vec![one, two]).await.unwrap(),
        HashMap::new()
    );
    assert_eq!(
        store.turn_versions(Vec::new()).await.unwrap(),
        HashMap::new()
    );
}

/// The same key and request give one turn, however many ask at once; another request is refused;
/// owners do not share keys.
pub async fn one_idempotency_key_gives_one_turn(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let key = |fingerprint: u8| {
        Some(IdempotencyKey {
            key: "key-1".to_owned(),
            fingerprint: [fingerprint; 32],
        })
    };
    let asked = (0..20).map(|_| BeginTurn {
        idempotency: key(1),
        ..new_conversation(worker, "once")
    });
    let begun = futures_util::future::join_all(asked.map(|begin| store.begin(begin))).await;
    let mut first = None;
    let mut existing = Vec::new();
    for begun in begun {
        match begun.unwrap() {
            BeginOutcome::Started(held) => {
                assert!(first.replace(held).is_none(), "two turns for one key")
            }
            BeginOutcome::Duplicate(turn) => existing.push(turn.id),
            BeginOutcome::Stored(turn) => panic!("queued: {turn:?}"),
        }
    }
    let first = first.expect("one turn");
    assert_eq!(existing, vec![first.turn.id; 19]);
    let page = ConversationPage::last_active(None, 100);
    assert_eq!(store.list(&ann(), page).await.unwrap().len(), 1);
    let other = BeginTurn {
        idempotency: key(2),
        ..new_conversation(worker, "other")
    };
    assert!(matches!(
        store.begin(other).await,
        Err(StoreError::Refused(Refusal::IdempotencyMismatch))
    ));
    let full = BeginTurn {
        idempotency: key(1),
        queue_limit: 0,
        busy: BusyPolicy::Reject,
        ..message_to(Target::Existing(first.turn.conversation), worker, "once")
    };
    let ended = complete(&store, &first).await;
    assert!(
        matches!(store.begin(full).await, Ok(BeginOutcome::Duplicate(turn)) if turn == ended.turn)
    );
    let bob = BeginTurn {
        owner: owner("bob"),
        idempotency: key(2),
        ..new_conversation(worker, "mine")
    };
    running(store.begin(bob).await);
}

/// The same turn id again gives the same turn: a lost answer can be asked for once more.
pub async fn beginning_is_repeatable(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let key = IdempotencyKey {
        key: "k".to_owned(),
        fingerprint: [1; 32],
    };
    let begin = BeginTurn {
        idempotency: Some(key),
        ..new_conversation(worker, "one")
    };
    let held = running(store.begin(begin.clone()).await);
    assert_eq!(running(store.begin(begin.clone()).await), held);
    // Under another worker's name, the turn is not given away.
    let stranger = BeginTurn {
        worker: WorkerId(id()),
        ..begin.clone()
    };
    assert_eq!(queued(store.begin(stranger).await).id, held.turn.id);
    let second = message_to(Target::Existing(held.turn.conversation), worker, "two");
    let waiting = queued(store.begin(second.clone()).await);
    assert_eq!(queued(store.begin(second).await), waiting);
    assert_eq!(
        store
            .logged_turns(&ann(), held.turn.conversation, TurnPage::ALL)
            .await
            .unwrap()
            .len(),
        2
    );
}

/// A retry takes the place of its turn and all after it when it starts to run, not before.
pub async fn a_retry_supersedes_when_it_starts(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let mut held = vec![running(store.begin(new_conversation(worker, "t1")).await)];
    let conversation = held[0].turn.conversation;
    let target = || Target::Existing(conversation);
    complete(&store, &held[0]).await;
    for text in ["t2", "t3"] {
        held.push(running(
            store.begin(message_to(target(), worker, text)).await,
        ));
        complete(&store, held.last().unwrap()).await;
    }
    let fourth = running(store.begin(message_to(target(), worker, "t4")).await);
    let first_retry = BeginTurn {
        retry_of: retry(&held[1]),
        ..message_to(target(), worker, "t2")
    };
    let waiting = queued(store.begin(first_retry).await);
    assert_eq!(waiting.retry_of, Some(held[1].turn.id));
    let seen = async |superseded| {
        store
            .logged_turns(
                &ann(),
                conversation,
                TurnPage {
                    includes_superseded: superseded,
                    ..TurnPage::ALL
                },
            )
            .await
    };
    assert_eq!(seen(false).await.unwrap().len(), 5);
    let next = complete(&store, &fourth).await.next.expect("the retry");
    assert_eq!(next.turn.id, waiting.id);
    let ordinals = |logs: Vec<crate::LoggedTurn>| {
        logs.iter()
            .map(|log| log.turn.ordinal.0)
            .collect::<Vec<_>>()
    };
    assert_eq!(ordinals(seen(false).await.unwrap()), [1, 5]);
    let all = seen(true).await.unwrap();
    assert_eq!(
        all.iter()
            .map(|log| log.turn.superseded)
            .collect::<Vec<_>>(),
        [false, true, true, true, false]
    );
    assert_eq!(texts(&all[2].items), ["t3", "Done."]);
    complete(&store, &next).await;
    let key = Some(IdempotencyKey {
        key: "k".to_owned(),
        fingerprint: [1; 32],
    });
    let again = BeginTurn {
        retry_of: retry(&next),
        idempotency: key,
        ..message_to(target(), worker, "t2")
    };
    complete(&store, &running(store.begin(again.clone()).await)).await;
    // A superseded turn cannot be retried, but the request that superseded it can be repeated.
    let repeated = BeginTurn {
        turn: TurnId(id()),
        message: MessageId(id()),
        ..again
    };
    assert!(
        matches!(store.begin(repeated.clone()).await, Ok(BeginOutcome::Duplicate(turn)) if turn.retry_of == Some(next.turn.id))
    );
    let late = BeginTurn {
        idempotency: None,
        ..repeated
    };
    assert!(matches!(
        store.begin(late).await,
        Err(StoreError::Refused(Refusal::Superseded))
    ));
    assert_eq!(ordinals(seen(false).await.unwrap()), [1, 6]);
    let elsewhere = running(store.begin(new_conversation(worker, "other")).await);
    let wrong = BeginTurn {
        retry_of: retry(&elsewhere),
        ..message_to(target(), worker, "t2")
    };
    assert!(matches!(
        store.begin(wrong).await,
        Err(StoreError::Refused(Refusal::NotFound))
    ));
}

/// Lists page by activity without loss or double, ties included.
pub async fn conversations_come_last_active_first(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let mut all = Vec::new();
    for n in 0..25 {
        // Five at each moment, so that ties are crossed by the pages.
        let begin = BeginTurn {
            at: Timestamp(1_000 + n / 5),
            ..new_conversation(worker, "hello")
        };
        all.push(ConversationCursor {
            updated_at: begin.at,
            id: begin.target.id(),
        });
        store.begin(begin).await.unwrap();
    }
    all.sort_unstable_by(|a, b| b.cmp(a));
    let mut listed = Vec::new();
    loop {
        let page = store
            .list(
                &ann(),
                ConversationPage::last_active(listed.last().copied(), 7),
            )
            .await
            .unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 7);
        listed.extend(page.iter().map(|conversation| ConversationCursor {
            updated_at: conversation.updated_at,
            id: conversation.id,
        }));
    }
    assert_eq!(listed, all);
    assert!(
        store
            .list(&owner("bob"), ConversationPage::last_active(None, 7))
            .await
            .unwrap()
            .is_empty()
    );
    let oldest = all.last().unwrap().id;
    store
        .rename(
            &ann(),
            oldest,
            &Title::new("Awake").unwrap(),
            Timestamp(9_000),
        )
        .await
        .unwrap();
    let first = store
        .list(&ann(), ConversationPage::last_active(None, 1))
        .await
        .unwrap();
    assert_eq!((first[0].id, first[0].title.as_str()), (oldest, "Awake"));
}

/// Turns page forwards and backwards, always in order.
pub async fn turns_come_in_pages_both_ways(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let first = running(store.begin(new_conversation(worker, "1")).await);
    let conversation = first.turn.conversation;
    complete(&store, &first).await;
    for n in 2..=9 {
        let held = running(
            store
                .begin(message_to(
                    Target::Existing(conversation),
                    worker,
                    &n.to_string(),
                ))
                .await,
        );
        complete(&store, &held).await;
    }
    let page = async |page: TurnPage| {
        let logs = store
            .logged_turns(&ann(), conversation, page)
            .await
            .unwrap();
        assert!(logs.iter().all(|log| log.items.len() == 2));
        logs.iter()
            .map(|log| log.turn.ordinal.0)
            .collect::<Vec<_>>()
    };
    let limit = 4;
    assert_eq!(page(TurnPage::ALL).await, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(
        page(TurnPage {
            limit,
            ..TurnPage::ALL
        })
        .await,
        [1, 2, 3, 4]
    );
    assert_eq!(
        page(TurnPage {
            limit,
            after: Some(Ordinal(4)),
            ..TurnPage::ALL
        })
        .await,
        [5, 6, 7, 8]
    );
    assert_eq!(
        page(TurnPage {
            limit,
            order: PageOrder::NewestFirst,
            ..TurnPage::ALL
        })
        .await,
        [6, 7, 8, 9]
    );
    assert_eq!(
        page(TurnPage {
            limit,
            order: PageOrder::NewestFirst,
            before: Some(Ordinal(6)),
            ..TurnPage::ALL
        })
        .await,
        [2, 3, 4, 5]
    );
    assert_eq!(
        page(TurnPage {
            after: Some(Ordinal(2)),
            before: Some(Ordinal(5)),
            ..TurnPage::ALL
        })
        .await,
        [3, 4]
    );
    assert!(
        page(TurnPage {
            after: Some(Ordinal(9)),
            ..TurnPage::ALL
        })
        .await
        .is_empty()
    );
}

/// Arguments and answers come back byte for byte, and every outcome as it was.
pub async fn tool_calls_keep_every_byte(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let held = running(store.begin(new_conversation(worker, "one")).await);
    let (message, said) = assistant("Working.");
    let odd = "{\"b\": 1e400, \"a\": 123456789012345678901234567890, \"b\": [ ], \"s\":\"\\u00e9\\n 日本\"}";
    let mut calls =
        [odd, "{}", "\"not an object\"", "{}", "{}"].map(|arguments| tool_call(message, arguments));
    calls[4].executor = ToolExecutor::Agent;
    let failed = |kind, message: &str| ToolOutcome::Failed(ToolError::new(kind, message));
    let outcomes = [
        Some(ToolOutcome::Succeeded(ToolOutput(RawJson::from_valid(odd)))),
        Some(ToolOutcome::Unknown(UnknownCause::TimedOut)),
        Some(failed(
            ToolErrorKind::TimedOut,
            "No answer in 30 s: \"add\"",
        )),
        None,
        Some(ToolOutcome::Succeeded(ToolOutput(RawJson::from_valid(
            "null",
        )))),
    ];
    let mut items = vec![said];
    items.extend(
        calls
            .iter()
            .cloned()
            .map(|call| new(ItemBody::ToolCall(call))),
    );
    store.append_items(&held.lease, items).await.unwrap();
    let results: Vec<_> = calls
        .iter()
        .zip(&outcomes)
        .filter_map(|(call, outcome)| Some(result(call, outcome.clone()?)))
        .collect();
    store.append_items(&held.lease, results).await.unwrap();

    let view = store
        .view(&ann(), held.turn.id, Position::START)
        .await
        .unwrap();
    assert_eq!(positions(&view.items), (1..=11).collect::<Vec<_>>());
    let logs = store
        .logged_turns(&ann(), held.turn.conversation, TurnPage::ALL)
        .await
        .unwrap();
    assert_eq!(logs[0].items, view.items);
    let page = async |after, limit| {
        store
            .call_records(
                &ann(),
                held.turn.conversation,
                ToolCallPage { after, limit },
            )
            .await
            .unwrap()
    };
    let records = page(Position::START, 100).await;
    assert_eq!(
        records
            .iter()
            .map(|record| record.call.clone())
            .collect::<Vec<_>>(),
        calls
    );
    let seen: Vec<_> = records
        .iter()
        .map(|record| record.result.as_ref().map(|result| result.outcome.clone()))
        .collect();
    assert_eq!(seen, outcomes);
    let first = &records[0];
    assert_eq!(
        (first.position, first.turn, first.superseded, first.at),
        (
            Position(3),
            held.turn.id,
            false,
            Timestamp(1_770_069_602_000_002)
        )
    );
    let result = first.result.as_ref().unwrap();
    assert_eq!(
        (result.started_at, result.took),
        (
            Timestamp(1_770_069_602_500_000),
            Duration::from_micros(3_141)
        )
    );
    let two = page(Position::START, 2).await;
    assert_eq!(two, records[..2]);
    assert_eq!(page(two[1].position, 100).await, records[2..]);
}

/// Renaming and deleting; a deleted conversation's turn can write nothing, and nothing of it can be
/// read.
pub async fn titles_change_and_conversations_go(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let held = running(store.begin(new_conversation(worker, "one")).await);
    let conversation = held.turn.conversation;
    let waiting = queued(
        store
            .begin(message_to(Target::Existing(conversation), worker, "two"))
            .await,
    );
    let renamed = store
        .rename(
            &ann(),
            conversation,
            &Title::new("Новое").unwrap(),
            Timestamp(77),
        )
        .await
        .unwrap();
    assert_eq!(
        (renamed.title.as_str(), renamed.updated_at),
        ("Новое", Timestamp(77))
    );
    assert_eq!(
        store.conversation(&ann(), conversation).await.unwrap(),
        renamed
    );
    let (message, said) = assistant("Calling.");
    store
        .append_items(
            &held.lease,
            vec![said, new(ItemBody::ToolCall(tool_call(message, "{}")))],
        )
        .await
        .unwrap();

    store.delete(&ann(), conversation).await.unwrap();
    assert!(matches!(
        store.append_items(&held.lease, answer("late")).await,
        Err(StoreError::Refused(Refusal::LeaseLost))
    ));
    assert!(matches!(
        end(&store, &held.lease, answer("late")).await,
        Err(StoreError::Refused(Refusal::LeaseLost))
    ));
    assert!(matches!(
        store.conversation(&ann(), conversation).await,
        Err(StoreError::Refused(Refusal::NotFound))
    ));
    assert!(matches!(
        store.view(&ann(), waiting.id, Position::START).await,
        Err(StoreError::Refused(Refusal::NotFound))
    ));
    assert!(matches!(
        store.delete(&ann(), conversation).await,
        Err(StoreError::Refused(Refusal::NotFound))
    ));
    assert!(store.claim(claim(WorkerId(id()))).await.unwrap().is_empty());
    assert!(
        store
            .list(&ann(), ConversationPage::last_active(None, 9))
            .await
            .unwrap()
            .is_empty()
    );
}

/// A cancellation returns the turn as it is: queued, running or ended.
pub async fn a_cancel_returns_the_turn_as_it_is(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let held = running(store.begin(new_conversation(worker, "one")).await);
    let waiting = queued(
        store
            .begin(message_to(
                Target::Existing(held.turn.conversation),
                worker,
                "two",
            ))
            .await,
    );
    let seen = store.request_cancel(&ann(), waiting.id).await.unwrap();
    assert_eq!(
        (&seen.status, seen.cancel_requested),
        (&TurnStatus::Queued, true)
    );
    let seen = store.request_cancel(&ann(), held.turn.id).await.unwrap();
    assert_eq!(
        (&seen.status, seen.cancel_requested),
        (&TurnStatus::Running, true)
    );
    let ended = complete(&store, &held).await.turn;
    assert_eq!(
        store.request_cancel(&ann(), held.turn.id).await.unwrap(),
        ended
    );
    // A claimed turn still knows that it should be cancelled.
    let dead = enrolled(&store, EXPIRED).await;
    let abandoned = running(store.begin(new_conversation(dead, "three")).await);
    store
        .request_cancel(&ann(), abandoned.turn.id)
        .await
        .unwrap();
    let claimed = store.claim(claim(worker)).await.unwrap();
    assert!(claimed[0].turn.cancel_requested);
}

/// 128 messages at once to one conversation: each answered once, in one order, never interleaved.
pub async fn concurrent_messages_keep_order(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let first = running(store.begin(new_conversation(worker, "first")).await);
    let conversation = first.turn.conversation;
    complete(&store, &first).await;
    let messages =
        (0..128).map(|n| message_to(Target::Existing(conversation), worker, &n.to_string()));
    let begun = futures_util::future::join_all(messages.map(|message| store.begin(message))).await;
    let mut current: Vec<HeldTurn> = begun
        .into_iter()
        .filter_map(|begun| match begun.unwrap() {
            BeginOutcome::Started(held) => Some(held),
            _ => None,
        })
        .collect();
    assert_eq!(current.len(), 1, "exactly one turn runs");
    let mut runs = 0;
    while let Some(held) = current.pop() {
        runs += 1;
        current.extend(complete(&store, &held).await.next);
    }
    assert_eq!(runs, 128);
    let logs = store
        .logged_turns(&ann(), conversation, TurnPage::ALL)
        .await
        .unwrap();
    let all: Vec<_> = logs.iter().flat_map(|log| positions(&log.items)).collect();
    assert_eq!(all, (1..=258).collect::<Vec<_>>());
    assert!(
        logs.iter()
            .enumerate()
            .all(|(n, log)| log.turn.ordinal.0 == n as u64 + 1 && log.items.len() == 2)
    );
    assert_eq!(
        logs.iter()
            .skip(1)
            .map(|log| texts(&log.items)[0].to_owned())
            .collect::<HashSet<_>>()
            .len(),
        128
    );
}

/// Another owner's ids are as unknown as ids that never were.
pub async fn owners_are_kept_apart(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let held = running(store.begin(new_conversation(worker, "mine")).await);
    let (conversation, turn) = (held.turn.conversation, held.turn.id);
    let question = asked(&held.items);
    let bob = owner("bob");
    for (conversation, turn) in [(conversation, turn), (ConversationId(id()), TurnId(id()))] {
        let title = Title::new("Theirs").unwrap();
        let page = ToolCallPage {
            after: Position::START,
            limit: 9,
        };
        assert!(matches!(
            store.conversation(&bob, conversation).await,
            Err(StoreError::Refused(Refusal::NotFound))
        ));
        assert!(matches!(
            store.rename(&bob, conversation, &title, Timestamp(1)).await,
            Err(StoreError::Refused(Refusal::NotFound))
        ));
        assert!(matches!(
            store.delete(&bob, conversation).await,
            Err(StoreError::Refused(Refusal::NotFound))
        ));
        assert!(matches!(
            store.logged_turns(&bob, conversation, TurnPage::ALL).await,
            Err(StoreError::Refused(Refusal::NotFound))
        ));
        assert!(matches!(
            store.call_records(&bob, conversation, page).await,
            Err(StoreError::Refused(Refusal::NotFound))
        ));
        assert!(matches!(
            store.view(&bob, turn, Position::START).await,
            Err(StoreError::Refused(Refusal::NotFound))
        ));
        assert!(matches!(
            store.request_cancel(&bob, turn).await,
            Err(StoreError::Refused(Refusal::NotFound))
        ));
        assert!(matches!(
            store.turn_of(&bob, conversation, question).await,
            Err(StoreError::Refused(Refusal::NotFound))
        ));
        assert!(matches!(
            store.release_key(&bob, turn).await,
            Err(StoreError::Refused(Refusal::NotFound))
        ));
        let given = store
            .set_feedback(
                &bob,
                conversation,
                vec![question],
                Feedback::Negative,
                Timestamp(1),
            )
            .await;
        assert!(matches!(given, Err(StoreError::Refused(Refusal::NotFound))));
        let theirs = BeginTurn {
            owner: bob.clone(),
            ..message_to(Target::Existing(conversation), worker, "hi")
        };
        assert!(matches!(
            store.begin(theirs).await,
            Err(StoreError::Refused(Refusal::NotFound))
        ));
    }
    assert!(
        store
            .list(&bob, ConversationPage::last_active(None, 9))
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        store
            .list(
                &bob,
                ConversationPage {
                    order: ConversationOrder::Created {
                        after: None,
                        order: PageOrder::NewestFirst,
                    },
                    limit: 9,
                },
            )
            .await
            .unwrap()
            .is_empty()
    );
    let view = store.view(&ann(), turn, Position::START).await.unwrap();
    assert_eq!(
        (view.turn.cancel_requested, texts(&view.items)),
        (false, vec!["mine"])
    );
    assert_eq!(
        store
            .conversation(&ann(), conversation)
            .await
            .unwrap()
            .title
            .as_str(),
        "mine"
    );
}

/// A message to a conversation that is not there leaves no trace, and its idempotency key stays
/// free.
pub async fn an_unknown_target_stores_nothing(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let key = Some(IdempotencyKey {
        key: "k".to_owned(),
        fingerprint: [7; 32],
    });
    let lost = BeginTurn {
        idempotency: key.clone(),
        ..message_to(Target::Existing(ConversationId(id())), worker, "hi")
    };
    let turn = lost.turn;
    assert!(matches!(
        store.begin(lost).await,
        Err(StoreError::Refused(Refusal::NotFound))
    ));
    assert!(matches!(
        store.view(&ann(), turn, Position::START).await,
        Err(StoreError::Refused(Refusal::NotFound))
    ));
    let held = running(
        store
            .begin(BeginTurn {
                idempotency: key,
                ..new_conversation(worker, "hi")
            })
            .await,
    );
    // Nor does a new conversation whose turn would retry one of another conversation.
    let odd = BeginTurn {
        retry_of: retry(&held),
        ..new_conversation(worker, "hi")
    };
    let conversation = odd.target.id();
    assert!(matches!(
        store.begin(odd).await,
        Err(StoreError::Refused(Refusal::NotFound))
    ));
    assert!(matches!(
        store.conversation(&ann(), conversation).await,
        Err(StoreError::Refused(Refusal::NotFound))
    ));
}

/// A retry of this turn.
fn retry(held: &HeldTurn) -> Option<RetryOf> {
    let own = OriginalMessage {
        id: asked(&held.items),
        at: held.items[0].at,
    };
    Some(RetryOf {
        turn: held.turn.id,
        original: held.turn.original.unwrap_or(own),
    })
}

/// The user's message among items.
fn asked(items: &[Item]) -> MessageId {
    match &items[0].body {
        ItemBody::Message(message) => message.id,
        other => panic!("not a message: {other:?}"),
    }
}

/// The order of creation never changes, and pages continue after a conversation that is deleted.
pub async fn creation_order_does_not_change(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let mut all = Vec::new();
    for n in 0..5 {
        all.push(
            running(store.begin(new_conversation(worker, &n.to_string())).await)
                .turn
                .conversation,
        );
    }
    let pages = async |order: PageOrder, gone: Option<ConversationId>| {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = store
                .list(
                    &ann(),
                    ConversationPage {
                        order: ConversationOrder::Created { after, order },
                        limit: 2,
                    },
                )
                .await
                .unwrap();
            assert!(page.len() <= 2);
            let Some(last) = page.last() else { return seen };
            after = Some(last.id);
            seen.extend(page.iter().map(|conversation| conversation.id));
            if after == gone {
                store.delete(&ann(), last.id).await.unwrap();
            }
        }
    };
    assert_eq!(pages(PageOrder::OldestFirst, None).await, all);
    store
        .rename(
            &ann(),
            all[1],
            &Title::new("new").unwrap(),
            Timestamp(i64::MAX),
        )
        .await
        .unwrap();
    assert_eq!(
        pages(PageOrder::NewestFirst, None).await,
        all.iter().rev().copied().collect::<Vec<_>>()
    );
    assert_eq!(
        pages(PageOrder::NewestFirst, Some(all[3])).await,
        all.iter().rev().copied().collect::<Vec<_>>()
    );
    all.remove(3);
    assert_eq!(pages(PageOrder::OldestFirst, None).await, all);
}

/// Each message leads to its turn, superseded or queued too; each retry, of a retry too, to the
/// message that was asked first.
pub async fn a_message_identifies_its_turn_and_a_retry_its_original_message(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let first = running(
        store
            .begin(BeginTurn {
                at: Timestamp(7),
                ..new_conversation(worker, "one")
            })
            .await,
    );
    let conversation = first.turn.conversation;
    let question = asked(&first.items);
    let (answer, said) = assistant("Hello.");
    end(&store, &first.lease, vec![said]).await.unwrap();
    let again = |turn: &HeldTurn| {
        let retry_of = retry(turn);
        store.begin(BeginTurn {
            retry_of,
            ..message_to(Target::Existing(conversation), worker, "one")
        })
    };
    let second = running(again(&first).await);
    complete(&store, &second).await;
    let third = running(again(&second).await);
    let waiting = message_to(Target::Existing(conversation), worker, "two");
    let waiting_message = waiting.message;
    let waiting = queued(store.begin(waiting).await);

    for (message, turn) in [
        (question, first.turn.id),
        (answer, first.turn.id),
        (asked(&second.items), second.turn.id),
        (asked(&third.items), third.turn.id),
        (waiting_message, waiting.id),
    ] {
        assert_eq!(
            store
                .turn_of(&ann(), conversation, message)
                .await
                .unwrap()
                .id,
            turn
        );
    }
    assert!(
        store
            .turn_of(&ann(), conversation, question)
            .await
            .unwrap()
            .superseded
    );
    assert!(matches!(
        store.turn_of(&ann(), conversation, MessageId(id())).await,
        Err(StoreError::Refused(Refusal::NotFound))
    ));
    assert!(matches!(
        store.turn_of(&ann(), ConversationId(id()), question).await,
        Err(StoreError::Refused(Refusal::NotFound))
    ));
    let original = Some(OriginalMessage {
        id: question,
        at: Timestamp(7),
    });
    let page = TurnPage {
        includes_superseded: true,
        ..TurnPage::ALL
    };
    let stored = store.logged_turns(&ann(), conversation, page).await;
    let stored = stored.unwrap();
    assert_eq!(
        stored
            .iter()
            .map(|logged| logged.turn.original)
            .collect::<Vec<_>>(),
        [None, original, original, None]
    );
}

/// A key that is forgotten is free, and the turn that it began stays.
pub async fn a_released_key_begins_a_new_turn(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let key = || {
        Some(IdempotencyKey {
            key: "k".to_owned(),
            fingerprint: [7; 32],
        })
    };
    let first = running(
        store
            .begin(BeginTurn {
                idempotency: key(),
                ..new_conversation(worker, "hi")
            })
            .await,
    );
    store.release_key(&ann(), first.turn.id).await.unwrap();
    store.release_key(&ann(), first.turn.id).await.unwrap();
    let second = running(
        store
            .begin(BeginTurn {
                idempotency: key(),
                ..new_conversation(worker, "hi")
            })
            .await,
    );
    let third = store
        .begin(BeginTurn {
            idempotency: key(),
            ..new_conversation(worker, "hi")
        })
        .await
        .unwrap();
    assert!(matches!(third, BeginOutcome::Duplicate(turn) if turn.id == second.turn.id));
    assert_eq!(
        texts(
            &store
                .view(&ann(), first.turn.id, Position::START)
                .await
                .unwrap()
                .items
        ),
        ["hi"]
    );
    assert!(matches!(
        store.release_key(&ann(), TurnId(id())).await,
        Err(StoreError::Refused(Refusal::NotFound))
    ));
}

/// The last word counts; nothing is kept unless all messages are in the conversation.
pub async fn feedback_needs_messages_of_the_conversation(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let held = running(store.begin(new_conversation(worker, "hi")).await);
    let conversation = held.turn.conversation;
    let question = asked(&held.items);
    let (answer, said) = assistant("Hello.");
    end(&store, &held.lease, vec![said]).await.unwrap();
    let give = async |messages: Vec<MessageId>, feedback| {
        store
            .set_feedback(&ann(), conversation, messages, feedback, Timestamp(9))
            .await
    };
    let elsewhere = asked(&running(store.begin(new_conversation(worker, "hi")).await).items);
    assert!(matches!(
        give(vec![answer, elsewhere], Feedback::Positive).await,
        Err(StoreError::Refused(Refusal::NotFound))
    ));
    assert!(matches!(
        give(Vec::new(), Feedback::Positive).await,
        Err(StoreError::Refused(Refusal::NotFound))
    ));
    give(vec![answer, question, answer], Feedback::Positive)
        .await
        .unwrap();
    give(vec![answer], Feedback::Negative).await.unwrap();
    store.delete(&ann(), conversation).await.unwrap();
    assert!(matches!(
        give(vec![answer], Feedback::Positive).await,
        Err(StoreError::Refused(Refusal::NotFound))
    ));
}
