//! The agent alone: its steps for a transcript.

use std::time::Duration;

use chat_demo::DemoAgent;
use chat_domain::transcript::{Call, Entry, Transcript};
use chat_domain::{
    Agent, ConversationId, FinishReason, RawJson, StepEnd, StepEvent, StepRequest, ToolCallId,
    ToolSpec, TurnId,
};
use futures_util::StreamExt;
use tokio::time::Instant;
use uuid::Uuid;

use crate::support::user;

const TOOLS: [&str; 5] = [
    "add_task",
    "list_tasks",
    "complete_task",
    "update_task",
    "delete_task",
];

/// A message, the tools called for it with their results, and the answer if there is one.
type Turn<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

fn request(turns: &[Turn<'_>], tools: &[&str]) -> StepRequest {
    let assistant = |text: &str, calls| Entry::Assistant {
        text: text.to_owned(),
        calls,
        agent_data: None,
    };
    let mut entries = Vec::new();
    for (message, results, answer) in turns {
        entries.push(Entry::User {
            text: (*message).to_owned(),
        });
        for (tool, result) in *results {
            let id = ToolCallId(Uuid::now_v7());
            let call = Call {
                id,
                tool: (*tool).to_owned(),
                arguments: RawJson::from_valid("{}"),
                agent_data: None,
            };
            entries.push(assistant("", vec![call]));
            entries.push(Entry::ToolResult {
                call: id,
                content: (*result).to_owned(),
            });
        }
        entries.extend((!answer.is_empty()).then(|| assistant(answer, Vec::new())));
    }
    let spec = |name: &&str| ToolSpec {
        name: (*name).to_owned(),
        description: String::new(),
        input_schema: RawJson::from_valid("{}"),
        repeatable: false,
    };
    StepRequest {
        owner: user("ann"),
        conversation: ConversationId(Uuid::now_v7()),
        turn: TurnId(Uuid::now_v7()),
        transcript: Transcript(entries),
        tools: tools.iter().map(spec).collect(),
    }
}

/// The answer to the last turn, or the tool that is called with its arguments.
async fn next(turns: &[Turn<'_>]) -> String {
    let events = heard(&DemoAgent::new(Duration::ZERO), request(turns, &TOOLS)).await;
    let text = |event: &StepEvent| match event {
        StepEvent::Text(word) => word.clone(),
        StepEvent::ToolCall {
            tool, arguments, ..
        } => format!("{tool} {}", arguments.as_str()),
        _ => String::new(),
    };
    events.iter().map(text).collect()
}

async fn heard(agent: &DemoAgent, request: StepRequest) -> Vec<StepEvent> {
    agent
        .step(request)
        .await
        .unwrap()
        .map(Result::unwrap)
        .collect()
        .await
}

#[tokio::test(start_paused = true)]
async fn it_speaks_word_by_word_and_takes_its_time() {
    let agent = DemoAgent::new(Duration::from_millis(15));
    let began = Instant::now();
    let events = heard(&agent, request(&[("Hello", &[], "")], &[])).await;
    let (words, last) = events.split_at(events.len() - 1);
    let words: Vec<&str> = words
        .iter()
        .map(|event| match event {
            StepEvent::Text(word) => word.as_str(),
            other => panic!("no word: {other:?}"),
        })
        .collect();
    assert_eq!(
        words.concat(),
        "Hello! I keep your task list. Tell me what to add, or ask what is on your list."
    );
    assert_eq!(words.get(..3), Some(["Hello! ", "I ", "keep "].as_slice()));
    let StepEvent::Done(StepEnd {
        usage,
        finish: FinishReason::Complete,
        agent_data: None,
    }) = &last[0]
    else {
        panic!("not done")
    };
    assert!(usage.input_tokens > 0 && usage.output_tokens > usage.input_tokens);
    assert_eq!(
        began.elapsed(),
        Duration::from_millis(15) * u32::try_from(words.len()).unwrap()
    );
}

#[tokio::test]
async fn a_call_comes_whole() {
    let events = heard(
        &DemoAgent::new(Duration::ZERO),
        request(
            &[("Add task: \"Buy 'milk'\" \u{1F95B}", &[], "")],
            &["add_task"],
        ),
    )
    .await;
    let expected = RawJson::from_valid(r#"{"title":"\"Buy 'milk'\" 🥛"}"#);
    assert_eq!(
        events.first(),
        Some(&StepEvent::ToolCall {
            tool: "add_task".into(),
            arguments: expected,
            agent_data: None
        })
    );
    assert!(matches!(events.get(1..), Some([StepEvent::Done(_)])));
}

#[tokio::test]
async fn a_tool_that_is_not_offered_is_not_called() {
    let events = heard(
        &DemoAgent::new(Duration::ZERO),
        request(&[("Add task: milk", &[], "")], &["list_tasks"]),
    )
    .await;
    assert!(
        events
            .iter()
            .all(|event| !matches!(event, StepEvent::ToolCall { .. }))
    );
    assert_eq!(events.first(), Some(&StepEvent::Text("The ".into())));
}

const LIST: &str = r#"{"tasks":[
    {"task_id":1,"title":"Buy milk","completed":true},
    {"task_id":2,"title":"Buy oat milk","completed":false}
]}"#;

#[tokio::test]
async fn a_tool_is_called_and_its_result_is_told() {
    let created = r#"{"task_id":3,"title":"{task_id}","status":"created"}"#;
    let failed = "Error (failed): There is no task 3.";
    for (message, results, expected) in [
        (
            "add {task_id}",
            [].as_slice(),
            r#"add_task {"title":"{task_id}"}"#,
        ),
        (
            "add tea",
            &[("add_task", created)],
            "Added '{task_id}' to your tasks.",
        ),
        ("what's left?", &[], r#"list_tasks {"status":"pending"}"#),
        (
            "list",
            &[("list_tasks", LIST)],
            "Here are your tasks:\n1. [x] Buy milk\n2. [ ] Buy oat milk",
        ),
        (
            "list",
            &[("list_tasks", r#"{"tasks":[]}"#)],
            "You have no tasks yet.",
        ),
        (
            "rename 3 to \"a \\ b\"",
            &[],
            r#"update_task {"task_id":3,"title":"a \\ b"}"#,
        ),
        (
            "delete 3",
            &[("delete_task", failed)],
            "That did not work: There is no task 3.",
        ),
        ("delete oat milk", &[], r#"list_tasks {"status":"all"}"#),
        (
            "delete oat milk",
            &[("list_tasks", LIST)],
            r#"delete_task {"task_id":2}"#,
        ),
        (
            "delete oat milk",
            &[("list_tasks", failed)],
            "That did not work: There is no task 3.",
        ),
    ] {
        assert_eq!(next(&[(message, results, "")]).await, expected, "{message}");
    }
}

#[tokio::test]
async fn an_answer_completes_the_request_before() {
    let unclear: Turn<'_> = ("rename milk to tea", &[("list_tasks", LIST)], "");
    let question = next(&[unclear]).await;
    let asked: Turn<'_> = (unclear.0, unclear.1, &question);
    for answer in ["2", "the second one"] {
        let call = next(&[asked, (answer, &[], "")]).await;
        assert_eq!(
            call, r#"update_task {"task_id":2,"title":"tea"}"#,
            "{answer}"
        );
        let later = next(&[asked, ("hello", &[], "Hello!"), (answer, &[], "")]).await;
        assert!(later.starts_with("I did not understand that"), "{later}");
    }
    let declined = next(&[asked, ("never mind", &[], "")]).await;
    assert_eq!(declined, "All right, I leave everything as it is.");
}

#[tokio::test]
async fn an_ordinal_counts_in_the_list_that_was_shown_with_later_changes() {
    let list = "Here are your tasks:\n1. [ ] a\n2. [x] 7. [ ] b\n4. [ ] c";
    let deleted = r#"{"task_id":2,"title":"b","status":"deleted"}"#;
    let created = r#"{"task_id":5,"title":"d","status":"created"}"#;
    let turns: [Turn<'_>; 3] = [
        ("list", &[("list_tasks", LIST)], list),
        (
            "delete b",
            &[("list_tasks", LIST), ("delete_task", deleted)],
            "Deleted 'b'.",
        ),
        ("add d", &[("add_task", created)], "Added 'd'."),
    ];
    for (task, id) in [
        ("the first one", 1),
        ("the second one", 4),
        ("the last one", 5),
        ("it", 5),
    ] {
        let [listed, removed, added] = turns;
        let call = next(&[
            listed,
            removed,
            added,
            (&format!("complete {task}"), &[], ""),
        ])
        .await;
        assert_eq!(
            call,
            format!(r#"complete_task {{"task_id":{id}}}"#),
            "{task}"
        );
    }
}

#[tokio::test]
async fn failures_are_explained() {
    for (content, expected) in [
        ("Error (new_kind): odd", "That did not work: odd"),
        (
            "Error (unavailable): gone",
            "The task list is not available right now, so nothing was changed.",
        ),
        (
            "Error (timed_out): slow",
            "The task list took too long to answer, so I do not know",
        ),
        (
            "Outcome unknown: lost.",
            "I got no usable answer from the task list while it was working",
        ),
        ("words", "The task list gave an answer that I cannot read"),
        (
            r#"{"tasks":[{"title":"x"}]}"#,
            "The task list gave an answer that I cannot read",
        ),
    ] {
        for (message, tool) in [
            ("list", "list_tasks"),
            ("delete 1", "delete_task"),
            ("delete a", "list_tasks"),
        ] {
            let answer = next(&[(message, &[(tool, content)], "")]).await;
            assert!(
                answer.starts_with(expected),
                "{message}, {content}: {answer}"
            );
        }
    }
}

#[tokio::test]
async fn the_help_follows_what_is_not_understood() {
    let help = next(&[("What can you do?", &[], "")]).await;
    for message in ["", "2", "the second one", "tell me a joke", "undo"] {
        let answer = next(&[("hello", &[], "Hello!"), (message, &[], "")]).await;
        assert_eq!(
            answer,
            format!("I did not understand that; I know only simple English.\n{help}"),
            "{message}"
        );
    }
}
