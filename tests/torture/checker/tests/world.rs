//! The evidence of a campaign without violations, for tests to corrupt.

use std::time::Duration;

use chat_tests::client::Frame;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::evidence::{CallRow, ConversationRow, Evidence, MessageRow, Run, Shown, Step, TurnRow};
use crate::history::{Attempt, Cancel, Intrusion, Message, Outcome, Read, Reply, Watch};

/// Returns the id for a number.
pub fn uuid(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// Conversations of Ann and of Bob.
pub const ANN: u128 = 0xa;
pub const BOB: u128 = 0xb;

/// Ann pays, sends a second message and retries it; Bob sends one.
pub fn clean_evidence() -> Evidence {
    let mut world = World::default();
    world.conversation(ANN, "ann");
    world.conversation(BOB, "bob");
    let pays = world.turn(ANN, "ann:1 pay", None, true);
    let says = world.turn(ANN, "ann:2 say", None, false);
    let again = world.turn(ANN, "ann:2 say", Some(says), false);
    let bobs = world.turn(BOB, "bob:3 say", None, false);
    world.sent(pays, None, 1);
    world.sent(says, Some("key-2"), 2);
    world.sent(again, Some("key-again"), 3);
    world.sent(bobs, None, 4);
    for turn in [pays, says, bobs] {
        world.watched(turn);
    }
    let history = &mut world.evidence.history;
    history.messages.push(Message {
        user: "ann".to_owned(),
        text: "ann:9 say".to_owned(),
        conversation: Some(uuid(ANN)),
        key: None,
        retry_of: None,
        rejects: true,
        attempts: vec![attempt(
            9,
            Outcome::Refused {
                status: 409,
                code: "conversation_busy".to_owned(),
            },
        )],
    });
    history.cancels.push(Cancel {
        user: "ann".to_owned(),
        turn: pays,
        observed: "completed".to_owned(),
    });
    let read = &world.evidence.shown[0];
    let read = Read {
        user: "ann".to_owned(),
        conversation: read.conversation,
        messages: read.messages.clone(),
    };
    world.evidence.history.reads.push(read);
    let body = json!({ "code": "turn_not_found" }).to_string();
    let request = "GET a turn of ann".to_owned();
    world.evidence.history.intrusions.push(Intrusion {
        user: "bob".to_owned(),
        request,
        status: 404,
        body,
    });
    world.evidence
}

pub fn attempt(second: u64, outcome: Outcome) -> Attempt {
    let started = Duration::from_secs(second);
    Attempt {
        started,
        known: started + Duration::from_millis(500),
        outcome,
    }
}

/// Builds consistent evidence, turn by turn.
#[derive(Default)]
pub struct World {
    pub evidence: Evidence,
    ids: u128,
}

impl World {
    /// Continues with existing evidence.
    pub fn of(evidence: Evidence) -> Self {
        Self {
            evidence,
            ids: 0x1000,
        }
    }

    fn id(&mut self) -> Uuid {
        self.ids += 1;
        uuid(0x1000 + self.ids)
    }

    fn conversation(&mut self, id: u128, owner: &str) {
        self.evidence.tables.conversations.push(ConversationRow {
            id: uuid(id),
            owner: owner.to_owned(),
            last_position: 0,
            last_ordinal: 0,
        });
        let (messages, tool_calls) = (Vec::new(), Vec::new());
        self.evidence.shown.push(Shown {
            user: owner.to_owned(),
            conversation: uuid(id),
            messages,
            tool_calls,
        });
    }

    /// Adds a completed turn, optionally with a tool call. A retry supersedes its turn.
    pub fn turn(
        &mut self,
        conversation: u128,
        text: &str,
        retry_of: Option<Uuid>,
        pays: bool,
    ) -> Uuid {
        let (turn, question, conversation) = (self.id(), self.id(), uuid(conversation));
        let place = self
            .evidence
            .tables
            .conversations
            .iter()
            .position(|row| row.id == conversation)
            .unwrap();
        if let Some(retried) = retry_of {
            for row in self
                .evidence
                .tables
                .turns
                .iter_mut()
                .filter(|row| row.id == retried)
            {
                row.superseded = 1;
            }
        }
        let row = &mut self.evidence.tables.conversations[place];
        row.last_ordinal += 1;
        let (owner, ordinal) = (row.owner.clone(), row.last_ordinal);
        self.evidence.tables.turns.push(TurnRow {
            id: turn,
            conversation,
            owner: owner.clone(),
            ordinal,
            status: "completed".to_owned(),
            epoch: 1,
            attempt: 1,
            ran_us: 1_000_000,
            cancel_requested: 0,
            retry_of,
            superseded: 0,
            failure: None,
        });
        let position = self.position(place);
        self.message(question, conversation, turn, position, "user", text);
        self.evidence.shown[place]
            .messages
            .push(shown(question, turn, "user", text, &[]));
        let mut calls = Vec::new();
        let mut answer = self.step(turn, place, text, pays);
        if pays {
            let call = self.call(turn, place);
            calls.push(call);
            answer.0 = format!("{}\n\n", answer.0);
            let (last, id) = self.step(turn, place, text, false);
            answer = (answer.0 + &last, id);
        }
        self.evidence.shown[place].messages.push(shown(
            answer.1,
            turn,
            "assistant",
            &answer.0,
            &calls,
        ));
        self.evidence.shown[place].tool_calls.extend(calls);
        turn
    }

    fn position(&mut self, place: usize) -> i64 {
        let row = &mut self.evidence.tables.conversations[place];
        row.last_position += 1;
        row.last_position
    }

    fn message(
        &mut self,
        id: Uuid,
        conversation: Uuid,
        turn: Uuid,
        position: i64,
        role: &str,
        text: &str,
    ) {
        let (role, text) = (role.to_owned(), text.to_owned());
        self.evidence.tables.messages.push(MessageRow {
            id,
            conversation,
            turn,
            position: Some(position),
            role,
            text,
        });
    }

    /// Adds a request to the agent, and its answer.
    fn step(&mut self, turn: Uuid, place: usize, question: &str, pays: bool) -> (String, Uuid) {
        let number = self.evidence.steps.len();
        let (id, conversation) = (self.id(), self.evidence.tables.conversations[place].id);
        let messages = self.transcript(conversation, turn);
        let text = format!("#{number} {}: well", question.split(' ').next().unwrap());
        let calls = pays
            .then(|| ("pay".to_owned(), "{}".to_owned()))
            .into_iter()
            .collect();
        self.evidence.steps.push(Step {
            number,
            messages,
            text: text.clone(),
            calls,
        });
        let position = self.position(place);
        self.message(id, conversation, turn, position, "assistant", &text);
        (text, id)
    }

    /// Returns the agent's transcript, written out for these turns.
    fn transcript(&self, conversation: Uuid, turn: Uuid) -> Vec<Value> {
        let tables = &self.evidence.tables;
        let of = |id: Uuid| tables.turns.iter().find(|row| row.id == id).unwrap();
        let mut transcript = Vec::new();
        let shown = |row: &&MessageRow| {
            row.conversation == conversation && (row.turn == turn || of(row.turn).superseded == 0)
        };
        for row in tables.messages.iter().filter(shown) {
            let mut message = json!({ "role": row.role, "content": row.text });
            let call = tables.calls.iter().find(|call| call.message == row.id);
            if let Some(call) = call {
                let id = format!("call_{}", call.id.simple());
                message["tool_calls"] = json!([{
                    "id": id, "type": "function", "function": { "name": "pay", "arguments": "{}" },
                }]);
                transcript.push(message);
                message = json!({ "role": "tool", "tool_call_id": id, "content": call.output });
            }
            transcript.push(message);
        }
        transcript
    }

    /// Adds the run of the requested tool, and its result.
    fn call(&mut self, turn: Uuid, place: usize) -> Value {
        let (id, message) = (self.id(), self.evidence.tables.messages.last().unwrap().id);
        let conversation = self.evidence.tables.conversations[place].id;
        let user = self.evidence.tables.conversations[place].owner.clone();
        let (position, result_position) = (self.position(place), self.position(place));
        let output = json!({ "call": id, "done": "pay" });
        self.evidence.tables.calls.push(CallRow {
            id,
            conversation,
            turn,
            message,
            position,
            tool: "pay".to_owned(),
            arguments: "{}".to_owned(),
            result_position: Some(result_position),
            outcome: Some("succeeded".to_owned()),
            output: Some(output.to_string()),
            error: None,
            unknown_cause: None,
        });
        self.evidence.runs.push(Run {
            tool: "pay".to_owned(),
            call: id,
            user,
            ended: true,
        });
        json!({
            "id": id, "tool_name": "pay", "parameters": {}, "status": "succeeded", "result": output,
        })
    }

    /// Adds a message that was sent once, with its reply.
    pub fn sent(&mut self, turn: Uuid, key: Option<&str>, second: u64) {
        let outcome = Outcome::Replied(self.reply(turn));
        let row = self
            .evidence
            .tables
            .turns
            .iter()
            .find(|row| row.id == turn)
            .unwrap();
        let text = self
            .evidence
            .tables
            .messages
            .iter()
            .find(|row| row.turn == turn)
            .unwrap()
            .text
            .clone();
        self.evidence.history.messages.push(Message {
            user: row.owner.clone(),
            text,
            conversation: Some(row.conversation),
            key: key.map(str::to_owned),
            retry_of: row.retry_of,
            rejects: false,
            attempts: vec![attempt(second, outcome)],
        });
    }

    fn reply(&self, turn: Uuid) -> Reply {
        let shown = self.evidence.shown.iter().flat_map(|shown| &shown.messages);
        let messages: Vec<Value> = shown
            .filter(|message| message["turn_id"] == json!(turn))
            .cloned()
            .collect();
        let answer = messages.last().unwrap();
        Reply {
            conversation: self
                .evidence
                .tables
                .turns
                .iter()
                .find(|row| row.id == turn)
                .unwrap()
                .conversation,
            turn,
            status: "success".to_owned(),
            response: answer["content"].as_str().unwrap().to_owned(),
            tool_calls: answer["tool_calls"].as_array().unwrap().clone(),
            messages,
        }
    }

    /// Adds a stream that was cut after the first text and resumed.
    fn watched(&mut self, turn: Uuid) {
        let tables = &self.evidence.tables;
        let mut frames = Vec::new();
        for row in tables.messages.iter().filter(|row| row.turn == turn) {
            if row.role == "assistant" {
                let (begin, end) = row.text.split_at(3);
                frames.extend(
                    [begin, end].map(|delta| {
                        frame("text", &json!({ "message_id": row.id, "delta": delta }))
                    }),
                );
            }
            frames.push(frame(
                "message",
                &json!({ "id": row.id, "turn_id": turn, "role": row.role, "content": row.text }),
            ));
            for call in tables.calls.iter().filter(|call| call.message == row.id) {
                frames.push(frame(
                    "tool_call",
                    &json!({
                        "id": call.id, "message_id": row.id, "tool_name": "pay",
                        "parameters": {},
                    }),
                ));
                let output: Value = serde_json::from_str(call.output.as_ref().unwrap()).unwrap();
                frames.push(frame(
                    "tool_result",
                    &json!({ "id": call.id, "status": "succeeded", "result": output }),
                ));
            }
        }
        frames.push(frame(
            "done",
            &json!({ "turn_id": turn, "status": "completed" }),
        ));
        let rest = frames.split_off(2);
        let user = tables
            .turns
            .iter()
            .find(|row| row.id == turn)
            .unwrap()
            .owner
            .clone();
        let opening = Frame {
            id: None,
            name: "turn".to_owned(),
            data: "{}".to_owned(),
        };
        frames.insert(0, opening);
        let watch = Watch {
            user,
            turn,
            connections: vec![frames, rest],
            ended: true,
            refusals: Vec::new(),
        };
        self.evidence.history.watches.push(watch);
    }
}

pub fn frame(name: &str, data: &Value) -> Frame {
    Frame {
        id: Some("cursor".to_owned()),
        name: name.to_owned(),
        data: data.to_string(),
    }
}

fn shown(id: Uuid, turn: Uuid, role: &str, content: &str, calls: &[Value]) -> Value {
    json!({
        "id": id, "turn_id": turn, "role": role, "content": content, "turn_status": "completed",
        "tool_calls": calls,
    })
}
