//! Finish reasons and data of agents.

use super::{LEASE, Store, ann, end, enrolled, new, new_conversation, result, running, tool_call};
use crate::testing::StoreExt;
use crate::*;

/// The longest data that an agent may attach, with what JSON, SQL and UTF-8 make of text.
fn longest_data() -> AgentData {
    let mut data = r#"{"id":"a'b","signature":"\u0000\\ \" 🦀 é","rest":""#.to_owned();
    data.push_str(&"z".repeat(AgentData::MAX_BYTES - data.len() - 2));
    AgentData::new(data + "\"}").unwrap()
}

fn bodies(items: &[Item]) -> Vec<&ItemBody> {
    items.iter().map(|item| &item.body).collect()
}

/// Finish reasons, the number of turns left out and the data of agents are kept with messages and
/// calls, byte for byte; a turn that ended says how its last message did.
pub async fn answers_keep_what_the_agent_says_of_them(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let held = running(store.begin(new_conversation(worker, "Go")).await);
    assert_eq!((held.turn.finish, held.turn.turns_left_out), (None, 0));

    let asking = Message {
        finish: Some(FinishReason::Length),
        turns_left_out: 3,
        agent_data: Some(longest_data()),
        ..Message::assistant(MessageId(super::id()), "")
    };
    let with_data = crate::ToolCall {
        agent_data: Some(longest_data()),
        ..tool_call(asking.id, "{}")
    };
    let without = tool_call(asking.id, "{}");
    let step: Vec<NewItem> = [
        ItemBody::Message(asking),
        ItemBody::ToolCall(with_data.clone()),
        ItemBody::ToolCall(without.clone()),
    ]
    .map(new)
    .into();
    store.append_items(&held.lease, step.clone()).await.unwrap();
    let succeeded = || ToolOutcome::Succeeded(ToolOutput(RawJson::from_valid("1")));
    store
        .append_items(
            &held.lease,
            vec![
                result(&with_data, succeeded()),
                result(&without, succeeded()),
            ],
        )
        .await
        .unwrap();
    let running = store
        .view(&ann(), held.turn.id, Position::START)
        .await
        .unwrap();
    assert_eq!(
        (running.turn.finish, running.turn.turns_left_out),
        (None, 0)
    );
    assert_eq!(
        bodies(&running.items)[1..4],
        step.iter().map(|item| &item.body).collect::<Vec<_>>()
    );

    let last = Message {
        finish: Some(FinishReason::ContentFilter),
        turns_left_out: 12_345,
        ..Message::assistant(MessageId(super::id()), "I may not")
    };
    let ended = end(
        &store,
        &held.lease,
        vec![new(ItemBody::Message(last.clone()))],
    )
    .await
    .unwrap();
    assert_eq!(
        (ended.turn.finish, ended.turn.turns_left_out),
        (Some(FinishReason::ContentFilter), 12_345)
    );
    let view = store
        .view(&ann(), held.turn.id, Position::START)
        .await
        .unwrap();
    assert_eq!(view.turn, ended.turn);
    assert_eq!(bodies(&view.items).last(), Some(&&ItemBody::Message(last)));

    let logs = store
        .logged_turns(&ann(), held.turn.conversation, TurnPage::ALL)
        .await
        .unwrap();
    assert_eq!((&logs[0].turn, &logs[0].items), (&view.turn, &view.items));
    let calls = store
        .call_records(
            &ann(),
            held.turn.conversation,
            ToolCallPage {
                after: Position::START,
                limit: 9,
            },
        )
        .await
        .unwrap();
    assert_eq!(
        calls.iter().map(|record| &record.call).collect::<Vec<_>>(),
        [&with_data, &without]
    );
}

/// A message that the agent did not end, and a turn that ends without a message, have no finish
/// reason.
pub async fn what_was_broken_off_has_no_finish_reason(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    for text in [Some("Half"), None] {
        let held = running(store.begin(new_conversation(worker, "Go")).await);
        let draft = Draft {
            message: MessageId(super::id()),
            text: "Half".to_owned(),
        };
        store
            .beat(worker, LEASE, vec![(held.lease, draft.clone())])
            .await
            .unwrap();
        let broken = text.map(|text| Message {
            finish: None,
            ..Message::assistant(draft.message, text)
        });
        end(
            &store,
            &held.lease,
            broken
                .into_iter()
                .map(|message| new(ItemBody::Message(message)))
                .collect(),
        )
        .await
        .unwrap();
        let view = store
            .view(&ann(), held.turn.id, Position::START)
            .await
            .unwrap();
        assert_eq!((view.turn.finish, view.turn.turns_left_out), (None, 0));
        let unfinished = |item: &Item| matches!(&item.body, ItemBody::Message(message) if message.finish.is_none());
        assert!(view.items.iter().all(unfinished));
    }
}
