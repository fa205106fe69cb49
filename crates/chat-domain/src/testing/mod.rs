//! Shared by tests of the domain, of adapters and of hosts: fakes that keep the ports' contracts,
//! and suites that check them.

mod agent;
pub mod agent_contract;
mod environment;
mod key_value;
mod log;
mod memory;
mod mock;
pub mod store_contract;
mod store_ext;
mod tools;
pub mod toolset_contract;

pub use agent::{Script, ScriptedAgent};
pub use environment::FixedEnvironment;
pub use key_value::KeyValueStore;
pub use log::LogBuilder;
pub use memory::{MemoryStore, RefusedCall};
pub use mock::MockConversationStore;
pub use store_ext::{StoreExt, retry_of};
pub use tools::FakeTools;

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::{Observer, TurnLifecycleEvent};

/// Blocks a task until the test opens the gate.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<(usize, bool)>>);

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new((0, false))))
    }

    /// Opens the gate for good.
    pub fn open(&self) {
        self.0.send_modify(|state| state.1 = true);
    }

    /// Waits until the gate is open.
    pub async fn pass(&self) {
        self.0.send_modify(|state| state.0 += 1);
        // Waiting cannot fail: `self` owns the sender.
        let _ = self.0.subscribe().wait_for(|state| state.1).await;
    }

    /// Waits until so many have come to the gate.
    ///
    /// # Panics
    /// If they do not come within two minutes of real time, whatever a test's clock shows.
    #[allow(clippy::panic, reason = "a test that waits in vain fails")]
    pub async fn reached_by(&self, count: usize) {
        let (mut state, (_in_time, mut too_late)) = (self.0.subscribe(), deadline());
        tokio::select! {
            _ = state.wait_for(|state| state.0 >= count) => {}
            Ok(()) = &mut too_late => {
                panic!("waited in vain for {count} to come to a gate, {} came ({} s)", self.0.borrow().0, PATIENCE.as_secs())
            }
        }
    }
}

/// How long a test waits for one thing. The test runner's own limit, which names no reason, is
/// longer.
const PATIENCE: Duration = Duration::from_secs(120);

/// Reports the end of [`PATIENCE`], unless the sender is dropped before.
fn deadline() -> (mpsc::Sender<()>, oneshot::Receiver<()>) {
    let ((in_time, waiting), (late, too_late)) = (mpsc::channel(), oneshot::channel());
    thread::spawn(move || {
        if waiting.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            // The test may have ended at this moment.
            let _ = late.send(());
        }
    });
    (in_time, too_late)
}

/// Remembers what turns did, as text.
#[derive(Debug, Default)]
pub struct Signals(Mutex<Vec<String>>);

impl Signals {
    /// The signals so far, in `Debug` form.
    pub fn heard(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Observer for Signals {
    fn observe(&self, signal: TurnLifecycleEvent<'_>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(format!("{signal:?}"));
    }
}

/// The traits that a test of a store calls.
pub mod prelude {
    pub use super::StoreExt;
    pub use crate::{Conversations, TurnLog, WorkerLeases};
}
