//! The agent: answers, calls tools, is slow, silent, cut off, wrong or never satisfied. It checks
//! that what it is sent is what the log says.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chat_domain::transcript::Entry;
use chat_domain::{
    Agent, AgentData, AgentError, AgentErrorKind, FinishReason, RawJson, StepEnd, StepEvent,
    StepRequest, StepStream, ToolError, ToolErrorKind, ToolOutcome, ToolOutput, Usage,
};
use futures_util::stream::{self, StreamExt};
use tokio::time::sleep;

use crate::options::AgentKind;
use crate::random::{Random, chance, choose, millis, stream as draw, tag, weighted};
use crate::store::ODD_VALUE;
use crate::tools::TOOLS;
use crate::trace::short;
use crate::transcripts;
use crate::witness::Said;
use crate::workers::Process;
use crate::world::World;

/// How long a silent agent is waited for by its adapter.
const IDLE: Duration = Duration::from_secs(30);

/// The agent as one worker reaches it.
pub struct SimulatedAgent {
    pub world: Arc<World>,
    pub process: Process,
}

/// An act of the agent in a step.
enum Act {
    Wait(Duration),
    Say(StepEvent),
    Fail(AgentErrorKind),
    /// Never says anything again.
    Hang,
}

#[async_trait]
impl Agent for SimulatedAgent {
    async fn step(&self, request: StepRequest) -> Result<StepStream, AgentError> {
        let world = &self.world;
        let (turn, process) = (request.turn, self.process);
        transcripts::check(world, process, &request);
        let place = {
            let mut witness = world.witness();
            let said = witness.said.entry(turn).or_default();
            said.push(Said::default());
            said.len() - 1
        };
        let acts = if world.conditions().agent_is_away() {
            vec![Act::Fail(AgentErrorKind::Unavailable)]
        } else {
            acts(world, &request, place)
        };
        world.note(|| {
            let entries = request.transcript.0.len();
            format!(
                "{process}: agent is asked for turn {}, {entries} entries",
                short(turn.0)
            )
        });
        let world = Arc::clone(world);
        let events = stream::iter(acts).filter_map(move |act| {
            let world = Arc::clone(&world);
            async move {
                match act {
                    Act::Wait(time) => {
                        sleep(time).await;
                        None
                    }
                    Act::Hang => std::future::pending().await,
                    Act::Fail(kind) => Some(Err(AgentError::new(kind, "A simulated failure."))),
                    Act::Say(event) => {
                        let mut witness = world.witness();
                        let said = witness.said.entry(turn).or_default();
                        if let Some(said) = said.get_mut(place) {
                            match &event {
                                StepEvent::Text(delta) => said.text.push_str(delta),
                                StepEvent::Done(_) => said.is_whole = true,
                                _ => {}
                            }
                        }
                        Some(Ok(event))
                    }
                }
            }
        });
        Ok(events.boxed())
    }
}

/// The behaviour of the agent in this step of the turn: drawn from the message it answers, so that
/// it is the same in a smaller world.
fn acts(world: &World, request: &StepRequest, place: usize) -> Vec<Act> {
    let options = &world.plan.options;
    let entries = &request.transcript.0;
    let users = entries.iter().filter_map(|entry| match entry {
        Entry::User { text } => Some(text.as_str()),
        _ => None,
    });
    let message = users.clone().next_back().unwrap_or_default();
    let turns = users.count();
    let place = u64::try_from(place).unwrap_or(u64::MAX);
    let random = &mut draw(options.seed, &[5, tag(message), place]);
    let mut kind = weighted(random, &options.agent_kinds, AgentKind::Answer);
    if world.is_healed() && !matches!(kind, AgentKind::Tools | AgentKind::OwnTools) {
        kind = AgentKind::Answer;
    }
    let mark = format!("{message}.{place}");
    let mut acts = Vec::new();
    match kind {
        AgentKind::Answer => {
            speak(&mut acts, random, &mark, 300);
            acts.push(done(random, FinishReason::Complete));
        }
        AgentKind::Slow => {
            speak(&mut acts, random, &mark, 8_000);
            acts.push(done(random, FinishReason::Complete));
        }
        AgentKind::Tools => {
            if random.bool() {
                speak(&mut acts, random, &mark, 200);
            }
            call_tools(&mut acts, random, &mark, 4);
            acts.push(done(random, FinishReason::Complete));
        }
        AgentKind::Endless => {
            call_tools(&mut acts, random, &mark, 2);
            acts.push(done(random, FinishReason::Complete));
        }
        AgentKind::OwnTools => {
            for number in 0..random.usize(1..=2) {
                acts.push(Act::Say(own_tool(random, &mark, number)));
            }
            speak(&mut acts, random, &mark, 200);
            acts.push(done(random, FinishReason::Complete));
        }
        AgentKind::Odd => odd(&mut acts, random, &mark),
        AgentKind::Silent => {
            if random.bool() {
                speak(&mut acts, random, &mark, 200);
            }
            if random.bool() {
                acts.push(Act::Wait(IDLE));
                acts.push(Act::Fail(AgentErrorKind::TimedOut));
            } else {
                acts.push(Act::Hang);
            }
        }
        AgentKind::CutOff => {
            speak(&mut acts, random, &mark, 300);
            if random.bool() {
                call_tools(&mut acts, random, &mark, 1);
            }
            if random.bool() {
                acts.push(Act::Fail(AgentErrorKind::Unavailable));
            }
        }
        AgentKind::Fail => {
            let kinds = [
                AgentErrorKind::Misconfigured,
                AgentErrorKind::Overloaded { retry_after: None },
                AgentErrorKind::Refused,
                AgentErrorKind::TimedOut,
                AgentErrorKind::Unavailable,
                AgentErrorKind::Protocol,
            ];
            let kind = choose(random, &kinds).copied();
            acts.push(Act::Wait(millis(random, 0..=500)));
            acts.push(Act::Fail(kind.unwrap_or(AgentErrorKind::Refused)));
        }
        AgentKind::TooLong => {
            if turns > 2 || chance(random, 10) {
                let limit = random.bool().then_some(60);
                acts.push(Act::Fail(AgentErrorKind::ContextTooLong { limit }));
            } else {
                speak(&mut acts, random, &mark, 300);
                acts.push(done(random, FinishReason::Complete));
            }
        }
    }
    acts
}

/// Says a text in pieces.
fn speak(acts: &mut Vec<Act>, random: &mut Random, mark: &str, slowest: u64) {
    for piece in 0..random.usize(1..=4) {
        acts.push(Act::Wait(millis(random, 0..=slowest)));
        let text = if piece == 0 {
            format!("re {mark}:")
        } else {
            format!(" é{piece}")
        };
        acts.push(Act::Say(StepEvent::Text(text)));
    }
}

fn call_tools(acts: &mut Vec<Act>, random: &mut Random, mark: &str, most: usize) {
    for number in 0..random.usize(1..=most) {
        let (tool, _) = choose(random, TOOLS).copied().unwrap_or(("look", true));
        let arguments = RawJson::from_valid(format!(r#"{{"mark":"{mark}.{number}"}}"#));
        let data = AgentData::new(format!(r#"{{"call":{number}}}"#)).ok();
        acts.push(Act::Wait(millis(random, 0..=50)));
        acts.push(Act::Say(StepEvent::ToolCall {
            tool: tool.to_owned(),
            arguments,
            agent_data: data.filter(|_| number == 1),
        }));
    }
}

fn own_tool(random: &mut Random, mark: &str, number: usize) -> StepEvent {
    let output = ToolOutput(RawJson::from_valid(format!(r#"{{"found":{number}}}"#)));
    let outcome = if random.bool() {
        ToolOutcome::Succeeded(output)
    } else {
        ToolOutcome::Failed(ToolError::new(ToolErrorKind::Failed, "Nothing found."))
    };
    StepEvent::ExecutedTool {
        tool: "search".to_owned(),
        arguments: RawJson::from_valid(format!(r#"{{"mark":"{mark}"}}"#)),
        outcome,
        took: Duration::from_millis(7),
    }
}

fn done(random: &mut Random, finish: FinishReason) -> Act {
    let data = AgentData::new(r#"{"kept":true}"#).ok();
    Act::Say(StepEvent::Done(StepEnd {
        usage: Usage {
            input_tokens: 3,
            output_tokens: 2,
        },
        finish,
        agent_data: data.filter(|_| random.bool()),
    }))
}

/// Answers at the edge of what is accepted, or beyond.
fn odd(acts: &mut Vec<Act>, random: &mut Random, mark: &str) {
    let say = |text: String| Act::Say(StepEvent::Text(text));
    let call = |arguments: String| {
        Act::Say(StepEvent::ToolCall {
            tool: "pay".to_owned(),
            arguments: RawJson::from_valid(arguments),
            agent_data: None,
        })
    };
    match random.u32(..9) {
        0 => {}
        1 => acts.push(say("   ".to_owned())),
        2 => acts.push(say(format!("re {mark}: a\0b"))),
        3 => acts.push(say(format!("re {mark}: {}", "x".repeat(3_000)))),
        4 => acts.push(say(format!("re {mark}: {ODD_VALUE}"))),
        5 => acts.push(call(format!("{}{}", "[".repeat(70), "]".repeat(70)))),
        6 => acts.push(call(format!(r#"{{"mark":"{mark}{ODD_VALUE}"}}"#))),
        7 => acts.push(call(r#""not an object"#.to_owned() + "\"")),
        _ => {
            for number in 0..9 {
                acts.push(call(format!(r#"{{"mark":"{mark}.{number}"}}"#)));
            }
        }
    }
    let finishes = [
        FinishReason::Complete,
        FinishReason::Length,
        FinishReason::ContentFilter,
    ];
    let finish = choose(random, &finishes).copied();
    acts.push(done(random, finish.unwrap_or(FinishReason::Complete)));
}
