//! News of turns that do not run here, for all their readers here at once: one question to the
//! store, however many wait.

use std::collections::HashMap;

use super::live::LiveTurns;
use super::worker::every;
use crate::{Deps, Signal, StoreError, TurnId, TurnMark};

/// How many turns one question is about.
const AT_ONCE: usize = 10_000;

/// Wakes the readers of turns that have changed in the store, for ever.
pub(crate) async fn follow(deps: &Deps, live: &LiveTurns) {
    let mut known = HashMap::new();
    let mut ticks = every(deps.limits.poll);
    loop {
        ticks.tick().await;
        match look(deps, &live.awaited()).await {
            Ok(marks) => {
                // Of a turn that is new here nobody knows whether it changed after its reader
                // looked.
                let changed = marks
                    .iter()
                    .filter(|(turn, mark)| known.get(*turn) != Some(*mark));
                changed.for_each(|(turn, _)| live.wake(*turn));
                known = marks;
            }
            Err(error) => deps.observer.observe(Signal::StoreFailed {
                doing: "watch",
                error: &error,
            }),
        }
    }
}

/// How each of these turns stands; `None` if it is gone.
async fn look(
    deps: &Deps,
    turns: &[TurnId],
) -> Result<HashMap<TurnId, Option<TurnMark>>, StoreError> {
    let mut marks = HashMap::new();
    for turns in turns.chunks(AT_ONCE) {
        let mut found = deps.store.marks(turns.to_vec()).await?;
        marks.extend(turns.iter().map(|turn| (*turn, found.remove(turn))));
    }
    Ok(marks)
}
