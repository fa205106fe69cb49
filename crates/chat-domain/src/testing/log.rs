use std::time::Duration;

use crate::testing::FixedEnvironment;
use crate::{
    ConversationId, Environment, Item, ItemBody, LoggedTurn, Message, MessageId, Ordinal, Position,
    RawJson, Role, Timestamp, ToolCall, ToolCallId, ToolExecutor, ToolOutcome, ToolOutput,
    ToolResult, Turn, TurnId, TurnOutcome, TurnStatus, Usage,
};

/// Builds the items of one turn.
#[derive(Debug)]
pub struct LogBuilder {
    environment: FixedEnvironment,
    turn: TurnId,
    items: Vec<Item>,
}

impl Default for LogBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl LogBuilder {
    /// An empty turn.
    pub fn new() -> Self {
        let environment = FixedEnvironment::new();
        let turn = TurnId(environment.fresh_id());
        Self {
            environment,
            turn,
            items: Vec::new(),
        }
    }

    /// The items so far.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    fn push(&mut self, body: ItemBody) {
        let position = Position(self.items.len() as u64 + 1);
        self.items.push(Item {
            position,
            turn: self.turn,
            at: self.environment.now(),
            body,
        });
    }

    fn message(&mut self, role: Role, text: &str) -> MessageId {
        let id = MessageId(self.environment.fresh_id());
        self.push(ItemBody::Message(match role {
            Role::User => Message::user(id, text),
            Role::Assistant => Message::assistant(id, text),
        }));
        id
    }

    /// The user's message.
    pub fn user(&mut self, text: &str) -> MessageId {
        self.message(Role::User, text)
    }

    /// A step's message.
    pub fn assistant(&mut self, text: &str) -> MessageId {
        self.message(Role::Assistant, text)
    }

    /// A call of that step, with `{}` as arguments.
    pub fn call(&mut self, message: MessageId, tool: &str) -> ToolCall {
        self.call_by(ToolExecutor::Server, message, tool)
    }

    /// The same, run by somebody.
    pub fn call_by(&mut self, executor: ToolExecutor, message: MessageId, tool: &str) -> ToolCall {
        let id = ToolCallId(self.environment.fresh_id());
        let call = ToolCall {
            id,
            message,
            tool: tool.to_owned(),
            arguments: RawJson::from_valid("{}"),
            executor,
            agent_data: None,
        };
        self.push(ItemBody::ToolCall(call.clone()));
        call
    }

    /// A successful result, `{"ok":true}`.
    pub fn result(&mut self, call: ToolCallId) {
        self.outcome(
            call,
            ToolOutcome::Succeeded(ToolOutput(RawJson::from_valid(r#"{"ok":true}"#))),
        );
    }

    /// Any result.
    pub fn outcome(&mut self, call: ToolCallId, outcome: ToolOutcome) {
        let started_at = self.environment.now();
        self.push(ItemBody::ToolResult(ToolResult {
            call,
            outcome,
            started_at,
            took: Duration::from_millis(3),
        }));
    }

    /// The turn's log, ended so.
    pub fn ended(self, ordinal: u64, outcome: TurnOutcome) -> LoggedTurn {
        self.log(
            ordinal,
            TurnStatus::Ended {
                at: FixedEnvironment::START,
                outcome,
            },
        )
    }

    /// The turn's log, with this status.
    pub fn log(self, ordinal: u64, status: TurnStatus) -> LoggedTurn {
        let turn = Turn {
            id: self.turn,
            conversation: ConversationId(FixedEnvironment::id(u64::MAX)),
            ordinal: Ordinal(ordinal),
            status,
            cancel_requested: false,
            retry_of: None,
            original: None,
            superseded: false,
            created_at: Timestamp::default(),
            usage: Usage::default(),
            finish: None,
            turns_left_out: 0,
        };
        LoggedTurn {
            turn,
            items: self.items,
        }
    }
}
