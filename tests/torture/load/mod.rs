//! The load: many callers of several users, who do what real clients do, and what they should not.

mod book;
mod caller;
mod reading;
mod sending;
mod watching;

pub use book::Book;

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
use crate::history::Record;
use crate::report::Tally;
use caller::Caller;

/// Who uses the server.
const USERS: &[&str] = &["ann", "bob", "cleo", "dan", "eve"];
/// How many callers each user has: tabs, devices, programs.
const CALLERS: usize = 4;
/// How many callers storm one conversation at once.
const STORM: usize = 110;

/// What the callers share.
pub struct World {
    pub fleet: Arc<Fleet>,
    pub record: Record,
    pub book: Mutex<Book>,
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
            record: Record::new(),
            book: Mutex::default(),
            tally,
            seed,
            over,
            numbers: AtomicU64::new(0),
        }
    }

    /// A number that no other request has.
    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        *self.over.borrow()
    }
}

/// Chance for a part of the campaign: the same for the same seed and name.
pub fn rng(seed: u64, name: &str) -> Rng {
    let mut rng = Rng::with_seed(seed);
    let mixed = name.bytes().fold(rng.u64(..), |mixed, byte| {
        (mixed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Rng::with_seed(mixed)
}

/// One of these, by weight.
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
    callers.spawn(storms(Arc::clone(&world)));
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
}

/// One caller for each user, to look at what there is in the end.
pub fn readers(world: &Arc<World>) -> impl Iterator<Item = Caller> {
    USERS
        .iter()
        .map(|user| Caller::new(Arc::clone(world), user, rng(world.seed, user)))
}

/// Now and then very many callers want something of one conversation at once.
async fn storms(world: Arc<World>) {
    let mut rng = rng(world.seed, "storms");
    let mut over = world.over.clone();
    while !pause(&mut over, Duration::from_millis(rng.u64(9_000..18_000))).await {
        let user = *rng.choice(USERS).unwrap();
        let mut founder = Caller::new(Arc::clone(&world), user, rng.fork());
        let Some(conversation) = founder.found().await else {
            continue;
        };
        world.tally.count("storms of 110 callers");
        let mut callers = JoinSet::new();
        for _ in 0..STORM {
            let mut caller = founder.another();
            callers.spawn(async move { caller.storm(conversation).await });
        }
        while let Some(ended) = callers.join_next().await {
            ended.unwrap();
        }
    }
}

/// One user's way to whichever replica.
#[derive(Clone)]
pub struct Way {
    client: Client,
    pub user: String,
}

impl Way {
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
