//! The state that all handlers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chat_domain::ChatService;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::auth::TokenVerifier;
use crate::config::HttpLimits;
use crate::memory::MemoryLimit;
use crate::page::Page;
use crate::service_runner::ServiceRunner;
use crate::sse_writer::StreamSettings;
use crate::tasks::Tasks;

/// How many pages of long replies are read at the same time: each may be large for the moment until
/// it is cut.
const PAGE_READS: usize = 4;

/// How many texts of long replies are kept whole while their clients read. Any other reply keeps a
/// bounded part, and its page is read again for the next part.
pub const LARGE_TEXTS: usize = 8;

/// The state that all handlers share. Cheap to clone; holds nothing of any conversation.
#[derive(Clone)]
pub struct AppState {
    /// Runs calls of the use case, and turns.
    pub runner: ServiceRunner,
    /// Where replies and streams are written. A shutdown does not wait for these tasks as it does
    /// for turns: the turn of a stream may run on another server.
    pub readers: Tasks,
    /// Verifies tokens.
    pub tokens: Arc<dyn TokenVerifier>,
    /// The chat page.
    pub page: Arc<Page>,
    /// Limits on clients, and how long they wait.
    pub limits: HttpLimits,
    /// The memory that request bodies and unsent replies hold.
    pub memory: MemoryLimit,
    /// Pages of long replies that may be read from the store at the same time.
    pub page_reads: Arc<Semaphore>,
    /// Texts of long replies that may be kept whole while their clients read.
    pub large_texts: Arc<Semaphore>,
    /// The origins whose pages may use this server from browsers, besides its own.
    pub cors_origins: Arc<[String]>,
    /// Whether there is a page that shows ChatKit's component.
    pub chatkit_example: bool,
    /// Whether the server is about to stop, so that readiness fails.
    pub draining: Arc<AtomicBool>,
    /// Cancelled when streams and waiting replies must end, whatever the status of their turns.
    pub shutdown: CancellationToken,
}

impl AppState {
    /// State with default limits.
    pub fn new(service: Arc<ChatService>, tasks: Tasks, tokens: Arc<dyn TokenVerifier>) -> Self {
        Self {
            readers: tasks.separate(),
            runner: ServiceRunner { service, tasks },
            tokens,
            page: Arc::default(),
            limits: HttpLimits::default(),
            memory: MemoryLimit::new(HttpLimits::default().memory_bytes),
            page_reads: Arc::new(Semaphore::new(PAGE_READS)),
            large_texts: Arc::new(Semaphore::new(LARGE_TEXTS)),
            cors_origins: Arc::default(),
            chatkit_example: false,
            draining: Arc::default(),
            shutdown: CancellationToken::new(),
        }
    }

    /// Sets the limits on clients.
    pub fn set_limits(&mut self, limits: HttpLimits) {
        self.memory = MemoryLimit::new(limits.memory_bytes);
        self.limits = limits;
    }

    /// Makes readiness fail from now on, so that load balancers use other servers.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Ends streams and waiting replies: clients resume on another server. Call it after the turns
    /// have been handed over.
    pub fn end_streams(&self) {
        self.shutdown.cancel();
    }

    /// The settings of a new stream.
    pub(crate) fn stream_settings(&self) -> StreamSettings {
        StreamSettings {
            keep_alive: self.limits.keep_alive,
            write_time: self.limits.write_time,
            shutdown: self.shutdown.clone(),
        }
    }
}
