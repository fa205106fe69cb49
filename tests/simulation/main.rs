//! A simulated world: the use case with several workers over one store, under every fault,
//! deterministically. See docs/SIMULATION.md.

mod agent;
mod clients;
mod clock;
mod conditions;
mod executor;
mod invariants;
mod log_rules;
mod options;
mod plan;
mod random;
mod readers;
mod store;
mod tools;
mod trace;
mod transcripts;
mod witness;
mod workers;
mod world;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::options::{FaultKind, Options};
use crate::plan::Plan;

/// Simulates worlds, one for each seed.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// One seed alone, with its whole story.
    #[arg(long)]
    seed: Option<u64>,
    /// The kinds of faults that may happen, separated by commas; `none` for none.
    #[arg(long, value_delimiter = ',')]
    faults: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let allowed: Vec<FaultKind> = FaultKind::ALL
        .iter()
        .copied()
        .filter(|kind| {
            arguments.faults.is_empty() || arguments.faults.iter().any(|f| f == kind.name())
        })
        .collect();
    if let Some(seed) = arguments.seed {
        let plan = Plan::draw(Options::draw(seed, &allowed));
        let report = world::run(&plan, true);
        print!("{plan}{}", report.trace);
        return match report.violation {
            Some(v) => {
                println!("{}: {}", v.property, v.text);
                ExitCode::FAILURE
            }
            None => ExitCode::SUCCESS,
        };
    }
    let begun = Instant::now();
    let (mut turns, mut lived, mut failed) = (0, Duration::ZERO, 0);
    for seed in arguments.from..arguments.from + arguments.seeds {
        let plan = Plan::draw(Options::draw(seed, &allowed));
        let report = world::run(&plan, false);
        turns += report.turns;
        lived += report.lived;
        if let Some(v) = report.violation {
            println!("seed {seed}: {}: {}", v.property, v.text);
            failed += 1;
            if failed > 20 {
                break;
            }
        }
    }
    println!(
        "{} seeds, {turns} turns, {:.0} turns/s, {:?} lived",
        arguments.seeds,
        turns as f64 / begun.elapsed().as_secs_f64(),
        lived
    );
    if failed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
