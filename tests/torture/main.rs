//! The fault campaign: `cargo xtask torture`. See docs/TORTURE.md.
//!
//! Reading order: `campaign` (what happens when), `load` (what clients do), `faults` (what is done
//! to servers, tools, agent and database), `history` and `evidence` (what is known afterwards),
//! `checker` (what must hold), `report`.
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

/// Loads servers, strikes them, and checks what clients were told against what is stored.
#[derive(Parser)]
struct Arguments {
    /// How long, without the time that healing and checking take.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Which database.
    #[arg(long, value_enum, default_value = "sqlite")]
    database: Kind,
    /// How many servers work on it: 3 by default, and one on SQLite.
    #[arg(long)]
    replicas: Option<usize>,
    /// Where chance begins. Chosen by the clock if it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Another build of the server.
    #[arg(long)]
    server: Option<PathBuf>,
    /// Properties of which one must be violated, for else the campaign notices nothing: it fails if
    /// none is.
    #[arg(long, value_delimiter = ',')]
    expect: Vec<Property>,
    /// Where to leave the servers' logs and the evidence.
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
    // All that was started ends with what holds it.
    runtime.shutdown_timeout(Duration::from_secs(20));
    match good {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::FAILURE,
        None => ExitCode::from(130),
    }
}

/// Whether all is as it should be.
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
    let begun = Instant::now();
    let plan = Plan {
        seed,
        time: Duration::from_secs_f64(arguments.minutes * 60.0),
        database,
        replicas,
        server: arguments.server.clone(),
    };
    let outcome = campaign::run(&plan).await;
    println!(
        "{}\nall turns had ended {:.1?} after all was healed\n",
        outcome.tally.table(),
        outcome.settled
    );
    println!(
        "found, in {:.0?} altogether\n{}",
        begun.elapsed(),
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
            "nothing was violated"
        }
    );
    if arguments.expect.is_empty() {
        if !outcome.tally.says_something() {
            println!(
                "so little was done that this says NOTHING: give it more time, or a machine that is less busy"
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
            "as was expected of a server that has a guard taken out"
        } else {
            "a missing guard was NOT NOTICED"
        }
    );
    noticed
}

/// Leaves behind what somebody needs who looks for a cause.
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
