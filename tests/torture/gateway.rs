//! A TCP proxy between the servers and the agent, whose connections can be cut and refused.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A running gateway. Dropping it ends it.
pub struct Gateway {
    address: SocketAddr,
    refuses: Arc<AtomicBool>,
    cuts: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Gateway {
    pub async fn to(target: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (refuses, cuts) = (Arc::new(AtomicBool::new(false)), watch::Sender::new(0));
        let task = tokio::spawn(serve(listener, target, Arc::clone(&refuses), cuts.clone()));
        Ok(Self {
            address,
            refuses,
            cuts,
            task,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Starts or stops closing new connections at once.
    pub fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::Relaxed);
        if refuses {
            self.cut();
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    listener: TcpListener,
    target: SocketAddr,
    refuses: Arc<AtomicBool>,
    cuts: watch::Sender<u64>,
) {
    loop {
        let Ok((mut inner, _)) = listener.accept().await else {
            continue;
        };
        if refuses.load(Ordering::Relaxed) {
            continue;
        }
        let mut cut = cuts.subscribe();
        tokio::spawn(async move {
            let Ok(mut outer) = TcpStream::connect(target).await else {
                return;
            };
            tokio::select! {
                // A client may disconnect at any time.
                _ = copy_bidirectional(&mut inner, &mut outer) => {}
                _ = cut.changed() => {}
            }
        });
    }
}
