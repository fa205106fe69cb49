//! Tool calls, as the tasks of a workflow.

use chat_domain::{MessageId, RawJson, Timestamp, ToolCall, ToolOutcome, ToolResult};
use serde::Serialize;

/// The longest part of a tool's text in a task, in bytes. The whole text is in the log.
const MAX_TEXT_BYTES: usize = 4 << 10;
/// An icon of ChatKit.
const ICON: &str = "square-code";

/// A block of tasks.
#[derive(Debug, Serialize)]
pub struct Workflow {
    #[serde(rename = "type")]
    kind: &'static str,
    tasks: Vec<Task>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<Summary>,
    expanded: bool,
}

/// The title of a finished workflow.
#[derive(Debug, Serialize)]
struct Summary {
    title: String,
    icon: &'static str,
}

/// A task: a tool call, or the notice of an incomplete turn.
#[derive(Debug, Serialize)]
pub struct Task {
    #[serde(rename = "type")]
    kind: &'static str,
    status_indicator: Indicator,
    title: String,
    icon: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Indicator {
    None,
    Loading,
    Complete,
}

impl Task {
    /// The notice of an incomplete turn.
    pub(super) fn notice(title: &str, content: Option<String>) -> Self {
        Self {
            kind: "custom",
            status_indicator: Indicator::None,
            title: title.to_owned(),
            icon: "info",
            content,
        }
    }

    /// A tool call with its result, if any.
    pub(super) fn call(call: &ToolCall, result: Option<&ToolResult>) -> Self {
        let mut content = section("Parameters", "json", call.arguments.as_str());
        let (status_indicator, state) = match result.map(|result| &result.outcome) {
            None => (Indicator::Loading, ""),
            Some(ToolOutcome::Succeeded(output)) => {
                content.push_str("\n\n");
                content.push_str(&output_section(&output.0));
                (Indicator::Complete, "")
            }
            // ChatKit has no state for other outcomes, so the title has it.
            Some(ToolOutcome::Failed(error)) => {
                content.push_str("\n\n");
                content.push_str(&section(
                    &format!("Error `{}`", error.kind.code()),
                    "",
                    &error.message,
                ));
                (Indicator::None, " (failed)")
            }
            Some(ToolOutcome::Unknown(cause)) => {
                content.push_str("\n\n**Outcome unknown**\n\n");
                content.push_str(&cause.message());
                (Indicator::None, " (outcome unknown)")
            }
        };
        let title = format!("{}{state}", call.tool);
        Self {
            kind: "custom",
            status_indicator,
            title,
            icon: ICON,
            content: Some(content),
        }
    }
}

fn output_section(output: &RawJson) -> String {
    section("Result", "json", output.as_str())
}

/// A heading, and a text in a fence that is longer than any in the text.
fn section(heading: &str, language: &str, text: &str) -> String {
    let shown = text
        .get(..text.floor_char_boundary(MAX_TEXT_BYTES))
        .unwrap_or(text);
    let longest = shown
        .split(|char| char != '`')
        .map(str::len)
        .max()
        .unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let cut = if shown.len() < text.len() {
        format!("\n\nThe first {} of {} bytes.", shown.len(), text.len())
    } else {
        String::new()
    };
    format!("**{heading}**\n\n{fence}{language}\n{shown}\n{fence}{cut}")
}

/// The tool calls of one step, with their results.
#[derive(Clone, Debug)]
pub(super) struct CallGroup {
    pub(super) message: MessageId,
    pub(super) at: Timestamp,
    calls: Vec<(ToolCall, Option<ToolResult>)>,
}

impl CallGroup {
    pub(super) fn new(call: &ToolCall, at: Timestamp) -> Self {
        Self {
            message: call.message,
            at,
            calls: vec![(call.clone(), None)],
        }
    }

    /// Adds a call, and returns its index.
    pub(super) fn add(&mut self, call: &ToolCall) -> usize {
        self.calls.push((call.clone(), None));
        self.calls.len() - 1
    }

    /// Records a result, and returns the index of its call, if the call is in this group.
    pub(super) fn record(&mut self, result: &ToolResult) -> Option<usize> {
        let place = self
            .calls
            .iter()
            .position(|(call, _)| call.id == result.call)?;
        self.calls.get_mut(place)?.1 = Some(result.clone());
        Some(place)
    }

    pub(super) fn task(&self, place: usize) -> Option<Task> {
        self.calls
            .get(place)
            .map(|(call, result)| Task::call(call, result.as_ref()))
    }

    /// The workflow. It has a summary once all calls have results.
    pub(super) fn workflow(&self) -> Workflow {
        let calls = self.calls.iter();
        let tasks = calls.map(|(call, result)| Task::call(call, result.as_ref()));
        Workflow {
            kind: "custom",
            tasks: tasks.collect(),
            summary: self.summary(),
            expanded: false,
        }
    }

    fn summary(&self) -> Option<Summary> {
        let count = |wanted: fn(&ToolOutcome) -> bool| {
            self.calls
                .iter()
                .filter(|(_, result)| {
                    result
                        .as_ref()
                        .is_some_and(|result| wanted(&result.outcome))
                })
                .count()
        };
        let all = self.calls.len();
        if count(|_| true) < all {
            return None;
        }
        let mut title = if all == 1 {
            "Used 1 tool".to_owned()
        } else {
            format!("Used {all} tools")
        };
        for (count, what) in [
            (
                count(|outcome| matches!(outcome, ToolOutcome::Failed(_))),
                "failed",
            ),
            (
                count(|outcome| matches!(outcome, ToolOutcome::Unknown(_))),
                "unknown",
            ),
        ] {
            if count > 0 {
                title.push_str(&format!(", {count} {what}"));
            }
        }
        Some(Summary { title, icon: ICON })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_longer_than_any_in_its_text() {
        assert_eq!(
            section("Result", "json", "{}"),
            "**Result**\n\n```json\n{}\n```"
        );
        assert_eq!(
            section("Error", "", "a ```` b"),
            "**Error**\n\n`````\na ```` b\n`````"
        );
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let text = "é".repeat(MAX_TEXT_BYTES);
        let shown = section("Result", "json", &text);
        assert!(shown.len() < MAX_TEXT_BYTES + 100, "{}", shown.len());
        assert!(
            shown.ends_with(&format!(
                "The first {MAX_TEXT_BYTES} of {} bytes.",
                2 * MAX_TEXT_BYTES
            )),
            "{shown}"
        );
    }
}
