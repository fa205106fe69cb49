//! How many statements a call takes, and how the database finds what they name.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};

use chat_domain::testing::prelude::*;
use chat_domain::testing::retry_of;
use chat_domain::{
    Claim, ConversationCursor, ConversationOrder, ConversationPage, Draft, Feedback, PageOrder,
    Position, ToolCallPage, TurnPage,
};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use tempfile::TempDir;

use super::*;
use crate::OpenOptions;
use crate::sqlite::Sqlite;

/// The statements that were run.
#[derive(Clone, Default)]
struct Recorded(Arc<Mutex<Vec<Statement>>>);

impl Recorded {
    fn lock(&self) -> MutexGuard<'_, Vec<Statement>> {
        self.0.lock().unwrap()
    }

    fn listen(&self, db: &mut DatabaseConnection) {
        let recorded = self.clone();
        db.set_metric_callback(move |info| recorded.lock().push(info.statement.clone()));
    }

    /// How many statements were run since this was asked last.
    fn count(&self) -> usize {
        std::mem::take(&mut *self.lock()).len()
    }
}

/// A store whose statements are recorded, and another connection.
async fn recorded_store() -> (TempDir, SeaOrmStore, Recorded, DatabaseConnection) {
    let folder = tempfile::tempdir().unwrap();
    let options = OpenOptions::default();
    let url = format!("sqlite://{}", folder.path().join("chat.db").display());
    let mut sqlite = Sqlite::open(&url, &options).await.unwrap();
    let other = sqlite.readers.clone();
    let recorded = Recorded::default();
    recorded.listen(&mut sqlite.writer);
    recorded.listen(&mut sqlite.readers);
    (
        folder,
        SeaOrmStore::start(Arc::new(sqlite), &options)
            .await
            .unwrap(),
        recorded,
        other,
    )
}

/// Does everything a store can do.
async fn everything(store: &SeaOrmStore, worker: WorkerId) {
    let first = turn(store, first_message(worker).target, worker).await;
    let conversation = first.turn.conversation;
    let here = Target::Existing(conversation);
    let held = running(store.begin(message(here.clone(), worker)).await.unwrap());
    let retry = BeginTurn {
        retry_of: retry_of(first.turn.id),
        ..message(here.clone(), worker)
    };
    let queued = store.begin(retry).await.unwrap();
    assert!(matches!(queued, BeginOutcome::Stored(_)));
    store.request_cancel(&ann(), held.turn.id).await.unwrap();
    let draft = Draft {
        message: MessageId(Uuid::now_v7()),
        text: "so".to_owned(),
    };
    store
        .beat(worker, LEASE, vec![(held.lease, draft)])
        .await
        .unwrap();
    store
        .append_items(&held.lease, step().into_iter().rev().take(1).collect())
        .await
        .unwrap();
    let next = end(store, &held).await.unwrap().next.unwrap();
    store.deregister(worker, vec![next.turn.id]).await.unwrap();
    let other = enrolled(store).await;
    for holding in [None, Some(vec![next.turn.id])] {
        store
            .claim(Claim {
                worker: other,
                limit: 10,
                holding,
            })
            .await
            .unwrap();
    }
    store
        .list(&ann(), ConversationPage::last_active(None, 2))
        .await
        .unwrap();
    store
        .list(
            &ann(),
            ConversationPage::last_active(
                Some(ConversationCursor {
                    updated_at: Timestamp(9),
                    id: conversation,
                }),
                2,
            ),
        )
        .await
        .unwrap();
    store.conversation(&ann(), conversation).await.unwrap();
    store
        .logged_turns(&ann(), conversation, TurnPage::ALL)
        .await
        .unwrap();
    let page = TurnPage {
        after: Some(first.turn.ordinal),
        before: Some(next.turn.ordinal),
        limit: 3,
        order: PageOrder::NewestFirst,
        includes_superseded: true,
    };
    store
        .logged_turns(&ann(), conversation, page)
        .await
        .unwrap();
    store.view(&ann(), next.turn.id, Position(1)).await.unwrap();
    store
        .call_records(
            &ann(),
            conversation,
            ToolCallPage {
                after: Position::START,
                limit: 5,
            },
        )
        .await
        .unwrap();
    for order in [PageOrder::NewestFirst, PageOrder::OldestFirst] {
        for after in [None, Some(conversation)] {
            store
                .list(
                    &ann(),
                    ConversationPage {
                        order: ConversationOrder::Created { after, order },
                        limit: 2,
                    },
                )
                .await
                .unwrap();
        }
    }
    let ItemBody::Message(asked) = &next.items[0].body else {
        panic!("{next:?}")
    };
    store.turn_of(&ann(), conversation, asked.id).await.unwrap();
    store.release_key(&ann(), first.turn.id).await.unwrap();
    store
        .set_feedback(
            &ann(),
            conversation,
            vec![asked.id],
            Feedback::Positive,
            Timestamp(3),
        )
        .await
        .unwrap();
    store
        .rename(
            &ann(),
            conversation,
            &Title::new("new").unwrap(),
            Timestamp(4),
        )
        .await
        .unwrap();
    store.delete(&ann(), conversation).await.unwrap();
}

#[tokio::test]
async fn no_statement_reads_a_whole_table_or_more_turns_than_it_must() {
    let (_folder, store, recorded, other) = recorded_store().await;
    let worker = enrolled(&store).await;
    recorded.count();
    everything(&store, worker).await;
    let statements = std::mem::take(&mut *recorded.lock());
    assert!(
        statements.len() > 50,
        "only {} statements were recorded",
        statements.len()
    );
    let (mut scans, mut steps) = (BTreeSet::new(), BTreeSet::new());
    for statement in statements {
        let plan = Statement {
            sql: format!("EXPLAIN QUERY PLAN {}", statement.sql),
            ..statement.clone()
        };
        for row in other.query_all_raw(plan).await.unwrap() {
            let step: String = row.try_get("", "detail").unwrap();
            let tables = [
                "conversations",
                "turns",
                "messages",
                "tool_calls",
                "workers",
                "feedback",
                "t",
                "m",
                "k",
                "w",
            ];
            let scanned = tables.iter().any(|table| {
                step == format!("SCAN {table}") || step.starts_with(&format!("SCAN {table} "))
            });
            // The sweep looks at all turns that run, which is its task, through the index of those
            // alone; a registration at all workers, which are few because it deletes the dead.
            if scanned
                && !["SCAN t USING INDEX ix_turns_running_holder", "SCAN w"]
                    .contains(&step.as_str())
            {
                scans.insert((step.clone(), statement.sql.clone()));
            }
            steps.insert(step);
        }
    }
    assert!(scans.is_empty(), "{scans:#?}");
    let indexes = Statement::from_string(
        sea_orm::DbBackend::Sqlite,
        "SELECT name FROM sqlite_schema WHERE type = 'index' AND name LIKE 'ix_turns_%'",
    );
    for index in other.query_all_raw(indexes).await.unwrap() {
        let index: String = index.try_get("", "name").unwrap();
        assert!(
            steps
                .iter()
                .any(|step| step.contains(&format!("INDEX {index} "))),
            "{index} is not used: {steps:#?}"
        );
    }
    assert!(
        steps.contains("SEARCH o USING COVERING INDEX ix_turns_open (conversation_id=?)"),
        "turns are read to count them: {steps:#?}"
    );
}

#[tokio::test]
async fn a_long_conversation_takes_as_many_statements_as_a_short_one() {
    let (_folder, store, recorded, _other) = recorded_store().await;
    let worker = enrolled(&store).await;
    let short = turn(&store, first_message(worker).target, worker)
        .await
        .turn
        .conversation;
    let long = turn(&store, first_message(worker).target, worker)
        .await
        .turn
        .conversation;
    for _ in 1..1_667 {
        turn(&store, Target::Existing(long), worker).await;
    }
    let mut counts = Vec::new();
    for conversation in [short, long] {
        recorded.count();
        let held = running(
            store
                .begin(message(Target::Existing(conversation), worker))
                .await
                .unwrap(),
        );
        let begin = recorded.count();
        let [call, result, answer] = step();
        store
            .append_items(&held.lease, vec![answer, call, result])
            .await
            .unwrap();
        let append = recorded.count();
        end(&store, &held).await.unwrap();
        let end = recorded.count();
        let turns = store
            .logged_turns(&ann(), conversation, TurnPage::ALL)
            .await
            .unwrap();
        let read = recorded.count();
        let messages = turns
            .iter()
            .flat_map(|log| &log.items)
            .filter(|item| matches!(item.body, ItemBody::Message(_)))
            .count();
        counts.push((messages, [begin, append, end, read]));
    }
    assert!(counts[1].0 >= 5_000, "{counts:?}");
    assert_eq!(counts[0].1, counts[1].1, "{counts:?}");
    assert_eq!(counts[0].1[3], 1, "a history is one statement");
}

#[tokio::test]
async fn a_long_queue_is_not_read() {
    let (_folder, store, recorded, other) = recorded_store().await;
    let worker = enrolled(&store).await;
    let mut counts = Vec::new();
    for queued in [2, 200] {
        let held = running(store.begin(first_message(worker)).await.unwrap());
        let here = Target::Existing(held.turn.conversation);
        let retry = BeginTurn {
            retry_of: retry_of(held.turn.id),
            ..message(here.clone(), worker)
        };
        for begin in [message(here.clone(), worker), retry]
            .into_iter()
            .chain((2..queued).map(|_| message(here.clone(), worker)))
        {
            store.begin(begin).await.unwrap();
        }
        recorded.count();
        store.begin(message(here, worker)).await.unwrap();
        let [call, _, answer] = step();
        store
            .append_items(&held.lease, vec![answer, call])
            .await
            .unwrap();
        let next = end(&store, &held).await.unwrap().next.unwrap();
        end(&store, &next).await.unwrap().next.unwrap();
        let mut rows = Vec::new();
        let statements = std::mem::take(&mut *recorded.lock());
        for statement in statements {
            if statement.sql.trim_start().starts_with("SELECT")
                || statement.sql.trim_start().starts_with("WITH page")
            {
                rows.push(other.query_all_raw(statement).await.unwrap().len());
            }
        }
        counts.push(rows);
    }
    assert!(counts[0].len() > 8, "{counts:?}");
    assert_eq!(counts[0], counts[1]);
}

#[tokio::test]
async fn a_heartbeat_takes_as_many_statements_for_a_hundred_turns_as_for_one() {
    let (_folder, store, recorded, _other) = recorded_store().await;
    let worker = enrolled(&store).await;
    let mut drafts = Vec::new();
    let mut counts = Vec::new();
    for turns in [1, 100] {
        while drafts.len() < turns {
            let held = running(store.begin(first_message(worker)).await.unwrap());
            drafts.push((
                held.lease,
                Draft {
                    message: MessageId(Uuid::now_v7()),
                    text: "so far".to_owned(),
                },
            ));
        }
        recorded.count();
        store.beat(worker, LEASE, drafts.clone()).await.unwrap();
        counts.push(recorded.count());
    }
    assert_eq!(counts[0], counts[1]);
    let view = store
        .view(&ann(), drafts[99].0.turn, Position::START)
        .await
        .unwrap();
    assert_eq!(view.draft.as_ref(), Some(&drafts[99].1));
}

#[tokio::test]
async fn turns_that_wait_take_as_many_statements_when_they_are_a_hundred_as_when_one_does() {
    let (_folder, store, recorded, _other) = recorded_store().await;
    let worker = enrolled(&store).await;
    let mut waiting = Vec::new();
    let mut counts = Vec::new();
    for turns in [1, 100] {
        while waiting.len() < turns {
            waiting.push(
                running(store.begin(first_message(worker)).await.unwrap())
                    .turn
                    .id,
            );
        }
        recorded.count();
        store.beat(worker, LEASE, Vec::new()).await.unwrap();
        for holding in [None, Some(waiting.clone())] {
            assert_eq!(
                store
                    .claim(Claim {
                        worker,
                        limit: 32,
                        holding
                    })
                    .await
                    .unwrap(),
                []
            );
        }
        assert_eq!(
            store.turn_versions(waiting.clone()).await.unwrap().len(),
            turns
        );
        counts.push(recorded.count());
    }
    assert!(counts[0] >= 4, "{counts:?}");
    assert_eq!(counts[0], counts[1]);
}

#[tokio::test]
async fn callers_that_come_together_share_statements() {
    let (_folder, store, recorded, _other) = recorded_store().await;
    let worker = enrolled(&store).await;
    let store = Arc::new(store);
    recorded.count();
    let held = at_once(&store, 64, move |store, _| async move {
        running(store.begin(first_message(worker)).await.unwrap())
    })
    .await;
    at_once(&store, 64, {
        let held = Arc::new(held);
        move |store, number| {
            let held = Arc::clone(&held);
            async move { end(&store, &held[number]).await.unwrap() }
        }
    })
    .await;
    let statements = recorded.count();
    assert!(
        statements < 64,
        "{statements} statements for 128 transactions"
    );
}
