//! The view from outside: the messages and answers of clients, the texts of agents and the calls of
//! tools.

use std::collections::BTreeMap;

use chat_domain::{ConversationId, Ordinal, ToolCallId, ToolOutcome, TurnId, UserId};

/// Everything that was seen.
#[derive(Default)]
pub struct Witness {
    /// By text, each message that a client has sent.
    pub sent: BTreeMap<String, UserId>,
    /// By key, the turn that each client got for it.
    pub keys: BTreeMap<(UserId, String), TurnId>,
    /// The messages whose storing was acknowledged to a client.
    pub acknowledged: Vec<Acknowledged>,
    /// By turn, the texts that agents said in it.
    pub said: BTreeMap<TurnId, Vec<Said>>,
    /// By call, what tools did.
    pub calls: BTreeMap<ToolCallId, Called>,
    /// Grows with each event that has an order.
    pub events: u64,
}

/// A message whose storing was acknowledged to its client.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    pub owner: UserId,
    pub conversation: ConversationId,
    pub turn: TurnId,
    pub ordinal: Ordinal,
    /// When it was sent first, and when it was acknowledged, in events.
    pub sent: u64,
    pub answered: u64,
}

/// A step's text as the agent said it.
#[derive(Clone, Debug, Default)]
pub struct Said {
    pub text: String,
    pub is_whole: bool,
}

/// A call as its tool saw it.
#[derive(Clone, Debug, Default)]
pub struct Called {
    /// How often it was sent.
    pub sends: u32,
    /// The result of the tool.
    pub outcomes: Vec<ToolOutcome>,
}

impl Witness {
    /// The number of an event that happens now.
    pub fn event(&mut self) -> u64 {
        self.events += 1;
        self.events
    }
}
