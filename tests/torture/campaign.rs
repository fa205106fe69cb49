//! A campaign: start everything, apply load and faults, stop the faults, and check the evidence.

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
use crate::evidence::{Evidence, Shown, parse_runs};
use crate::faults::{self, LEASE, Targets};
use crate::fleet::Fleet;
use crate::gateway::Gateway;
use crate::load::{self, World, rng};
use crate::report::{TERMINATE, Tally};

/// Time limit of a turn.
pub const TURN_LIMIT: Duration = Duration::from_secs(25);

/// How long all turns may take to end after the last fault.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// A file, which one server owns.
    Sqlite,
    /// A PostgreSQL server that is started for the campaign.
    Postgres,
}

/// The parameters of a campaign.
pub struct Plan {
    pub seed: u64,
    pub time: Duration,
    pub database: Kind,
    pub replicas: usize,
    /// Path of another build of the server.
    pub server: Option<PathBuf>,
}

/// The result of a campaign.
pub struct Outcome {
    pub tally: Arc<Tally>,
    /// How long the last turn took to end after the last fault and the last answer.
    pub drained: Duration,
    pub violations: Vec<Violation>,
    pub evidence: Evidence,
    /// Log of each replica.
    pub logs: Vec<String>,
}

/// Runs a campaign.
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
    database.reject_answers(UNSTORABLE).await.unwrap();

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
    agent.disable_failures();
    strikes.await.unwrap();
    load.await.unwrap();
    let healed = Instant::now();
    let mut complaints = Vec::from_iter(drained(&targets.database).await.err());
    let drained = healed.elapsed();
    let shown = or_complaint(shown(&world).await, &mut complaints);
    for replica in &fleet.replicas {
        replica.end().await;
    }
    let steps = or_complaint(agent.steps(), &mut complaints);
    complaints.extend(fleet.faults());
    let evidence = Evidence {
        history: world.recorder.take(),
        tables: targets.database.tables().await.unwrap(),
        shown,
        runs: parse_runs(&std::fs::read_to_string(&tool_log).unwrap_or_default()),
        steps,
        servers: complaints,
        hand_overs: tally.faults_of(TERMINATE),
    };
    count(&evidence, &tally);
    let violations = checker::check(&evidence);
    Outcome {
        tally,
        drained,
        violations,
        evidence,
        logs: fleet.logs(),
    }
}

/// Returns the result, or an empty list after recording the error.
fn or_complaint<T>(found: Result<Vec<T>, String>, complaints: &mut Vec<String>) -> Vec<T> {
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

/// Returns a folder with limits that are short enough to be reached.
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

/// Waits until no turn is running or queued.
async fn drained(database: &Database) -> Result<(), String> {
    let started = Instant::now();
    loop {
        match database.open_turns().await {
            Ok(0) => return Ok(()),
            other if started.elapsed() > TIMEOUT => {
                return Err(format!(
                    "{TIMEOUT:?} after the last fault, {other:?} turns are running or queued"
                ));
            }
            _ => sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Returns everything that the API shows to the users.
async fn shown(world: &Arc<World>) -> Result<Vec<Shown>, String> {
    let reading = async {
        let mut shown = Vec::new();
        for mut reader in load::readers(world) {
            shown.extend(reader.all().await?);
        }
        Ok(shown)
    };
    timeout(TIMEOUT, reading)
        .await
        .unwrap_or_else(|_| Err(format!("reading everything took longer than {TIMEOUT:?}")))
}
