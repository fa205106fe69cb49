//! The faults that are there at the moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat_domain::{StoreError, TurnId, Unavailability};

use crate::plan::{Call, Effect, Fault};
use crate::random::{Random, chance};

/// How long a call of the store may take: then its caller gives it up.
pub const STORE_LIMIT: Duration = Duration::from_secs(5);

/// How many heartbeats a bad link loses, in percent.
const LOST_HEARTBEATS: u32 = 75;

/// How late an answer comes over a bad link at most, in milliseconds.
const BAD_LINK: u64 = 2_500;

/// The faults that are there at the moment.
#[derive(Default)]
pub struct Conditions {
    active: Vec<Fault>,
    cut_off: BTreeSet<usize>,
    badly_linked: BTreeSet<usize>,
    refused: BTreeMap<Call, u32>,
    /// Calls that something will befall, and how many of their kind come before.
    struck: Vec<(Call, u32, Effect)>,
    /// How many turns are begun before the next one that the store will refuse to write.
    poison: Vec<u32>,
    poisoned: BTreeSet<TurnId>,
}

/// The fate of a call when it arrives at the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is done.
    Done,
    /// It is done, and the answer is lost.
    AnswerLost,
    /// It is not done: the store is unavailable.
    Unavailable(Unavailability),
    /// It is not done, and no answer comes within the limit.
    Hangs,
    /// It fails permanently.
    Refused,
}

impl Arrival {
    /// The error that the caller gets.
    pub fn error(self) -> Option<StoreError> {
        let unavailable = |kind| StoreError::Unavailable(kind, "a simulated fault".into());
        match self {
            Self::Done => None,
            Self::AnswerLost => Some(unavailable(Unavailability::Unreachable)),
            Self::Unavailable(kind) => Some(unavailable(kind)),
            Self::Hangs => Some(unavailable(Unavailability::Timeout)),
            Self::Refused => Some(StoreError::Internal("a simulated refusal".into())),
        }
    }
}

/// The properties of a call that select faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The turn that it writes.
    pub turn: Option<TurnId>,
    /// Whether it holds a text that the store may refuse.
    pub has_odd_value: bool,
}

impl Conditions {
    pub fn begin(&mut self, fault: Fault) {
        match fault {
            Fault::CutOff(worker) => drop(self.cut_off.insert(worker)),
            Fault::BadLink(worker) => drop(self.badly_linked.insert(worker)),
            Fault::Refuse(call) => *self.refused.entry(call).or_default() += 1,
            Fault::AtCall(call, before, effect) => self.struck.push((call, before, effect)),
            Fault::Poison(before) => self.poison.push(before),
            other => self.active.push(other),
        }
    }

    pub fn end(&mut self, fault: Fault) {
        match fault {
            Fault::CutOff(worker) => drop(self.cut_off.remove(&worker)),
            Fault::BadLink(worker) => drop(self.badly_linked.remove(&worker)),
            Fault::Refuse(call) => {
                if let Some(count) = self.refused.get_mut(&call) {
                    *count = count.saturating_sub(1);
                }
            }
            // Those last until they have happened, or the world heals.
            Fault::AtCall(..) | Fault::Poison(_) => {}
            other => {
                if let Some(place) = self.active.iter().position(|active| *active == other) {
                    self.active.swap_remove(place);
                }
            }
        }
    }

    /// Ends all faults.
    pub fn heal(&mut self) {
        *self = Self::default();
    }

    fn find<T>(&self, wanted: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        self.active.iter().find_map(wanted)
    }

    fn has(&self, fault: Fault) -> bool {
        self.active.contains(&fault)
    }

    /// The faults that are planned for this call.
    pub fn strike(&mut self, call: Call) -> Option<Effect> {
        let mut hit = None;
        for (place, (kind, before, _)) in self.struck.iter_mut().enumerate() {
            if *kind == call {
                match before.checked_sub(1) {
                    Some(less) => *before = less,
                    None => hit = hit.or(Some(place)),
                }
            }
        }
        let effect = hit.map(|place| self.struck.remove(place).2)?;
        match effect {
            Effect::LoseAnswerThenRefuse => self.struck.push((call, 0, Effect::Refuse)),
            Effect::RefuseWithEnd => self.struck.push((Call::End, 0, Effect::Refuse)),
            _ => {}
        }
        Some(effect)
    }

    /// A turn is stored: it may be one whose writes the store will refuse.
    pub fn turn_begun(&mut self, turn: TurnId) {
        let mut is_poisoned = false;
        self.poison
            .retain_mut(|before| match before.checked_sub(1) {
                Some(less) => {
                    *before = less;
                    true
                }
                None => {
                    is_poisoned = true;
                    false
                }
            });
        if is_poisoned {
            self.poisoned.insert(turn);
        }
    }

    /// How long the store takes in addition to its latency, in milliseconds.
    pub fn slowness(&self) -> u64 {
        let slow = self.find(|fault| match fault {
            Fault::Slow(millis) => Some(*millis),
            _ => None,
        });
        slow.unwrap_or(0)
    }

    /// How late an answer comes to this worker at most, in milliseconds.
    pub fn lag(&self, worker: usize) -> u64 {
        if self.badly_linked.contains(&worker) {
            BAD_LINK
        } else {
            0
        }
    }

    /// How probable it is that the host drops a request, in percent.
    pub fn drops(&self) -> u32 {
        let drops = self.find(|fault| match fault {
            Fault::Drop(percent) => Some(*percent),
            _ => None,
        });
        drops.unwrap_or(0)
    }

    pub fn agent_is_away(&self) -> bool {
        self.has(Fault::AgentAway)
    }

    pub fn tools_are_away(&self) -> bool {
        self.has(Fault::ToolsAway)
    }

    /// The fate of a call that arrives now.
    pub fn arrival(
        &self,
        worker: usize,
        call: Call,
        subject: Subject,
        random: &mut Random,
    ) -> Arrival {
        let is_lossy = call == Call::Heartbeat && self.badly_linked.contains(&worker);
        if is_lossy && chance(random, LOST_HEARTBEATS) || self.cut_off.contains(&worker) {
            return Arrival::Unavailable(Unavailability::Unreachable);
        }
        if self.has(Fault::Outage { hangs: true }) {
            return Arrival::Hangs;
        }
        if self.has(Fault::Outage { hangs: false }) {
            return Arrival::Unavailable(Unavailability::Unreachable);
        }
        if call.writes() && self.has(Fault::ReadOnly) {
            return Arrival::Unavailable(Unavailability::ReadOnly);
        }
        if call.writes() && self.has(Fault::Full) {
            return Arrival::Unavailable(Unavailability::Full);
        }
        let is_refused = self.refused.get(&call).is_some_and(|count| *count > 0);
        let is_poisoned = subject
            .turn
            .is_some_and(|turn| self.poisoned.contains(&turn));
        let is_odd = subject.has_odd_value && self.has(Fault::Value);
        if is_refused || is_poisoned || is_odd {
            return Arrival::Refused;
        }
        let flaky = self.find(|fault| match fault {
            Fault::Flaky(percent) => Some(*percent),
            _ => None,
        });
        if chance(random, flaky.unwrap_or(0)) {
            return if random.bool() {
                Arrival::AnswerLost
            } else {
                Arrival::Unavailable(Unavailability::Unreachable)
            };
        }
        Arrival::Done
    }
}
