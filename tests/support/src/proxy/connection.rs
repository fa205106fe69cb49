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

use super::trap::Search;
use super::{Cut, Lost, Orders, Shared, Trap, Weather};

/// Serves a client until both ends have closed, or it is cut.
pub(super) async fn serve(client: TcpStream, orders: watch::Receiver<Orders>, shared: Arc<Shared>) {
    let _counted = Counted::new(shared.clone());
    let mut waiting = orders.clone();
    let cuts = orders.borrow().cuts;
    let cut = async {
        // The sender lives as long as the proxy, and this task no longer.
        let cut = waiting
            .wait_for(|orders| orders.cuts != cuts)
            .await
            .map(|orders| orders.cut);
        cut.unwrap_or(Cut::Close)
    };
    let mut cut = pin!(cut);
    let server = tokio::select! {
        connected = connect(orders.clone()) => connected,
        // Nothing but the client is there to be cut.
        how = &mut cut => return end(client, None, how),
    };
    let Ok(server) = server else {
        return end(client, None, Cut::Reset);
    };
    let (mut client, mut server) = (client, server);
    let how = {
        let (client, server) = (client.split(), server.split());
        let dumb = AtomicBool::new(false);
        let sprung = watch::Sender::new(None);
        let there = Pump {
            from: client.0,
            to: server.1,
            orders: orders.clone(),
            dumb: &dumb,
            shared: &shared,
        };
        let back = Pump {
            from: server.0,
            to: client.1,
            orders,
            dumb: &dumb,
            shared: &shared,
        };
        tokio::select! {
            ended = async { tokio::try_join!(there.send_on(&sprung), back.send_back(&sprung)) } => match ended {
                Ok(_) => Cut::Close,
                // One end reset it or the trap has sprung: the other is told the same.
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
            // It may have been reset already.
            let _ = end.set_zero_linger();
        }
    }
}

/// Connects to the server as soon as the weather lets a connection through.
async fn connect(mut orders: watch::Receiver<Orders>) -> io::Result<TcpStream> {
    let fair = orders
        .wait_for(|orders| matches!(orders.weather, Weather::Fair(_) | Weather::Refusing))
        .await;
    let orders = *fair.map_err(io::Error::other)?;
    if orders.weather == Weather::Refusing {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    let server = TcpStream::connect(orders.server).await?;
    server.set_nodelay(true)?;
    Ok(server)
}

/// One direction.
struct Pump<'a> {
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    orders: watch::Receiver<Orders>,
    /// Whether the connection has lost something, in either direction.
    dumb: &'a AtomicBool,
    shared: &'a Shared,
}

impl Pump<'_> {
    async fn send_on(mut self, sprung: &watch::Sender<Option<Trap>>) -> io::Result<()> {
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
                // A trap is for one message, on whatever connection.
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
                trap.spring();
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            if let Some((trap, _)) = trapped {
                // Before it goes out, so that no byte of the answer slips by.
                sprung.send_replace(Some(trap));
            }
            if !self.deliver(piece).await? {
                return Ok(());
            }
        }
    }

    async fn send_back(mut self, sprung: &watch::Sender<Option<Trap>>) -> io::Result<()> {
        let mut search = Search::default();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let piece = self.next(&mut buffer).await?;
            let trap = sprung.borrow().clone();
            match (trap, piece) {
                (Some(trap), Some(piece)) => {
                    if search.find(&trap.answered, piece).is_some() {
                        trap.spring();
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

    /// The next piece that comes; `None` at the end.
    async fn next<'b>(&mut self, buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
        let read = self.from.read(buffer).await?;
        Ok(buffer.get(..read).filter(|piece| !piece.is_empty()))
    }

    /// Sends a piece, or the end, as the weather is. Gives whether there can be more.
    async fn deliver(&mut self, piece: Option<&[u8]>) -> io::Result<bool> {
        let mut waited = false;
        loop {
            let weather = self.orders.borrow_and_update().weather;
            if weather == Weather::Silent && !self.dumb.swap(true, Ordering::Relaxed) {
                self.shared.dumb.send_modify(|dumb| *dumb += 1);
            }
            if self.dumb.load(Ordering::Relaxed) {
                match piece {
                    Some(_) => return Ok(true),
                    // The end is lost too: until it is cut, the other side hears nothing.
                    None => std::future::pending().await,
                }
            }
            match weather {
                Weather::Fair(delay) if delay > Duration::ZERO && !waited => {
                    tokio::time::sleep(delay).await;
                    waited = true;
                }
                Weather::Stalled => {
                    self.orders.changed().await.map_err(io::Error::other)?;
                }
                Weather::Fair(_) | Weather::Refusing => break,
                Weather::Silent => {}
            }
        }
        match piece {
            Some(piece) => self.to.write_all(piece).await.map(|()| true),
            None => self.to.shutdown().await.map(|()| false),
        }
    }
}

/// One more connection, for as long as this lives.
struct Counted(Arc<Shared>);

impl Counted {
    fn new(shared: Arc<Shared>) -> Self {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}
