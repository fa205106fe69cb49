//! The worst values that are accepted, as others write them.

use super::*;
use crate::MAX_JSON_DEPTH;

/// As large as arguments and answers may be by default, in bytes.
const LARGE: usize = 256 << 10;

/// Text with everything that databases, encodings and readers trip over, but for U+0000, which
/// nothing accepts.
fn odd_text() -> String {
    let controls: String = ('\u{1}'..='\u{1F}').collect();
    format!(
        "{controls}\u{7F}\u{80}\u{9F}\u{A0}\u{AD}e\u{301}é\u{200B}\u{200D}\u{202E}\u{2028}\u{2029}\u{D7FF}\u{E000}\u{FEFF}\u{FFFD}\u{FFFE}\
         \u{FFFF}\u{10000}\u{1F980}\u{10FFFF} '' \"\" \\ \\u0000 \\x00 \\0 % _ $1 ?1 :a @b -- /* */ ; {{}} [] NULL \r\n\t "
    )
}

/// JSON texts that are valid, each hard in its own way.
fn odd_json() -> Vec<String> {
    let arrays = format!(
        "{}{}",
        "[".repeat(MAX_JSON_DEPTH),
        "]".repeat(MAX_JSON_DEPTH)
    );
    let objects = format!(
        "{}1{}",
        "{\"a\":".repeat(MAX_JSON_DEPTH),
        "}".repeat(MAX_JSON_DEPTH)
    );
    let long = "日".repeat((LARGE - 8) / 3);
    let wide = (0..5_000)
        .map(|number| format!("\"k{number}\":{number}"))
        .collect::<Vec<_>>()
        .join(",");
    let many = vec!["[]"; 20_000].join(" , ");
    vec![
        "1e400".to_owned(),
        "-1E-400".to_owned(),
        "-0".to_owned(),
        "-0.0e+00".to_owned(),
        "9223372036854775808".to_owned(),
        "-9223372036854775809".to_owned(),
        "18446744073709551616".to_owned(),
        format!("1{}", "0".repeat(4_000)),
        format!("0.{}1", "0".repeat(4_000)),
        "0.1000000000000000055511151231257827021181583404541015625".to_owned(),
        " \n\r\t{ \"a\" :\t[ ]\r\n} ".to_owned(),
        r#"{"a":1,"a":2,"":{},"é":1,"e\u0301":2,"__proto__":null}"#.to_owned(),
        r#""\"\\\/\b\f\n\r\t\u0001\u001f\u007f\u00e9\u2028\ud83e\udd80\uD83E\uDD80\uffff\\u0000""#
            .to_owned(),
        format!(
            "\"{}\"",
            odd_text()
                .chars()
                .filter(|char| *char >= ' ' && !"\"\\".contains(*char))
                .collect::<String>()
        ),
        RawJson::string(&odd_text()).as_str().to_owned(),
        format!("\"{long}\""),
        format!("{{\"{long}\":0}}"),
        format!("{{{wide}}}"),
        format!("[{many}]"),
        arrays,
        objects,
    ]
}

/// Whatever is accepted can be written and comes back as it was: the deepest, the longest and the
/// oddest values, in every place.
pub async fn the_worst_accepted_values_are_kept_as_they_are(store: Store) {
    let worker = enrolled(&store, LEASE).await;
    let mut begin = new_conversation(worker, "one");
    begin.text = format!("{}{}", odd_text(), "\u{10FFFF}".repeat(5_000));
    begin.at = Timestamp(i64::MAX);
    let held = running(store.begin(begin.clone()).await);
    let (message, mut said) = assistant("");
    said.body = ItemBody::Message(Message::assistant(
        message,
        format!("{}{}", odd_text(), "\u{1}".repeat(1 << 20)),
    ));
    let calls: Vec<_> = odd_json()
        .iter()
        .enumerate()
        .map(|(number, json)| ToolCall {
            tool: format!("{}{number}", odd_text()),
            executor: if number % 2 == 0 {
                ToolExecutor::Server
            } else {
                ToolExecutor::Agent
            },
            ..tool_call(message, json)
        })
        .collect();
    let mut outcomes: Vec<_> = odd_json()
        .into_iter()
        .map(|json| ToolOutcome::Succeeded(ToolOutput(RawJson::from_valid(json))))
        .collect();
    let failures = ToolErrorKind::ALL.iter().map(|kind| {
        let message = if *kind == ToolErrorKind::Failed {
            String::new()
        } else {
            format!("{}{}", odd_text(), "é".repeat(1_900))
        };
        ToolOutcome::Failed(ToolError::new(*kind, message))
    });
    let others: Vec<_> = failures
        .chain(UnknownCause::ALL.iter().copied().map(ToolOutcome::Unknown))
        .collect();
    outcomes
        .iter_mut()
        .zip(others)
        .for_each(|(outcome, other)| *outcome = other);
    // Each kind of outcome, and each odd answer, with calls of its own.
    let answers: Vec<_> = odd_json()
        .into_iter()
        .map(|json| ToolOutcome::Succeeded(ToolOutput(RawJson::from_valid(json))))
        .collect();
    let again: Vec<_> = calls
        .iter()
        .map(|call| ToolCall {
            id: ToolCallId(id()),
            ..call.clone()
        })
        .collect();
    let mut written = vec![said];
    let (all_calls, all_outcomes) = ([&calls[..], &again].concat(), [outcomes, answers].concat());
    written.extend(
        all_calls
            .iter()
            .cloned()
            .map(|call| new(ItemBody::ToolCall(call))),
    );
    written.extend(
        all_calls
            .iter()
            .zip(&all_outcomes)
            .map(|(call, outcome)| result(call, outcome.clone())),
    );
    // The same values by the insert of a call with its result, and by its update.
    let (at_once, later) = written.split_at(1 + all_calls.len() + calls.len());
    let mut placed = store
        .append_items(&held.lease, at_once.to_vec())
        .await
        .unwrap();
    placed.extend(
        store
            .append_items(&held.lease, later.to_vec())
            .await
            .unwrap(),
    );
    let draft = Draft {
        message: MessageId(id()),
        text: format!("{}{}", odd_text(), "x".repeat(1 << 20)),
    };
    store
        .beat(worker, LEASE, vec![(held.lease, draft.clone())])
        .await
        .unwrap();

    let view = store
        .view(&ann(), held.turn.id, Position::START)
        .await
        .unwrap();
    assert!(view.draft == Some(draft), "the draft has changed");
    let bodies = |items: &[Item]| {
        items
            .iter()
            .map(|item| item.body.clone())
            .collect::<Vec<_>>()
    };
    let expected: Vec<_> = held
        .items
        .iter()
        .map(|item| item.body.clone())
        .chain(written.iter().map(|item| item.body.clone()))
        .collect();
    assert!(
        texts(&view.items)[0] == begin.text,
        "the user's text has changed"
    );
    for (found, expected) in bodies(&view.items).iter().zip(&expected) {
        assert!(
            found == expected,
            "{:.300} became {:.300}",
            format!("{expected:?}"),
            format!("{found:?}")
        );
    }
    assert_eq!(view.items.len(), expected.len());
    assert!(
        view.items[1..] == placed[..],
        "what was returned is not what is stored"
    );
    let logs = store
        .logged_turns(&ann(), held.turn.conversation, TurnPage::ALL)
        .await
        .unwrap();
    assert!(
        logs[0].items == view.items,
        "a history reads otherwise than a turn"
    );
    let page = ToolCallPage {
        after: Position::START,
        limit: u32::MAX,
    };
    let records = store
        .call_records(&ann(), held.turn.conversation, page)
        .await
        .unwrap();
    for ((record, call), outcome) in records.iter().zip(&all_calls).zip(&all_outcomes) {
        assert!(
            record.call == *call
                && record.result.as_ref().map(|result| &result.outcome) == Some(outcome),
            "{:.300}",
            format!("{record:?}")
        );
    }
    assert_eq!(records.len(), all_calls.len());

    let usage = Usage {
        input_tokens: i64::MAX as u64,
        output_tokens: 0,
    };
    let failure = TurnFailure {
        kind: FailureKind::AgentRefused,
        message: format!("{}{}", odd_text(), "é".repeat(1_900)),
    };
    let outcome = TurnOutcome::Failed(failure);
    let ended = store
        .end_turn(
            &held.lease,
            answer(&odd_text()),
            outcome.clone(),
            usage,
            Timestamp(i64::MIN),
        )
        .await
        .unwrap();
    let stored = store
        .view(&ann(), held.turn.id, Position::START)
        .await
        .unwrap();
    assert_eq!(stored.turn, ended.turn);
    assert_eq!(
        (stored.turn.status, stored.turn.usage),
        (
            TurnStatus::Ended {
                at: Timestamp(i64::MIN),
                outcome
            },
            usage
        )
    );
}
