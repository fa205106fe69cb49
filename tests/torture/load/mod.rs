//! The load: many callers of several users, with valid and invalid requests.

mod caller;
mod known;
mod reading;
mod sending;
mod watching;

pub use known::KnownIds;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chat_tests::client::Client;
use fastrand::Rng;
use reqwest::{Method, RequestBuilder};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::faults::pause;
use crate::fleet::Fleet;
use crate::history::Recorder;
use crate::report::Tally;
use caller::Caller;

/// The users.
const USERS: &[&str] = &["ann", "bob", "cleo", "dan", "eve"];
/// Callers per user: tabs, devices, programs.
const CALLERS: usize = 4;
/// How many callers send to one conversation concurrently in a burst.
const BURST_SIZE: usize = 110;

/// State that callers share.
pub struct World {
    pub fleet: Arc<Fleet>,
    pub recorder: Recorder,
    pub known: Mutex<KnownIds>,
    pub tally: Arc<Tally>,
    pub seed: u64,
    /// Whether the campaign is over.
    pub over: watch::Receiver<bool>,
    numbers: AtomicU64,
}

impl World {
    pub fn new(
        fleet: Arc<Fleet>,
        tally: Arc<Tally>,
        seed: u64,
        over: watch::Receiver<bool>,
    ) -> Self {
        Self {
            fleet,
            recorder: Recorder::new(),
            known: Mutex::default(),
            tally,
            seed,
            over,
            numbers: AtomicU64::new(0),
        }
    }

    /// Returns a unique number.
    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        *self.over.borrow()
    }
}

/// Returns the random numbers for a part of the campaign, which depend on the seed and the name
/// only.
pub fn rng(seed: u64, name: &str) -> Rng {
    let mut rng = Rng::with_seed(seed);
    let mixed = name.bytes().fold(rng.u64(..), |mixed, byte| {
        (mixed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Rng::with_seed(mixed)
}

/// Chooses one of these, by weight.
pub fn choose<T: Copy>(rng: &mut Rng, weighted: &[(u32, T)]) -> T {
    let mut left = rng.u32(0..weighted.iter().map(|(weight, _)| weight).sum());
    for (weight, choice) in weighted {
        if left < *weight {
            return *choice;
        }
        left -= weight;
    }
    weighted[0].1
}

/// Runs the load until the campaign is over.
pub async fn run(world: Arc<World>) {
    let mut callers = JoinSet::new();
    for user in USERS {
        for place in 0..CALLERS {
            let caller = Caller::new(
                Arc::clone(&world),
                user,
                rng(world.seed, &format!("caller {user} {place}")),
            );
            callers.spawn(caller.live());
        }
    }
    callers.spawn(bursts(Arc::clone(&world)));
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
}

/// Returns one caller per user, for the final reads.
pub fn readers(world: &Arc<World>) -> impl Iterator<Item = Caller> {
    USERS
        .iter()
        .map(|user| Caller::new(Arc::clone(world), user, rng(world.seed, user)))
}

/// Starts bursts of many concurrent messages to one conversation.
async fn bursts(world: Arc<World>) {
    let mut rng = rng(world.seed, "storms");
    let mut over = world.over.clone();
    while !pause(&mut over, Duration::from_millis(rng.u64(9_000..18_000))).await {
        let user = *rng.choice(USERS).unwrap();
        let mut founder = Caller::new(Arc::clone(&world), user, rng.fork());
        let Some(conversation) = founder.create_conversation().await else {
            continue;
        };
        world.tally.count("bursts of 110 callers");
        let mut callers = JoinSet::new();
        for _ in 0..BURST_SIZE {
            let mut caller = founder.another();
            callers.spawn(async move { caller.burst(conversation).await });
        }
        while let Some(ended) = callers.join_next().await {
            ended.unwrap();
        }
    }
}

/// A user's connections to the replicas.
#[derive(Clone)]
pub struct UserClient {
    client: Client,
    pub user: String,
}

impl UserClient {
    fn new(user: &str) -> Self {
        Self {
            client: Client::new(SocketAddr::from(([127, 0, 0, 1], 9)), user),
            user: user.to_owned(),
        }
    }

    async fn request(
        &self,
        world: &World,
        rng: &mut Rng,
        method: Method,
        path: &str,
    ) -> RequestBuilder {
        self.client
            .at(world.fleet.any(rng).await)
            .request(method, path)
    }
}
