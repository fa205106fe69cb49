//! A simulated world: the use case with several workers over one store, under every fault,
//! deterministically. See docs/SIMULATION.md.

mod agent;
#[cfg(test)]
mod checks;
mod clients;
mod clock;
mod conditions;
mod database;
mod executor;
mod invariants;
mod log_rules;
mod options;
mod plan;
mod planted;
mod random;
mod readers;
mod report;
mod shrink;
mod store;
mod tools;
mod trace;
mod transcripts;
mod witness;
mod workers;
mod world;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;

use crate::database::{Backing, StoreKind};
use crate::invariants::Violation;
use crate::options::{FaultKind, Options};
use crate::plan::Plan;
use crate::report::{Story, Total};

/// How many failing worlds are reported before a run ends.
const MOST_FAILURES: u64 = 5;

/// Each so many seeds, a world is run twice, and its stories are compared.
const COMPARED: u64 = 1_000;

/// Simulates worlds, one for each seed.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// One seed alone, with its whole story.
    #[arg(long)]
    seed: Option<u64>,
    /// Run seeds for this many minutes, whatever `--seeds` says.
    #[arg(long)]
    minutes: Option<u64>,
    /// The store behind the faults.
    #[arg(long, value_enum, default_value = "memory")]
    store: StoreKind,
    /// How many threads run seeds.
    #[arg(long, default_value_t = 1)]
    jobs: u64,
    /// The kinds of faults that may happen, separated by commas; `none` for none.
    #[arg(long, value_delimiter = ',')]
    faults: Vec<String>,
    /// Measure how soon this planted fault is found: see `cargo xtask simulate --planted`.
    #[arg(long, hide = true)]
    planted: Option<String>,
    /// Report failing seeds as they are, without making their worlds smaller.
    #[arg(long)]
    whole: bool,
}

impl Arguments {
    /// The kinds of faults that may happen.
    fn allowed(&self) -> Result<Vec<FaultKind>, String> {
        if self.faults.is_empty() {
            return Ok(FaultKind::ALL.to_vec());
        }
        let names = self.faults.iter().filter(|name| *name != "none");
        let find = |name: &String| {
            let mut kinds = FaultKind::ALL.iter().copied();
            let known: Vec<_> = FaultKind::ALL.iter().map(|kind| kind.name()).collect();
            kinds
                .find(|kind| kind.name() == name)
                .ok_or_else(|| format!("`{name}` is none of {}", known.join(", ")))
        };
        names.map(find).collect()
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let allowed = match arguments.allowed() {
        Ok(allowed) => allowed,
        Err(problem) => {
            eprintln!("--faults: {problem}");
            return ExitCode::from(2);
        }
    };
    let is_good = match (&arguments.planted, arguments.seed) {
        (Some(fault), None) => {
            planted::measure(fault);
            Ok(true)
        }
        (fault, Some(seed)) => {
            if let Some(fault) = fault {
                planted::plant(fault);
            }
            tell(seed, &allowed, &arguments)
        }
        (None, None) => run(&arguments, &allowed),
    };
    match is_good {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("the store cannot be opened: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the whole story of one seed.
fn tell(seed: u64, allowed: &[FaultKind], arguments: &Arguments) -> Result<bool, String> {
    let store = Backing::open(arguments.store)?;
    let plan = Plan::draw(Options::draw(seed, allowed));
    let report = world::run(&plan, &store, true);
    match &report.violation {
        Some(found) if !arguments.whole => tell_failure(&plan, found, &store, false),
        _ => print!("{plan}{}", report.trace),
    }
    Ok(report.violation.is_none())
}

/// Runs many seeds.
fn run(arguments: &Arguments, allowed: &[FaultKind]) -> Result<bool, String> {
    let begun = Instant::now();
    let limit = arguments
        .minutes
        .map(|minutes| Duration::from_secs(minutes * 60));
    let (next, failed) = (AtomicU64::new(arguments.from), AtomicU64::new(0));
    let end = arguments.from.saturating_add(arguments.seeds);
    let total = Mutex::new(Total::default());
    let stores = (0..arguments.jobs).map(|_| Backing::open(arguments.store));
    let stores: Vec<_> = stores.collect::<Result<_, _>>()?;
    let work = |store: &Backing| {
        let mut mine = Total::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let is_over = match limit {
                Some(limit) => begun.elapsed() >= limit,
                None => seed >= end,
            };
            if is_over || failed.load(Ordering::Relaxed) >= MOST_FAILURES {
                break;
            }
            let plan = Plan::draw(Options::draw(seed, allowed));
            let report = world::run(&plan, store, false);
            mine.add(&report);
            if let Some(violation) = &report.violation {
                failed.fetch_add(1, Ordering::Relaxed);
                tell_failure(&plan, violation, store, arguments.whole);
            }
            if seed.is_multiple_of(COMPARED) && !is_repeatable(&plan, store) {
                failed.fetch_add(1, Ordering::Relaxed);
                println!("seed {seed}: two runs have different stories");
            }
        }
        if let Ok(mut total) = total.lock() {
            total.merge(&mine);
        }
    };
    std::thread::scope(|scope| {
        for store in &stores {
            scope.spawn(|| work(store));
        }
    });
    let total = total.into_inner().unwrap_or_default();
    println!("{}", total.line(begun.elapsed()));
    Ok(failed.into_inner() == 0)
}

/// Whether two runs of a world have the same story, also if only one of them is over a real store.
fn is_repeatable(plan: &Plan, store: &Backing) -> bool {
    world::run(plan, store, true).trace == world::run(plan, &Backing::memory(), true).trace
}

/// Makes a failing world smaller, and prints its story.
fn tell_failure(plan: &Plan, found: &Violation, store: &Backing, is_whole: bool) {
    let smallest = if is_whole {
        plan.clone()
    } else {
        shrink::shrink(plan, store, found.property)
    };
    let report = world::run(&smallest, store, true);
    if let Some(violation) = &report.violation {
        let story = Story {
            plan: &smallest,
            violation,
            trace: &report.trace,
        };
        println!("{story}");
    } else {
        // A real store may do something else the next time.
        let Violation { property, text } = found;
        println!("{plan}fails only sometimes: {property}: {text}");
    }
}
