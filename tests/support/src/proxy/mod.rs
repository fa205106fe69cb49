//! A TCP proxy between a client and its server that simulates network failures.
//!
//! It listens on a free port of 127.0.0.1, runs in its own thread and stops when it is dropped.
//!
//! ```no_run
//! use chat_test_support::proxy::{Cut, Proxy};
//!
//! let database = "127.0.0.1:5432".parse().unwrap();
//! let proxy = Proxy::start(database); // give `proxy.address()` to the server under test
//! proxy.silence(); // bytes are lost silently
//! proxy.cut(Cut::Reset); // existing connections are reset
//! proxy.forward(); // the network works again
//! ```

mod connection;
mod state;
mod trap;

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use crate::wait;
use connection::serve;
pub use state::Cut;
use state::{ForwardingMode, ProxyState, Shared};
pub use trap::{Lost, Trap};

/// A running proxy. Dropping it closes its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<ProxyState>,
    shared: Arc<Shared>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy that forwards to this server.
    ///
    /// # Panics
    /// Panics if there is no free port or no thread.
    pub fn start(server: SocketAddr) -> Self {
        match Self::listen(server) {
            Ok(proxy) => proxy,
            Err(error) => unavailable(&error),
        }
    }

    fn listen(server: SocketAddr) -> io::Result<Self> {
        let listener = StdListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let state = ProxyState {
            server,
            mode: ForwardingMode::Forwarding(Duration::ZERO),
            cuts: 0,
            cut: Cut::Close,
        };
        let (state, changes) = watch::channel(state);
        let shared = Arc::new(Shared {
            trap: Mutex::new(None),
            connections: AtomicUsize::new(0),
            silenced: watch::Sender::new(0),
        });
        let (end, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let theirs = shared.clone();
        let thread = thread::Builder::new().name("proxy".into()).spawn(move || {
            // The tasks end with the runtime.
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, &changes, &theirs) => {}
                    _ = ended => {}
                }
            });
        })?;
        Ok(Self {
            address,
            state,
            shared,
            end: Some(end),
            thread: Some(thread),
        })
    }

    /// Returns the address of the proxy.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the server's address in a URL by that of the proxy.
    pub fn through(&self, server: SocketAddr, url: &str) -> String {
        url.replacen(&server.to_string(), &self.address.to_string(), 1)
    }

    /// Forwards everything, including new connections. Stalled bytes are sent; lost ones are not.
    pub fn forward(&self) {
        self.set(ForwardingMode::Forwarding(Duration::ZERO));
    }

    /// Delays all bytes by this time.
    pub fn delay(&self, time: Duration) {
        self.set(ForwardingMode::Forwarding(time));
    }

    /// Stalls all bytes, as when packets are lost for a while. They are sent after the next change
    /// of mode.
    pub fn stall(&self) {
        self.set(ForwardingMode::Stalled);
    }

    /// Loses all bytes silently. New connections seem to succeed. A connection that lost bytes
    /// stays silent and open until it is cut.
    pub fn silence(&self) {
        self.set(ForwardingMode::Silent);
    }

    /// Resets new connections. Existing ones continue.
    pub fn refuse(&self) {
        self.set(ForwardingMode::Refusing);
    }

    /// Ends all existing connections.
    pub fn cut(&self, cut: Cut) {
        self.state.send_modify(|state| {
            state.cuts += 1;
            state.cut = cut;
        });
    }

    /// Directs new connections to another server. Existing ones continue.
    pub fn point_to(&self, server: SocketAddr) {
        self.state.send_modify(|state| state.server = server);
    }

    /// Sets a trap for one message, replacing an earlier trap. The connection that triggers it is
    /// reset; others continue.
    pub fn set_trap(&self, trap: Trap) {
        *self
            .shared
            .trap
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(trap);
    }

    /// Returns the number of connections.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Waits until this many connections have lost bytes since the start.
    pub async fn lost(&self, connections: usize) {
        // This proxy owns the sender, so the channel is open.
        let lost = format!("{connections} connections that lost bytes");
        let _ = wait::within(
            lost,
            self.shared
                .silenced
                .subscribe()
                .wait_for(|silenced| *silenced >= connections),
        )
        .await;
    }

    fn set(&self, mode: ForwardingMode) {
        self.state.send_modify(|state| state.mode = mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[expect(clippy::panic, reason = "a test without its proxy fails")]
fn unavailable(error: &io::Error) -> ! {
    panic!("the proxy cannot start: {error}")
}

async fn accept(listener: StdListener, state: &watch::Receiver<ProxyState>, shared: &Arc<Shared>) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    // Accepting fails only if resources such as sockets are exhausted.
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(serve(client, state.clone(), shared.clone()));
    }
}
