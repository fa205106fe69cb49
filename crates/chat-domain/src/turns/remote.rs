//! Changes of turns that run in other processes, for all their readers here: one query, however
//! many readers wait.

use std::collections::HashMap;

use super::lease::every;
use super::registry::TurnRegistry;
use crate::{ChatServiceConfig, StoreError, TurnId, TurnLifecycleEvent, TurnVersion};

/// How many turns one query asks for at most.
const QUERY_BATCH: usize = 10_000;

/// Wakes the readers of turns that have changed in the store; never returns.
pub(crate) async fn watch_remote_turns(config: &ChatServiceConfig, registry: &TurnRegistry) {
    let mut known = HashMap::new();
    let mut ticks = every(config.limits.poll);
    loop {
        ticks.tick().await;
        match versions(config, &registry.awaited()).await {
            Ok(versions) => {
                // A turn that was not known before counts as changed: it may have changed after its
                // reader read it.
                let is_changed = |(turn, version): &(&TurnId, &Option<TurnVersion>)| {
                    known.get(*turn) != Some(*version)
                };
                let changed = versions.iter().filter(is_changed);
                changed.for_each(|(turn, _)| registry.wake(*turn));
                known = versions;
            }
            Err(error) => config.observer.observe(TurnLifecycleEvent::StoreFailed {
                operation: "watch",
                error: &error,
            }),
        }
    }
}

/// The version of each turn; `None` if the turn is deleted.
async fn versions(
    config: &ChatServiceConfig,
    turns: &[TurnId],
) -> Result<HashMap<TurnId, Option<TurnVersion>>, StoreError> {
    let mut versions = HashMap::new();
    for turns in turns.chunks(QUERY_BATCH) {
        let mut found = config.store.turn_versions(turns.to_vec()).await?;
        versions.extend(turns.iter().map(|turn| (*turn, found.remove(turn))));
    }
    Ok(versions)
}
