//! The store behind the faults: the one in memory, alone or as the reference of a real one.
//!
//! A real store has a runtime of its own, in real time. The world's thread waits for each of its
//! answers, so that a call takes no simulated time. Its answers and all its rows must be those of
//! the store in memory, which gets the same calls.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use chat_domain::log::ConversationDocument;
use chat_domain::testing::KeyValueStore;
use chat_domain::{ConversationId, ConversationStore, StoreError, StoreResult};
use chat_store_seaorm::{OpenOptions, SeaOrmStore, testing};
use clap::ValueEnum;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tempfile::TempDir;
use tokio::runtime::{self, Runtime};

use crate::world::World;

/// A file system in memory: commits do not wait for a disk.
const MEMORY: &str = "/dev/shm";

/// The limits of a real store, in real time: a machine that is slow is no fault of the store.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many characters are shown before and from the first difference of two texts.
const SHOWN: usize = 200;

type Documents = BTreeMap<ConversationId, ConversationDocument>;

/// Which store is behind the faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StoreKind {
    Memory,
    Sqlite,
    Postgres,
}

/// A real store that one world after another uses, or none.
#[derive(Clone)]
pub struct Backing(Option<Arc<RealStore>>);

struct RealStore {
    store: SeaOrmStore,
    /// Its one worker thread has [`clock`](Self::clock) as its database's clock.
    runtime: Runtime,
    clock: Arc<AtomicI64>,
    /// Dropped last.
    _place: Place,
}

/// Where the rows of a store are, until this is dropped.
enum Place {
    Folder(#[expect(dead_code, reason = "dropped")] TempDir),
    Postgres(#[expect(dead_code, reason = "dropped")] chat_test_postgres::Database),
}

impl Backing {
    /// No real store.
    pub fn memory() -> Self {
        Self(None)
    }

    /// Opens a store of this kind in a new database.
    pub fn open(kind: StoreKind) -> Result<Self, String> {
        let (url, place) = match kind {
            StoreKind::Memory => return Ok(Self::memory()),
            StoreKind::Sqlite => {
                let folder = if Path::new(MEMORY).is_dir() {
                    tempfile::tempdir_in(MEMORY)
                } else {
                    tempfile::tempdir()
                };
                let folder = folder.map_err(|error| format!("no temporary folder: {error}"))?;
                let url = format!("sqlite://{}", folder.path().join("chat.db").display());
                (url, Place::Folder(folder))
            }
            StoreKind::Postgres => {
                let database = chat_test_postgres::database();
                (database.url().to_owned(), Place::Postgres(database))
            }
        };
        let clock = Arc::<AtomicI64>::default();
        let theirs = Arc::clone(&clock);
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .on_thread_start(move || testing::set_clock(Arc::clone(&theirs)))
            .enable_all()
            .build()
            .map_err(|error| format!("no runtime: {error}"))?;
        let options = OpenOptions {
            readers: 1,
            connections: 3,
            timeout: PATIENCE * 2,
            connect_timeout: PATIENCE,
            acquire_timeout: PATIENCE,
            statement_timeout: PATIENCE,
            ..OpenOptions::default()
        };
        let store = runtime.block_on(SeaOrmStore::open(&url, options));
        Ok(Self(Some(Arc::new(RealStore {
            store: store.map_err(|error| error.to_string())?,
            runtime,
            clock,
            _place: place,
        }))))
    }
}

impl RealStore {
    /// Waits for what the store does at this time by its clock.
    fn wait<T>(&self, now: i64, call: impl Future<Output = T>) -> T {
        self.clock.store(now, Ordering::Relaxed);
        // Its limits are in real time. The runtime of the world does not allow another `block_on`.
        let _real_time = self.runtime.enter();
        let waker = Waker::from(Arc::new(Parked(thread::current())));
        let mut call = pin!(call);
        loop {
            match call.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(done) => return done,
                Poll::Pending => thread::park(),
            }
        }
    }
}

/// A thread that waits for a future.
struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The store of a world.
pub struct Database {
    memory: KeyValueStore,
    real: Option<Arc<RealStore>>,
}

impl Database {
    /// A store that is empty.
    pub fn new(memory: KeyValueStore, backing: &Backing) -> StoreResult<Self> {
        let real = backing.0.clone();
        if let Some(real) = &real {
            real.wait(0, real.store.delete_all())?;
        }
        Ok(Self { memory, real })
    }
}

/// An answer as text: errors have no equality.
fn text<T: Debug>(answer: &StoreResult<T>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(error) => error.to_string(),
    }
}

/// The contents of a real store and of the one in memory, from shortly before the first difference.
fn difference(real: &str, memory: &str) -> String {
    let same = real.chars().zip(memory.chars());
    let same = same.take_while(|(one, other)| one == other).count();
    let part = |text: &str| -> String {
        let before = text.chars().take(same);
        let before = before.skip(same.saturating_sub(SHOWN));
        before.chain(text.chars().skip(same).take(SHOWN)).collect()
    };
    format!("… {}\nand in memory … {}", part(real), part(memory))
}

impl World {
    /// Calls the store.
    pub fn call<'s, T: Debug>(
        &'s self,
        call: impl Fn(&'s dyn ConversationStore) -> BoxFuture<'s, StoreResult<T>>,
    ) -> StoreResult<T> {
        let Database { memory, real } = &self.database;
        let waits = || Err(StoreError::Internal("the in-memory store waits".into()));
        let expected = call(memory).now_or_never().unwrap_or_else(waits);
        let Some(real) = real else {
            return expected;
        };
        let found = real.wait(self.clock.store(), call(&real.store));
        let (expected, answer) = (text(&expected), text(&found));
        self.check("same-answers", answer == expected, || {
            difference(&answer, &expected)
        });
        found
    }

    /// Looks at the conversations.
    pub fn inspect<T>(&self, look: impl FnOnce(&Documents) -> T) -> T {
        self.database.memory.inspect(look)
    }

    /// Checks that the rows of a real store are those of the one in memory.
    pub fn check_rows(&self) {
        let Some(real) = &self.database.real else {
            return;
        };
        let stored = real.wait(self.clock.store(), real.store.documents());
        let stored = stored.map(|documents| documents.0);
        self.inspect(|expected| match stored {
            Ok(stored) => self.check("same-rows", stored == *expected, || {
                let ids = || expected.keys().chain(stored.keys());
                let is_other = |id: &&ConversationId| stored.get(id) != expected.get(id);
                let of = |all: &Documents| {
                    let found = ids().find(is_other).and_then(|id| all.get(id));
                    format!("{found:?}")
                };
                difference(&of(&stored), &of(expected))
            }),
            Err(error) => self.violated("same-rows", error.to_string()),
        });
    }

    /// The store deletes the rows of all workers.
    pub fn delete_workers(&self) {
        let Database { memory, real } = &self.database;
        memory.delete_workers();
        if let Some(real) = real {
            let deleted = real.wait(self.clock.store(), real.store.delete_workers());
            self.check("same-answers", deleted.is_ok(), || text(&deleted));
        }
    }
}
