//! Measures many turns in flight, and the time until the agent receives a message: `cargo xtask
//! bench inflight`.
//!
//! Reading order: `fleet` (the servers and their measurements), `agent` (the agent that keeps turns
//! in flight), `load` (the clients), `waiting` and `first_byte` (the benchmarks), `table` (the
//! output).
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test program"
)]

mod agent;
mod first_byte;
mod fleet;
mod load;
mod table;
mod waiting;

use std::process::ExitCode;

use clap::Parser;
use fleet::Kind;

/// Measures turns in flight: memory, statements, time to the agent's first byte. Fails if a goal is
/// missed.
#[derive(Parser)]
struct Arguments {
    /// The database. Default: both.
    #[arg(long, value_enum)]
    database: Option<Kind>,
    /// Number of turns in flight at the end.
    #[arg(long, default_value_t = 10_000)]
    turns: usize,
    /// How long all turns wait, in seconds.
    #[arg(long, default_value_t = 30)]
    hold: u64,
    /// Number of conversations of a hundred messages for the time to the first byte.
    #[arg(long, default_value_t = 100)]
    conversations: usize,
    /// Runs as the agent.
    #[arg(long, hide = true)]
    agent: bool,
    /// Cargo passes this to all benchmarks.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let files = rlimit::increase_nofile_limit(u64::MAX).unwrap();
    if arguments.agent {
        agent::serve();
        return ExitCode::SUCCESS;
    }
    let kinds = arguments
        .database
        .map_or_else(|| vec![Kind::Sqlite, Kind::Postgres], |kind| vec![kind]);
    for kind in &kinds {
        let needed = kind.files(arguments.turns);
        if needed > files {
            eprintln!(
                "inflight: {} turns on {kind} need {needed} open files in one process, but the \
                limit is {files}: ulimit -n",
                arguments.turns
            );
            return ExitCode::from(2);
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let missed = runtime.block_on(async {
        let mut missed = Vec::new();
        for kind in kinds {
            missed.extend(waiting::measure(kind, arguments.turns, arguments.hold).await);
            missed.extend(first_byte::measure(kind, arguments.conversations).await);
        }
        missed
    });
    for goal in &missed {
        eprintln!("missed: {goal}");
    }
    if missed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
