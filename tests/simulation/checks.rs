//! Tests of the simulator itself.

use crate::database::{Backing, StoreKind};
use crate::options::{FaultKind, Options};
use crate::plan::Plan;
use crate::world;

fn plan(seed: u64, allowed: &[FaultKind]) -> Plan {
    Plan::draw(Options::draw(seed, allowed))
}

#[test]
fn a_seed_has_one_story() {
    for seed in 0..40 {
        let plan = plan(seed, FaultKind::ALL);
        let run = || world::run(&plan, &Backing::memory(), true);
        let (first, second) = (run(), run());
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert_eq!(first.violation, None, "seed {seed}");
    }
}

#[test]
fn each_kind_of_fault_is_survived() {
    for kind in FaultKind::ALL {
        for seed in 0..20 {
            let report = world::run(&plan(seed, &[*kind]), &Backing::memory(), false);
            assert_eq!(report.violation, None, "seed {seed} with {}", kind.name());
        }
    }
}

#[test]
fn turns_are_stored_and_time_passes() {
    let reports = (0..20).map(|seed| world::run(&plan(seed, &[]), &Backing::memory(), false));
    let turns: u64 = reports.map(|report| report.turns).sum();
    assert!(turns > 20, "{turns} turns in 20 worlds without faults");
}

#[test]
fn real_stores_do_what_the_one_in_memory_does() {
    for kind in [StoreKind::Sqlite, StoreKind::Postgres] {
        let store = Backing::open(kind);
        let store = store.unwrap_or_else(|problem| panic!("{kind:?}: {problem}"));
        for seed in 0..10 {
            let plan = plan(seed, FaultKind::ALL);
            let report = world::run(&plan, &store, true);
            assert_eq!(report.violation, None, "seed {seed}, {kind:?}");
            let expected = world::run(&plan, &Backing::memory(), true);
            assert_eq!(report.trace, expected.trace, "seed {seed}, {kind:?}");
        }
    }
}
