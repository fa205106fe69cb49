//! The number of round trips to PostgreSQL, counted in PostgreSQL's own log.

use chat_domain::testing::prelude::*;
use chat_domain::{
    BeginOutcome, BeginTurn, Target, Timestamp, TurnOutcome, TurnPage, Usage, WorkerId,
};
use chat_store_seaorm::{OpenOptions, SeaOrmStore};
use chat_test_postgres::{Cluster, Options};
use uuid::Uuid;

use crate::opening::{ann, answer, begin, first_message};

/// How many questions the server has logged. It logs each before it answers.
fn asked(cluster: &Cluster) -> usize {
    cluster
        .logs()
        .lines()
        .filter(|line| line.contains("LOG:  statement: ") || line.contains("LOG:  execute "))
        .count()
}

fn fresh(worker: WorkerId) -> BeginTurn {
    BeginTurn {
        idempotency: None,
        ..first_message(worker)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_takes_few_ways_there_and_back_however_long_its_conversation_is() {
    let settings = vec![("log_statement", "all".to_owned())];
    let cluster = Cluster::start(Options {
        settings,
        ..Options::default()
    })
    .unwrap();
    cluster.create_database("chat").unwrap();
    let store = SeaOrmStore::open(&cluster.url("chat"), OpenOptions::default())
        .await
        .unwrap();
    let worker = WorkerId(Uuid::now_v7());
    let turn = begin(&store, fresh(worker)).await;
    let conversation = turn.turn.conversation;
    store
        .end_turn(
            &turn.lease,
            answer(),
            TurnOutcome::Completed,
            Usage::default(),
            Timestamp(8),
        )
        .await
        .unwrap();
    let mut counts = Vec::new();
    for _ in 0..100 {
        let before = asked(&cluster);
        let begun = store
            .begin(BeginTurn {
                target: Target::Existing(conversation),
                ..fresh(worker)
            })
            .await;
        let Ok(BeginOutcome::Started(turn)) = begun else {
            panic!("{begun:?}")
        };
        let begun = asked(&cluster);
        store
            .logged_turns(&ann(), conversation, TurnPage::ALL)
            .await
            .unwrap();
        let read = asked(&cluster);
        store
            .end_turn(
                &turn.lease,
                answer(),
                TurnOutcome::Completed,
                Usage::default(),
                Timestamp(8),
            )
            .await
            .unwrap();
        counts.push((begun - before, read - begun, asked(&cluster) - read));
    }
    let [first, .., last] = counts.as_slice() else {
        panic!("{counts:?}")
    };
    assert_eq!(first, last);
    let (begin_turn, read, end_turn) = *last;
    assert!(begin_turn <= 5 && read == 1 && end_turn <= 5, "{last:?}");
    store.close().await;
}
