//! The tools: one that may be repeated and others that may not; slow, hanging, dying before or
//! after their effect. They check that each call was stored before it came, and came as often as it
//! may.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chat_domain::{
    CallError, Invocation, ItemBody, RawJson, ToolError, ToolErrorKind, ToolOutcome, ToolOutput,
    ToolSpec, Toolset, UnknownCause, UserId,
};
use tokio::time::sleep;

use crate::options::ToolKind;
use crate::random::{millis, stream, tag, weighted};
use crate::store::ODD_VALUE;
use crate::trace::short;
use crate::workers::Process;
use crate::world::World;

/// The tools, and whether each may be repeated.
pub const TOOLS: &[(&str, bool)] = &[("look", true), ("pay", false), ("post", false)];

/// How long a tool may take: then its adapter gives it up.
const TOOL_LIMIT: Duration = Duration::from_secs(4);

/// The tools as one worker reaches them.
pub struct SimulatedTools {
    pub world: Arc<World>,
    pub process: Process,
}

#[async_trait]
impl Toolset for SimulatedTools {
    async fn specs(&self, _: &UserId) -> Vec<ToolSpec> {
        if self.world.conditions().tools_are_away() {
            return Vec::new();
        }
        let tools = TOOLS.iter();
        tools
            .map(|(name, repeatable)| ToolSpec {
                name: (*name).to_owned(),
                description: String::new(),
                input_schema: RawJson::from_valid("{}"),
                repeatable: *repeatable,
            })
            .collect()
    }

    async fn call(&self, invocation: Invocation) -> Result<ToolOutput, CallError> {
        let (world, call) = (&self.world, invocation.call);
        let answer = |outcome: Result<ToolOutput, CallError>| {
            let seen = match &outcome {
                Ok(output) => ToolOutcome::Succeeded(output.clone()),
                Err(CallError::Failed(error)) => ToolOutcome::Failed(error.clone()),
                Err(CallError::Unknown) => ToolOutcome::Unknown(UnknownCause::AnswerLost),
            };
            let mut witness = world.witness();
            witness.calls.entry(call).or_default().outcomes.push(seen);
            outcome
        };
        let fail = |kind, message: &str| Err(ToolError::new(kind, message).into());
        let is_known = TOOLS.iter().any(|(name, _)| *name == invocation.tool);
        if !is_known || world.conditions().tools_are_away() {
            return answer(fail(ToolErrorKind::Unavailable, "The tools are away."));
        }
        if !invocation.arguments.as_str().starts_with('{') {
            return answer(fail(ToolErrorKind::InvalidArguments, "Not an object."));
        }
        let sends = {
            let witness = world.witness();
            witness
                .calls
                .get(&call)
                .map_or(1, |called| called.sends + 1)
        };
        let options = &world.plan.options;
        let tags = [6, tag(invocation.arguments.as_str()), u64::from(sends)];
        let mut random = stream(options.seed, &tags);
        let kind = if world.is_healed() {
            ToolKind::Succeed
        } else {
            weighted(&mut random, &options.tool_kinds, ToolKind::Succeed)
        };
        if kind == ToolKind::Unavailable {
            return answer(fail(ToolErrorKind::Unavailable, "Its server is away."));
        }
        self.check(&invocation, sends);
        world.witness().calls.entry(call).or_default().sends = sends;
        world.note(|| {
            let (call, process, tool) = (short(call.0), self.process, &invocation.tool);
            format!("{process}: {tool} gets call {call} ({})", kind.name())
        });
        let done = || {
            Ok(ToolOutput(RawJson::from_valid(format!(
                r#"{{"done":{sends}}}"#
            ))))
        };
        match kind {
            ToolKind::Succeed => {
                sleep(millis(&mut random, 0..=100)).await;
                answer(done())
            }
            ToolKind::Slow => {
                sleep(millis(&mut random, 100..=3_500)).await;
                answer(done())
            }
            ToolKind::Hang => std::future::pending().await,
            ToolKind::TimeOut => {
                sleep(TOOL_LIMIT).await;
                answer(fail(ToolErrorKind::TimedOut, "Too slow."))
            }
            ToolKind::Fail | ToolKind::Unavailable => {
                answer(fail(ToolErrorKind::Failed, "It does not work."))
            }
            ToolKind::DieBefore | ToolKind::DieAfter => {
                sleep(millis(&mut random, 0..=500)).await;
                answer(Err(CallError::Unknown))
            }
            ToolKind::Odd => {
                let odd = match random.u32(..3) {
                    0 => format!(r#"{{"odd":"{ODD_VALUE}"}}"#),
                    1 => format!(r#"{{"long":"{}"}}"#, "x".repeat(600)),
                    _ => format!("{}{}", "[".repeat(70), "]".repeat(70)),
                };
                answer(Ok(ToolOutput(RawJson::from_valid(odd))))
            }
        }
    }
}

impl SimulatedTools {
    /// Checks that this call may be sent now, for the n-th time.
    fn check(&self, invocation: &Invocation, sends: u32) {
        let (world, call) = (&self.world, invocation.call);
        let name = || {
            format!(
                "call {} of turn {}",
                short(call.0),
                short(invocation.turn.0)
            )
        };
        let found = world.inspect(|documents| {
            let document = documents.get(&invocation.conversation)?;
            let mut entries = document.entries();
            let (row, items, _) = entries.find(|(row, ..)| row.turn.id == invocation.turn)?;
            let stored = items.iter().find_map(|item| match &item.body {
                ItemBody::ToolCall(stored) if stored.id == call => Some(stored.clone()),
                _ => None,
            });
            let has_result = items.iter().any(
                |item| matches!(&item.body, ItemBody::ToolResult(result) if result.call == call),
            );
            Some((row.clone(), stored, has_result))
        });
        let is_repeatable = TOOLS.contains(&(invocation.tool.as_str(), true));
        world.check("tools-once", is_repeatable || sends == 1, || {
            format!("{} is sent again, and must not be repeated", name())
        });
        let Some((row, stored, has_result)) = found else {
            let is_deleted = world.checker().is_deleted(invocation.conversation);
            world.check("write-before-run", is_deleted, || {
                format!("{} runs, and its turn is not stored", name())
            });
            return;
        };
        let is_stored = stored.is_some_and(|stored| {
            stored.tool == invocation.tool && stored.arguments == invocation.arguments
        });
        world.check("write-before-run", is_stored, || {
            format!("{} runs, and is not stored", name())
        });
        world.check("isolation", row.owner == invocation.owner, || {
            format!("{} runs for another user", name())
        });
        world.check("tools-once", u64::from(sends) <= row.epoch, || {
            format!("{} is sent {} times in {} claims", name(), sends, row.epoch)
        });
        let is_holder = world.workers.is_holder(self.process, &row);
        let since = world.workers.holds_since(self.process, &row);
        // Nothing can prevent this for a worker that was frozen, or whose clock is wrong.
        let is_excused = world.workers.frozen(self.process) != Some(Duration::ZERO)
            || world.checker().leases_were_cut();
        let ran = since.map(|since| world.elapsed() - since);
        let checked = ran.map_or(Ok(()), |ran| world.checker().check_activity(&row, ran));
        if let Err(violation) = checked {
            world.violated(violation.property, violation.text);
        }
        world.check(
            "fenced-calls",
            is_holder && !has_result || is_excused,
            || {
                let process = self.process;
                format!(
                    "{process} sends {}, which it does not hold any more",
                    name()
                )
            },
        );
    }
}
