//! One caller: a tab, a device, a program of a user.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::sleep;
use uuid::Uuid;

use super::sending::Wish;
use super::{Way, World, choose, watching};
use crate::agent::PLANS;

#[derive(Clone, Copy)]
enum Act {
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

/// What a caller does, by weight.
const ACTS: &[(u32, Act)] = &[
    (30, Act::Send),
    (34, Act::Stream),
    (6, Act::Duplicate),
    (2, Act::Mismatch),
    (2, Act::Malformed),
    (7, Act::Cancel),
    (5, Act::Retry),
    (4, Act::Watch),
    (7, Act::Read),
    (5, Act::Intrude),
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
    pub way: Way,
    pub rng: Rng,
}

impl Caller {
    pub fn new(world: Arc<World>, user: &str, rng: Rng) -> Self {
        Self {
            world,
            way: Way::new(user),
            rng,
        }
    }

    /// Another caller of the same user.
    pub fn another(&mut self) -> Self {
        Self {
            world: Arc::clone(&self.world),
            way: self.way.clone(),
            rng: self.rng.fork(),
        }
    }

    /// Does one thing after another until the campaign is over.
    pub async fn live(mut self) {
        while !self.world.is_over() {
            let act = choose(&mut self.rng, ACTS);
            self.act(act).await;
            sleep(Duration::from_millis(self.rng.u64(0..120))).await;
        }
    }

    async fn act(&mut self, act: Act) {
        let user = self.way.user.clone();
        let turn = self.world.book.lock().unwrap().turn(&user, &mut self.rng);
        match (act, turn) {
            (Act::Send, _) => {
                let wish = self.wish(false);
                self.send(&wish).await;
            }
            (Act::Stream, _) => {
                let wish = self.wish(true);
                self.send(&wish).await;
            }
            (Act::Duplicate, _) => {
                let wish = Wish {
                    key: Some(self.key()),
                    ..self.wish(false)
                };
                let times = self.rng.usize(2..5);
                self.send_at_once(&wish, times).await;
                // Long afterwards it is the same turn still.
                self.send(&wish).await;
            }
            (Act::Mismatch, _) => {
                let wish = Wish {
                    key: Some(self.key()),
                    ..self.wish(false)
                };
                if self.send(&wish).await.is_some() {
                    let other = Wish {
                        text: self.text("say"),
                        ..wish
                    };
                    self.send(&other).await;
                }
            }
            (Act::Malformed, _) => {
                let plan = if self.rng.bool() {
                    "x".repeat(6_000)
                } else {
                    "\0".to_owned()
                };
                let wish = Wish {
                    text: self.text(&plan),
                    ..self.wish(false)
                };
                self.send(&wish).await;
            }
            (Act::Cancel, Some((turn, _))) => self.cancel(turn).await,
            (Act::Retry, Some((turn, asked))) => self.retry(turn, asked).await,
            (Act::Watch, Some((turn, _))) => watching::watch(self, turn).await,
            (Act::Intrude, _) => self.intrude().await,
            (Act::Read, _) => {
                let conversation = self
                    .world
                    .book
                    .lock()
                    .unwrap()
                    .any_conversation(&user, &mut self.rng);
                if let Some(conversation) = conversation {
                    self.read(conversation).await;
                }
            }
            (Act::Cancel | Act::Retry | Act::Watch, None) => {}
        }
    }

    /// A new conversation. `None` if it could not be begun.
    pub async fn found(&mut self) -> Option<Uuid> {
        let wish = Wish {
            conversation: None,
            retry_of: None,
            text: self.text("say"),
            key: Some(self.key()),
            query: "?messages=turn".to_owned(),
            streams: false,
        };
        self.send(&wish).await.map(|(conversation, _)| conversation)
    }

    /// One message among very many to the same conversation.
    pub async fn storm(&mut self, conversation: Uuid) {
        let busy = choose(
            &mut self.rng,
            &[(16, "enqueue"), (4, "reject"), (1, "interrupt")],
        );
        let plan = choose(&mut self.rng, &[(20, "say"), (2, "pay")]);
        let wish = Wish {
            conversation: Some(conversation),
            retry_of: None,
            text: self.text(plan),
            key: self.rng.bool().then(|| self.key()),
            query: format!("?messages=turn&busy={busy}"),
            streams: self.rng.u8(0..4) == 0,
        };
        self.send(&wish).await;
    }

    /// Wants a turn retried. Its text is the turn's.
    async fn retry(&mut self, turn: Uuid, text: String) {
        let query = self.query();
        let streams = self.rng.bool();
        let wish = Wish {
            conversation: None,
            retry_of: Some(turn),
            text,
            key: Some(self.key()),
            query,
            streams,
        };
        self.send(&wish).await;
    }

    fn wish(&mut self, streams: bool) -> Wish {
        let user = self.way.user.clone();
        let new = self.rng.u8(0..8) == 0;
        let known = self
            .world
            .book
            .lock()
            .unwrap()
            .conversation(&user, &mut self.rng);
        let plan = choose(&mut self.rng, PLANS);
        Wish {
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

    /// A text that no other message has: who, which, and what the agent is to do.
    pub fn text(&mut self, plan: &str) -> String {
        format!("{}:{} {plan}", self.way.user, self.world.number())
    }

    fn key(&mut self) -> String {
        format!("key-{:016x}", self.rng.u64(..))
    }
}
