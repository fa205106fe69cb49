//! News of turns that do not run here, for all their readers here at once: one question to the
//! store, however many wait.

use std::collections::HashMap;

use super::registry::TurnRegistry;
use super::worker::every;
use crate::{ChatServiceConfig, StoreError, TurnId, TurnLifecycleEvent, TurnVersion};

/// How many turns one question is about.
const AT_ONCE: usize = 10_000;

/// Wakes the readers of turns that have changed in the store, for ever.
pub(crate) async fn watch_remote_turns(deps: &ChatServiceConfig, live: &TurnRegistry) {
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
            Err(error) => deps.observer.observe(TurnLifecycleEvent::StoreFailed {
                doing: "watch",
                error: &error,
            }),
        }
    }
}

/// How each of these turns stands; `None` if it is gone.
async fn look(
    deps: &ChatServiceConfig,
    turns: &[TurnId],
) -> Result<HashMap<TurnId, Option<TurnVersion>>, StoreError> {
    let mut marks = HashMap::new();
    for turns in turns.chunks(AT_ONCE) {
        let mut found = deps.store.turn_versions(turns.to_vec()).await?;
        marks.extend(turns.iter().map(|turn| (*turn, found.remove(turn))));
    }
    Ok(marks)
}
