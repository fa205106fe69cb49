//! How soon a planted fault is found. `cargo xtask simulate --planted` builds this program with a
//! domain that has faults planted into it.

use std::collections::BTreeMap;

use crate::database::Backing;
use crate::options::{FaultKind, Options};
use crate::plan::Plan;
use crate::world;

/// How often the fault is looked for.
const FINDS: usize = 7;

/// After how many seeds without a violation the fault counts as not found.
const MOST_SEEDS: usize = 10_000;

/// Switches a planted fault on.
pub fn plant(_: &str) {}

/// Looks for a planted fault several times; prints the property that is violated most often, and
/// the median of how many seeds it took.
pub fn measure(fault: &str) {
    plant(fault);
    let mut properties: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut waits, mut wait) = (Vec::new(), 0);
    for seed in 0.. {
        wait += 1;
        let plan = Plan::draw(Options::draw(seed, FaultKind::ALL));
        if let Some(violation) = world::run(&plan, &Backing::memory(), false).violation {
            *properties.entry(violation.property).or_default() += 1;
            waits.push(wait);
            wait = 0;
        }
        if waits.len() == FINDS || wait == MOST_SEEDS {
            break;
        }
    }
    waits.sort_unstable();
    let median = waits.get(waits.len() / 2);
    let property = properties.into_iter().max_by_key(|(_, count)| *count);
    match (median, property) {
        (Some(median), Some((property, _))) => println!("{property}\t{median}"),
        _ => println!("not found in {MOST_SEEDS} seeds"),
    }
}
