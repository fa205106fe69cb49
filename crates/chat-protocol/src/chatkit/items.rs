//! Threads and the items in them.
//!
//! | of a turn | becomes |
//! |---|---|
//! | the user message | a `user_message` |
//! | an assistant message with text | an `assistant_message` |
//! | the tool calls of a step | a `workflow` with a `custom` task for each call |
//! | an incomplete end | a `task` with a notice |
//!
//! Superseded turns have no items. The user message of a retry has the id of the original message:
//! for the user both are the same item.

use chat_domain::{
    Conversation, FinishReason, Item, ItemBody, LoggedTurn, MessageId, OriginalMessage, Role, Turn,
    TurnOutcome, TurnStatus,
};
use serde::Serialize;

use super::ids::{ItemId, ItemKind, ThreadId};
use super::tasks::{CallGroup, Task, Workflow};
use crate::time::Time;

/// A thread.
#[derive(Debug, Serialize)]
pub struct Thread {
    id: ThreadId,
    title: String,
    created_at: Time,
    status: Status,
    metadata: Empty,
    items: Page<ThreadItem>,
}

impl Thread {
    /// A conversation with some of its items.
    pub fn new(conversation: &Conversation, items: Page<ThreadItem>) -> Self {
        Self {
            id: ThreadId(conversation.id),
            title: conversation.title.as_str().to_owned(),
            created_at: Time(conversation.created_at),
            status: Status { kind: "active" },
            metadata: Empty {},
            items,
        }
    }
}

impl From<&Conversation> for Thread {
    fn from(conversation: &Conversation) -> Self {
        Self::new(
            conversation,
            Page {
                data: Vec::new(),
                has_more: false,
                after: None,
            },
        )
    }
}

#[derive(Debug, Serialize)]
struct Status {
    #[serde(rename = "type")]
    kind: &'static str,
}

/// An object without members.
#[derive(Debug, Serialize)]
pub struct Empty {}

/// A page of a list.
#[derive(Debug, Serialize)]
pub struct Page<T> {
    /// Its items.
    pub data: Vec<T>,
    /// Whether another page follows.
    pub has_more: bool,
    /// The id of the last object, if another page follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// An item of a thread.
#[derive(Debug, Serialize)]
pub struct ThreadItem {
    /// Its id.
    pub id: ItemId,
    /// The thread.
    pub(super) thread_id: ThreadId,
    /// When it was created.
    pub(super) created_at: Time,
    /// Its content.
    #[serde(flatten)]
    pub(super) body: Body,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Body {
    UserMessage {
        content: Vec<InputText>,
        attachments: Vec<Empty>,
        inference_options: Empty,
    },
    AssistantMessage {
        content: Vec<OutputText>,
    },
    Workflow {
        workflow: Workflow,
    },
    Task {
        task: Task,
    },
}

#[derive(Debug, Serialize)]
pub(super) struct InputText {
    #[serde(rename = "type")]
    kind: &'static str,
    text: String,
}

#[derive(Debug, Serialize)]
pub(super) struct OutputText {
    annotations: Vec<Empty>,
    text: String,
    #[serde(rename = "type")]
    kind: &'static str,
}

impl OutputText {
    pub(super) fn new(text: &str) -> Self {
        Self {
            annotations: Vec::new(),
            text: text.to_owned(),
            kind: "output_text",
        }
    }
}

/// The user message among `items`, with the id and the time of the `original` message.
pub(super) fn user_message(
    thread: ThreadId,
    items: &[Item],
    original: Option<OriginalMessage>,
) -> Option<ThreadItem> {
    items.iter().find_map(|item| match &item.body {
        ItemBody::Message(message) if message.role == Role::User => {
            let content = vec![InputText {
                kind: "input_text",
                text: message.text.clone(),
            }];
            let body = Body::UserMessage {
                content,
                attachments: Vec::new(),
                inference_options: Empty {},
            };
            let (message, at) =
                original.map_or((message.id, item.at), |original| (original.id, original.at));
            let id = ItemId {
                kind: ItemKind::Message,
                message,
            };
            Some(ThreadItem {
                id,
                thread_id: thread,
                created_at: Time(at),
                body,
            })
        }
        _ => None,
    })
}

/// An assistant message; without text at its start.
pub(super) fn assistant_message(
    thread: ThreadId,
    message: MessageId,
    created_at: Time,
    text: Option<&str>,
) -> ThreadItem {
    let body = Body::AssistantMessage {
        content: text.map(OutputText::new).into_iter().collect(),
    };
    ThreadItem {
        id: ItemId {
            kind: ItemKind::Message,
            message,
        },
        thread_id: thread,
        created_at,
        body,
    }
}

/// The notice of a turn whose answer is incomplete, or whose history was shortened for the agent.
/// `last` is the turn's last message.
pub(super) fn notice(thread: ThreadId, turn: &Turn, last: MessageId) -> Option<ThreadItem> {
    let TurnStatus::Ended { at, outcome } = &turn.status else {
        return None;
    };
    let task = match outcome {
        TurnOutcome::Completed => notice_of_completed(turn)?,
        TurnOutcome::Cancelled => Task::notice("Stopped", None),
        TurnOutcome::Failed(failure) => Task::notice("Failed", Some(failure.message.clone())),
    };
    let id = ItemId {
        kind: ItemKind::Notice,
        message: last,
    };
    Some(ThreadItem {
        id,
        thread_id: thread,
        created_at: Time(*at),
        body: Body::Task { task },
    })
}

/// The notice of a completed turn, if its answer is cut off or its history was shortened.
fn notice_of_completed(turn: &Turn) -> Option<Task> {
    let cut_off = match turn.finish {
        Some(FinishReason::Length) => Some("The answer was cut off at the model's limit."),
        Some(FinishReason::ContentFilter) => {
            Some("A content filter withheld the rest of the answer.")
        }
        Some(FinishReason::Complete) | None => None,
    };
    let left_out = match turn.turns_left_out {
        0 => None,
        1 => Some(
            "The conversation is too long for the agent: its oldest turn was left out.".to_owned(),
        ),
        turns => Some(format!(
            "The conversation is too long for the agent: its {turns} oldest turns were left out."
        )),
    };
    let title = if cut_off.is_some() {
        "Cut off"
    } else {
        "Shortened"
    };
    let content: Vec<String> = cut_off
        .map(str::to_owned)
        .into_iter()
        .chain(left_out)
        .collect();
    (!content.is_empty()).then(|| Task::notice(title, Some(content.join("\n\n"))))
}

/// The item of a step's tool calls.
pub(super) fn workflow(thread: ThreadId, calls: &CallGroup) -> ThreadItem {
    let id = ItemId {
        kind: ItemKind::Workflow,
        message: calls.message,
    };
    ThreadItem {
        id,
        thread_id: thread,
        created_at: Time(calls.at),
        body: Body::Workflow {
            workflow: calls.workflow(),
        },
    }
}

/// All items of a turn, in order. The user message of a retry has the id and the time of the
/// original message.
pub fn items(log: &LoggedTurn) -> Vec<ThreadItem> {
    enum Entry {
        Item(ThreadItem),
        Calls(CallGroup),
    }
    let thread = ThreadId(log.turn.conversation);
    let mut entries: Vec<Entry> = user_message(thread, &log.items, log.turn.original)
        .map(Entry::Item)
        .into_iter()
        .collect();
    let mut last = None;
    for item in &log.items {
        match &item.body {
            ItemBody::Message(message) => {
                last = Some(message.id);
                if message.role == Role::Assistant && !message.text.is_empty() {
                    entries.push(Entry::Item(assistant_message(
                        thread,
                        message.id,
                        Time(item.at),
                        Some(&message.text),
                    )));
                }
            }
            ItemBody::ToolCall(call) => match entries.last_mut() {
                Some(Entry::Calls(calls)) if calls.message == call.message => drop(calls.add(call)),
                _ => entries.push(Entry::Calls(CallGroup::new(call, item.at))),
            },
            ItemBody::ToolResult(result) => {
                if let Some(Entry::Calls(calls)) = entries.last_mut() {
                    calls.record(result);
                }
            }
        }
    }
    let notice = last.and_then(|last| notice(thread, &log.turn, last));
    let entries = entries.into_iter().map(|entry| match entry {
        Entry::Item(item) => item,
        Entry::Calls(calls) => workflow(thread, &calls),
    });
    entries.chain(notice).collect()
}
