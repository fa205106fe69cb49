//! The next act of a turn: a pure function of its items. There is no other resume code.

use std::collections::HashSet;

use crate::{
    FailureKind, Item, ItemBody, Role, ToolCall, ToolCallId, ToolExecutor, TurnFailure, TurnOutcome,
};

/// The next act of a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Asks the agent.
    CallAgent,
    /// Brings these calls to a result, in this order. At least one.
    CallTools(Vec<ToolCall>),
    /// Ends.
    End(TurnOutcome),
}

/// The next act of a turn with these items, if it may take `max_steps` steps.
pub fn next(items: &[Item], max_steps: usize) -> Next {
    let results: HashSet<ToolCallId> = items
        .iter()
        .filter_map(|item| match &item.body {
            ItemBody::ToolResult(result) => Some(result.call),
            _ => None,
        })
        .collect();
    let mut steps = 0;
    let mut answered = false;
    let mut pending = Vec::new();
    for item in items {
        match &item.body {
            ItemBody::Message(message) => {
                answered = message.role == Role::Assistant;
                steps += usize::from(answered);
            }
            ItemBody::ToolCall(call) => {
                // A tool that the agent ran itself is part of its answer.
                answered = answered && call.executor == ToolExecutor::Agent;
                if !results.contains(&call.id) {
                    pending.push(call.clone());
                }
            }
            ItemBody::ToolResult(_) => {}
        }
    }
    if !pending.is_empty() {
        Next::CallTools(pending)
    } else if answered {
        Next::End(TurnOutcome::Completed)
    } else if steps >= max_steps {
        let message = format!("The turn was stopped at its limit of {steps} steps.");
        Next::End(TurnOutcome::Failed(TurnFailure {
            kind: FailureKind::StepLimit,
            message,
        }))
    } else {
        Next::CallAgent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::LogBuilder;

    #[test]
    fn a_turn_asks_then_calls_then_asks_then_ends() {
        let mut log = LogBuilder::new();
        log.user("Add milk");
        assert_eq!(next(log.items(), 9), Next::CallAgent);
        let message = log.assistant("Adding.");
        assert_eq!(next(log.items(), 9), Next::End(TurnOutcome::Completed));
        let first = log.call(message, "add_task");
        let second = log.call(message, "add_task");
        assert_eq!(
            next(log.items(), 9),
            Next::CallTools(vec![first.clone(), second.clone()])
        );
        log.result(second.id);
        assert_eq!(next(log.items(), 9), Next::CallTools(vec![first.clone()]));
        log.result(first.id);
        assert_eq!(next(log.items(), 9), Next::CallAgent);
        assert!(matches!(
            next(log.items(), 1),
            Next::End(TurnOutcome::Failed(TurnFailure {
                kind: FailureKind::StepLimit,
                ..
            }))
        ));
        log.assistant("Done.");
        assert_eq!(next(log.items(), 1), Next::End(TurnOutcome::Completed));
    }

    #[test]
    fn what_the_agent_ran_itself_is_part_of_its_answer() {
        let mut log = LogBuilder::new();
        log.user("Search");
        let message = log.assistant("Found.");
        let call = log.call_by(ToolExecutor::Agent, message, "search");
        assert_eq!(next(log.items(), 9), Next::CallTools(vec![call.clone()]));
        log.result(call.id);
        assert_eq!(next(log.items(), 9), Next::End(TurnOutcome::Completed));
    }
}
