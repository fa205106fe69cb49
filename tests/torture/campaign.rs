//! One campaign: everything is started, loaded and struck; then healed, and judged.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chat_tests::program;
use chat_tests::server::Home;
use chat_tests::witness::TOOLS;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::agent::{Agent, UNSTORABLE};
use crate::checker::{self, Violation};
use crate::database::Database;
use crate::evidence::{Evidence, Shown, runs};
use crate::faults::{self, LEASE, Targets};
use crate::fleet::Fleet;
use crate::gateway::Gateway;
use crate::load::{self, World, rng};
use crate::report::{TERMINATE, Tally};

/// How long a turn may run.
pub const TURN_LIMIT: Duration = Duration::from_secs(25);

/// How long everything may take to come to its end once all is healed.
const PATIENCE: Duration = Duration::from_secs(120);

/// A kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// A file, which one server owns.
    Sqlite,
    /// A PostgreSQL server, started for the campaign alone.
    Postgres,
}

/// What a campaign is to be.
pub struct Plan {
    pub seed: u64,
    pub time: Duration,
    pub database: Kind,
    pub replicas: usize,
    /// Another build of the server.
    pub server: Option<PathBuf>,
}

/// What became of it.
pub struct Outcome {
    pub tally: Arc<Tally>,
    /// How long it took until all turns had ended, once all was healed and all callers had their
    /// answers.
    pub settled: Duration,
    pub violations: Vec<Violation>,
    pub evidence: Evidence,
    /// What each replica wrote.
    pub logs: Vec<String>,
}

/// Runs a campaign to its end.
pub async fn run(plan: &Plan) -> Outcome {
    let agent = Agent::start(rng(plan.seed, "agent's answers"));
    let target = agent
        .base_url()
        .trim_start_matches("http://")
        .trim_end_matches("/v1")
        .parse()
        .unwrap();
    let gateway = Gateway::to(target).await.unwrap();
    let folder = TempDir::new().unwrap();
    let tool_log = folder.path().join("tools.log");
    let home = || home(&gateway, &tool_log);
    let (database, homes) = match plan.database {
        Kind::Sqlite => {
            let home = home();
            (Database::sqlite(&home.database()), vec![home])
        }
        Kind::Postgres => {
            let (database, url) = tokio::task::spawn_blocking(Database::postgres)
                .await
                .unwrap()
                .unwrap();
            (
                database,
                (0..plan.replicas)
                    .map(|_| home().set("DATABASE_URL", &url))
                    .collect(),
            )
        }
    };
    let program = plan
        .server
        .clone()
        .unwrap_or_else(|| program("chat-server-under-test"));
    let fleet = Arc::new(Fleet::start(homes, program).await);
    database.refuse(UNSTORABLE).await.unwrap();

    let (end, over) = watch::channel(false);
    let tally = Arc::new(Tally::default());
    let world = Arc::new(World::new(
        Arc::clone(&fleet),
        Arc::clone(&tally),
        plan.seed,
        over.clone(),
    ));
    let targets = Arc::new(Targets {
        fleet: Arc::clone(&fleet),
        gateway,
        database,
        tally: Arc::clone(&tally),
    });
    let load = tokio::spawn(load::run(Arc::clone(&world)));
    let strikes = tokio::spawn(faults::run(Arc::clone(&targets), plan.seed, over));

    sleep(plan.time).await;
    end.send_replace(true);
    agent.calm_down();
    strikes.await.unwrap();
    load.await.unwrap();
    let healed = Instant::now();
    let mut complaints = Vec::from_iter(settled(&targets.database).await.err());
    let settled = healed.elapsed();
    let shown = noted(shown(&world).await, &mut complaints);
    for replica in &fleet.replicas {
        replica.end().await;
    }
    let steps = noted(agent.steps(), &mut complaints);
    complaints.extend(fleet.faults());
    let evidence = Evidence {
        history: world.record.take(),
        tables: targets.database.tables().await.unwrap(),
        shown,
        runs: runs(&std::fs::read_to_string(&tool_log).unwrap_or_default()),
        steps,
        servers: complaints,
        hand_overs: tally.faults_of(TERMINATE),
    };
    count(&evidence, &tally);
    let violations = checker::check(&evidence);
    Outcome {
        tally,
        settled,
        violations,
        evidence,
        logs: fleet.logs(),
    }
}

/// What was found, or nothing and a complaint.
fn noted<T>(found: Result<Vec<T>, String>, complaints: &mut Vec<String>) -> Vec<T> {
    found.unwrap_or_else(|complaint| {
        complaints.push(complaint);
        Vec::new()
    })
}

fn count(evidence: &Evidence, tally: &Tally) {
    let Evidence {
        tables,
        runs,
        steps,
        ..
    } = evidence;
    tally.add("turns stored", tables.turns.len() as u64);
    tally.add(
        "turns taken over",
        tables.turns.iter().filter(|turn| turn.epoch > 1).count() as u64,
    );
    let refused = tables
        .turns
        .iter()
        .filter(|turn| turn.failure.as_deref() == Some("internal"));
    tally.add(
        "turns that the store refused for good",
        refused.count() as u64,
    );
    tally.add("tool runs", runs.len() as u64);
    tally.add(
        "tool calls that ended as unknown",
        tables
            .calls
            .iter()
            .filter(|call| call.outcome.as_deref() == Some("unknown"))
            .count() as u64,
    );
    tally.add("steps of the agent", steps.len() as u64);
}

/// A folder, and limits that are short enough for all of them to be met.
fn home(gateway: &Gateway, log: &Path) -> Home {
    let tools = json!([{ "name": "witness", "command": program(TOOLS), "args": [log, "-"] }]);
    let milliseconds = |time: Duration| format!("{}ms", time.as_millis());
    Home::with_agent(&format!("http://{}/v1", gateway.address()))
        .set("CHAT_MCP_SERVERS", tools.to_string())
        .set("CHAT_LEASE", milliseconds(LEASE))
        .set("CHAT_HEARTBEAT", "400ms")
        .set("CHAT_SWEEP", "300ms")
        .set("CHAT_POLL", "150ms")
        .set("CHAT_DATABASE_TIMEOUT", "5s")
        .set("CHAT_DATABASE_ACQUIRE_TIMEOUT", "4s")
        .set("CHAT_DATABASE_STATEMENT_TIMEOUT", "2s")
        .set("CHAT_DATABASE_CONNECTIONS", "8")
        .set("CHAT_SHUTDOWN_GRACE", "1s")
        .set("CHAT_AGENT_FIRST_BYTE_TIMEOUT", "3s")
        .set("CHAT_AGENT_IDLE_TIMEOUT", "3s")
        .set("CHAT_AGENT_STEP_TIMEOUT", "15s")
        .set("CHAT_TURN_TIMEOUT", milliseconds(TURN_LIMIT))
        .set("CHAT_TOOL_TIMEOUT", "2s")
        .set("CHAT_ATTEMPT_LIMIT", "12")
        .set("CHAT_REPLY_TIMEOUT", "20s")
}

/// Waits until no turn runs or waits any more.
async fn settled(database: &Database) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        match database.open_turns().await {
            Ok(0) => return Ok(()),
            other if begun.elapsed() > PATIENCE => {
                return Err(format!(
                    "{PATIENCE:?} after all was healed: {other:?} turns run or wait"
                ));
            }
            _ => sleep(Duration::from_millis(50)).await,
        }
    }
}

/// What the API shows to everybody.
async fn shown(world: &Arc<World>) -> Result<Vec<Shown>, String> {
    let reading = async {
        let mut shown = Vec::new();
        for mut reader in load::readers(world) {
            shown.extend(reader.all().await?);
        }
        Ok(shown)
    };
    timeout(PATIENCE, reading)
        .await
        .unwrap_or_else(|_| Err(format!("reading everything took longer than {PATIENCE:?}")))
}
