//! The agent of the campaign. The last message contains its plan: what to do, and which failures to
//! show.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chat_test_support::stub_agent::{Answer, Recorded, StubAgent, chunk};
use fastrand::Rng;
use serde_json::Value;

use crate::evidence::Step;

/// Weighted plans of messages. A plan follows the user's name and the message's number.
pub const PLANS: &[(u32, &str)] = &[
    (30, "say"),
    (16, "slow"),
    (12, "pay"),
    (6, "look"),
    (8, "pay+look"),
    (6, "pay+pay+look pay"),
    (4, "look slow"),
    (3, "pay slow"),
    (2, "fail"),
    (1, "hang"),
    (1, "die"),
    (1, "missing"),
    (2, "error-500"),
    (1, "error-429"),
    (1, "refused"),
    (2, "cut"),
    (1, "garbage"),
    (1, "silent"),
    (3, UNSTORABLE),
];

/// The database rejects an answer that contains this word.
pub const UNSTORABLE: &str = "unstorable";

/// The agent and the record of its answers.
pub struct Agent {
    stub: StubAgent,
    outputs: Arc<Mutex<Vec<Output>>>,
    failures_disabled: Arc<AtomicBool>,
}

/// The number, text and calls of one answer.
struct Output {
    number: usize,
    text: String,
    calls: Vec<(String, String)>,
}

impl Agent {
    pub fn start(mut rng: Rng) -> Self {
        let (outputs, failures_disabled) = (
            Arc::new(Mutex::new(Vec::new())),
            Arc::new(AtomicBool::new(false)),
        );
        let rng = Mutex::new(rng.fork());
        let (record, is_calm) = (Arc::clone(&outputs), Arc::clone(&failures_disabled));
        let stub = StubAgent::start(move |recorded| {
            let mut rng = rng.lock().unwrap().fork();
            let (answer, output) = answer(recorded, &mut rng, is_calm.load(Ordering::Relaxed));
            record.lock().unwrap().push(output);
            answer
        });
        Self {
            stub,
            outputs,
            failures_disabled,
        }
    }

    pub fn base_url(&self) -> String {
        self.stub.base_url()
    }

    /// From now on answers at once and without failures.
    pub fn disable_failures(&self) {
        self.failures_disabled.store(true, Ordering::Relaxed);
    }

    /// Returns the requests and answers. A request that the stub's rules reject is an error of the
    /// server.
    pub fn steps(&self) -> Result<Vec<Step>, String> {
        let requests = self.stub.requests();
        if let Some(refused) = requests.iter().find(|request| request.rejection.is_some()) {
            return Err(format!(
                "the agent rejected a request: {:?}",
                refused.rejection
            ));
        }
        let outputs = self.outputs.lock().unwrap();
        Ok(outputs
            .iter()
            .map(|output| step(output, &requests[output.number]))
            .collect())
    }
}

fn step(output: &Output, request: &Recorded) -> Step {
    Step {
        number: output.number,
        messages: request.messages(),
        text: output.text.clone(),
        calls: output.calls.clone(),
    }
}

/// Returns the plan of the last message, its steps, and how many of them are done.
fn plan(messages: &[Value]) -> (String, Vec<String>, usize) {
    let question = messages
        .iter()
        .rposition(|message| message["role"] == "user")
        .unwrap();
    let text = messages[question]["content"].as_str().unwrap_or_default();
    let mut words = text.split(' ').map(str::to_owned);
    let name = words.next().unwrap_or_default();
    let done = messages[question..]
        .iter()
        .filter(|message| message["role"] == "assistant")
        .count();
    (name, words.collect(), done)
}

fn answer(recorded: &Recorded, rng: &mut Rng, failures_disabled: bool) -> (Answer, Output) {
    let (name, words, done) = plan(&recorded.messages());
    let number = recorded.number;
    let word = words.get(done).map_or("say", String::as_str);
    let asks: Vec<&str> = word
        .split('+')
        .filter(|tool| ["pay", "look", "fail", "hang", "die", "missing"].contains(tool))
        .collect();
    let mut pieces = vec![format!("#{number} {name}: ")];
    let length = if asks.is_empty() {
        rng.usize(2..40)
    } else {
        rng.usize(0..4)
    };
    pieces.extend((0..length).map(|_| (*rng.choice(WORDS).unwrap()).to_owned()));
    if word == UNSTORABLE {
        pieces.push(UNSTORABLE.to_owned());
    }
    let call = |tool: &&str| {
        // The arguments' spaces and member order must be preserved.
        let pause = rng.u64(0..150);
        (
            (*tool).to_owned(),
            format!(r#"{{"why": "{name}",  "pause_ms": {pause}, "amount": 1.50}}"#),
        )
    };
    let calls: Vec<(String, String)> = asks.iter().map(call).collect();
    let mut chunks: Vec<Value> = pieces.iter().map(|piece| chunk::text(piece)).collect();
    let fragments = (0..).zip(&calls).map(|(index, (tool, arguments))| {
        chunk::call(index, &format!("c{number}_{index}"), tool, arguments)
    });
    chunks.extend(fragments);
    chunks.extend([
        chunk::finish(if calls.is_empty() {
            "stop"
        } else {
            "tool_calls"
        }),
        chunk::usage(7, length as u64),
    ]);
    let output = Output {
        number,
        text: pieces.concat(),
        calls,
    };
    (
        delivered(word, Answer::chunks(chunks), rng, failures_disabled),
        output,
    )
}

const WORDS: &[&str] = &[
    "and ",
    "so ",
    "für ",
    "naïve ",
    "日本 ",
    "🦀 ",
    "\n",
    "\"quoted\" ",
    "much ",
    "longer words ",
    "a\\b ",
];

/// Applies the failure of a step to an answer.
fn delivered(word: &str, answer: Answer, rng: &mut Rng, failures_disabled: bool) -> Answer {
    if failures_disabled {
        return answer;
    }
    let half = rng.usize(200..900);
    match word {
        "error-500" if rng.bool() => Answer::error(500, "", "Oops"),
        "error-429" => {
            Answer::error(429, "rate_limit_exceeded", "Slow down").header("retry-after", "1")
        }
        "refused" => Answer::error(400, "content_filter", "No"),
        "garbage" => Answer::sse("data: {not json\n\n"),
        "silent" => answer.hang_after(half),
        "cut" => answer.in_pieces(170).cut_after(half),
        "slow" => answer
            .in_pieces(170)
            .slowly(Duration::from_millis(rng.u64(20..160))),
        _ => answer
            .in_pieces(500)
            .slowly(Duration::from_millis(rng.u64(1..25))),
    }
}
