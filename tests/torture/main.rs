//! The fault campaign: `cargo xtask torture`. See docs/TORTURE.md.
//!
//! Reading order: `campaign` (the sequence of events), `load` (clients), `faults` (faults of
//! servers, tools, agent and database), `history` and `evidence` (the evidence), `checker` (the
//! properties), `report`.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test program"
)]

mod agent;
mod campaign;
mod checker;
mod database;
mod evidence;
mod faults;
mod fleet;
mod gateway;
mod history;
mod load;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use campaign::{Kind, Outcome, Plan};
use checker::Property;

/// Loads servers, injects faults, and compares the answers that clients got with the stored rows.
#[derive(Parser)]
struct Arguments {
    /// Duration in minutes, without recovery and checks.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// The database.
    #[arg(long, value_enum, default_value = "sqlite")]
    database: Kind,
    /// Number of servers: 3 by default, and 1 on SQLite.
    #[arg(long)]
    replicas: Option<usize>,
    /// Random seed. Default: chosen by the clock.
    #[arg(long)]
    seed: Option<u64>,
    /// Path of another build of the server.
    #[arg(long)]
    server: Option<PathBuf>,
    /// Properties of which one must be violated. The campaign fails if none is.
    #[arg(long, value_delimiter = ',')]
    expect: Vec<Property>,
    /// Folder for the servers' logs and the evidence.
    #[arg(long)]
    keep: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.database == Kind::Sqlite
        && arguments.replicas.is_some_and(|replicas| replicas != 1)
    {
        eprintln!(
            "torture: on SQLite one server owns the file: --replicas {} needs --database postgres",
            arguments.replicas.unwrap_or(0)
        );
        return ExitCode::from(2);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let good = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).unwrap();
        let mut terminate = signal(SignalKind::terminate()).unwrap();
        tokio::select! {
            good = torture(&arguments) => Some(good),
            _ = interrupt.recv() => None,
            _ = terminate.recv() => None,
        }
    });
    // Dropping the campaign ends everything that it started.
    runtime.shutdown_timeout(Duration::from_secs(20));
    match good {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::FAILURE,
        None => ExitCode::from(130),
    }
}

/// Returns whether the result is as expected.
async fn torture(arguments: &Arguments) -> bool {
    let seed = arguments
        .seed
        .unwrap_or_else(|| fastrand::u64(..1_000_000_000));
    let database = arguments.database;
    let replicas = match database {
        Kind::Sqlite => 1,
        Kind::Postgres => arguments.replicas.unwrap_or(3),
    };
    println!(
        "torture: {database:?}, {replicas} replica(s), {} minute(s), seed {seed}",
        arguments.minutes
    );
    let started = Instant::now();
    let plan = Plan {
        seed,
        time: Duration::from_secs_f64(arguments.minutes * 60.0),
        database,
        replicas,
        server: arguments.server.clone(),
    };
    let outcome = campaign::run(&plan).await;
    println!(
        "{}\nall turns had ended {:.1?} after the last fault\n",
        outcome.tally.table(),
        outcome.drained
    );
    println!(
        "found, in {:.0?} altogether\n{}",
        started.elapsed(),
        report::found(&outcome.violations)
    );
    if let Some(folder) = &arguments.keep {
        keep(folder, &outcome).unwrap();
    }
    let violated = !outcome.violations.is_empty();
    println!(
        "{}: seed {seed}",
        if violated {
            "VIOLATED"
        } else {
            "no property was violated"
        }
    );
    if arguments.expect.is_empty() {
        if !outcome.tally.is_meaningful() {
            println!(
                "too little was done for a result: use more time, or a machine with less load"
            );
            return false;
        }
        return !violated;
    }
    let noticed = outcome
        .violations
        .iter()
        .any(|violation| arguments.expect.contains(&violation.property));
    println!(
        "{}",
        if noticed {
            "as expected for a server without a guard"
        } else {
            "the missing guard was NOT DETECTED"
        }
    );
    noticed
}

/// Writes the logs and the evidence, for the search for a cause.
fn keep(folder: &Path, outcome: &Outcome) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (number, log) in outcome.logs.iter().enumerate() {
        std::fs::write(folder.join(format!("server-{number}.log")), log)?;
    }
    std::fs::write(
        folder.join("evidence.txt"),
        format!("{:#?}", outcome.evidence),
    )?;
    std::fs::write(
        folder.join("violations.txt"),
        format!("{:#?}", outcome.violations),
    )
}
