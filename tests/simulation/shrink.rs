//! Makes a failing world smaller: leaves out what is not needed for the same property to fail.

use std::time::Duration;

use crate::database::Backing;
use crate::plan::Plan;
use crate::world;

/// How many smaller worlds are tried at most.
const TRIES: usize = 3_000;

/// A smaller plan in which the same property is violated.
pub fn shrink(plan: &Plan, store: &Backing, property: &str) -> Plan {
    let mut search = Search {
        smallest: plan.clone(),
        store,
        property,
        left: TRIES,
    };
    loop {
        let is_smaller = search.pass();
        if !is_smaller || search.left == 0 {
            return search.smallest;
        }
    }
}

struct Search<'a> {
    smallest: Plan,
    store: &'a Backing,
    property: &'a str,
    left: usize,
}

impl Search<'_> {
    /// Tries a smaller plan; keeps it if it fails in the same way.
    fn attempt(&mut self, change: impl FnOnce(&mut Plan)) -> bool {
        let mut plan = self.smallest.clone();
        change(&mut plan);
        let Some(left) = self.left.checked_sub(1) else {
            return false;
        };
        self.left = left;
        let violation = world::run(&plan, self.store, false).violation;
        let fails = violation.is_some_and(|violation| violation.property == self.property);
        if fails {
            self.smallest = plan;
        }
        fails
    }

    /// Tries to leave out each part once. Returns whether anything could be.
    fn pass(&mut self) -> bool {
        let mut is_smaller = false;
        for place in (0..self.smallest.operations.len()).rev() {
            is_smaller |= self.attempt(|plan| {
                plan.operations.remove(place);
            });
        }
        for place in (0..self.smallest.faults.len()).rev() {
            is_smaller |= self.attempt(|plan| {
                plan.faults.remove(place);
            });
        }
        while self.smallest.options.workers > 1 && self.attempt(|plan| plan.options.workers -= 1) {
            is_smaller = true;
        }
        if self.smallest.options.latency > 0 {
            is_smaller |= self.attempt(|plan| plan.options.latency = 0);
        }
        if self.smallest.options.drift != 0 {
            is_smaller |= self.attempt(|plan| plan.options.drift = 0);
        }
        for place in (1..self.smallest.options.agent_kinds.len()).rev() {
            is_smaller |= self.attempt(|plan| {
                plan.options.agent_kinds.remove(place);
            });
        }
        for place in (1..self.smallest.options.tool_kinds.len()).rev() {
            is_smaller |= self.attempt(|plan| {
                plan.options.tool_kinds.remove(place);
            });
        }
        is_smaller | self.shorten()
    }

    /// Tries to halve each fault's time.
    fn shorten(&mut self) -> bool {
        let mut is_shorter = false;
        for place in 0..self.smallest.faults.len() {
            let fault = self.smallest.faults.get(place);
            if fault.is_some_and(|fault| fault.lasts > Duration::from_millis(200)) {
                is_shorter |= self.attempt(|plan| {
                    if let Some(fault) = plan.faults.get_mut(place) {
                        fault.lasts /= 2;
                    }
                });
            }
        }
        is_shorter
    }
}
