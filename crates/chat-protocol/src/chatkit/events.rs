//! A turn as ChatKit's stream of events: `data:` frames only, distinguished by `type`.
//!
//! First the user message, then `stream_options`, then the events of the turn. An assistant message
//! is added empty, grows by deltas and is done; the tool calls of a step are a workflow that grows.
//! Items that are `done` are durable.

use chat_domain::{
    Conversation, ItemBody, MessageId, Role, Timestamp, Turn, TurnEvent, TurnOutcome, TurnStatus,
};
use serde::Serialize;

use super::ids::{ItemId, ItemKind, ThreadId};
use super::items::{
    OutputText, Thread, ThreadItem, assistant_message, notice, user_message, workflow,
};
use super::tasks::{CallGroup, Task};
use crate::problem::{Code, Problem};
use crate::sse;
use crate::time::Time;

#[derive(Serialize)]
#[serde(tag = "type")]
enum Event {
    #[serde(rename = "thread.created")]
    ThreadCreated { thread: Thread },
    #[serde(rename = "thread.updated")]
    ThreadUpdated { thread: Thread },
    #[serde(rename = "thread.item.added")]
    Added { item: ThreadItem },
    #[serde(rename = "thread.item.updated")]
    Updated { item_id: ItemId, update: Update },
    #[serde(rename = "thread.item.done")]
    Done { item: ThreadItem },
    #[serde(rename = "thread.item.removed")]
    Removed { item_id: ItemId },
    #[serde(rename = "stream_options")]
    StreamOptions { stream_options: StreamOptions },
    #[serde(rename = "error")]
    Error {
        code: &'static str,
        message: String,
        allow_retry: bool,
    },
}

#[derive(Serialize)]
struct StreamOptions {
    allow_cancel: bool,
}

#[derive(Serialize)]
#[serde(tag = "type")]
enum Update {
    #[serde(rename = "assistant_message.content_part.added")]
    PartAdded {
        content_index: u32,
        content: OutputText,
    },
    #[serde(rename = "assistant_message.content_part.text_delta")]
    TextDelta { content_index: u32, delta: String },
    #[serde(rename = "assistant_message.content_part.done")]
    PartDone {
        content_index: u32,
        content: OutputText,
    },
    #[serde(rename = "workflow.task.added")]
    TaskAdded { task_index: usize, task: Task },
    #[serde(rename = "workflow.task.updated")]
    TaskUpdated { task_index: usize, task: Task },
}

fn frame(event: &Event) -> String {
    // Serialising these types cannot fail: they have no maps with keys other than text.
    sse::data(&serde_json::to_string(event).unwrap_or_default())
}

/// The frame of a new thread.
pub fn thread_created(conversation: &Conversation) -> String {
    frame(&Event::ThreadCreated {
        thread: conversation.into(),
    })
}

/// The frame of a thread whose title has changed.
pub fn thread_updated(conversation: &Conversation) -> String {
    frame(&Event::ThreadUpdated {
        thread: conversation.into(),
    })
}

/// The frame of the stream's options: the client can cancel the stream, and so the turn.
pub fn stream_options() -> String {
    frame(&Event::StreamOptions {
        stream_options: StreamOptions { allow_cancel: true },
    })
}

/// The frame of a refusal for the user.
pub fn refused(problem: &Problem) -> String {
    error(problem.detail(), false)
}

/// The last frame of a stream that ends before its turn.
pub fn interrupted(problem: &Problem) -> String {
    let reason = problem.code.row().reason;
    error(
        format!(
            "{reason}. Your message is stored and its answer continues. Open the conversation again \
             to see it."
        ),
        false,
    )
}

fn error(message: String, allow_retry: bool) -> String {
    frame(&Event::Error {
        code: "custom",
        message,
        allow_retry,
    })
}

/// Encodes the events of one turn, from its start.
pub struct Encoder {
    thread: ThreadId,
    /// The time of the last item: a draft has no time of its own.
    at: Timestamp,
    /// The message of the current draft.
    draft: Option<MessageId>,
    /// The tool calls of the open workflow.
    calls: Option<CallGroup>,
    /// The last message.
    last: Option<MessageId>,
}

impl Encoder {
    /// An encoder for a reader of this turn.
    pub fn new(turn: &Turn) -> Self {
        Self {
            thread: ThreadId(turn.conversation),
            at: turn.created_at,
            draft: None,
            calls: None,
            last: None,
        }
    }

    /// The frame of the user message, which is durable.
    pub fn echo(&self, items: &[chat_domain::Item]) -> String {
        user_message(self.thread, items, None)
            .map(|item| frame(&Event::Done { item }))
            .unwrap_or_default()
    }

    /// The frames of an event; empty if the thread does not show the event.
    pub fn event(&mut self, event: &TurnEvent) -> String {
        match event {
            TurnEvent::Text { message, delta } => self.text(*message, delta),
            TurnEvent::Discarded { message } => {
                self.draft = None;
                frame(&Event::Removed {
                    item_id: ItemId {
                        kind: ItemKind::Message,
                        message: *message,
                    },
                })
            }
            TurnEvent::Item(item) => {
                self.at = item.at;
                match &item.body {
                    ItemBody::Message(message) => {
                        self.last = Some(message.id);
                        // The user message was echoed at the start.
                        if message.role == Role::User {
                            String::new()
                        } else {
                            self.assistant_message(message.id, item.at, &message.text)
                        }
                    }
                    ItemBody::ToolCall(call) => self.tool_call(call, item.at),
                    ItemBody::ToolResult(result) => self.tool_result(result),
                }
            }
            TurnEvent::Ended(turn) => self.ended(turn),
        }
    }

    fn text(&mut self, message: MessageId, delta: &str) -> String {
        let mut frames = String::new();
        if self.draft != Some(message) {
            frames.push_str(&self.close_calls());
            self.draft = Some(message);
            frames.push_str(&frame(&Event::Added {
                item: assistant_message(self.thread, message, Time(self.at), None),
            }));
            frames.push_str(&self.update(
                message,
                Update::PartAdded {
                    content_index: 0,
                    content: OutputText::new(""),
                },
            ));
        }
        frames.push_str(&self.update(
            message,
            Update::TextDelta {
                content_index: 0,
                delta: delta.to_owned(),
            },
        ));
        frames
    }

    fn assistant_message(&mut self, message: MessageId, at: Timestamp, text: &str) -> String {
        self.draft = None;
        if text.is_empty() {
            return String::new();
        }
        let part = self.update(
            message,
            Update::PartDone {
                content_index: 0,
                content: OutputText::new(text),
            },
        );
        part + &frame(&Event::Done {
            item: assistant_message(self.thread, message, Time(at), Some(text)),
        })
    }

    fn update(&self, message: MessageId, update: Update) -> String {
        frame(&Event::Updated {
            item_id: ItemId {
                kind: ItemKind::Message,
                message,
            },
            update,
        })
    }

    fn tool_call(&mut self, call: &chat_domain::ToolCall, at: Timestamp) -> String {
        if let Some(calls) = self
            .calls
            .as_mut()
            .filter(|calls| calls.message == call.message)
        {
            let place = calls.add(call);
            return self.task(place, |task_index, task| Update::TaskAdded {
                task_index,
                task,
            });
        }
        let closed = self.close_calls();
        let calls = CallGroup::new(call, at);
        let added = frame(&Event::Added {
            item: workflow(self.thread, &calls),
        });
        self.calls = Some(calls);
        closed + &added
    }

    fn tool_result(&mut self, result: &chat_domain::ToolResult) -> String {
        let place = self.calls.as_mut().and_then(|calls| calls.record(result));
        place
            .map(|place| {
                self.task(place, |task_index, task| Update::TaskUpdated {
                    task_index,
                    task,
                })
            })
            .unwrap_or_default()
    }

    fn task(&self, place: usize, update: impl FnOnce(usize, Task) -> Update) -> String {
        let Some(calls) = &self.calls else {
            return String::new();
        };
        let item_id = ItemId {
            kind: ItemKind::Workflow,
            message: calls.message,
        };
        let event = calls.task(place).map(|task| Event::Updated {
            item_id,
            update: update(place, task),
        });
        event.as_ref().map(frame).unwrap_or_default()
    }

    /// The frame of the finished workflow, if one is open.
    fn close_calls(&mut self) -> String {
        self.calls
            .take()
            .map(|calls| {
                frame(&Event::Done {
                    item: workflow(self.thread, &calls),
                })
            })
            .unwrap_or_default()
    }

    fn ended(&mut self, turn: &Turn) -> String {
        let mut frames = self.close_calls();
        if let Some(item) = self.last.and_then(|last| notice(self.thread, turn, last)) {
            frames.push_str(&frame(&Event::Done { item }));
        }
        match &turn.status {
            TurnStatus::Ended {
                outcome: TurnOutcome::Failed(failure),
                ..
            } => {
                frames.push_str(&error(Problem::turn_failure(failure).detail(), true));
            }
            TurnStatus::Ended { .. } => {}
            TurnStatus::Queued | TurnStatus::Running => {
                frames.push_str(&interrupted(&Code::Internal.into()))
            }
        }
        frames
    }
}
