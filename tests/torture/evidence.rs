//! The evidence of a campaign, from all sides.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::history::History;

/// Everything that the checker uses.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Requests of clients, and their answers.
    pub history: History,
    /// Rows of the tables.
    pub tables: Tables,
    /// Contents shown by the API.
    pub shown: Vec<Shown>,
    /// Runs of tools, in order.
    pub runs: Vec<Run>,
    /// Requests to the agent, and its answers.
    pub steps: Vec<Step>,
    /// Faults of servers: unexpected exits, panics, failed shutdowns.
    pub servers: Vec<String>,
    /// How many times servers were asked to stop, and may have handed turns over.
    pub hand_overs: u64,
}

/// The tables, row by row.
#[derive(Debug, Default)]
pub struct Tables {
    pub conversations: Vec<ConversationRow>,
    pub turns: Vec<TurnRow>,
    pub messages: Vec<MessageRow>,
    pub calls: Vec<CallRow>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct ConversationRow {
    pub id: Uuid,
    pub owner: String,
    pub last_position: i64,
    pub last_ordinal: i64,
}

#[derive(Clone, Debug, Deserialize)]
pub struct TurnRow {
    pub id: Uuid,
    pub conversation: Uuid,
    pub owner: String,
    pub ordinal: i64,
    pub status: String,
    pub epoch: i64,
    pub attempt: i64,
    /// Running time in microseconds.
    pub ran_us: i64,
    pub cancel_requested: i64,
    pub retry_of: Option<Uuid>,
    pub superseded: i64,
    pub failure: Option<String>,
}

impl TurnRow {
    pub fn is_open(&self) -> bool {
        matches!(self.status.as_str(), "queued" | "running")
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct MessageRow {
    pub id: Uuid,
    pub conversation: Uuid,
    pub turn: Uuid,
    pub position: Option<i64>,
    pub role: String,
    pub text: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct CallRow {
    pub id: Uuid,
    pub conversation: Uuid,
    pub turn: Uuid,
    pub message: Uuid,
    pub position: i64,
    pub tool: String,
    pub arguments: String,
    pub result_position: Option<i64>,
    pub outcome: Option<String>,
    pub output: Option<String>,
    pub error: Option<String>,
    pub unknown_cause: Option<String>,
}

/// A conversation as the API shows it to its owner.
#[derive(Clone, Debug)]
pub struct Shown {
    pub user: String,
    pub conversation: Uuid,
    pub messages: Vec<Value>,
    pub tool_calls: Vec<Value>,
}

/// One run of a tool.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub tool: String,
    pub call: Uuid,
    pub user: String,
    /// Whether the run ended.
    pub ended: bool,
}

/// Parses the tool server's log.
pub fn parse_runs(log: &str) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for line in log.lines() {
        let [what, tool, call, user] = line.split(' ').collect::<Vec<_>>()[..] else {
            continue;
        };
        let call = Uuid::try_parse(call).unwrap_or_default();
        match what {
            "begin" => runs.push(Run {
                tool: tool.to_owned(),
                call,
                user: user.to_owned(),
                ended: false,
            }),
            _ => {
                let run = runs
                    .iter_mut()
                    .rev()
                    .find(|run| run.call == call && !run.ended);
                run.into_iter().for_each(|run| run.ended = true);
            }
        }
    }
    runs
}

/// A request to the agent, and its answer.
#[derive(Clone, Debug)]
pub struct Step {
    pub number: usize,
    /// The transcript in the request.
    pub messages: Vec<Value>,
    pub text: String,
    /// Tools and arguments.
    pub calls: Vec<(String, String)>,
}

/// An entry of a conversation's log.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    Message(&'a MessageRow),
    Call(&'a CallRow),
    Result(&'a CallRow),
}

impl Item<'_> {
    pub fn position(&self) -> i64 {
        match self {
            Self::Message(row) => row.position.unwrap_or_default(),
            Self::Call(row) => row.position,
            Self::Result(row) => row.result_position.unwrap_or_default(),
        }
    }
}

/// The tables as conversations, turns and items.
pub struct Log<'a> {
    pub turns: HashMap<Uuid, &'a TurnRow>,
    /// Turns of each conversation, by ordinal.
    pub conversations: BTreeMap<Uuid, Vec<&'a TurnRow>>,
    items: HashMap<Uuid, Vec<Item<'a>>>,
}

impl<'a> Log<'a> {
    pub fn of(tables: &'a Tables) -> Self {
        let mut conversations: BTreeMap<Uuid, Vec<&TurnRow>> = BTreeMap::new();
        for turn in &tables.turns {
            conversations
                .entry(turn.conversation)
                .or_default()
                .push(turn);
        }
        conversations
            .values_mut()
            .for_each(|turns| turns.sort_by_key(|turn| turn.ordinal));
        let mut items: HashMap<Uuid, Vec<Item>> = HashMap::new();
        for row in &tables.messages {
            items.entry(row.turn).or_default().push(Item::Message(row));
        }
        for row in &tables.calls {
            let items = items.entry(row.turn).or_default();
            items.push(Item::Call(row));
            items.extend(row.result_position.map(|_| Item::Result(row)));
        }
        items
            .values_mut()
            .for_each(|items| items.sort_by_key(Item::position));
        Self {
            turns: tables.turns.iter().map(|turn| (turn.id, turn)).collect(),
            conversations,
            items,
        }
    }

    /// Returns the items of a turn, in order.
    pub fn items(&self, turn: Uuid) -> &[Item<'a>] {
        self.items.get(&turn).map_or(&[], Vec::as_slice)
    }

    /// Returns the text of a turn's user message.
    pub fn question(&self, turn: Uuid) -> Option<&'a str> {
        self.items(turn).iter().find_map(|item| match item {
            Item::Message(row) if row.role == "user" => Some(row.text.as_str()),
            _ => None,
        })
    }

    /// Returns a turn's answer as replies and lists show it.
    pub fn answer(&self, turn: Uuid) -> String {
        let texts = self.items(turn).iter().filter_map(|item| match item {
            Item::Message(row) if row.role == "assistant" && !row.text.is_empty() => {
                Some(row.text.as_str())
            }
            _ => None,
        });
        texts.collect::<Vec<_>>().join("\n\n")
    }
}
