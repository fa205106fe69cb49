//! Any sequence of calls, also of calls that are done together, does what it does to the store in
//! memory, one by one in order of arrival: the same answers, and the same conversations afterwards.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use chat_domain::testing::MemoryStore;
use chat_domain::testing::prelude::*;
use chat_domain::testing::retry_of;
use chat_domain::{
    BeginOutcome, BeginTurn, BusyPolicy, Claim, ConversationId, ConversationPage, Draft,
    FailureKind, IdempotencyKey, ItemBody, Message, MessageId, NewItem, Position, RawJson,
    StoreError, Target, Timestamp, Title, ToolCall, ToolCallId, ToolCallPage, ToolExecutor,
    ToolOutcome, ToolOutput, ToolResult, TurnFailure, TurnId, TurnLease, TurnOutcome, TurnPage,
    Usage, UserId, WorkerId,
};
use chat_store_seaorm::{OpenOptions, SeaOrmStore};
use futures_util::future::join_all;
use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

const LEASE: Duration = Duration::from_secs(3600);

/// A call; numbers choose among what there is.
#[derive(Clone, Debug)]
enum Op {
    Begin {
        owner: u8,
        conversation: u8,
        busy: BusyPolicy,
        key: Option<u8>,
        retry: Option<u8>,
        twice: bool,
    },
    Append {
        lease: u8,
        tools: bool,
        twice: bool,
    },
    End {
        lease: u8,
        twice: bool,
    },
    Draft {
        lease: u8,
    },
    ForceEnd {
        lease: u8,
    },
    Cancel {
        owner: u8,
        turn: u8,
    },
    Rename {
        owner: u8,
        conversation: u8,
    },
    Delete {
        owner: u8,
        conversation: u8,
    },
    /// A worker leaves, and the other one takes over. It may have mislaid turns: those it says it
    /// holds are every so many of them.
    HandOver {
        from: u8,
        holding: Option<usize>,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let busy = prop_oneof![4 => Just(BusyPolicy::Enqueue), 1 => Just(BusyPolicy::Reject), 1 => Just(BusyPolicy::Interrupt)];
    let begin = (
        any::<u8>(),
        any::<u8>(),
        busy,
        proptest::option::weighted(0.3, 0..4_u8),
        proptest::option::weighted(0.2, any::<u8>()),
        any::<bool>(),
    );
    prop_oneof![
        8 => begin.prop_map(|(owner, conversation, busy, key, retry, twice)| Op::Begin { owner, conversation, busy, key, retry, twice }),
        4 => (any::<u8>(), any::<bool>(), any::<bool>()).prop_map(|(lease, tools, twice)| Op::Append { lease, tools, twice }),
        8 => (any::<u8>(), any::<bool>()).prop_map(|(lease, twice)| Op::End { lease, twice }),
        2 => any::<u8>().prop_map(|lease| Op::Draft { lease }),
        2 => any::<u8>().prop_map(|lease| Op::ForceEnd { lease }),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(owner, turn)| Op::Cancel { owner, turn }),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(owner, conversation)| Op::Rename { owner, conversation }),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(owner, conversation)| Op::Delete { owner, conversation }),
        1 => (0..2_u8, proptest::option::of(1..4_usize)).prop_map(|(from, holding)| Op::HandOver { from, holding }),
    ]
}

/// Two stores that are asked the same.
struct Pair {
    memory: MemoryStore,
    database: SeaOrmStore,
    workers: Cell<[WorkerId; 2]>,
    conversations: RefCell<Vec<ConversationId>>,
    turns: RefCell<Vec<TurnId>>,
    leases: RefCell<Vec<TurnLease>>,
    clock: Cell<i64>,
}

/// Asks both stores; their answers must be the same. An answer as text is enough: errors have no
/// equality.
macro_rules! both {
    ($pair:expr, |$store:ident| $call:expr) => {{
        let expected = {
            let $store = &$pair.memory;
            $call.await.map_err(kind)
        };
        let found = {
            let $store = &$pair.database;
            $call.await.map_err(kind)
        };
        assert_eq!(
            without_times(&format!("{found:?}")),
            without_times(&format!("{expected:?}"))
        );
        found
    }};
}

/// A text without how long attempts took: each store has a clock of its own.
fn without_times(text: &str) -> String {
    let mut parts = text.split("spent: ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + part.split_once(", ").map_or(part, |(_, rest)| rest)
    })
}

fn kind(error: StoreError) -> String {
    error.to_string()
}

fn pick<T: Copy>(all: &[T], number: u8) -> Option<T> {
    all.get(usize::from(number).checked_rem(all.len())?)
        .copied()
}

fn owner(number: u8) -> UserId {
    UserId::new(if number.is_multiple_of(8) {
        "bob"
    } else {
        "ann"
    })
    .unwrap()
}

impl Pair {
    async fn new(url: &str) -> Self {
        let database = SeaOrmStore::open(url, OpenOptions::default())
            .await
            .unwrap();
        let workers = [WorkerId(Uuid::now_v7()), WorkerId(Uuid::now_v7())];
        let pair = Self {
            memory: MemoryStore::new(),
            database,
            workers: Cell::new(workers),
            conversations: RefCell::default(),
            turns: RefCell::default(),
            leases: RefCell::default(),
            clock: Cell::new(0),
        };
        for worker in workers {
            both!(pair, |store| store.register(worker, LEASE)).unwrap();
        }
        pair
    }

    fn now(&self) -> Timestamp {
        self.clock.set(self.clock.get() + 1);
        Timestamp(self.clock.get())
    }

    fn message(&self) -> (MessageId, NewItem) {
        let id = MessageId(Uuid::now_v7());
        let body = ItemBody::Message(Message::assistant(id, "said"));
        (
            id,
            NewItem {
                at: self.now(),
                body,
            },
        )
    }

    /// A step's message, with a call that has a result and one that has none.
    fn step(&self) -> Vec<NewItem> {
        let (message, item) = self.message();
        let mut items = vec![item];
        for answered in [true, false] {
            let id = ToolCallId(Uuid::now_v7());
            let arguments = RawJson::from_valid(r#"{ "b":1, "a":1e400 }"#);
            let call = ToolCall {
                id,
                message,
                tool: "list".to_owned(),
                arguments,
                executor: ToolExecutor::Server,
                agent_data: None,
            };
            items.push(NewItem {
                at: self.now(),
                body: ItemBody::ToolCall(call),
            });
            if answered {
                let outcome = ToolOutcome::Succeeded(ToolOutput(RawJson::from_valid("[]")));
                let result = ToolResult {
                    call: id,
                    outcome,
                    started_at: self.now(),
                    took: Duration::from_micros(7),
                };
                items.push(NewItem {
                    at: self.now(),
                    body: ItemBody::ToolResult(result),
                });
            }
        }
        items
    }

    async fn run(&self, op: Op) {
        match op {
            Op::Begin {
                owner: by,
                conversation,
                busy,
                key,
                retry,
                twice,
            } => {
                let target = match pick(&self.conversations.borrow(), conversation)
                    .filter(|_| !conversation.is_multiple_of(4))
                {
                    Some(id) => Target::Existing(id),
                    None => {
                        Target::New(ConversationId(Uuid::now_v7()), Title::new("talk").unwrap())
                    }
                };
                let fingerprint = [u8::from(conversation > 200); 32];
                let begin = BeginTurn {
                    owner: owner(by),
                    turn: TurnId(Uuid::now_v7()),
                    message: MessageId(Uuid::now_v7()),
                    text: "asked".to_owned(),
                    at: self.now(),
                    worker: self.workers.get()[usize::from(by % 2)],
                    busy,
                    queue_limit: 3,
                    idempotency: key.map(|key| IdempotencyKey {
                        key: key.to_string(),
                        fingerprint,
                    }),
                    retry_of: retry
                        .filter(|_| matches!(target, Target::Existing(_)))
                        .and_then(|turn| pick(&self.turns.borrow(), turn))
                        .and_then(retry_of),
                    target,
                };
                for _ in 0..=usize::from(twice) {
                    if let Ok(begun) = both!(self, |store| store.begin(begin.clone())) {
                        self.conversations.borrow_mut().push(begin.target.id());
                        self.turns.borrow_mut().push(begin.turn);
                        self.leases.borrow_mut().extend(
                            if let BeginOutcome::Started(held) = begun {
                                Some(held.lease)
                            } else {
                                None
                            },
                        );
                    }
                }
            }
            Op::Append {
                lease,
                tools,
                twice,
            } => {
                let Some(lease) = pick(&self.leases.borrow(), lease) else {
                    return;
                };
                let items = if tools {
                    self.step()
                } else {
                    vec![self.message().1]
                };
                for _ in 0..=usize::from(twice) {
                    let _ = both!(self, |store| store.append_items(&lease, items.clone()));
                }
            }
            Op::End { lease, twice } => {
                let Some(lease) = pick(&self.leases.borrow(), lease) else {
                    return;
                };
                let (last, at) = (vec![self.message().1], self.now());
                let usage = Usage {
                    input_tokens: 3,
                    output_tokens: 5,
                };
                for _ in 0..=usize::from(twice) {
                    let ended = both!(self, |store| store.end_turn(
                        &lease,
                        last.clone(),
                        TurnOutcome::Completed,
                        usage,
                        at
                    ));
                    self.leases.borrow_mut().extend(
                        ended
                            .ok()
                            .and_then(|ended| ended.next)
                            .map(|next| next.lease),
                    );
                }
            }
            Op::Draft { lease } => {
                let Some(lease) = pick(&self.leases.borrow(), lease) else {
                    return;
                };
                let draft = Draft {
                    message: MessageId(Uuid::now_v7()),
                    text: "so far".to_owned(),
                };
                let _ = both!(self, |store| async {
                    store
                        .beat(lease.worker, LEASE, vec![(lease, draft.clone())])
                        .await
                        .map(sorted)
                });
            }
            Op::ForceEnd { lease } => {
                let Some(lease) = pick(&self.leases.borrow(), lease) else {
                    return;
                };
                let (failure, at) = (
                    TurnFailure {
                        kind: FailureKind::Internal,
                        message: "It cannot be stored.".to_owned(),
                    },
                    self.now(),
                );
                let _ = both!(self, |store| store.force_end(&lease, failure.clone(), at));
            }
            Op::Cancel { owner: by, turn } => {
                let Some(turn) = pick(&self.turns.borrow(), turn) else {
                    return;
                };
                let _ = both!(self, |store| store.request_cancel(&owner(by), turn));
            }
            Op::Rename {
                owner: by,
                conversation,
            } => {
                let Some(id) = pick(&self.conversations.borrow(), conversation) else {
                    return;
                };
                let (title, at) = (Title::new("renamed").unwrap(), self.now());
                let _ = both!(self, |store| store.rename(&owner(by), id, &title, at));
            }
            Op::Delete {
                owner: by,
                conversation,
            } => {
                let Some(id) = pick(&self.conversations.borrow(), conversation) else {
                    return;
                };
                let _ = both!(self, |store| store.delete(&owner(by), id));
            }
            Op::HandOver { from, holding } => {
                let from = usize::from(from);
                let workers = self.workers.get();
                let (leaving, staying) = (workers[from], workers[1 - from]);
                let holding = holding
                    .map(|every| self.turns.borrow().iter().step_by(every).copied().collect());
                let handed_over: Vec<_> = self.turns.borrow().iter().step_by(2).copied().collect();
                both!(self, |store| store.deregister(leaving, handed_over.clone())).unwrap();
                let claim = Claim {
                    worker: staying,
                    limit: u32::MAX,
                    holding,
                };
                let claimed = both!(self, |store| async {
                    let mut claimed = store.claim(claim.clone()).await?;
                    claimed.sort_by_key(|held| held.turn.id);
                    Ok(claimed)
                });
                self.leases
                    .borrow_mut()
                    .extend(claimed.unwrap().into_iter().map(|held| held.lease));
                let new = WorkerId(Uuid::now_v7());
                let mut workers = self.workers.get();
                workers[from] = new;
                self.workers.set(workers);
                both!(self, |store| store.register(new, LEASE)).unwrap();
            }
        }
    }

    /// All that can be read is the same.
    async fn compare(&self) {
        let (conversations, turns) = (
            self.conversations.borrow().clone(),
            self.turns.borrow().clone(),
        );
        for owner in [owner(0), owner(1)] {
            let page = ConversationPage::last_active(None, 1_000);
            let _ = both!(self, |store| store.list(&owner, page));
            for id in &conversations {
                let page = TurnPage {
                    includes_superseded: true,
                    ..TurnPage::ALL
                };
                let _ = both!(self, |store| store.logged_turns(&owner, *id, page));
                let _ = both!(self, |store| store.logged_turns(&owner, *id, TurnPage::ALL));
                let page = ToolCallPage {
                    after: Position::START,
                    limit: 1_000,
                };
                let _ = both!(self, |store| store.call_records(&owner, *id, page));
            }
            for id in &turns {
                let _ = both!(self, |store| store.view(&owner, *id, Position(2)));
            }
        }
    }
}

fn sorted(mut heartbeat: chat_domain::Heartbeat) -> chat_domain::Heartbeat {
    heartbeat.cancel.sort();
    heartbeat
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_answers_like_the_store_in_memory(batches in vec(vec(op(), 1..8), 1..20)) {
        in_a_runtime(async {
            let folder = tempfile::tempdir().unwrap();
            let pair = Pair::new(&format!("sqlite://{}", folder.path().join("chat.db").display())).await;
            for batch in batches {
                // Each is polled once before the writer, on the same thread, sees the first of
                // them: they are one batch, in this order. The store in memory, which never waits,
                // is asked in the same order.
                join_all(batch.into_iter().map(|op| pair.run(op))).await;
            }
            pair.compare().await;
            pair.database.close().await;
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn postgres_answers_like_the_store_in_memory(ops in vec(op(), 1..60)) {
        in_a_runtime(async {
            let database = chat_test_postgres::database();
            let pair = Pair::new(database.url()).await;
            for op in ops {
                pair.run(op).await;
            }
            pair.compare().await;
            pair.database.close().await;
        });
    }
}

fn in_a_runtime(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}
