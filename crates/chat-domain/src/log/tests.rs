//! The rules, without a store.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    ConversationId, HeldTurn, Item, ItemBody, Message, MessageId, NewItem, OriginalMessage,
    Timestamp, Title, Turn, TurnId, TurnLease, TurnOutcome, TurnPage, TurnStatus, Usage, UserId,
    WorkerId,
};

const CONVERSATION: ConversationId = ConversationId(Uuid::from_u128(1));
const WORKER: WorkerId = WorkerId(Uuid::from_u128(2));
const QUEUE_LIMIT: u32 = 2;

fn owner() -> UserId {
    UserId::new("ann").unwrap()
}

fn begin(turn: u128) -> BeginTurn {
    BeginTurn {
        owner: owner(),
        target: Target::Existing(CONVERSATION),
        turn: TurnId(Uuid::from_u128(turn)),
        message: MessageId(Uuid::from_u128(turn)),
        text: format!("message {turn}"),
        at: Timestamp(i64::try_from(turn).unwrap()),
        worker: WORKER,
        busy: BusyPolicy::Enqueue,
        queue_limit: QUEUE_LIMIT,
        idempotency: None,
        retry_of: None,
    }
}

fn first() -> BeginTurn {
    let target = Target::New(CONVERSATION, Title::from_message("hello"));
    BeginTurn {
        target,
        ..begin(10)
    }
}

fn lease(turn: u128) -> TurnLease {
    TurnLease {
        turn: TurnId(Uuid::from_u128(turn)),
        worker: WORKER,
        epoch: 1,
    }
}

fn answer(id: u128) -> NewItem {
    NewItem {
        at: Timestamp(1),
        body: ItemBody::Message(Message::assistant(MessageId(Uuid::from_u128(id)), "answer")),
    }
}

fn end(turn: u128) -> EndTurn {
    EndTurn {
        lease: lease(turn),
        last: vec![answer(turn + 1_000)],
        outcome: TurnOutcome::Completed,
        usage: Usage::default(),
        at: Timestamp(5),
    }
}

fn retry(turn: u128, of: u128) -> BeginTurn {
    let original = OriginalMessage {
        id: MessageId(Uuid::from_u128(of)),
        at: Timestamp(0),
    };
    let turn_to_retry = TurnId(Uuid::from_u128(of));
    BeginTurn {
        retry_of: Some(RetryOf {
            turn: turn_to_retry,
            original,
        }),
        ..begin(turn)
    }
}

/// One conversation, saved after each command.
#[derive(Default)]
struct Log(Option<ConversationDocument>);

impl Log {
    fn new() -> Self {
        let mut log = Self::default();
        log.begin(&first()).unwrap();
        log
    }

    fn apply<T>(
        &mut self,
        command: impl FnOnce(&mut Ledger) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        let mut loaded = LoadedRows::default();
        self.0.iter().for_each(|log| log.load_into(&mut loaded));
        let mut ledger = Ledger::new(loaded);
        let outcome = command(&mut ledger);
        if outcome.is_ok() {
            self.save(ledger);
        }
        outcome
    }

    fn save(&mut self, ledger: Ledger) {
        let changes = ledger.into_changes().unwrap();
        let new = changes.new_conversations.first();
        let document = new.map(ConversationDocument::new).or(self.0.take());
        self.0 = document.map(|mut document| {
            document.save(&changes, Timestamp(0));
            document
        });
    }

    fn begin(&mut self, command: &BeginTurn) -> Result<BeginOutcome, LedgerError> {
        self.apply(|ledger| ledger.begin(command))
    }

    fn end(&mut self, command: &EndTurn) -> Result<EndedTurn, LedgerError> {
        self.apply(|ledger| ledger.end(command))
    }

    fn turns(&self) -> Vec<Turn> {
        let page = TurnPage {
            includes_superseded: true,
            ..TurnPage::ALL
        };
        let document = self.0.iter();
        let logged = document.flat_map(|document| document.turns(page));
        logged.map(|logged| logged.turn).collect()
    }

    fn items(&self) -> Vec<Item> {
        let page = TurnPage {
            includes_superseded: true,
            ..TurnPage::ALL
        };
        let document = self.0.iter();
        let logged = document.flat_map(|document| document.turns(page));
        logged.flat_map(|logged| logged.items).collect()
    }
}

fn started(outcome: Result<BeginOutcome, LedgerError>) -> HeldTurn {
    match outcome {
        Ok(BeginOutcome::Started(held)) => held,
        other => panic!("not started: {other:?}"),
    }
}

fn is_queued(outcome: &Result<BeginOutcome, LedgerError>) -> bool {
    matches!(outcome, Ok(BeginOutcome::Stored(_)))
}

#[test]
fn the_busy_policy_decides_about_a_second_message() {
    for (busy, expected) in [
        (BusyPolicy::Enqueue, Ok([false, false])),
        (BusyPolicy::Interrupt, Ok([true, false])),
        (
            BusyPolicy::Reject,
            Err(Refusal::TurnRunning(first().turn).into()),
        ),
    ] {
        let mut log = Log::new();
        let outcome = log.begin(&BeginTurn { busy, ..begin(11) });
        match expected {
            Ok(cancelled) => {
                assert!(is_queued(&outcome), "{busy:?}: {outcome:?}");
                let turns = log.turns().into_iter();
                let requested: Vec<_> = turns.map(|turn| turn.cancel_requested).collect();
                assert_eq!(requested, cancelled, "{busy:?}");
            }
            Err(refused) => assert_eq!(outcome, Err(refused)),
        }
    }
}

#[test]
fn the_queue_takes_as_many_as_its_limit() {
    let mut log = Log::new();
    for turn in 11..13 {
        assert!(is_queued(&log.begin(&begin(turn))));
    }
    for busy in [BusyPolicy::Enqueue, BusyPolicy::Interrupt] {
        let full = log.begin(&BeginTurn { busy, ..begin(13) });
        assert_eq!(full, Err(Refusal::QueueFull.into()));
    }
    assert!(log.turns().iter().all(|turn| !turn.cancel_requested));
    log.end(&end(10)).unwrap();
    assert!(is_queued(&log.begin(&begin(13))));
}

#[test]
fn an_idempotency_key_begins_one_turn() {
    let key = |fingerprint| {
        let key = "key".to_owned();
        let fingerprint = [fingerprint; 32];
        Some(IdempotencyKey { key, fingerprint })
    };
    let mut log = Log::default();
    let keyed = |turn, fingerprint| BeginTurn {
        idempotency: key(fingerprint),
        ..begin(turn)
    };
    let new = BeginTurn {
        idempotency: key(1),
        ..first()
    };
    started(log.begin(&new));
    let same = log.begin(&keyed(11, 1));
    assert!(matches!(same, Ok(BeginOutcome::Duplicate(turn)) if turn.id == new.turn));
    assert_eq!(
        log.begin(&keyed(12, 2)),
        Err(Refusal::IdempotencyMismatch.into())
    );
    assert_eq!(log.turns().len(), 1);
}

#[test]
fn a_retry_supersedes_when_it_starts() {
    let mut log = Log::new();
    log.end(&end(10)).unwrap();
    started(log.begin(&begin(11)));
    assert!(is_queued(&log.begin(&retry(12, 10))));
    let superseded = |log: &Log| -> Vec<bool> {
        let turns = log.turns().into_iter();
        turns.map(|turn| turn.superseded).collect()
    };
    assert_eq!(superseded(&log), [false, false, false]);
    let next = log.end(&end(11)).unwrap().next.unwrap();
    assert_eq!(
        next.turn.original.map(|original| original.id.0.as_u128()),
        Some(10)
    );
    assert_eq!(superseded(&log), [true, true, false]);
    assert_eq!(log.begin(&retry(13, 11)), Err(Refusal::Superseded.into()));
    assert_eq!(log.begin(&retry(13, 99)), Err(Refusal::NotFound.into()));
}

#[test]
fn an_end_passes_over_cancelled_turns() {
    let mut log = Log::new();
    log.begin(&begin(11)).unwrap();
    let interrupting = BeginTurn {
        busy: BusyPolicy::Interrupt,
        ..begin(12)
    };
    log.begin(&interrupting).unwrap();
    let ended = log.end(&end(10)).unwrap();
    assert_eq!(ended.next.map(|next| next.turn.id), Some(interrupting.turn));
    let cancelled = &log.turns()[1];
    let is_cancelled = matches!(
        cancelled.status,
        TurnStatus::Ended {
            outcome: TurnOutcome::Cancelled,
            ..
        }
    );
    assert!(is_cancelled, "{cancelled:?}");
    // The message of the cancelled turn has its place before that of the next.
    let positions: Vec<_> = log.items().iter().map(|item| item.position.0).collect();
    assert_eq!(positions, [1, 2, 3, 4]);
}

#[test]
fn only_the_current_lease_writes() {
    let append = |lease| AppendItems {
        lease,
        items: vec![answer(20)],
    };
    let mut log = Log::new();
    for lease in [
        TurnLease {
            epoch: 2,
            ..lease(10)
        },
        TurnLease {
            worker: WorkerId(Uuid::from_u128(3)),
            ..lease(10)
        },
        lease(99),
    ] {
        let appended = log.apply(|ledger| ledger.append(&append(lease)));
        assert_eq!(appended, Err(Refusal::LeaseLost.into()));
        let ended = log.end(&EndTurn { lease, ..end(10) });
        assert_eq!(ended, Err(Refusal::LeaseLost.into()));
    }
    log.end(&end(10)).unwrap();
    let late = log.apply(|ledger| ledger.append(&append(lease(10))));
    assert_eq!(late, Err(Refusal::LeaseLost.into()));
}

#[test]
fn an_item_id_belongs_to_one_turn() {
    let mut log = Log::new();
    log.end(&end(10)).unwrap();
    started(log.begin(&begin(11)));
    let stolen = EndTurn {
        last: end(10).last,
        ..end(11)
    };
    assert!(matches!(
        log.end(&stolen),
        Err(LedgerError::Inconsistent(_))
    ));
}

/// A command of a random history.
#[derive(Clone, Debug)]
enum Step {
    Begin(BeginTurn),
    Append(AppendItems),
    End(EndTurn),
}

fn step() -> impl Strategy<Value = Step> {
    let turns = 10_u128..16;
    let busy = prop_oneof![
        Just(BusyPolicy::Enqueue),
        Just(BusyPolicy::Reject),
        Just(BusyPolicy::Interrupt)
    ];
    prop_oneof![
        (turns.clone(), busy).prop_map(|(turn, busy)| Step::Begin(BeginTurn {
            busy,
            ..begin(turn)
        })),
        (turns.clone(), turns.clone()).prop_map(|(turn, of)| Step::Begin(retry(turn + 10, of))),
        turns.clone().prop_map(|turn| Step::Append(AppendItems {
            lease: lease(turn),
            items: vec![answer(turn + 500)],
        })),
        turns.prop_map(|turn| Step::End(end(turn))),
    ]
}

/// The outcome without the items of held turns, which a store fills.
fn run(ledger: &mut Ledger, step: &Step) -> Result<String, LedgerError> {
    let bare = |held: &mut HeldTurn| held.items.clear();
    Ok(match step {
        Step::Begin(command) => {
            let mut begun = ledger.begin(command)?;
            begun.held_turn().map(bare);
            format!("{begun:?}")
        }
        Step::Append(command) => format!("{:?}", ledger.append(command)?),
        Step::End(command) => {
            let mut ended = ledger.end(command)?;
            ended.next.as_mut().map(bare);
            format!("{ended:?}")
        }
    })
}

proptest! {
    /// A batch of commands does what its commands do one after another, each saved before the next.
    #[test]
    fn a_batch_equals_its_commands_one_by_one(steps in prop::collection::vec(step(), 1..24)) {
        let (mut single, mut batch) = (Log::new(), Log::new());
        let mut loaded = LoadedRows::default();
        batch.0.iter().for_each(|log| log.load_into(&mut loaded));
        let mut ledger = Ledger::new(loaded);
        for step in &steps {
            let alone = single.apply(|ledger| run(ledger, step));
            prop_assert_eq!(run(&mut ledger, step), alone);
        }
        batch.save(ledger);
        prop_assert_eq!(batch.turns(), single.turns());
        prop_assert_eq!(batch.items(), single.items());
    }

    /// At most one turn runs, none is queued while none runs, and positions have no gaps.
    #[test]
    fn the_log_stays_whole(steps in prop::collection::vec(step(), 1..24)) {
        let mut log = Log::new();
        for step in &steps {
            let _ = log.apply(|ledger| run(ledger, step));
            let turns = log.turns();
            let count = |status: TurnStatus| turns.iter().filter(|t| t.status == status).count();
            prop_assert!(count(TurnStatus::Running) <= 1);
            prop_assert!(count(TurnStatus::Running) == 1 || count(TurnStatus::Queued) == 0);
            let items = log.items();
            let mut placed: Vec<_> = items.iter().map(|item| item.position.0).collect();
            placed.retain(|position| *position > 0);
            placed.sort_unstable();
            let gapless: Vec<_> = (1..).take(placed.len()).collect();
            prop_assert_eq!(placed, gapless);
        }
    }
}
