//! Random faults of servers, tools, agent and database, from one seed.

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

/// Lease of the servers. Some pauses are shorter, some longer.
pub const LEASE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy)]
enum ServerFault {
    Kill,
    Pause,
    LongPause,
    Terminate,
    KillTools,
    FreezeTools,
}

#[derive(Clone, Copy)]
enum AgentFault {
    Cut,
    Away,
}

#[derive(Clone, Copy)]
enum DatabaseFault {
    Hold,
    Cut,
    KillBackend,
    FreezeBackend,
    Restart,
    Crash,
    Kill,
}

/// All targets of faults.
pub struct Targets {
    pub fleet: Arc<Fleet>,
    pub gateway: Gateway,
    pub database: Database,
    pub tally: Arc<Tally>,
}

/// Injects faults until the campaign is over. Each target has its own lane, so that faults overlap.
/// Finally all faults are undone.
pub async fn run(targets: Arc<Targets>, seed: u64, over: watch::Receiver<bool>) {
    let mut lanes = JoinSet::new();
    let replicas = targets.fleet.replicas.len() as u64;
    for (number, replica) in targets.fleet.replicas.iter().enumerate() {
        let (targets, replica) = (Arc::clone(&targets), Arc::clone(replica));
        let inject = move |rng| server(Arc::clone(&targets), Arc::clone(&replica), rng);
        // With more replicas each one fails less often, so that some work is done between faults.
        let pauses = 100..1_000 * replicas;
        lanes.spawn(lane(
            over.clone(),
            rng(seed, &format!("server {number}")),
            pauses,
            inject,
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

/// Injects faults, each after a random pause in milliseconds.
async fn lane<F: Future<Output = ()>>(
    mut over: watch::Receiver<bool>,
    mut rng: Rng,
    pauses: std::ops::Range<u64>,
    inject: impl Fn(Rng) -> F,
) {
    while !pause(&mut over, Duration::from_millis(rng.u64(pauses.clone()))).await {
        inject(rng.fork()).await;
    }
}

/// Waits. Returns whether the campaign ended first.
pub async fn pause(over: &mut watch::Receiver<bool>, time: Duration) -> bool {
    timeout(time, over.wait_for(|over| *over)).await.is_ok()
}

async fn server(targets: Arc<Targets>, replica: Arc<Replica>, mut rng: Rng) {
    let strikes = [
        (60, ServerFault::Kill),
        (12, ServerFault::Pause),
        (6, ServerFault::LongPause),
        (10, ServerFault::Terminate),
        (8, ServerFault::KillTools),
        (3, ServerFault::FreezeTools),
    ];
    let inject = choose(&mut rng, &strikes);
    let mut moment = |range| Duration::from_millis(rng.u64(range));
    match inject {
        ServerFault::Kill => {
            targets.tally.fault(KILL);
            replica.kill(moment(0..300)).await;
        }
        ServerFault::Pause => {
            targets.tally.fault("server paused, shorter than its lease");
            replica.pause(moment(50..1_200)).await;
        }
        ServerFault::LongPause => {
            targets.tally.fault("server paused, longer than its lease");
            replica.pause(LEASE + moment(300..2_500)).await;
        }
        ServerFault::Terminate => {
            targets.tally.fault(TERMINATE);
            replica.terminate(moment(0..200)).await;
        }
        ServerFault::KillTools => {
            targets.tally.fault("tool server killed (-9)");
            replica.kill_or_freeze_tools(None).await;
        }
        ServerFault::FreezeTools => {
            targets.tally.fault("tool server paused");
            replica.kill_or_freeze_tools(Some(moment(100..1_500))).await;
        }
    }
}

async fn agent(targets: Arc<Targets>, mut rng: Rng) {
    match choose(&mut rng, &[(3, AgentFault::Cut), (2, AgentFault::Away)]) {
        AgentFault::Cut => {
            targets.tally.fault("agent: all connections cut");
            targets.gateway.cut();
        }
        AgentFault::Away => {
            targets.tally.fault("agent: away");
            targets.gateway.refuse(true);
            sleep(Duration::from_millis(rng.u64(100..1_500))).await;
            targets.gateway.refuse(false);
        }
    }
}

async fn database(targets: Arc<Targets>, mut rng: Rng) {
    let strikes: &[(u32, DatabaseFault)] = match targets.database {
        Database::Sqlite(_) => &[(1, DatabaseFault::Hold)],
        Database::Postgres(..) => &[
            (3, DatabaseFault::Hold),
            (3, DatabaseFault::Cut),
            (3, DatabaseFault::KillBackend),
            (3, DatabaseFault::FreezeBackend),
            (2, DatabaseFault::Restart),
            (2, DatabaseFault::Crash),
            (1, DatabaseFault::Kill),
        ],
    };
    let inject = choose(&mut rng, strikes);
    let mut moment = |range| Duration::from_millis(rng.u64(range));
    // An error means that the database is unavailable, which is the purpose.
    match inject {
        DatabaseFault::Hold => {
            targets.tally.fault("database: writes blocked");
            let _ = targets.database.block_writes(moment(100..3_000)).await;
        }
        DatabaseFault::Cut => {
            targets.tally.fault("database: all connections cut");
            let _ = targets.database.cut().await;
        }
        DatabaseFault::KillBackend => {
            targets.tally.fault("database: a backend killed (-9)");
            let _ = targets.database.kill_or_freeze_backend(None).await;
        }
        DatabaseFault::FreezeBackend => {
            targets.tally.fault("database: a backend paused");
            let _ = targets
                .database
                .kill_or_freeze_backend(Some(moment(300..7_000)))
                .await;
        }
        DatabaseFault::Restart => {
            targets.tally.fault("database: restarted (fast)");
            targets
                .database
                .restart(Some(Mode::Fast), moment(0..1_500))
                .await
                .unwrap();
        }
        DatabaseFault::Crash => {
            targets.tally.fault("database: restarted (immediate)");
            targets
                .database
                .restart(Some(Mode::Immediate), moment(0..1_500))
                .await
                .unwrap();
        }
        DatabaseFault::Kill => {
            targets.tally.fault("database: killed (-9) and restarted");
            targets
                .database
                .restart(None, moment(0..1_000))
                .await
                .unwrap();
        }
    }
}
