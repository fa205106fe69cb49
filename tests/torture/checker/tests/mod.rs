//! Histories that violate one property each, and one that violates none.

mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Property, check};
use crate::evidence::{Evidence, Run, parse_runs};
use crate::history::{Cancel, Message, Outcome};
use world::{ANN, BOB, World, attempt, clean_evidence, frame, uuid};

#[test]
fn a_clean_history_violates_nothing() {
    assert_eq!(check(&clean_evidence()), []);
}

/// Changes the evidence of a clean campaign.
type Corrupt = fn(&mut Evidence);

/// At least one change for each property that violates it and no other.
const CASES: &[(Property, &str, Corrupt)] = &[
    (Property::Kept, "an acknowledged turn is lost", |evidence| {
        let message = sent(
            "ann:7 say",
            Outcome::Started {
                conversation: uuid(ANN),
                turn: uuid(77),
                code: None,
            },
        );
        evidence.history.messages.push(message);
    }),
    (
        Property::Kept,
        "an acknowledged message changed",
        |evidence| {
            let turn = evidence.tables.turns[0].id;
            evidence.history.messages.push(sent(
                "ann:7 say",
                Outcome::Started {
                    conversation: uuid(ANN),
                    turn,
                    code: None,
                },
            ));
        },
    ),
    (
        Property::Kept,
        "a message that was sent once is stored twice",
        |evidence| {
            let turn = store_twice(evidence, "ann:7 say");
            evidence.history.messages.push(sent(
                "ann:7 say",
                Outcome::Started {
                    conversation: uuid(ANN),
                    turn,
                    code: None,
                },
            ));
        },
    ),
    (
        Property::Kept,
        "an owner's conversation was not found",
        |evidence| {
            let mut message = sent(
                "ann:7 say",
                Outcome::Refused {
                    status: 404,
                    code: "conversation_not_found".to_owned(),
                },
            );
            message.conversation = Some(uuid(ANN));
            evidence.history.messages.push(message);
        },
    ),
    (
        Property::Kept,
        "an owner's turn was not found",
        |evidence| {
            let mut message = sent(
                "ann:1 pay",
                Outcome::Refused {
                    status: 404,
                    code: "turn_not_found".to_owned(),
                },
            );
            message.retry_of = Some(evidence.tables.turns[0].id);
            evidence.history.messages.push(message);
        },
    ),
    (
        Property::Kept,
        "an owner's conversation could not be read",
        |evidence| evidence.history.lost.push("not found".to_owned()),
    ),
    (
        Property::Order,
        "a message follows one that was sent after its acknowledgement",
        |evidence| {
            evidence.history.messages[0].attempts[0].started = Duration::from_secs(20);
            evidence.history.messages[0].attempts[0].known = Duration::from_secs(21);
        },
    ),
    (
        Property::Refused,
        "a rejected message is stored",
        |evidence| {
            evidence.history.messages[3].attempts[0].outcome = Outcome::Refused {
                status: 429,
                code: "too_many_queued".to_owned(),
            };
        },
    ),
    (
        Property::Refused,
        "a message that could have been queued is rejected",
        |evidence| {
            let busy = Outcome::Refused {
                status: 409,
                code: "conversation_busy".to_owned(),
            };
            evidence.history.messages.push(sent("ann:7 say", busy));
        },
    ),
    (
        Property::Refused,
        "a valid message is rejected",
        |evidence| {
            evidence.history.messages.push(sent(
                "ann:7 say",
                Outcome::Refused {
                    status: 422,
                    code: "message_too_long".to_owned(),
                },
            ));
        },
    ),
    (
        Property::Idempotency,
        "an unused key is rejected",
        |evidence| {
            let mut message = sent(
                "ann:7 say",
                Outcome::Refused {
                    status: 422,
                    code: "idempotency_mismatch".to_owned(),
                },
            );
            message.key = Some("key-7".to_owned());
            evidence.history.messages.push(message);
        },
    ),
    (
        Property::Unsent,
        "a message that was not sent is stored",
        |evidence| drop(evidence.history.messages.remove(3)),
    ),
    (
        Property::Unsent,
        "an answer that the agent did not give is stored",
        |evidence| {
            for step in evidence.steps.iter_mut().filter(|step| step.number == 4) {
                step.text.push_str(" enough");
            }
        },
    ),
    (
        Property::Idempotency,
        "a repeated request was stored again",
        |evidence| {
            let turn = store_twice(evidence, "ann:7 say");
            let mut message = sent(
                "ann:7 say",
                Outcome::Unknown {
                    why: "connection lost".to_owned(),
                },
            );
            message.key = Some("key-7".to_owned());
            message.attempts.push(attempt(
                31,
                Outcome::Started {
                    conversation: uuid(ANN),
                    turn,
                    code: None,
                },
            ));
            evidence.history.messages.push(message);
        },
    ),
    (
        Property::Idempotency,
        "a different request with the same key was accepted",
        |evidence| {
            evidence.history.messages[0].key = Some("key-2".to_owned());
        },
    ),
    (Property::Idempotency, "one retry became two", |evidence| {
        let retried = evidence.history.messages[2].retry_of;
        let mut world = World::of(std::mem::take(evidence));
        world.evidence.tables.turns[2].superseded = 1;
        world.turn(ANN, "ann:2 say", retried, false);
        *evidence = world.evidence;
    }),
    (Property::Answers, "a reply has another text", |evidence| {
        let Outcome::Replied(reply) = &mut evidence.history.messages[0].attempts[0].outcome else {
            unreachable!()
        };
        reply.response.push('!');
    }),
    (Property::Answers, "a reply lacks a call", |evidence| {
        let Outcome::Replied(reply) = &mut evidence.history.messages[0].attempts[0].outcome else {
            unreachable!()
        };
        reply.tool_calls.clear();
    }),
    (
        Property::Answers,
        "a completed turn was reported as failed",
        |evidence| {
            let turn = evidence.tables.turns[3].id;
            let code = Some("agent_timeout".to_owned());
            evidence.history.messages[3].attempts[0].outcome = Outcome::Started {
                conversation: uuid(BOB),
                turn,
                code,
            };
        },
    ),
    (Property::Streams, "an event is missing", |evidence| {
        drop(evidence.history.watches[0].connections[1].remove(2))
    }),
    (
        Property::Streams,
        "a text delta is duplicated",
        |evidence| {
            let again = evidence.history.watches[0].connections[0][2].clone();
            evidence.history.watches[0].connections[1].insert(0, again);
        },
    ),
    (Property::Streams, "two attempts are mixed", |evidence| {
        evidence.history.watches[1].connections[1][0] =
            frame("text", &json!({ "message_id": uuid(5), "delta": "other" }));
    }),
    (Property::Streams, "an event follows the end", |evidence| {
        let end = evidence.history.watches[1].connections[1]
            .last()
            .unwrap()
            .clone();
        evidence.history.watches[1].connections[1].push(end);
    }),
    (
        Property::Streams,
        "the bytes of arguments differ from the stored ones",
        |evidence| {
            for frame in evidence.history.watches[0]
                .connections
                .iter_mut()
                .flatten()
                .filter(|frame| frame.name == "tool_call")
            {
                frame.data = frame.data.replace("{}", "{ }");
            }
        },
    ),
    (
        Property::Streams,
        "a started turn is not found",
        |evidence| {
            evidence.history.watches[1]
                .refusals
                .push((404, "turn_not_found".to_owned()));
        },
    ),
    (
        Property::Unchanging,
        "a read message has disappeared",
        |evidence| {
            evidence.history.reads[0].messages[1]["content"] = "#0 ann:1: another".into();
        },
    ),
    (
        Property::Unchanging,
        "the API does not show a turn",
        |evidence| {
            let turn = evidence.shown[0].messages[2]["turn_id"].clone();
            evidence.shown[0]
                .messages
                .retain(|message| message["turn_id"] != turn);
        },
    ),
    (
        Property::Unchanging,
        "the audit does not show a call",
        |evidence| evidence.shown[0].tool_calls.clear(),
    ),
    (
        Property::Cancels,
        "a turn ran although it was cancelled before its start",
        |evidence| {
            let turn = evidence.tables.turns[1].id;
            evidence.history.cancels.push(Cancel {
                user: "ann".to_owned(),
                turn,
                observed: "queued".to_owned(),
            });
        },
    ),
    (
        Property::Cancels,
        "an acknowledged cancellation was lost",
        |evidence| {
            let turn = evidence.tables.turns[1].id;
            evidence.history.cancels.push(Cancel {
                user: "ann".to_owned(),
                turn,
                observed: "running".to_owned(),
            });
        },
    ),
    (Property::Ends, "a turn stays running", |evidence| {
        evidence.tables.turns[3].status = "running".to_owned();
        evidence.history.messages[3].attempts[0].outcome = Outcome::Unknown {
            why: "connection lost".to_owned(),
        };
        evidence.history.watches.pop();
        evidence.shown[1]
            .messages
            .iter_mut()
            .for_each(|message| message["turn_status"] = "running".into());
    }),
    (
        Property::Bounded,
        "a turn is restarted without counting attempts",
        |evidence| {
            (evidence.tables.turns[3].epoch, evidence.hand_overs) = (47, 9);
        },
    ),
    (
        Property::Bounded,
        "each attempt at a turn gets the full time limit",
        |evidence| {
            let turn = &mut evidence.tables.turns[3];
            (turn.epoch, turn.attempt, turn.ran_us) = (3, 3, 3 * 25_000_000);
        },
    ),
    (Property::OneAtATime, "two turns interleave", |evidence| {
        let positions: Vec<usize> = (0..evidence.tables.messages.len())
            .filter(|at| (7..=8).contains(&position(evidence, *at)))
            .collect();
        let [one, other] = positions[..] else {
            unreachable!()
        };
        let messages = &mut evidence.tables.messages;
        (messages[one].position, messages[other].position) =
            (messages[other].position, messages[one].position);
        assert_ne!(messages[one].turn, messages[other].turn);
    }),
    (Property::Dense, "a position is missing", |evidence| {
        evidence.tables.conversations[1].last_position += 1;
        let last = evidence.tables.messages.last_mut().unwrap();
        last.position = last.position.map(|position| position + 1);
    }),
    (Property::Dense, "an ordinal is missing", |evidence| {
        evidence.tables.conversations[0].last_ordinal += 1
    }),
    (
        Property::Transcripts,
        "the agent received a later message",
        |evidence| {
            evidence.steps[0]
                .messages
                .push(json!({ "role": "user", "content": "ann:1 pay" }));
        },
    ),
    (
        Property::Transcripts,
        "the agent's transcript lacks a call",
        |evidence| drop(evidence.steps[2].messages.remove(1)),
    ),
    (
        Property::Transcripts,
        "a retry did not replace its turn",
        |evidence| evidence.tables.turns[1].superseded = 0,
    ),
    (
        Property::WriteBeforeRun,
        "a call that was never stored ran",
        |evidence| {
            evidence.runs.push(Run {
                tool: "pay".to_owned(),
                call: uuid(99),
                user: "ann".to_owned(),
                ended: false,
            });
        },
    ),
    (
        Property::ToolsOnce,
        "a payment was made twice",
        |evidence| evidence.runs.push(evidence.runs[0].clone()),
    ),
    (
        Property::ToolResults,
        "an unfinished tool call is recorded as succeeded",
        |evidence| evidence.runs[0].ended = false,
    ),
    (
        Property::ToolResults,
        "a tool call that ran is recorded as not run",
        |evidence| {
            let row = &mut evidence.tables.calls[0];
            (row.outcome, row.error) = (Some("not_run".to_owned()), Some("Not run.".to_owned()));
            let output = row.output.take().unwrap();
            let shown = json!({ "code": "not_run", "message": "Not run." });
            corrupt_result(evidence, &output, &shown);
        },
    ),
    (
        Property::Isolation,
        "a turn of another user was shown",
        |evidence| evidence.history.intrusions[0].status = 200,
    ),
    (
        Property::Isolation,
        "a tool ran for another user",
        |evidence| evidence.runs[0].user = "bob".to_owned(),
    ),
    (
        Property::Isolation,
        "a turn has another owner than its conversation",
        |evidence| {
            evidence.tables.turns[3].owner = "ann".to_owned();
            evidence.history.messages[3].user = "ann".to_owned();
            let Outcome::Replied(reply) = &mut evidence.history.messages[3].attempts[0].outcome
            else {
                unreachable!()
            };
            (
                reply.messages,
                evidence.history.messages[3].attempts[0].outcome,
            ) = (Vec::new(), Outcome::Unknown { why: String::new() });
            evidence.history.watches.pop();
        },
    ),
    (
        Property::Answered,
        "a request was not answered",
        |evidence| evidence.history.unanswered.push("ann waits".to_owned()),
    ),
    (
        Property::Mistakes,
        "a turn ended as `internal` without a rejected write",
        |evidence| {
            let turn = evidence.tables.turns.last_mut().unwrap();
            (turn.status, turn.failure) = ("failed".to_owned(), Some("internal".to_owned()));
            let (id, conversation) = (turn.id, turn.conversation);
            let outcome = Outcome::Started {
                conversation,
                turn: id,
                code: Some("internal".to_owned()),
            };
            evidence.history.messages[3].attempts[0].outcome = outcome;
            evidence.history.watches.pop();
            evidence.shown[1]
                .messages
                .iter_mut()
                .for_each(|message| message["turn_status"] = "failed".into());
        },
    ),
    (Property::Mistakes, "a server panicked", |evidence| {
        evidence.servers.push("panicked".to_owned())
    }),
    (
        Property::Mistakes,
        "a server reported an internal error",
        |evidence| evidence.history.mistakes.push("500".to_owned()),
    ),
];

#[test]
fn each_property_is_violated_by_its_own_histories() {
    for (property, name, spoil) in CASES {
        let mut evidence = clean_evidence();
        spoil(&mut evidence);
        let violations = check(&evidence);
        let violated: BTreeSet<Property> = violations
            .iter()
            .map(|violation| violation.property)
            .collect();
        assert_eq!(
            violated,
            BTreeSet::from([*property]),
            "{name}: {violations:#?}"
        );
    }
    let covered: BTreeSet<Property> = CASES.iter().map(|(property, ..)| *property).collect();
    assert_eq!(covered, Property::ALL.iter().copied().collect());
}

#[test]
fn a_repeatable_tool_may_run_once_per_claim() {
    let mut evidence = clean_evidence();
    evidence.tables.calls[0].tool = "look".to_owned();
    evidence.runs[0].tool = "look".to_owned();
    evidence.runs.push(Run {
        ended: false,
        ..evidence.runs[0].clone()
    });
    let store_twice = |evidence: &Evidence| {
        check(evidence)
            .iter()
            .filter(|violation| violation.property == Property::ToolsOnce)
            .count()
    };
    assert_eq!(store_twice(&evidence), 1);
    evidence.tables.turns[0].epoch = 2;
    assert_eq!(store_twice(&evidence), 0);
}

#[test]
fn a_discarded_draft_is_not_a_gap() {
    let mut evidence = clean_evidence();
    // Text of another attempt was shown first.
    let draft = frame("text", &json!({ "message_id": uuid(5), "delta": "other" }));
    let discarded = frame("discarded", &json!({ "message_id": uuid(5) }));
    let connections = &mut evidence.history.watches[1].connections;
    let place = connections[0].len() - 1;
    connections[0].splice(place..place, [draft, discarded]);
    assert_eq!(check(&evidence), []);
}

#[test]
fn the_tool_log_is_parsed() {
    let id = uuid(7);
    let log = format!("begin pay {id} ann\nbegin look {id} ann\nend look {id} ann\ngarbage\n");
    let run = |tool: &str, ended| Run {
        tool: tool.to_owned(),
        call: id,
        user: "ann".to_owned(),
        ended,
    };
    assert_eq!(parse_runs(&log), [run("pay", false), run("look", true)]);
}

fn sent(text: &str, outcome: Outcome) -> Message {
    let attempts = vec![attempt(30, outcome)];
    Message {
        user: "ann".to_owned(),
        text: text.to_owned(),
        conversation: None,
        key: None,
        retry_of: None,
        rejects: false,
        attempts,
    }
}

fn position(evidence: &Evidence, message: usize) -> i64 {
    evidence.tables.messages[message].position.unwrap()
}

/// Stores a message twice, each with an answer. Returns the last turn.
fn store_twice(evidence: &mut Evidence, text: &str) -> uuid::Uuid {
    let mut world = World::of(std::mem::take(evidence));
    world.turn(ANN, text, None, false);
    let turn = world.turn(ANN, text, None, false);
    *evidence = world.evidence;
    turn
}

/// Replaces a successful result by a failure everywhere.
fn corrupt_result(evidence: &mut Evidence, output: &str, error: &Value) {
    let output: Value = serde_json::from_str(output).unwrap();
    let spoil = |call: &mut Value| {
        if call["result"] == output {
            call["status"] = "failed".into();
            call["error"] = error.clone();
            call.as_object_mut().unwrap().remove("result");
        }
    };
    let spoil_message = |message: &mut Value| {
        message["tool_calls"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .for_each(spoil)
    };
    for shown in &mut evidence.shown {
        shown.messages.iter_mut().for_each(spoil_message);
        shown.tool_calls.iter_mut().for_each(spoil);
    }
    evidence
        .history
        .reads
        .iter_mut()
        .flat_map(|read| &mut read.messages)
        .for_each(spoil_message);
    for message in &mut evidence.history.messages {
        for attempt in &mut message.attempts {
            if let Outcome::Replied(reply) = &mut attempt.outcome {
                reply.tool_calls.iter_mut().for_each(spoil);
                reply.messages.iter_mut().for_each(spoil_message);
            }
        }
    }
    for frame in evidence
        .history
        .watches
        .iter_mut()
        .flat_map(|watch| &mut watch.connections)
        .flatten()
    {
        let mut data: Value = serde_json::from_str(&frame.data).unwrap();
        spoil(&mut data);
        frame.data = data.to_string();
    }
    for message in evidence
        .steps
        .iter_mut()
        .flat_map(|step| &mut step.messages)
        .filter(|message| message["role"] == "tool")
    {
        message["content"] =
            format!("Error (not_run): {}", error["message"].as_str().unwrap()).into();
    }
}
