//! The state that all handlers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chat_domain::{ChatError, ChatService};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::auth::TokenVerifier;
use crate::config::HttpLimits;
use crate::memory::MemoryLimit;
use crate::page::Page;
use crate::problem::ApiError;
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
    /// The use case.
    pub service: Arc<ChatService>,
    /// Where work runs that outlives its request.
    pub tasks: Tasks,
    /// Where streams are read for clients: not work, for the turn of a stream may run elsewhere.
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
    /// Whether the server is about to stop.
    pub draining: Arc<AtomicBool>,
    /// Cancelled when streams and waiting replies must end, whatever the status of their turns.
    pub leaving: CancellationToken,
}

impl AppState {
    /// State with default limits.
    pub fn new(service: Arc<ChatService>, tasks: Tasks, tokens: Arc<dyn TokenVerifier>) -> Self {
        Self {
            service,
            readers: tasks.apart(),
            tasks,
            tokens,
            page: Arc::default(),
            limits: HttpLimits::default(),
            memory: MemoryLimit::new(HttpLimits::default().memory_bytes),
            page_reads: Arc::new(Semaphore::new(PAGE_READS)),
            large_texts: Arc::new(Semaphore::new(LARGE_TEXTS)),
            cors_origins: Arc::default(),
            chatkit_example: false,
            draining: Arc::default(),
            leaving: CancellationToken::new(),
        }
    }

    /// Sets what clients may do.
    pub fn set_limits(&mut self, limits: HttpLimits) {
        self.memory = MemoryLimit::new(limits.memory_bytes);
        self.limits = limits;
    }

    /// From now on readiness says no, so that load balancers look elsewhere.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Ends streams and waiting replies: clients go on elsewhere. To be called when the turns have
    /// been handed over.
    pub fn leave(&self) {
        self.leaving.cancel();
    }

    /// Calls the use case on the shared runtime, so that a client that goes away cuts nothing off.
    pub(crate) async fn call<T, F>(
        &self,
        work: impl FnOnce(Arc<ChatService>) -> F,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ChatError>> + Send + 'static,
    {
        Ok(self.tasks.run(work(self.service.clone())).await??)
    }
}
