use proptest::prelude::*;

use super::*;
use crate::testing::LogBuilder;
use crate::{
    FailureKind, FinishReason, Message, ToolError, ToolErrorKind, ToolOutput, TurnFailure,
};

/// The transcript for a turn with the items `current`, after the turns of `history`, within a
/// budget of tokens.
fn project(history: &[LoggedTurn], current: &[Item], budget: Option<usize>) -> Transcript {
    let mut window = Window::new(history, current);
    if let Some(budget) = budget {
        window.fit(budget);
    }
    window.take_transcript()
}

/// A piece of a log, sound or not.
#[derive(Clone, Debug)]
enum Piece {
    Say(String),
    Call {
        executor: ToolExecutor,
    },
    Result {
        of: prop::sample::Index,
        outcome: ToolOutcome,
    },
    Drop(prop::sample::Index),
}

fn outcome() -> impl Strategy<Value = ToolOutcome> {
    prop_oneof![
        "[a-z]{0,9}".prop_map(
            |text| ToolOutcome::Succeeded(ToolOutput(RawJson::from_valid(format!("{text:?}"))))
        ),
        "[a-z]{0,9}"
            .prop_map(|text| ToolOutcome::Failed(ToolError::new(ToolErrorKind::Failed, text))),
        proptest::sample::select(UnknownCause::ALL).prop_map(ToolOutcome::Unknown),
    ]
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        "[a-z]{0,30}".prop_map(Piece::Say),
        prop_oneof![Just(ToolExecutor::Server), Just(ToolExecutor::Agent)]
            .prop_map(|executor| Piece::Call { executor }),
        (any::<prop::sample::Index>(), outcome())
            .prop_map(|(of, outcome)| Piece::Result { of, outcome }),
        any::<prop::sample::Index>().prop_map(Piece::Drop),
    ]
}

fn status() -> impl Strategy<Value = TurnStatus> {
    let failure = TurnFailure {
        kind: FailureKind::AgentTimeout,
        message: "Too slow.".to_owned(),
    };
    let at = crate::Timestamp(1);
    prop_oneof![
        3 => Just(TurnStatus::Ended { at, outcome: TurnOutcome::Completed }),
        1 => Just(TurnStatus::Ended { at, outcome: TurnOutcome::Cancelled }),
        1 => Just(TurnStatus::Ended { at, outcome: TurnOutcome::Failed(failure) }),
        1 => Just(TurnStatus::Running),
    ]
}

/// Any log of a turn: results before or without their calls, calls without messages, anything cut
/// out.
fn any_turn() -> impl Strategy<Value = LoggedTurn> {
    (
        prop::collection::vec(piece(), 0..12),
        status(),
        any::<u64>(),
    )
        .prop_map(|(pieces, status, seed)| {
            let mut log = LogBuilder::new();
            let mut message = log.user("Question");
            let mut calls = Vec::new();
            let mut cut = Vec::new();
            for piece in pieces {
                match piece {
                    Piece::Say(text) => message = log.assistant(&text),
                    Piece::Call { executor } => {
                        calls.push(log.call_by(executor, message, "tool").id)
                    }
                    Piece::Result { of, outcome } if !calls.is_empty() => {
                        log.outcome(*of.get(&calls), outcome)
                    }
                    Piece::Result { .. } => {}
                    Piece::Drop(at) => cut.push(at),
                }
            }
            let mut log = log.log(seed % 3, status);
            for at in cut {
                if log.items.len() > 1 {
                    let at = at.index(log.items.len() - 1) + 1;
                    log.items.remove(at);
                }
            }
            log.turn.superseded = seed % 7 == 0;
            log
        })
}

/// Ids are the same in each turn that [`LogBuilder`] makes; give each turn its own.
fn distinct(mut logs: Vec<LoggedTurn>) -> Vec<LoggedTurn> {
    for (n, log) in logs.iter_mut().enumerate() {
        let own = |id: &mut uuid::Uuid| {
            *id = uuid::Uuid::from_u128(id.as_u128() + ((n as u128 + 1) << 32))
        };
        for item in &mut log.items {
            match &mut item.body {
                ItemBody::Message(Message { id, .. }) => own(&mut id.0),
                ItemBody::ToolCall(call) => {
                    own(&mut call.id.0);
                    own(&mut call.message.0);
                }
                ItemBody::ToolResult(result) => own(&mut result.call.0),
            }
        }
    }
    logs
}

/// The demands of every provider.
fn check(transcript: &Transcript) {
    let mut waiting: Vec<ToolCallId> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    let mut user_before = false;
    for entry in &transcript.0 {
        match entry {
            Entry::ToolResult { call, .. } => {
                assert_eq!(
                    waiting.first(),
                    Some(call),
                    "a result not directly after its call"
                );
                waiting.remove(0);
            }
            Entry::User { text } => {
                assert!(waiting.is_empty() && !user_before && !text.is_empty());
            }
            Entry::Assistant { text, calls, .. } => {
                assert!(waiting.is_empty(), "a call without its result");
                assert!(
                    !text.is_empty() || !calls.is_empty(),
                    "the agent says nothing"
                );
                waiting = calls.iter().map(|call| call.id).collect();
                assert!(
                    waiting.iter().all(|id| seen.insert(*id)),
                    "a call is listed twice"
                );
            }
        }
        user_before = matches!(entry, Entry::User { .. });
    }
    assert!(waiting.is_empty());
}

fn calls_of(items: &[Item]) -> usize {
    items
        .iter()
        .filter(|item| matches!(item.body, ItemBody::ToolCall(_)))
        .count()
}

proptest! {
    /// From any log, each call has exactly one result, directly after its message, and nothing is
    /// lost.
    #[test]
    fn it_is_total(logs in prop::collection::vec(any_turn(), 1..5)) {
        let logs = distinct(logs);
        let (current, history) = logs.split_last().unwrap();
        let transcript = project(history, &current.items, None);
        check(&transcript);
        let kept = history.iter().filter(|log| !log.turn.superseded).chain([current]);
        let calls: usize = kept.map(|log| calls_of(&log.items)).sum();
        let projected: usize = transcript.0.iter().filter(|entry| matches!(entry, Entry::ToolResult { .. })).count();
        prop_assert_eq!(calls, projected);
    }

    /// Any prefix of a log is as good as a whole one.
    #[test]
    fn a_crash_at_any_point_leaves_it_sound(log in any_turn(), at in any::<prop::sample::Index>()) {
        let mut log = log;
        log.items.truncate(at.index(log.items.len()) + 1);
        check(&project(&[], &log.items, None));
        log.turn.superseded = false;
        let mut next = LogBuilder::new();
        next.user("Next");
        let logs = distinct(vec![log, next.log(2, TurnStatus::Running)]);
        check(&project(&logs[..1], &logs[1].items, None));
    }

    /// The bytes for old turns do not change when turns are added.
    #[test]
    fn old_turns_never_change(logs in prop::collection::vec(any_turn(), 2..6)) {
        let logs = distinct(logs);
        let mut before = project(&[], &[], None);
        for (n, log) in logs.iter().enumerate() {
            let now = project(&logs[..n], &log.items, None);
            prop_assert!(now.0.starts_with(&before.0));
            before = project(&logs[..=n], &[], None);
        }
    }

    /// With a budget whole turns are left out, the oldest first; the rest fits, or is the current
    /// turn alone.
    #[test]
    fn it_is_cut_only_between_turns(logs in prop::collection::vec(any_turn(), 1..8), budget in 1_usize..400) {
        let logs = distinct(logs);
        let (current, history) = logs.split_last().unwrap();
        let whole = project(history, &current.items, None);
        let cut = project(history, &current.items, Some(budget));
        check(&cut);
        prop_assert!(whole.0.ends_with(&cut.0));
        let own = entries(&current.items);
        let fits = cut.0.iter().map(size).sum::<usize>() <= budget;
        prop_assert!(fits || cut.0 == own);
        let ends: Vec<usize> = (0..=history.len()).map(|n| project(&history[n..], &current.items, None).0.len()).collect();
        prop_assert!(ends.contains(&cut.0.len()));
    }

    /// Whatever limit the agent names, each refusal leaves out more, until nothing but the current
    /// turn is left, in few tries.
    #[test]
    fn an_agent_that_refuses_is_asked_seldom(
        logs in prop::collection::vec(any_turn(), 1..40),
        limits in prop::collection::vec(prop::option::of(0_usize..600), 10),
        before in 0_u64..60,
    ) {
        let mut logs = distinct(logs);
        let (current, history) = logs.split_last_mut().unwrap();
        if let Some(log) = history.last_mut() {
            (log.turn.finish, log.turn.turns_left_out) = (Some(FinishReason::Complete), before);
        }
        let whole = project(history, &current.items, None);
        let turns = history.iter().filter(|log| !log.turn.superseded).count();
        let (mut left_out, mut asked) = (0, 0);
        loop {
            let mut window = Window::new(history, &current.items);
            window.leave_out(left_out);
            prop_assert_eq!(window.left_out(), left_out);
            let transcript = window.take_transcript();
            check(&transcript);
            prop_assert!(whole.0.ends_with(&transcript.0));
            asked += 1;
            match window.shorter(asked, limits[asked - 1]) {
                Some(more) => {
                    prop_assert!(left_out < more && more <= turns);
                    left_out = more;
                }
                None => {
                    prop_assert_eq!(transcript.0, entries(&current.items));
                    break;
                }
            }
        }
        prop_assert!(asked <= turns.checked_ilog2().map_or(1, |log| log as usize + 3), "{asked} of {turns}");
    }
}

#[test]
fn a_conversation_reads_as_it_was() {
    let mut first = LogBuilder::new();
    first.user("Add milk");
    let message = first.assistant("Adding.");
    let (one, two) = (
        first.call(message, "add_task"),
        first.call(message, "add_task"),
    );
    first.outcome(
        two.id,
        ToolOutcome::Failed(ToolError::new(
            ToolErrorKind::TimedOut,
            "No answer in 30 s.",
        )),
    );
    first.result(one.id);
    first.assistant("Added.");
    let mut second = LogBuilder::new();
    second.user("And then?");
    second.assistant("Then we");
    let mut third = LogBuilder::new();
    third.user("Hello?");
    let logs = distinct(vec![
        first.ended(1, TurnOutcome::Completed),
        second.ended(2, TurnOutcome::Cancelled),
        third.ended(3, TurnOutcome::Cancelled),
    ]);
    let mut current = LogBuilder::new();
    current.user("Go on");
    let line = |entry: &Entry| match entry {
        Entry::User { text } => format!("user: {text}"),
        Entry::Assistant { text, calls, .. } => {
            format!("assistant: {text:?}, {} calls", calls.len())
        }
        Entry::ToolResult { content, .. } => format!("result: {content}"),
    };
    let lines: Vec<_> = project(&logs, current.items(), None)
        .0
        .iter()
        .map(line)
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    user: Add milk
    assistant: "Adding.", 2 calls
    result: {"ok":true}
    result: Error (timed_out): No answer in 30 s.
    assistant: "Added.", 0 calls
    user: And then?
    assistant: "Then we\n\n[The user stopped this answer.]", 0 calls
    user: Hello?
    assistant: "[The user stopped this answer.]", 0 calls
    user: Go on
    "#);
}

#[test]
fn the_cut_stays_where_it_is_for_many_turns() {
    let mut logs = Vec::new();
    for n in 0..200 {
        let mut log = LogBuilder::new();
        log.user(&format!("Question {n:03}"));
        log.assistant(&"word ".repeat(20));
        logs.push(log.ended(n, TurnOutcome::Completed));
    }
    let first = |n: usize| project(&logs[..n], &[], Some(1_000)).0.first().cloned();
    let cuts = (100..200).filter(|n| first(*n) != first(n - 1)).count();
    assert!(
        (10..30).contains(&cuts),
        "the prefix changed {cuts} times in 100 turns"
    );
}
