//! Keeps one server running.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use rmcp::model::{ClientRequest, PingRequest};
use rmcp::service::{Peer, RoleClient};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::McpServer;
use crate::child::{Child, StartError};
use crate::listing::{self, ListError, Listing, Tool};
use crate::notices::Notices;
use crate::presence::{Presence, START_GRACE, State};

/// A run of this length was a healthy one: the next restart does not wait.
const HEALTHY: Duration = Duration::from_secs(30);
/// The wait after the first failure. It doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// A server that was there is worth waiting for if it is started again within this time.
const SOON: Duration = Duration::from_secs(1);
/// The longest wait between two starts.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How long a server may take to answer a ping after a call that it did not answer.
const PING_LIMIT: Duration = Duration::from_secs(5);
/// The shortest time between two listings, however often a server says that its tools have changed.
const LISTING_GAP: Duration = Duration::from_secs(1);
/// The most remarks about listings that are remembered, so that none is logged twice.
const MOST_REMARKS: usize = 1_024;
/// The most remarks about one listing that are logged.
const MOST_LOGGED: usize = 20;

/// Starts a server again and again.
pub(crate) struct Keeper {
    settings: Arc<McpServer>,
    state: watch::Sender<State>,
    suspicion: Arc<Notify>,
    notices: Arc<Notices>,
    stop: CancellationToken,
    remarks: HashSet<String>,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// This program is stopping.
    Stopped,
    /// The connection was closed, or the process ended.
    Closed,
    /// The server did not answer a ping.
    Hung,
}

/// Something that was asked of a running server.
enum Event {
    Listed(Result<Listing, ListError>),
    Pinged { answered: bool },
}

impl Keeper {
    pub(crate) fn new(
        settings: Arc<McpServer>,
        state: watch::Sender<State>,
        suspicion: Arc<Notify>,
        notices: Arc<Notices>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            settings,
            state,
            suspicion,
            notices,
            stop,
            remarks: HashSet::new(),
        }
    }

    /// Keeps the server running until this program stops. Its process group has ended then.
    pub(crate) async fn run(mut self) {
        let mut failures = 0;
        while !self.stop.is_cancelled() {
            let started = Instant::now();
            match Child::start(&self.settings, &self.notices, &self.stop).await {
                Ok(child) => {
                    let end = self.attend(child).await;
                    failures = if end != End::Hung && started.elapsed() >= HEALTHY {
                        0
                    } else {
                        failures + 1
                    };
                    let is_soon = end == End::Closed && wait_after(failures) <= SOON;
                    self.presence(if is_soon {
                        Presence::Starting {
                            until: Instant::now() + START_GRACE,
                        }
                    } else {
                        Presence::Away
                    });
                }
                Err(StartError::Stopped) => break,
                Err(error) => {
                    failures += 1;
                    if let Some(suppressed) = self.notices.due("start") {
                        let (server, end) = (&self.settings.name, error.end());
                        tracing::warn!(server, %error, end, failures, suppressed, "a tool server did not start");
                    }
                    self.presence(Presence::Away);
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = sleep(wait_after(failures)) => {}
            }
        }
        self.presence(Presence::Away);
    }

    /// Stays with a running server until it ends or is ended.
    async fn attend(&mut self, child: Child) -> End {
        let Child {
            service,
            listing,
            tools_changed,
            mut run,
        } = child;
        let peer = service.peer().clone();
        if let Some(suppressed) = self.notices.due("ready") {
            tracing::info!(
                server = self.settings.name,
                tools = listing.tools.len(),
                suppressed,
                "a tool server is ready"
            );
        }
        let tools = self.taken(listing);
        self.state.send_replace(State {
            tools: Some(tools),
            presence: Presence::Ready(peer.clone()),
        });
        let end = self
            .serve(&peer, service.waiting(), run.reap(), &tools_changed)
            .await;
        if end == End::Closed {
            self.presence(Presence::Starting {
                until: Instant::now() + START_GRACE,
            });
        } else {
            self.presence(Presence::Away);
        }
        let (status, last) = run.end().await;
        let status = status.map(|status| status.to_string()).unwrap_or_default();
        let server = &self.settings.name;
        match end {
            End::Stopped => {}
            End::Closed => {
                if let Some(suppressed) = self.notices.due("gone") {
                    tracing::warn!(
                        server,
                        status,
                        stderr = last,
                        suppressed,
                        "a tool server went away"
                    );
                }
            }
            End::Hung => {
                if let Some(suppressed) = self.notices.due("hung") {
                    tracing::warn!(
                        server,
                        suppressed,
                        "a tool server does not answer and was ended"
                    );
                }
            }
        }
        end
    }

    /// Answers to what happens while the server runs.
    async fn serve<T>(
        &mut self,
        peer: &Peer<RoleClient>,
        ended: impl Future<Output = T>,
        reap: impl Future<Output = ()>,
        tools_changed: &Notify,
    ) -> End {
        tokio::pin!(ended, reap);
        let mut is_reaped = false;
        let (stop, suspicion) = (self.stop.clone(), Arc::clone(&self.suspicion));
        let mut asked: FuturesUnordered<BoxFuture<'static, Event>> = FuturesUnordered::new();
        let (mut is_listing, mut is_pinging) = (false, false);
        let mut next_listing = Instant::now() + LISTING_GAP;
        loop {
            tokio::select! {
                () = stop.cancelled() => return End::Stopped,
                _ = &mut ended => return End::Closed,
                // The connection may go on: a wrapper may end before the server that it has
                // started.
                () = &mut reap, if !is_reaped => is_reaped = true,
                () = tools_changed.notified(), if !is_listing => {
                    is_listing = true;
                    asked.push(Box::pin(list(peer.clone(), next_listing, self.settings.start_timeout)));
                }
                () = suspicion.notified(), if !is_pinging => {
                    is_pinging = true;
                    asked.push(Box::pin(ping(peer.clone())));
                }
                Some(event) = asked.next() => match event {
                    Event::Pinged { answered: false } => return End::Hung,
                    Event::Pinged { answered: true } => is_pinging = false,
                    Event::Listed(listed) => {
                        is_listing = false;
                        next_listing = Instant::now() + LISTING_GAP;
                        match listed {
                            Ok(listing) => {
                                let tools = self.taken(listing);
                                self.state.send_modify(|state| state.tools = Some(tools));
                            }
                            Err(error) => self.notices.warn("changed", &format!("the changed tools cannot be listed: {error}")),
                        }
                    }
                },
            }
        }
    }

    /// The tools of a listing, whose remarks are logged once.
    fn taken(&mut self, listing: Listing) -> Arc<Vec<Tool>> {
        let fresh: Vec<String> = listing
            .remarks
            .into_iter()
            .filter(|remark| !self.remarks.contains(remark))
            .collect();
        if !fresh.is_empty() && self.notices.due("listing").is_some() {
            if self.remarks.len() > MOST_REMARKS {
                self.remarks.clear();
            }
            let server = &self.settings.name;
            for remark in fresh.iter().take(MOST_LOGGED) {
                tracing::warn!(server, remark, "odd listing of a tool server");
            }
            if let Some(more @ 1..) = fresh.len().checked_sub(MOST_LOGGED) {
                tracing::warn!(server, more, "more is odd in the listing of a tool server");
            }
            self.remarks.extend(fresh);
        }
        Arc::new(listing.tools)
    }

    fn presence(&self, presence: Presence) {
        self.state.send_modify(|state| state.presence = presence);
    }
}

async fn list(peer: Peer<RoleClient>, at: Instant, limit: Duration) -> Event {
    sleep_until(at).await;
    Event::Listed(listing::list(&peer, Instant::now() + limit).await)
}

async fn ping(peer: Peer<RoleClient>) -> Event {
    let ping = PingRequest {
        method: Default::default(),
        extensions: Default::default(),
    };
    // An error is an answer too.
    let answered = match timeout(
        PING_LIMIT,
        peer.send_request(ClientRequest::PingRequest(ping)),
    )
    .await
    {
        Ok(Ok(_) | Err(rmcp::ServiceError::McpError(_))) => true,
        Ok(Err(_)) | Err(_) => false,
    };
    Event::Pinged { answered }
}

/// How long to wait before the next start.
fn wait_after(failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => FIRST_WAIT
            .saturating_mul(2_u32.saturating_pow(doublings))
            .min(LONGEST_WAIT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_begin_with_none() {
        let waits: Vec<u64> = (0..6)
            .map(|failures| wait_after(failures).as_millis() as u64)
            .collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1_600]);
        assert_eq!(wait_after(10), LONGEST_WAIT);
        assert_eq!(wait_after(u32::MAX), LONGEST_WAIT);
    }
}
