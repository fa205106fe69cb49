//! A caller: a tab, a device or a program of a user.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::sleep;
use uuid::Uuid;

use super::sending::MessageRequest;
use super::{UserClient, World, choose, watching};
use crate::agent::PLANS;

#[derive(Clone, Copy)]
enum Action {
    Send,
    Stream,
    Duplicate,
    Mismatch,
    Malformed,
    Cancel,
    Retry,
    Watch,
    Read,
    Intrude,
}

/// Weighted actions of a caller.
const ACTIONS: &[(u32, Action)] = &[
    (30, Action::Send),
    (34, Action::Stream),
    (6, Action::Duplicate),
    (2, Action::Mismatch),
    (2, Action::Malformed),
    (7, Action::Cancel),
    (5, Action::Retry),
    (4, Action::Watch),
    (7, Action::Read),
    (5, Action::Intrude),
];

const BUSY: &[(u32, &str)] = &[
    (12, ""),
    (2, "busy=reject"),
    (2, "busy=interrupt"),
    (4, "busy=enqueue"),
];

/// A caller.
pub struct Caller {
    pub world: Arc<World>,
    pub client: UserClient,
    pub rng: Rng,
}

impl Caller {
    pub fn new(world: Arc<World>, user: &str, rng: Rng) -> Self {
        Self {
            world,
            client: UserClient::new(user),
            rng,
        }
    }

    /// Returns another caller of the same user.
    pub fn another(&mut self) -> Self {
        Self {
            world: Arc::clone(&self.world),
            client: self.client.clone(),
            rng: self.rng.fork(),
        }
    }

    /// Acts until the campaign is over.
    pub async fn live(mut self) {
        while !self.world.is_over() {
            let perform = choose(&mut self.rng, ACTIONS);
            self.perform(perform).await;
            sleep(Duration::from_millis(self.rng.u64(0..120))).await;
        }
    }

    async fn perform(&mut self, perform: Action) {
        let user = self.client.user.clone();
        let turn = self.world.known.lock().unwrap().turn(&user, &mut self.rng);
        match (perform, turn) {
            (Action::Send, _) => {
                let outgoing = self.outgoing(false);
                self.send(&outgoing).await;
            }
            (Action::Stream, _) => {
                let outgoing = self.outgoing(true);
                self.send(&outgoing).await;
            }
            (Action::Duplicate, _) => {
                let outgoing = MessageRequest {
                    key: Some(self.key()),
                    ..self.outgoing(false)
                };
                let times = self.rng.usize(2..5);
                self.send_at_once(&outgoing, times).await;
                // A late repetition returns the same turn.
                self.send(&outgoing).await;
            }
            (Action::Mismatch, _) => {
                let outgoing = MessageRequest {
                    key: Some(self.key()),
                    ..self.outgoing(false)
                };
                if self.send(&outgoing).await.is_some() {
                    let other = MessageRequest {
                        text: self.text("say"),
                        ..outgoing
                    };
                    self.send(&other).await;
                }
            }
            (Action::Malformed, _) => {
                let plan = if self.rng.bool() {
                    "x".repeat(6_000)
                } else {
                    "\0".to_owned()
                };
                let outgoing = MessageRequest {
                    text: self.text(&plan),
                    ..self.outgoing(false)
                };
                self.send(&outgoing).await;
            }
            (Action::Cancel, Some((turn, _))) => self.cancel(turn).await,
            (Action::Retry, Some((turn, question))) => self.retry(turn, question).await,
            (Action::Watch, Some((turn, _))) => watching::watch(self, turn).await,
            (Action::Intrude, _) => self.intrude().await,
            (Action::Read, _) => {
                let conversation = self
                    .world
                    .known
                    .lock()
                    .unwrap()
                    .any_conversation(&user, &mut self.rng);
                if let Some(conversation) = conversation {
                    self.read(conversation).await;
                }
            }
            (Action::Cancel | Action::Retry | Action::Watch, None) => {}
        }
    }

    /// Creates a conversation. Returns `None` if that failed.
    pub async fn create_conversation(&mut self) -> Option<Uuid> {
        let outgoing = MessageRequest {
            conversation: None,
            retry_of: None,
            text: self.text("say"),
            key: Some(self.key()),
            query: "?messages=turn".to_owned(),
            streams: false,
        };
        self.send(&outgoing)
            .await
            .map(|(conversation, _)| conversation)
    }

    /// Sends one of many concurrent messages to the same conversation.
    pub async fn burst(&mut self, conversation: Uuid) {
        let busy = choose(
            &mut self.rng,
            &[(16, "enqueue"), (4, "reject"), (1, "interrupt")],
        );
        let plan = choose(&mut self.rng, &[(20, "say"), (2, "pay")]);
        let outgoing = MessageRequest {
            conversation: Some(conversation),
            retry_of: None,
            text: self.text(plan),
            key: self.rng.bool().then(|| self.key()),
            query: format!("?messages=turn&busy={busy}"),
            streams: self.rng.u8(0..4) == 0,
        };
        self.send(&outgoing).await;
    }

    /// Retries a turn. The retry has the turn's text.
    async fn retry(&mut self, turn: Uuid, text: String) {
        let query = self.query();
        let streams = self.rng.bool();
        let outgoing = MessageRequest {
            conversation: None,
            retry_of: Some(turn),
            text,
            key: Some(self.key()),
            query,
            streams,
        };
        self.send(&outgoing).await;
    }

    fn outgoing(&mut self, streams: bool) -> MessageRequest {
        let user = self.client.user.clone();
        let new = self.rng.u8(0..8) == 0;
        let known = self
            .world
            .known
            .lock()
            .unwrap()
            .conversation(&user, &mut self.rng);
        let plan = choose(&mut self.rng, PLANS);
        MessageRequest {
            conversation: known.filter(|_| !new),
            retry_of: None,
            text: self.text(plan),
            key: (self.rng.u8(0..10) < 7).then(|| self.key()),
            query: self.query(),
            streams,
        }
    }

    fn query(&mut self) -> String {
        let shown = if self.rng.u8(0..3) == 0 {
            "messages=all"
        } else {
            "messages=turn"
        };
        format!("?{shown}&{}", choose(&mut self.rng, BUSY))
    }

    /// Returns a unique text: user, number and plan.
    pub fn text(&mut self, plan: &str) -> String {
        format!("{}:{} {plan}", self.client.user, self.world.number())
    }

    fn key(&mut self) -> String {
        format!("key-{:016x}", self.rng.u64(..))
    }
}
