//! What befalls the servers, their tools, the agent and the database: at random, from one seed.

use std::sync::Arc;
use std::time::Duration;

use chat_test_postgres::Mode;
use fastrand::Rng;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::database::Database;
use crate::fleet::{Fleet, Replica};
use crate::gateway::Gateway;
use crate::load::{choose, rng};
use crate::report::{KILL, TERMINATE, Tally};

/// How long servers keep their turns when they fall silent. Pauses are shorter and longer.
pub const LEASE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy)]
enum OfServer {
    Kill,
    Pause,
    LongPause,
    Terminate,
    KillTools,
    FreezeTools,
}

#[derive(Clone, Copy)]
enum OfAgent {
    Cut,
    Away,
}

#[derive(Clone, Copy)]
enum OfDatabase {
    Hold,
    Cut,
    KillBackend,
    FreezeBackend,
    Restart,
    Crash,
    Kill,
}

/// All that can be struck.
pub struct Targets {
    pub fleet: Arc<Fleet>,
    pub gateway: Gateway,
    pub database: Database,
    pub tally: Arc<Tally>,
}

/// Strikes until the campaign is over. Each target has a lane of its own, so that faults meet. In
/// the end everything is healed.
pub async fn run(targets: Arc<Targets>, seed: u64, over: watch::Receiver<bool>) {
    let mut lanes = JoinSet::new();
    let replicas = targets.fleet.replicas.len() as u64;
    for (number, replica) in targets.fleet.replicas.iter().enumerate() {
        let (targets, replica) = (Arc::clone(&targets), Arc::clone(replica));
        let strike = move |rng| server(Arc::clone(&targets), Arc::clone(&replica), rng);
        // The more there are, the less often each is struck: some work is to be done between the
        // strikes.
        let pauses = 100..1_000 * replicas;
        lanes.spawn(lane(
            over.clone(),
            rng(seed, &format!("server {number}")),
            pauses,
            strike,
        ));
    }
    let of_agent = Arc::clone(&targets);
    lanes.spawn(lane(
        over.clone(),
        rng(seed, "agent"),
        2_000..9_000,
        move |rng| agent(Arc::clone(&of_agent), rng),
    ));
    lanes.spawn(lane(
        over,
        rng(seed, "database"),
        4_000..12_000,
        move |rng| database(Arc::clone(&targets), rng),
    ));
    while let Some(ended) = lanes.join_next().await {
        ended.unwrap();
    }
}

/// Strikes, each after a pause of so many milliseconds.
async fn lane<F: Future<Output = ()>>(
    mut over: watch::Receiver<bool>,
    mut rng: Rng,
    pauses: std::ops::Range<u64>,
    strike: impl Fn(Rng) -> F,
) {
    while !pause(&mut over, Duration::from_millis(rng.u64(pauses.clone()))).await {
        strike(rng.fork()).await;
    }
}

/// Waits; says whether the campaign was over before.
pub async fn pause(over: &mut watch::Receiver<bool>, time: Duration) -> bool {
    timeout(time, over.wait_for(|over| *over)).await.is_ok()
}

async fn server(targets: Arc<Targets>, replica: Arc<Replica>, mut rng: Rng) {
    let strikes = [
        (60, OfServer::Kill),
        (12, OfServer::Pause),
        (6, OfServer::LongPause),
        (10, OfServer::Terminate),
        (8, OfServer::KillTools),
        (3, OfServer::FreezeTools),
    ];
    let strike = choose(&mut rng, &strikes);
    let mut moment = |range| Duration::from_millis(rng.u64(range));
    match strike {
        OfServer::Kill => {
            targets.tally.fault(KILL);
            replica.kill(moment(0..300)).await;
        }
        OfServer::Pause => {
            targets.tally.fault("server paused, shorter than its lease");
            replica.pause(moment(50..1_200)).await;
        }
        OfServer::LongPause => {
            targets.tally.fault("server paused, longer than its lease");
            replica.pause(LEASE + moment(300..2_500)).await;
        }
        OfServer::Terminate => {
            targets.tally.fault(TERMINATE);
            replica.terminate(moment(0..200)).await;
        }
        OfServer::KillTools => {
            targets.tally.fault("tool server killed (-9)");
            replica.strike_tools(None).await;
        }
        OfServer::FreezeTools => {
            targets.tally.fault("tool server paused");
            replica.strike_tools(Some(moment(100..1_500))).await;
        }
    }
}

async fn agent(targets: Arc<Targets>, mut rng: Rng) {
    match choose(&mut rng, &[(3, OfAgent::Cut), (2, OfAgent::Away)]) {
        OfAgent::Cut => {
            targets.tally.fault("agent: all connections cut");
            targets.gateway.cut();
        }
        OfAgent::Away => {
            targets.tally.fault("agent: away");
            targets.gateway.refuse(true);
            sleep(Duration::from_millis(rng.u64(100..1_500))).await;
            targets.gateway.refuse(false);
        }
    }
}

async fn database(targets: Arc<Targets>, mut rng: Rng) {
    let strikes: &[(u32, OfDatabase)] = match targets.database {
        Database::Sqlite(_) => &[(1, OfDatabase::Hold)],
        Database::Postgres(..) => &[
            (3, OfDatabase::Hold),
            (3, OfDatabase::Cut),
            (3, OfDatabase::KillBackend),
            (3, OfDatabase::FreezeBackend),
            (2, OfDatabase::Restart),
            (2, OfDatabase::Crash),
            (1, OfDatabase::Kill),
        ],
    };
    let strike = choose(&mut rng, strikes);
    let mut moment = |range| Duration::from_millis(rng.u64(range));
    // Where the strike itself meets a database that is away, it is away all the more.
    match strike {
        OfDatabase::Hold => {
            targets
                .tally
                .fault("database: nobody can write for a while");
            let _ = targets.database.hold(moment(100..3_000)).await;
        }
        OfDatabase::Cut => {
            targets.tally.fault("database: all connections cut");
            let _ = targets.database.cut().await;
        }
        OfDatabase::KillBackend => {
            targets.tally.fault("database: a backend killed (-9)");
            let _ = targets.database.strike_backend(None).await;
        }
        OfDatabase::FreezeBackend => {
            targets.tally.fault("database: a backend paused");
            let _ = targets
                .database
                .strike_backend(Some(moment(300..7_000)))
                .await;
        }
        OfDatabase::Restart => {
            targets.tally.fault("database: restarted (fast)");
            targets
                .database
                .restart(Some(Mode::Fast), moment(0..1_500))
                .await
                .unwrap();
        }
        OfDatabase::Crash => {
            targets.tally.fault("database: restarted (immediate)");
            targets
                .database
                .restart(Some(Mode::Immediate), moment(0..1_500))
                .await
                .unwrap();
        }
        OfDatabase::Kill => {
            targets
                .tally
                .fault("database: killed (-9) and started again");
            targets
                .database
                .restart(None, moment(0..1_000))
                .await
                .unwrap();
        }
    }
}
