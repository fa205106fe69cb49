use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::testing::{FixedEnvironment, LogBuilder};
use crate::{Message, Timestamp, TurnId, TurnOutcome, TurnStatus};

/// A change of a turn.
#[derive(Clone, Debug)]
enum Change {
    Write(String),
    Record,
    Call,
    Crash,
}

/// All the views a turn goes through, the last one ended.
fn views(changes: &[Change], answered: bool) -> Vec<TurnView> {
    let mut log = LogBuilder::new();
    log.user("Hello");
    let log = log.log(1, TurnStatus::Running);
    let mut view = TurnView {
        turn: log.turn,
        items: log.items,
        draft: None,
    };
    let mut ids = 1_000;
    let mut fresh = || {
        ids += 1;
        MessageId(FixedEnvironment::id(ids))
    };
    let mut all = vec![view.clone()];
    for change in changes {
        match change {
            Change::Write(text) => match &mut view.draft {
                Some(draft) => draft.text.push_str(text),
                None => {
                    view.draft = Some(Draft {
                        message: fresh(),
                        text: text.clone(),
                    })
                }
            },
            Change::Record => record(&mut view, &mut fresh),
            Change::Call => {
                record(&mut view, &mut fresh);
                let Some(ItemBody::Message(message)) =
                    view.items.last().map(|item| item.body.clone())
                else {
                    unreachable!()
                };
                let mut log = LogBuilder::new();
                let call = log.call(message.id, "look");
                push(&mut view, ItemBody::ToolCall(call));
            }
            Change::Crash => view.draft = None,
        }
        all.push(view.clone());
    }
    if answered {
        record(&mut view, &mut fresh);
    }
    view.draft = None;
    view.turn.status = TurnStatus::Ended {
        at: Timestamp(9),
        outcome: TurnOutcome::Completed,
    };
    all.push(view);
    all
}

fn record(view: &mut TurnView, fresh: &mut impl FnMut() -> MessageId) {
    let Draft { message, text } = view.draft.take().unwrap_or_else(|| Draft {
        message: fresh(),
        text: String::new(),
    });
    push(view, ItemBody::Message(Message::assistant(message, text)));
}

fn push(view: &mut TurnView, body: ItemBody) {
    let position = Position(view.items.len() as u64 + 1);
    view.items.push(Item {
        position,
        turn: view.turn.id,
        at: Timestamp(1),
        body,
    });
}

/// The state of a reader: text by message, items in order, the end. Checks the laws of
/// the stream on the way.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    open: BTreeMap<MessageId, String>,
    items: Vec<Item>,
    ended: Option<TurnId>,
}

impl Seen {
    fn hear(&mut self, event: TurnEvent) {
        assert!(self.ended.is_none(), "news after the end");
        match event {
            TurnEvent::Text { message, delta } => {
                assert!(!delta.is_empty());
                self.open.entry(message).or_default().push_str(&delta);
                assert_eq!(self.open.len(), 1, "two messages are written at once");
            }
            TurnEvent::Discarded { message } => assert!(
                self.open.remove(&message).is_some(),
                "discarded what was not shown"
            ),
            TurnEvent::Item(item) => {
                assert!(
                    self.items
                        .last()
                        .is_none_or(|last| last.position < item.position)
                );
                if let ItemBody::Message(message) = &item.body
                    && message.role == Role::Assistant
                {
                    assert_eq!(
                        self.open.remove(&message.id).unwrap_or_default(),
                        message.text
                    );
                }
                self.items.push(item);
            }
            TurnEvent::Ended(turn) => {
                assert!(self.open.is_empty(), "the end leaves text open");
                self.ended = Some(turn.id);
            }
        }
    }
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        4 => "[a-zé日🦀]{1,5}".prop_map(Change::Write),
        1 => Just(Change::Record),
        1 => Just(Change::Call),
        1 => Just(Change::Crash),
    ];
    prop::collection::vec(change, 0..12)
}

proptest! {
    /// A reader who looks at any moments, from whole views or only what is after its cursor, sees
    /// all of the log.
    #[test]
    fn every_reader_sees_the_log(changes in changes(), looks in prop::collection::vec(any::<bool>(), 14), (partial, answered) in any::<(bool, bool)>()) {
        let views = views(&changes, answered);
        let last = views.len() - 1;
        let (mut cursor, mut seen) = (Cursor::START, Seen::default());
        for (at, view) in views.iter().enumerate() {
            if at == last || looks[at] {
                prop_assert!(view.checked_events_after(cursor).is_ok());
                let mut view = view.clone();
                if partial {
                    view.items.retain(|item| item.position > cursor.position);
                }
                for (after, event) in view.events_after(cursor).unwrap() {
                    cursor = after;
                    seen.hear(event);
                }
            }
        }
        prop_assert_eq!(&seen.items, &views[last].items);
        prop_assert!(cursor.ended && seen.ended.is_some());
        prop_assert_eq!(views[last].events_after(cursor), Ok(Vec::new()));
    }

    /// Cut off after any event and resumed, a reader sees what one sees who was never cut off.
    #[test]
    fn a_resumed_reader_sees_the_same(changes in changes(), cut in any::<prop::sample::Index>(), answered in any::<bool>()) {
        let views = views(&changes, answered);
        let (mut cursor, mut delivered) = (Cursor::START, Vec::new());
        for view in &views {
            for (after, event) in view.events_after(cursor).unwrap() {
                cursor = after;
                delivered.push((after, event));
            }
        }
        let cut = cut.index(delivered.len());
        let view = views.last().unwrap();
        let resumed = view.checked_events_after(delivered[cut].0).unwrap();
        let mut seen = Seen::default();
        delivered.iter().take(cut + 1).map(|(_, event)| event).chain(resumed.iter().map(|(_, event)| event)).for_each(|event| seen.hear(event.clone()));
        prop_assert_eq!(&seen.items, &view.items);
        prop_assert!(seen.ended.is_some());
    }

    /// A stored view that lags behind what the reader saw gives nothing, and nothing twice later.
    #[test]
    fn a_lagging_view_gives_nothing(text in "[a-zé日🦀]{1,9}", keep in any::<prop::sample::Index>()) {
        let views = views(&[Change::Write(text.clone())], true);
        let (cursor, _) = views[1].events_after(Cursor::START).unwrap().pop().unwrap();
        let mut behind = views[1].clone();
        let keep = text.floor_char_boundary(keep.index(text.len()));
        behind.draft.as_mut().unwrap().text.truncate(keep);
        prop_assert_eq!(behind.events_after(cursor), Ok(Vec::new()));
        let rest = views[2].events_after(cursor).unwrap();
        prop_assert!(matches!(rest.as_slice(), [(_, TurnEvent::Item(_)), (_, TurnEvent::Ended(_))]), "{rest:?}");
    }
}

#[test]
fn cursors_of_no_reader_are_refused() {
    let views = views(&[Change::Write("日本".to_owned())], true);
    let view = views.last().unwrap();
    let message = views[1].draft.as_ref().unwrap().message;
    let at = |position, text, ended| Cursor {
        position: Position(position),
        text,
        ended,
    };
    assert_eq!(
        view.checked_events_after(at(3, None, false)),
        Err(CursorMismatch)
    );
    assert_eq!(
        views[1].checked_events_after(at(1, None, true)),
        Err(CursorMismatch)
    );
    assert_eq!(
        view.checked_events_after(at(1, None, true)),
        Err(CursorMismatch)
    );
    for bytes in [1, 7] {
        let within_or_beyond = at(1, Some(SeenText { message, bytes }), false);
        assert_eq!(
            view.checked_events_after(within_or_beyond),
            Err(CursorMismatch)
        );
    }
}

#[test]
fn a_queued_message_is_delivered_when_it_has_a_position() {
    let mut log = LogBuilder::new();
    log.user("Hello");
    let log = log.log(2, TurnStatus::Queued);
    let mut view = TurnView {
        turn: log.turn,
        items: log.items,
        draft: None,
    };
    view.items[0].position = Position::START;
    assert_eq!(view.events_after(Cursor::START), Ok(Vec::new()));
    view.items[0].position = Position(7);
    let events = view.events_after(Cursor::START).unwrap();
    assert!(
        matches!(
            events.as_slice(),
            [(
                Cursor {
                    position: Position(7),
                    ..
                },
                TurnEvent::Item(_)
            )]
        ),
        "{events:?}"
    );
}
