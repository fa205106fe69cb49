//! A model of the turn protocol, checked exhaustively. What it says, what it leaves out and what it
//! has found: `docs/MODEL.md`.
//!
//! [`world`] is what there is, [`store`] the transactions, [`run`] and [`steps`] what workers do
//! between them and what befalls them, [`properties`] what must hold, and [`checks`] the worlds
//! that are explored.
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

/// What keeps the protocol right. Each can be taken out, to see what it is good for.
#[derive(Clone, Copy, Debug)]
pub struct Guards {
    /// The store refuses a write whose lease is not the current one.
    pub epoch: bool,
    /// Calls are stored before they are sent.
    pub stored_first: bool,
    /// A message that comes while a turn runs has to wait.
    pub one_runs: bool,
    /// The store recognises what it has stored already, by its id or key.
    pub recognition: bool,
    /// Calls of an earlier attempt that cannot be repeated end as unknown.
    pub unknown: bool,
    /// An end that is repeated hands the next turn over only under the lease that the first one
    /// gave.
    pub handed_once: bool,
    /// A worker looks at its lease before it sends a call.
    pub look: bool,
    /// A worker that may have been given a turn without knowing asks for it.
    pub doubt: bool,
    /// A turn that the store refuses for good is ended.
    pub ends_on_refusal: bool,
    /// Each attempt that is broken off counts, but for a hand-over.
    pub counted: bool,
    /// The time limit is of the turn, not of the attempt.
    pub deadline: bool,
    /// A call of the store that was given up is done before the next one of the same worker, or
    /// never.
    pub order: bool,
}

/// Whether the store does what it is asked, and whether its caller hears of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The answer was received.
    Heard,
    /// It is done, but the answer is lost.
    Lost,
    /// It is not done, and the caller hears no more than that it may have been.
    Never,
}

/// A tool that a turn calls.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// Whether a repeated call does no harm.
    pub repeatable: bool,
}

/// The protocol, among so many workers, for messages that need these tools, with so many faults.
#[derive(Clone, Debug)]
pub struct Protocol {
    guards: Guards,
    workers: u8,
    messages: &'static [&'static [Tool]],
    /// How many attempts at a turn may be broken off.
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
        self.possible(world, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut after = self.after(world, action);
        if !action.is_fault() {
            Self::note_progress(world, &mut after);
        }
        Some(after)
    }

    fn format_action(&self, action: &Action) -> String {
        match action {
            Action::Begin {
                message,
                worker,
                answer,
            } => format!("message {message} to worker {worker}: Begin({answer:?})"),
            Action::HearBegin { message } => format!("message {message}: HearBegin"),
            Action::Run {
                turn,
                name,
                epoch,
                step,
            } => format!("{name:?}, turn {turn}, epoch {epoch}: {step:?}"),
            other => format!("{other:?}"),
        }
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}
