//! Which rows some commands need.

use super::{AppendItems, BeginTurn, BusyPolicy, EndTurn, Target};
use crate::{ConversationId, ItemBody, MessageId, NewItem, ToolCallId, TurnId, UserId};

/// The rows that some commands need. Rows that do not exist are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogNeeds {
    /// Conversations that turns begin in, with their running turn. How many turns are queued in
    /// them must be known.
    pub conversations: Vec<ConversationId>,
    /// Those of `conversations` of which all running and queued turns are needed.
    pub all_open_turns_of: Vec<ConversationId>,
    /// Turns whose conversations are needed.
    pub conversations_of_turns: Vec<TurnId>,
    /// Turns that end: the running turn of their conversation is needed, and the queued ones up to
    /// the first whose cancellation was not requested.
    pub next_turns_of: Vec<TurnId>,
    /// Turns that are needed themselves, whatever their status.
    pub turns: Vec<TurnId>,
    /// Idempotency keys: the turns that used them are needed.
    pub keys: Vec<(UserId, String)>,
    /// Messages that are needed.
    pub messages: Vec<MessageId>,
    /// Tool calls that are needed, with their results.
    pub calls: Vec<ToolCallId>,
}

impl LogNeeds {
    /// Adds the rows that this command needs.
    pub fn begin(mut self, begin: &BeginTurn) -> Self {
        if let Target::Existing(id) = begin.target {
            self.conversations.push(id);
            let interrupts = begin.busy == BusyPolicy::Interrupt;
            self.all_open_turns_of.extend(interrupts.then_some(id));
        }
        self.turns.push(begin.turn);
        self.turns
            .extend(begin.retry_of.map(|retried| retried.turn));
        let key = begin.idempotency.iter();
        self.keys
            .extend(key.map(|used| (begin.owner.clone(), used.key.clone())));
        self
    }

    /// Adds the rows that this command needs.
    pub fn append(mut self, append: &AppendItems) -> Self {
        self.add_items(append.lease.turn, &append.items);
        self
    }

    /// Adds the rows that this command needs.
    pub fn end(mut self, end: &EndTurn) -> Self {
        self.next_turns_of.push(end.lease.turn);
        self.add_items(end.lease.turn, &end.last);
        self
    }

    /// Whether nothing is needed: there was no command.
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    fn add_items(&mut self, turn: TurnId, items: &[NewItem]) {
        self.conversations_of_turns.push(turn);
        self.turns.push(turn);
        for item in items {
            match &item.body {
                ItemBody::Message(message) => self.messages.push(message.id),
                ItemBody::ToolCall(call) => self.calls.push(call.id),
                ItemBody::ToolResult(result) => self.calls.push(result.call),
            }
        }
    }
}
