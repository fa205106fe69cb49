//! Pages of messages: for any turns and sizes, the pages together have every message once, in
//! order.

use chat_domain::testing::LogBuilder;
use chat_domain::{ConversationId, LoggedTurn, PageOrder, TurnOutcome, TurnPage};
use chat_protocol::native::Query;
use chat_protocol::native::messages;
use chat_protocol::native::{MessageList, MessagePageRequest};
use proptest::prelude::*;
use uuid::Uuid;

const CONVERSATION: ConversationId = ConversationId(Uuid::from_u128(7));

/// Turns, some with an answer, and gaps between their ordinals, as superseded turns make them.
fn turns() -> impl Strategy<Value = Vec<LoggedTurn>> {
    proptest::collection::vec((any::<bool>(), 1..3_u64), 0..12).prop_map(|turns| {
        let mut ordinal = 0;
        let turn = |(answered, step)| {
            ordinal += step;
            let mut log = LogBuilder::new();
            log.user(&format!("{ordinal} u"));
            if answered {
                log.assistant(&format!("{ordinal} a"));
            }
            log.ended(ordinal, TurnOutcome::Cancelled)
        };
        turns.into_iter().map(turn).collect()
    })
}

/// The turns of a page, by the contract of the store port.
fn store(turns: &[LoggedTurn], page: TurnPage) -> Vec<LoggedTurn> {
    let within = |log: &&LoggedTurn| {
        page.after.is_none_or(|after| log.turn.ordinal > after)
            && page.before.is_none_or(|before| log.turn.ordinal < before)
    };
    let found: Vec<_> = turns.iter().filter(within).cloned().collect();
    let limit = page.limit as usize;
    if page.order == PageOrder::NewestFirst {
        found[found.len().saturating_sub(limit)..].to_vec()
    } else {
        found.into_iter().take(limit).collect()
    }
}

fn page(turns: &[LoggedTurn], query: &str) -> MessageList {
    let request = MessagePageRequest::decode(CONVERSATION, &Query::new(query)).unwrap();
    request.encode(&store(turns, request.page()))
}

fn contents(list: &MessageList) -> Vec<String> {
    list.messages
        .iter()
        .map(|message| message.content.clone())
        .collect()
}

proptest! {
    #[test]
    fn pages_in_both_directions_have_every_message_once(turns in turns(), limit in 1..6_usize) {
        let all = turns.iter().flat_map(messages).flatten();
        let all: Vec<_> = all.map(|message| message.content).collect();

        let mut list = page(&turns, &format!("limit={limit}"));
        prop_assert!(list.next_cursor.is_none());
        let mut seen = contents(&list);
        let mut oldest = list.next_cursor.take();
        while let Some(cursor) = list.previous_cursor.take() {
            list = page(&turns, &format!("limit={limit}&before={cursor}"));
            prop_assert!(!list.messages.is_empty());
            let mut earlier = contents(&list);
            earlier.extend(seen);
            seen = earlier;
            oldest = list.next_cursor.clone();
        }
        prop_assert_eq!(&seen, &all);

        // From the end of the oldest page on, forward again.
        let mut seen = contents(&list);
        while let Some(cursor) = oldest.take() {
            let list = page(&turns, &format!("limit={limit}&after={cursor}"));
            prop_assert!(list.previous_cursor.is_some());
            prop_assert!(!list.messages.is_empty() && list.messages.len() <= limit);
            seen.extend(contents(&list));
            oldest = list.next_cursor;
        }
        prop_assert_eq!(&seen, &all);
    }
}
