//! One connection through the proxy.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::state::{Cut, ForwardingMode, ProxyState, Shared};
use super::trap::{Lost, Search, Trap};

/// Serves a client until both ends have closed or the connection is cut.
pub(super) async fn serve(
    client: TcpStream,
    state: watch::Receiver<ProxyState>,
    shared: Arc<Shared>,
) {
    let _counted = ConnectionGuard::new(shared.clone());
    let mut waiting = state.clone();
    let cuts = state.borrow().cuts;
    let cut = async {
        // The sender outlives this task.
        let cut = waiting
            .wait_for(|state| state.cuts != cuts)
            .await
            .map(|state| state.cut);
        cut.unwrap_or(Cut::Close)
    };
    let mut cut = pin!(cut);
    let server = tokio::select! {
        connected = connect(state.clone()) => connected,
        // There is no connection to the server yet.
        how = &mut cut => return end(client, None, how),
    };
    let Ok(server) = server else {
        return end(client, None, Cut::Reset);
    };
    let (mut client, mut server) = (client, server);
    let how = {
        let (client, server) = (client.split(), server.split());
        let silenced = AtomicBool::new(false);
        let triggered = watch::Sender::new(None);
        let there = Direction {
            from: client.0,
            to: server.1,
            state: state.clone(),
            silenced: &silenced,
            shared: &shared,
        };
        let back = Direction {
            from: server.0,
            to: client.1,
            state,
            silenced: &silenced,
            shared: &shared,
        };
        tokio::select! {
            ended = async {
                tokio::try_join!(
                    there.forward_to_server(&triggered),
                    back.forward_to_client(&triggered)
                )
            } => match ended {
                Ok(_) => Cut::Close,
                // One end reset the connection or the trap triggered: the other end is reset too.
                Err(_) => Cut::Reset,
            },
            how = cut => how,
        }
    };
    end(client, Some(server), how);
}

/// Closes both ends by dropping them.
fn end(client: TcpStream, server: Option<TcpStream>, cut: Cut) {
    if cut == Cut::Reset {
        for end in [Some(&client), server.as_ref()].into_iter().flatten() {
            // The connection may have been reset already.
            let _ = end.set_zero_linger();
        }
    }
}

/// Connects to the server as soon as the mode allows it.
async fn connect(mut state: watch::Receiver<ProxyState>) -> io::Result<TcpStream> {
    let changed = state
        .wait_for(|state| {
            matches!(
                state.mode,
                ForwardingMode::Forwarding(_) | ForwardingMode::Refusing
            )
        })
        .await;
    let state = *changed.map_err(io::Error::other)?;
    if state.mode == ForwardingMode::Refusing {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    let server = TcpStream::connect(state.server).await?;
    server.set_nodelay(true)?;
    Ok(server)
}

/// One direction of a connection.
struct Direction<'a> {
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    state: watch::Receiver<ProxyState>,
    /// Whether the connection lost bytes in either direction.
    silenced: &'a AtomicBool,
    shared: &'a Shared,
}

impl Direction<'_> {
    async fn forward_to_server(
        mut self,
        triggered: &watch::Sender<Option<Trap>>,
    ) -> io::Result<()> {
        let mut search = Search::default();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let piece = self.next(&mut buffer).await?;
            let mut trapped = None;
            if let Some(piece) = piece {
                let mut trap = self
                    .shared
                    .trap
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                // A trap triggers for one message on any connection.
                if let Some(found) = trap
                    .as_ref()
                    .and_then(|trap| search.find(&trap.message, piece))
                {
                    trapped = trap.take().map(|trap| (trap, found));
                }
            }
            if let Some((trap, _)) = trapped
                .as_ref()
                .filter(|(trap, _)| trap.lost == Lost::Message)
            {
                trap.trigger();
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            if let Some((trap, _)) = trapped {
                // The trap triggers before the message is sent, so that no byte of the answer is
                // forwarded.
                triggered.send_replace(Some(trap));
            }
            if !self.deliver(piece).await? {
                return Ok(());
            }
        }
    }

    async fn forward_to_client(
        mut self,
        triggered: &watch::Sender<Option<Trap>>,
    ) -> io::Result<()> {
        let mut search = Search::default();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let piece = self.next(&mut buffer).await?;
            let trap = triggered.borrow().clone();
            match (trap, piece) {
                (Some(trap), Some(piece)) => {
                    if search.find(&trap.answered, piece).is_some() {
                        trap.trigger();
                        return Err(io::ErrorKind::ConnectionReset.into());
                    }
                }
                (_, piece) => {
                    if !self.deliver(piece).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Returns the next piece, or `None` at the end.
    async fn next<'b>(&mut self, buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
        let read = self.from.read(buffer).await?;
        Ok(buffer.get(..read).filter(|piece| !piece.is_empty()))
    }

    /// Delivers a piece or the end according to the mode. Returns whether more may follow.
    async fn deliver(&mut self, piece: Option<&[u8]>) -> io::Result<bool> {
        let mut waited = false;
        loop {
            let mode = self.state.borrow_and_update().mode;
            if mode == ForwardingMode::Silent && !self.silenced.swap(true, Ordering::Relaxed) {
                self.shared.silenced.send_modify(|silenced| *silenced += 1);
            }
            if self.silenced.load(Ordering::Relaxed) {
                match piece {
                    Some(_) => return Ok(true),
                    // The end is lost too, until the connection is cut.
                    None => std::future::pending().await,
                }
            }
            match mode {
                ForwardingMode::Forwarding(delay) if delay > Duration::ZERO && !waited => {
                    tokio::time::sleep(delay).await;
                    waited = true;
                }
                ForwardingMode::Stalled => {
                    self.state.changed().await.map_err(io::Error::other)?;
                }
                ForwardingMode::Forwarding(_) | ForwardingMode::Refusing => break,
                ForwardingMode::Silent => {}
            }
        }
        match piece {
            Some(piece) => self.to.write_all(piece).await.map(|()| true),
            None => self.to.shutdown().await.map(|()| false),
        }
    }
}

/// Counts a connection for its lifetime.
struct ConnectionGuard(Arc<Shared>);

impl ConnectionGuard {
    fn new(shared: Arc<Shared>) -> Self {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}
