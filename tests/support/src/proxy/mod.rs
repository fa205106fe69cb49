//! A TCP proxy between a client and its server that breaks connections as networks do, when a test
//! says so.
//!
//! It listens on a free port of 127.0.0.1, runs in a thread of its own and stops when it is
//! dropped.
//!
//! ```no_run
//! use chat_test_support::proxy::{Cut, Proxy};
//!
//! let database = "127.0.0.1:5432".parse().unwrap();
//! let proxy = Proxy::start(database); // the server under test is given `proxy.address()`
//! proxy.silence(); // nothing comes through any more, and nobody is told
//! proxy.cut(Cut::Reset); // what was connected is reset
//! proxy.forward(); // all is well again
//! ```

mod connection;
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
pub use trap::{Lost, Trap};

/// How connections are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// With a FIN to both ends, as when a process ends.
    Close,
    /// With an RST to both ends, as when a machine has forgotten the connection.
    Reset,
}

/// What happens to what comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    /// It is sent on, so much later.
    Fair(Duration),
    /// It waits. When the weather is fair again it is sent on: what TCP makes of lost packets.
    Stalled,
    /// It is lost, in both directions. The connections that lost something stay dumb forever, open
    /// at both ends: what a machine leaves behind that vanished.
    Silent,
    /// New connections are reset at once; those that are there go on.
    Refusing,
}

/// What the test says.
#[derive(Clone, Copy, Debug)]
struct Orders {
    server: SocketAddr,
    weather: Weather,
    /// How often all connections were cut so far, and how the last time.
    cuts: u64,
    cut: Cut,
}

/// A running proxy. Dropping it closes all its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    orders: watch::Sender<Orders>,
    shared: Arc<Shared>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    trap: Mutex<Option<Trap>>,
    connections: AtomicUsize,
    /// How many connections have lost something so far.
    dumb: watch::Sender<usize>,
}

impl Proxy {
    /// Forwards to this server until something else is said.
    ///
    /// # Panics
    /// If there is no free port or no thread.
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
        let orders = Orders {
            server,
            weather: Weather::Fair(Duration::ZERO),
            cuts: 0,
            cut: Cut::Close,
        };
        let (orders, heard) = watch::channel(orders);
        let shared = Arc::new(Shared {
            trap: Mutex::new(None),
            connections: AtomicUsize::new(0),
            dumb: watch::Sender::new(0),
        });
        let (end, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let theirs = shared.clone();
        let thread = thread::Builder::new().name("proxy".into()).spawn(move || {
            // Its tasks end with the runtime.
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, &heard, &theirs) => {}
                    _ = ended => {}
                }
            });
        })?;
        Ok(Self {
            address,
            orders,
            shared,
            end: Some(end),
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same URL, by way of this proxy: `127.0.0.1` and its port in the place of this server's.
    pub fn instead_of(&self, server: SocketAddr, url: &str) -> String {
        url.replacen(&server.to_string(), &self.address.to_string(), 1)
    }

    /// From now on all goes through, new connections too. What was stalled is sent now; what was
    /// lost is lost.
    pub fn forward(&self) {
        self.set(Weather::Fair(Duration::ZERO));
    }

    /// From now on everything is so much later.
    pub fn delay(&self, time: Duration) {
        self.set(Weather::Fair(time));
    }

    /// From now on nothing goes through, as when packets are lost for a while: what comes meanwhile
    /// is sent on afterwards.
    pub fn stall(&self) {
        self.set(Weather::Stalled);
    }

    /// From now on all is lost, and nobody is told. New connections seem to succeed, and wait. A
    /// connection that lost something never speaks again, nor does it end, until it is cut.
    pub fn silence(&self) {
        self.set(Weather::Silent);
    }

    /// From now on new connections are reset at once. Those that are there go on.
    pub fn refuse(&self) {
        self.set(Weather::Refusing);
    }

    /// Ends all connections that are there.
    pub fn cut(&self, cut: Cut) {
        self.orders.send_modify(|orders| {
            orders.cuts += 1;
            orders.cut = cut;
        });
    }

    /// From now on new connections lead to another server. Those that are there go on.
    pub fn point_to(&self, server: SocketAddr) {
        self.orders.send_modify(|orders| orders.server = server);
    }

    /// Sets a trap for one message; one that was set before is taken away. The connection that
    /// springs it is reset, others go on.
    pub fn set_trap(&self, trap: Trap) {
        *self
            .shared
            .trap
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(trap);
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Waits until so many connections have lost something since the start.
    pub async fn lost(&self, connections: usize) {
        // The sender is ours, so the channel is open.
        let lost = format!("{connections} connections that have lost something");
        let _ = wait::within(
            lost,
            self.shared
                .dumb
                .subscribe()
                .wait_for(|dumb| *dumb >= connections),
        )
        .await;
    }

    fn set(&self, weather: Weather) {
        self.orders.send_modify(|orders| orders.weather = weather);
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

#[expect(clippy::panic, reason = "a test that cannot have its proxy fails")]
fn unavailable(error: &io::Error) -> ! {
    panic!("the proxy cannot start: {error}")
}

async fn accept(listener: StdListener, orders: &watch::Receiver<Orders>, shared: &Arc<Shared>) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    // Out of sockets, say, is the only way in which this can fail.
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(serve(client, orders.clone(), shared.clone()));
    }
}
