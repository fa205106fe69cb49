//! Turns as a server has them done, for measuring. Each benchmark uses some of it.
#![allow(dead_code)]

use std::sync::Arc;
use std::time::Duration;

use chat_domain::testing::prelude::*;
use chat_domain::{
    BeginOutcome, BeginTurn, BusyPolicy, ConversationId, HeldTurn, ItemBody, Message, MessageId,
    NewItem, Target, Timestamp, Title, TurnId, TurnOutcome, TurnPage, Usage, UserId, WorkerId,
};
use chat_store_seaorm::{OpenOptions, SeaOrmStore};
use uuid::Uuid;

#[derive(Clone)]
pub struct Chat {
    pub store: Arc<SeaOrmStore>,
    owner: UserId,
    worker: WorkerId,
}

impl Chat {
    pub async fn open(url: &str, options: OpenOptions) -> Self {
        let store = Arc::new(SeaOrmStore::open(url, options).await.unwrap());
        let worker = WorkerId(Uuid::now_v7());
        store
            .register(worker, Duration::from_secs(3600))
            .await
            .unwrap();
        Self {
            store,
            owner: UserId::new("ann").unwrap(),
            worker,
        }
    }

    /// One turn, in a new conversation or in this one.
    pub async fn turn(&self, conversation: Option<ConversationId>, read: bool) -> ConversationId {
        let conversation = conversation.map_or_else(
            || Target::New(ConversationId(Uuid::now_v7()), Title::from_message("new")),
            Target::Existing,
        );
        let held = self.begin_in(conversation, 0).await.unwrap();
        if read {
            assert!(self.read(held.turn.conversation).await >= 1);
        }
        assert!(self.end(&held).await.is_none());
        held.turn.conversation
    }

    /// Ends a turn; returns the one that waited for it.
    pub async fn end(&self, held: &HeldTurn) -> Option<HeldTurn> {
        let message = Message::assistant(MessageId(Uuid::now_v7()), "y".repeat(1500));
        let last = vec![NewItem {
            at: Timestamp(1),
            body: ItemBody::Message(message),
        }];
        self.store
            .end_turn(
                &held.lease,
                last,
                TurnOutcome::Completed,
                Usage::default(),
                Timestamp(1),
            )
            .await
            .unwrap()
            .next
    }

    pub async fn begin(&self, conversation: ConversationId, queue_limit: u32) -> Option<HeldTurn> {
        self.begin_in(Target::Existing(conversation), queue_limit)
            .await
    }

    /// Begins a turn, which may have to wait.
    async fn begin_in(&self, target: Target, queue_limit: u32) -> Option<HeldTurn> {
        let text = "x".repeat(300);
        let begin = BeginTurn {
            owner: self.owner.clone(),
            target,
            turn: TurnId(Uuid::now_v7()),
            message: MessageId(Uuid::now_v7()),
            text,
            at: Timestamp(1),
            worker: self.worker,
            busy: BusyPolicy::Enqueue,
            queue_limit,
            idempotency: None,
            retry_of: None,
        };
        match self.store.begin(begin).await.unwrap() {
            BeginOutcome::Started(held) => Some(held),
            BeginOutcome::Stored(_) => None,
            BeginOutcome::Duplicate(turn) => panic!("{turn:?}"),
        }
    }

    /// Reads a conversation; returns how many turns it has.
    pub async fn read(&self, conversation: ConversationId) -> u64 {
        self.store
            .logged_turns(&self.owner, conversation, TurnPage::ALL)
            .await
            .unwrap()
            .len() as u64
    }

    /// A conversation of so many turns.
    pub async fn conversation(&self, turns: u64) -> ConversationId {
        let conversation = self.turn(None, false).await;
        for _ in 1..turns {
            self.turn(Some(conversation), false).await;
        }
        conversation
    }
}

/// The CPU time this process has used. Linux counts it in hundredths of a second (proc_pid_stat(5),
/// fields 14 and 15).
pub fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 10)
}

pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
