//! How agents end their answers, and what they get back of them.

use chat_domain::testing::{FakeTools, Script, ScriptedAgent};
use chat_domain::transcript::Entry;
use chat_domain::{AgentData, FinishReason, RawJson, StepEnd, StepEvent, TurnOutcome, Usage};

use crate::world::{Setup, World};

fn data(name: &str) -> Option<AgentData> {
    Some(AgentData::new(format!("{{\"name\":{name:?}}}")).unwrap())
}

fn call(agent_data: Option<AgentData>) -> Script {
    Script::Say(StepEvent::Call { tool: "look".to_owned(), arguments: RawJson::from_valid("{}"), agent_data })
}

fn done(agent_data: Option<AgentData>) -> Script {
    Script::Say(StepEvent::Done(StepEnd { usage: Usage::default(), finish: FinishReason::Complete, agent_data }))
}

/// The data in the agent's last request: of each message, then of each of its calls.
fn given_back(world: &World) -> Vec<(Option<AgentData>, Vec<Option<AgentData>>)> {
    let entries = world.agent.requests().pop().unwrap().transcript.0;
    let data = |entry: Entry| match entry {
        Entry::Assistant { agent_data, calls, .. } => Some((agent_data, calls.into_iter().map(|call| call.agent_data).collect())),
        Entry::User { .. } | Entry::ToolResult { .. } => None,
    };
    entries.into_iter().filter_map(data).collect()
}

#[tokio::test(start_paused = true)]
async fn the_agent_gets_its_data_back_with_the_message_and_the_call_it_belongs_to() {
    let script = [
        vec![call(data("first")), call(None), call(data("third")), done(data("step"))],
        vec![Script::text("Seen."), done(data("answer"))],
        vec![Script::text("Yes."), done(None)],
    ];
    let tools = FakeTools::new().answering("look", true, "1");
    let world = Setup::new().start(ScriptedAgent::new(script), tools).await;
    let turn = world.send(None, "Look").await;
    assert_eq!(world.outcome(turn.id).await, TurnOutcome::Completed);
    let asked = (data("step"), vec![data("first"), None, data("third")]);
    assert_eq!(given_back(&world), std::slice::from_ref(&asked));
    for text in ["And now?", "Later?"] {
        let next = world.send(Some(turn.conversation), text).await;
        assert_eq!(world.outcome(next.id).await, TurnOutcome::Completed);
        assert_eq!(given_back(&world)[..2], [asked.clone(), (data("answer"), Vec::new())]);
    }
}
