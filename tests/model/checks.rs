//! The explored worlds and their results. `docs/MODEL.md` lists the same; the tests compare both.

use std::collections::BTreeSet;

use stateright::{Checker, Expectation, HasDiscoveries, Model, Path};

use super::properties::{
    self, CURRENT_WRITES, ITEM_ONCE, LEASE_ONCE, MESSAGE_ONCE, NO_DEADLOCK, ONE_RUNNING_TURN,
    SENT_ONCE, SENT_UNDER_LEASE, STARTS_BOUNDED, STORED_BEFORE_SENT, TIME_BOUNDED,
};
use super::steps::Action;
use super::world::{Faults, World};
use super::{Guards, Protocol, Tool};

const DOCS: &str = include_str!("../../docs/MODEL.md");

const ALL: Guards = Guards {
    epoch: true,
    store_before_send: true,
    one_running_turn: true,
    deduplication: true,
    unknown: true,
    single_handover: true,
    lease_check: true,
    uncertain: true,
    end_on_rejection: true,
    count_attempts: true,
    deadline: true,
    command_order: true,
};
const NONE: Faults = Faults {
    deaths: 0,
    freezes: 0,
    skews: 0,
    silences: 0,
    losses: 0,
    cancels: 0,
    rejections: 0,
    timeouts: 0,
};

const PAY: Tool = Tool { repeatable: false };
const FIND: Tool = Tool { repeatable: true };

/// The first message needs two tools, one of which is not repeatable; the second needs none.
const TWO_CALLS: &[&[Tool]] = &[&[PAY, FIND], &[]];
const NO_CALLS: &[&[Tool]] = &[&[], &[]];
/// Each message needs one tool that is not repeatable.
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

/// The worlds that every test run explores.
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
            rejections: 1,
            timeouts: 1,
            ..NONE
        },
    ),
];

/// Further worlds, which are explored if `CHAT_MODEL=large`.
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
            rejections: 1,
            timeouts: 1,
            ..NONE
        },
    ),
];

fn describe(protocol: &Protocol) -> String {
    let Faults {
        deaths,
        freezes,
        skews,
        silences,
        losses,
        cancels,
        rejections,
        timeouts,
    } = protocol.faults;
    let all = [
        (deaths, "death"),
        (freezes, "freeze"),
        (skews, "skew"),
        (silences, "silence"),
        (losses, "loss"),
        (cancels, "cancel"),
        (rejections, "rejection"),
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

/// Explores a world completely. Returns its line in the docs and the discovered examples.
fn explore(protocol: &Protocol) -> (String, BTreeSet<&'static str>) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    // Only a failure ends the exploration early.
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
                "{}: violated: {}\n{}",
                describe(protocol),
                property.name,
                steps(protocol, path.clone())
            );
        }
    }
    assert!(checker.is_done(), "the exploration is incomplete");
    let line = format!(
        "| {} | {} |",
        describe(protocol),
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
fn the_protocol_satisfies_its_properties() {
    let is_large = std::env::var("CHAT_MODEL").is_ok_and(|size| size == "large");
    let explored: Vec<_> = WORLDS
        .iter()
        .chain(LARGE_WORLDS.iter().filter(|_| is_large))
        .map(explore)
        .collect();
    let lines: Vec<_> = explored.iter().map(|(line, _)| line.as_str()).collect();
    assert!(
        lines.iter().all(|line| DOCS.contains(line)),
        "docs/MODEL.md lacks:\n{}",
        lines.join("\n")
    );
    // An invariant must not hold only because nothing happens.
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
            "docs/MODEL.md does not list: {}",
            property.name
        );
    }
}

/// Asserts that the property is violated without a guard, and that the docs show the shortest
/// counterexample.
fn assert_violated_without(guards: Guards, faults: Faults, name: &'static str) {
    assert_violated(
        &Protocol {
            guards,
            ..protocol(TWO_CALLS, faults)
        },
        name,
    );
}

fn assert_violated(protocol: &Protocol, name: &'static str) {
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
        .unwrap_or_else(|| panic!("not violated: {name}"));
    let shown = format!("**{name}**\n\n```text\n{}\n```", steps(protocol, path));
    assert!(
        DOCS.contains(&shown),
        "docs/MODEL.md does not show:\n{shown}"
    );
}

#[test]
fn without_the_epoch_a_frozen_worker_writes() {
    assert_violated_without(
        Guards {
            epoch: false,
            ..ALL
        },
        Faults { freezes: 1, ..NONE },
        CURRENT_WRITES,
    );
}

#[test]
fn without_storing_first_an_unrecorded_call_is_sent() {
    assert_violated_without(
        Guards {
            store_before_send: false,
            ..ALL
        },
        NONE,
        STORED_BEFORE_SENT,
    );
}

#[test]
fn without_a_queue_two_turns_run() {
    assert_violated_without(
        Guards {
            one_running_turn: false,
            ..ALL
        },
        NONE,
        ONE_RUNNING_TURN,
    );
}

#[test]
fn without_deduplication_a_repeated_message_is_stored_twice() {
    assert_violated_without(
        Guards {
            deduplication: false,
            ..ALL
        },
        Faults { losses: 1, ..NONE },
        MESSAGE_ONCE,
    );
}

#[test]
fn without_deduplication_a_repeated_append_stores_its_items_twice() {
    assert_violated_without(
        Guards {
            deduplication: false,
            ..ALL
        },
        Faults { losses: 1, ..NONE },
        ITEM_ONCE,
    );
}

#[test]
fn without_unknown_results_a_payment_is_made_twice() {
    assert_violated_without(
        Guards {
            unknown: false,
            ..ALL
        },
        Faults { deaths: 1, ..NONE },
        SENT_ONCE,
    );
}

#[test]
fn without_the_lease_check_a_call_of_a_lost_turn_is_sent() {
    assert_violated_without(
        Guards {
            lease_check: false,
            ..ALL
        },
        Faults {
            silences: 1,
            ..NONE
        },
        SENT_UNDER_LEASE,
    );
}

#[test]
fn without_uncertain_ownership_a_turn_stays_with_an_unaware_worker() {
    assert_violated_without(
        Guards {
            uncertain: false,
            ..ALL
        },
        Faults { losses: 1, ..NONE },
        NO_DEADLOCK,
    );
}

#[test]
fn a_delayed_command_leaves_a_turn_with_an_unaware_worker() {
    assert_violated_without(
        Guards {
            command_order: false,
            ..ALL
        },
        Faults { losses: 1, ..NONE },
        NO_DEADLOCK,
    );
}

#[test]
fn an_overtaken_claim_takes_a_turn_from_its_runner() {
    assert_violated_without(
        Guards {
            command_order: false,
            ..ALL
        },
        Faults { losses: 1, ..NONE },
        SENT_UNDER_LEASE,
    );
}

#[test]
fn a_repeated_handover_runs_a_turn_after_its_end() {
    let guards = Guards {
        single_handover: false,
        ..ALL
    };
    assert_violated(
        &Protocol {
            guards,
            ..protocol(NO_CALLS, Faults { losses: 2, ..NONE })
        },
        LEASE_ONCE,
    );
}

#[test]
fn a_rejected_turn_without_counted_attempts_starts_without_limit() {
    let guards = Guards {
        end_on_rejection: false,
        count_attempts: false,
        ..ALL
    };
    let faults = Faults {
        rejections: 1,
        ..NONE
    };
    assert_violated(
        &Protocol {
            guards,
            attempts: 1,
            ..protocol(&[&[]], faults)
        },
        STARTS_BOUNDED,
    );
}

#[test]
fn with_a_time_limit_per_attempt_a_turn_continues_after_its_limit() {
    assert_violated(
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
