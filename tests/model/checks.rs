//! The worlds that are explored, and what comes of them. `docs/MODEL.md` says the same; this holds
//! it to it.

use std::collections::BTreeSet;

use stateright::{Checker, Expectation, HasDiscoveries, Model, Path};

use super::properties::{
    self, CURRENT_WRITES, ITEM_ONCE, LEASE_ONCE, MESSAGE_ONCE, NO_DEAD_END, ONE_RUNS, SENT_ONCE,
    SENT_UNDER_LEASE, STARTS_BOUNDED, STORED_FIRST, TIME_BOUNDED,
};
use super::steps::Action;
use super::world::{Faults, World};
use super::{Guards, Protocol, Tool};

const DOCS: &str = include_str!("../../docs/MODEL.md");

const ALL: Guards = Guards {
    epoch: true,
    stored_first: true,
    one_runs: true,
    recognition: true,
    unknown: true,
    handed_once: true,
    look: true,
    doubt: true,
    ends_on_refusal: true,
    counted: true,
    deadline: true,
    order: true,
};
const NONE: Faults = Faults {
    deaths: 0,
    freezes: 0,
    skews: 0,
    silences: 0,
    losses: 0,
    cancels: 0,
    refusals: 0,
    timeouts: 0,
};

const PAY: Tool = Tool { repeatable: false };
const FIND: Tool = Tool { repeatable: true };

/// The first message needs two tools, one of which cannot be repeated; the second needs none.
const TWO_CALLS: &[&[Tool]] = &[&[PAY, FIND], &[]];
const NO_CALLS: &[&[Tool]] = &[&[], &[]];
/// Each message needs a tool that cannot be repeated.
const A_CALL_EACH: &[&[Tool]] = &[&[PAY], &[PAY]];

const fn protocol(messages: &'static [&'static [Tool]], faults: Faults) -> Protocol {
    Protocol {
        guards: ALL,
        workers: 2,
        messages,
        attempts: 2,
        faults,
    }
}

/// The worlds that are explored in each test run.
const WORLDS: &[Protocol] = &[
    protocol(
        TWO_CALLS,
        Faults {
            deaths: 1,
            freezes: 1,
            ..NONE
        },
    ),
    protocol(
        TWO_CALLS,
        Faults {
            deaths: 1,
            losses: 1,
            cancels: 1,
            ..NONE
        },
    ),
    protocol(
        TWO_CALLS,
        Faults {
            silences: 1,
            ..NONE
        },
    ),
    protocol(TWO_CALLS, Faults { skews: 1, ..NONE }),
    protocol(
        A_CALL_EACH,
        Faults {
            deaths: 1,
            refusals: 1,
            timeouts: 1,
            ..NONE
        },
    ),
];

/// Those that are explored besides if `CHAT_MODEL=large`.
const LARGE_WORLDS: &[Protocol] = &[
    protocol(
        TWO_CALLS,
        Faults {
            freezes: 1,
            cancels: 1,
            ..NONE
        },
    ),
    protocol(
        TWO_CALLS,
        Faults {
            deaths: 1,
            skews: 1,
            ..NONE
        },
    ),
    protocol(
        A_CALL_EACH,
        Faults {
            deaths: 1,
            losses: 1,
            cancels: 1,
            ..NONE
        },
    ),
    protocol(
        TWO_CALLS,
        Faults {
            freezes: 1,
            losses: 1,
            ..NONE
        },
    ),
    protocol(
        A_CALL_EACH,
        Faults {
            losses: 1,
            refusals: 1,
            timeouts: 1,
            ..NONE
        },
    ),
];

fn described(protocol: &Protocol) -> String {
    let Faults {
        deaths,
        freezes,
        skews,
        silences,
        losses,
        cancels,
        refusals,
        timeouts,
    } = protocol.faults;
    let all = [
        (deaths, "death"),
        (freezes, "freeze"),
        (skews, "skew"),
        (silences, "silence"),
        (losses, "loss"),
        (cancels, "cancel"),
        (refusals, "refusal"),
        (timeouts, "time limit"),
    ];
    let some = all
        .into_iter()
        .filter(|(times, _)| *times > 0)
        .map(|(times, what)| format!("{times} {what}"));
    let calls: Vec<_> = protocol
        .messages
        .iter()
        .map(|tools| tools.len().to_string())
        .collect();
    format!(
        "{} | {}",
        calls.join(" and "),
        some.collect::<Vec<_>>().join(", ")
    )
}

/// Explores a world to its end; gives the line about it in the docs, and the examples that were
/// found.
fn explore(protocol: &Protocol) -> (String, BTreeSet<&'static str>) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    // Only a failure ends it before all has been seen.
    let builder = protocol
        .clone()
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .threads(threads);
    let checker = builder
        .symmetry_fn(World::representative)
        .spawn_dfs()
        .join();
    let found = checker.discoveries();
    for property in properties::all()
        .iter()
        .filter(|property| property.expectation == Expectation::Always)
    {
        if let Some(path) = found.get(property.name) {
            panic!(
                "{}: not so: {}\n{}",
                described(protocol),
                property.name,
                steps(protocol, path.clone())
            );
        }
    }
    assert!(checker.is_done(), "not all has been seen");
    let line = format!(
        "| {} | {} |",
        described(protocol),
        checker.unique_state_count()
    );
    println!("{line}");
    (line, found.into_keys().collect())
}

fn steps(protocol: &Protocol, path: Path<World, Action>) -> String {
    path.into_actions()
        .iter()
        .map(|action| protocol.format_action(action))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_protocol_keeps_its_promises() {
    let is_large = std::env::var("CHAT_MODEL").is_ok_and(|size| size == "large");
    let explored: Vec<_> = WORLDS
        .iter()
        .chain(LARGE_WORLDS.iter().filter(|_| is_large))
        .map(explore)
        .collect();
    let lines: Vec<_> = explored.iter().map(|(line, _)| line.as_str()).collect();
    assert!(
        lines.iter().all(|line| DOCS.contains(line)),
        "docs/MODEL.md says otherwise than:\n{}",
        lines.join("\n")
    );
    // Nothing of it holds only because nothing happens.
    for property in properties::all() {
        let seen = explored
            .iter()
            .any(|(_, found)| found.contains(property.name));
        assert_eq!(
            seen,
            property.expectation == Expectation::Sometimes,
            "{}",
            property.name
        );
        assert!(
            DOCS.contains(&format!("| {} |", property.name)),
            "docs/MODEL.md does not name: {}",
            property.name
        );
    }
}

/// Without a guard, this is so no more; the docs show the shortest way to where it fails.
fn fails_without(guards: Guards, faults: Faults, name: &'static str) {
    fails(
        &Protocol {
            guards,
            ..protocol(TWO_CALLS, faults)
        },
        name,
    );
}

fn fails(protocol: &Protocol, name: &'static str) {
    let within = |depth| {
        let builder = protocol
            .clone()
            .checker()
            .finish_when(HasDiscoveries::AnyOf([name].into()))
            .target_max_depth(depth);
        builder.spawn_bfs().join().discovery(name)
    };
    let path = (2..20)
        .find_map(within)
        .unwrap_or_else(|| panic!("still so: {name}"));
    let shown = format!("**{name}**\n\n```text\n{}\n```", steps(protocol, path));
    assert!(
        DOCS.contains(&shown),
        "docs/MODEL.md does not show:\n{shown}"
    );
}

#[test]
fn without_the_epoch_a_worker_that_was_frozen_writes() {
    fails_without(
        Guards {
            epoch: false,
            ..ALL
        },
        Faults { freezes: 1, ..NONE },
        CURRENT_WRITES,
    );
}

#[test]
fn calls_that_are_sent_before_they_are_stored_may_be_sent_unrecorded() {
    fails_without(
        Guards {
            stored_first: false,
            ..ALL
        },
        NONE,
        STORED_FIRST,
    );
}

#[test]
fn without_a_queue_two_turns_run() {
    fails_without(
        Guards {
            one_runs: false,
            ..ALL
        },
        NONE,
        ONE_RUNS,
    );
}

#[test]
fn without_recognition_a_repeated_message_is_stored_twice() {
    fails_without(
        Guards {
            recognition: false,
            ..ALL
        },
        Faults { losses: 1, ..NONE },
        MESSAGE_ONCE,
    );
}

#[test]
fn without_recognition_a_repeated_append_stores_its_items_twice() {
    fails_without(
        Guards {
            recognition: false,
            ..ALL
        },
        Faults { losses: 1, ..NONE },
        ITEM_ONCE,
    );
}

#[test]
fn without_unknown_results_a_payment_is_made_twice() {
    fails_without(
        Guards {
            unknown: false,
            ..ALL
        },
        Faults { deaths: 1, ..NONE },
        SENT_ONCE,
    );
}

#[test]
fn without_a_look_at_the_lease_a_call_is_sent_for_a_turn_that_was_lost() {
    fails_without(
        Guards { look: false, ..ALL },
        Faults {
            silences: 1,
            ..NONE
        },
        SENT_UNDER_LEASE,
    );
}

#[test]
fn without_doubt_a_turn_stays_with_a_worker_that_does_not_know_of_it() {
    fails_without(
        Guards {
            doubt: false,
            ..ALL
        },
        Faults { losses: 1, ..NONE },
        NO_DEAD_END,
    );
}

#[test]
fn a_call_that_is_done_after_it_was_given_up_leaves_a_turn_with_a_worker_that_does_not_know_of_it()
{
    fails_without(
        Guards {
            order: false,
            ..ALL
        },
        Faults { losses: 1, ..NONE },
        NO_DEAD_END,
    );
}

#[test]
fn a_claim_that_is_overtaken_takes_a_turn_from_a_worker_that_runs_it() {
    fails_without(
        Guards {
            order: false,
            ..ALL
        },
        Faults { losses: 1, ..NONE },
        SENT_UNDER_LEASE,
    );
}

#[test]
fn an_end_that_hands_over_a_claimed_turn_has_it_run_after_its_end() {
    let guards = Guards {
        handed_once: false,
        ..ALL
    };
    fails(
        &Protocol {
            guards,
            ..protocol(NO_CALLS, Faults { losses: 2, ..NONE })
        },
        LEASE_ONCE,
    );
}

#[test]
fn a_refused_turn_that_is_let_go_of_and_not_counted_starts_without_end() {
    let guards = Guards {
        ends_on_refusal: false,
        counted: false,
        ..ALL
    };
    let faults = Faults {
        refusals: 1,
        ..NONE
    };
    fails(
        &Protocol {
            guards,
            attempts: 1,
            ..protocol(&[&[]], faults)
        },
        STARTS_BOUNDED,
    );
}

#[test]
fn with_a_time_limit_for_each_attempt_a_turn_goes_on_when_its_time_is_up() {
    fails(
        &Protocol {
            guards: Guards {
                deadline: false,
                ..ALL
            },
            ..protocol(
                &[&[]],
                Faults {
                    deaths: 1,
                    timeouts: 1,
                    ..NONE
                },
            )
        },
        TIME_BOUNDED,
    );
}
