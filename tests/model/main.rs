//! A model of the turn protocol, which is checked exhaustively. `docs/MODEL.md` describes it.
//!
//! [`world`] is the state, [`store`] the transactions, [`run`] and [`steps`] the actions of workers
//! and the faults, [`properties`] the properties, and [`checks`] the explored worlds.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod checks;
mod properties;
mod run;
mod steps;
mod store;
mod world;

use stateright::{Model, Property};

use steps::Action;
use world::{Faults, World};

/// The guards of the protocol. A guard can be removed to find the property that it protects.
#[derive(Clone, Copy, Debug)]
pub struct Guards {
    /// The store rejects a write whose lease is not current.
    pub epoch: bool,
    /// Calls are stored before they are sent.
    pub store_before_send: bool,
    /// A message to a running conversation is queued.
    pub one_running_turn: bool,
    /// The store detects duplicates by id or key.
    pub deduplication: bool,
    /// Unfinished calls of an earlier attempt that are not repeatable end as unknown.
    pub unknown: bool,
    /// A repeated end hands the next turn over only under the lease that the first one assigned.
    pub single_handover: bool,
    /// A worker checks its lease before it sends a call.
    pub lease_check: bool,
    /// A worker that may own a turn without knowing claims it.
    pub uncertain: bool,
    /// A turn whose write the store rejects permanently is ended.
    pub end_on_rejection: bool,
    /// Each aborted attempt counts, except after a handover.
    pub count_attempts: bool,
    /// The time limit applies to the turn, not to the attempt.
    pub deadline: bool,
    /// An abandoned command of a worker is executed before the worker's next one, or never.
    pub command_order: bool,
}

/// Whether the store executes a command, and whether the caller receives the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// The command was executed and the response received.
    Received,
    /// The command was executed and the response lost.
    Lost,
    /// The command was not executed, and the caller cannot tell.
    NotExecuted,
}

/// A tool that a turn calls.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// Whether a repeated call is harmless.
    pub repeatable: bool,
}

/// The protocol for these messages, each with the tools that it needs, with a number of workers and
/// faults.
#[derive(Clone, Debug)]
pub struct Protocol {
    guards: Guards,
    workers: u8,
    messages: &'static [&'static [Tool]],
    /// How many attempts at a turn may be aborted.
    attempts: u8,
    faults: Faults,
}

impl Protocol {
    fn tools_of(&self, world: &World, turn: u8) -> &'static [Tool] {
        self.messages[usize::from(world.turn(turn).message)]
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(
            self.workers,
            self.messages.len() as u8,
            self.faults,
        )]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.possible_actions(world, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut apply = self.apply(world, action);
        if !action.is_fault() {
            Self::record_progress(world, &mut apply);
        }
        Some(apply)
    }

    fn format_action(&self, action: &Action) -> String {
        match action {
            Action::Begin {
                message,
                worker,
                response,
            } => format!("message {message} to worker {worker}: Begin({response:?})"),
            Action::DeliverBegin { message } => format!("message {message}: DeliverBegin"),
            Action::Run {
                turn,
                worker_id,
                epoch,
                step,
            } => format!("{worker_id:?}, turn {turn}, epoch {epoch}: {step:?}"),
            other => format!("{other:?}"),
        }
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}
