//! What the agent says: the last message tells it what to do, and how badly.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chat_test_support::stub_agent::{Answer, Recorded, StubAgent, chunk};
use fastrand::Rng;
use serde_json::Value;

use crate::evidence::Step;

/// What a message can ask for. Its words stand behind the user's name and the message's number.
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

/// What the database refuses to store if the agent says it.
pub const UNSTORABLE: &str = "unstorable";

/// The agent, with what it said.
pub struct Agent {
    stub: StubAgent,
    said: Arc<Mutex<Vec<Said>>>,
    calm: Arc<AtomicBool>,
}

/// The text and the calls of one answer.
struct Said {
    number: usize,
    text: String,
    calls: Vec<(String, String)>,
}

impl Agent {
    pub fn start(mut rng: Rng) -> Self {
        let (said, calm) = (
            Arc::new(Mutex::new(Vec::new())),
            Arc::new(AtomicBool::new(false)),
        );
        let rng = Mutex::new(rng.fork());
        let (record, is_calm) = (Arc::clone(&said), Arc::clone(&calm));
        let stub = StubAgent::start(move |recorded| {
            let mut rng = rng.lock().unwrap().fork();
            let (answer, said) = answer(recorded, &mut rng, is_calm.load(Ordering::Relaxed));
            record.lock().unwrap().push(said);
            answer
        });
        Self { stub, said, calm }
    }

    pub fn base_url(&self) -> String {
        self.stub.base_url()
    }

    /// From now on it answers at once and well.
    pub fn calm_down(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    /// What it was asked and said. A request that the stub's rules refuse is an error of ours.
    pub fn steps(&self) -> Result<Vec<Step>, String> {
        let requests = self.stub.requests();
        if let Some(refused) = requests.iter().find(|request| request.rejection.is_some()) {
            return Err(format!(
                "the agent refused a request: {:?}",
                refused.rejection
            ));
        }
        let said = self.said.lock().unwrap();
        Ok(said
            .iter()
            .map(|said| step(said, &requests[said.number]))
            .collect())
    }
}

fn step(said: &Said, request: &Recorded) -> Step {
    Step {
        number: said.number,
        messages: request.messages(),
        text: said.text.clone(),
        calls: said.calls.clone(),
    }
}

/// The plan of the last message, and how many steps of it are done.
fn plan(messages: &[Value]) -> (String, Vec<String>, usize) {
    let asked = messages
        .iter()
        .rposition(|message| message["role"] == "user")
        .unwrap();
    let text = messages[asked]["content"].as_str().unwrap_or_default();
    let mut words = text.split(' ').map(str::to_owned);
    let name = words.next().unwrap_or_default();
    let done = messages[asked..]
        .iter()
        .filter(|message| message["role"] == "assistant")
        .count();
    (name, words.collect(), done)
}

fn answer(recorded: &Recorded, rng: &mut Rng, calm: bool) -> (Answer, Said) {
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
        // Spaces and the order of members are kept as they are written.
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
    let said = Said {
        number,
        text: pieces.concat(),
        calls,
    };
    (delivered(word, Answer::chunks(chunks), rng, calm), said)
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

/// How the answer is given.
fn delivered(word: &str, answer: Answer, rng: &mut Rng, calm: bool) -> Answer {
    if calm {
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
