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
use crate::availability::{Availability, START_GRACE_PERIOD, State};
use crate::listing::{self, ListError, Listing, Tool};
use crate::running_server::{RunningServer, StartError};
use crate::throttled_log::ThrottledLog;

/// A run of at least this length resets the restart backoff.
const HEALTHY_RUN: Duration = Duration::from_secs(30);
/// Backoff after the first failure. It doubles with each further failure.
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);
/// Longest backoff for which callers wait for a restart.
const MAX_AWAITED_BACKOFF: Duration = Duration::from_secs(1);
/// Longest backoff between two starts.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// How long a server may take to answer the ping that follows a call timeout.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Shortest time between two listings, however often a server reports changes.
const MIN_LISTING_INTERVAL: Duration = Duration::from_secs(1);
/// Most listing warnings that are remembered, so that each is logged once.
const MAX_REMEMBERED_WARNINGS: usize = 1_024;
/// Most warnings that are logged for one listing.
const MAX_LOGGED_WARNINGS: usize = 20;

/// Starts a server and restarts it when it ends.
pub(crate) struct Supervisor {
    settings: Arc<McpServer>,
    state: watch::Sender<State>,
    ping_request: Arc<Notify>,
    log: Arc<ThrottledLog>,
    stop: CancellationToken,
    warnings: HashSet<String>,
}

/// The reason why a run ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The toolset is shutting down.
    Stopped,
    /// The connection was closed, or the process exited.
    Closed,
    /// The server did not answer a ping.
    Hung,
}

/// The result of a request to a running server.
enum Event {
    Listed(Result<Listing, ListError>),
    Pinged { answered: bool },
}

impl Supervisor {
    pub(crate) fn new(
        settings: Arc<McpServer>,
        state: watch::Sender<State>,
        ping_request: Arc<Notify>,
        log: Arc<ThrottledLog>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            settings,
            state,
            ping_request,
            log,
            stop,
            warnings: HashSet::new(),
        }
    }

    /// Keeps the server running until shutdown. Its process group has ended when this returns.
    pub(crate) async fn run(mut self) {
        let mut failures = 0;
        while !self.stop.is_cancelled() {
            let started = Instant::now();
            match RunningServer::start(&self.settings, &self.log, &self.stop).await {
                Ok(running_server) => {
                    let end = self.supervise_run(running_server).await;
                    failures = if end != End::Hung && started.elapsed() >= HEALTHY_RUN {
                        0
                    } else {
                        failures + 1
                    };
                    let is_awaited =
                        end == End::Closed && backoff_after(failures) <= MAX_AWAITED_BACKOFF;
                    self.set_availability(if is_awaited {
                        Availability::Starting {
                            until: Instant::now() + START_GRACE_PERIOD,
                        }
                    } else {
                        Availability::Unavailable
                    });
                }
                Err(StartError::Stopped) => break,
                Err(error) => {
                    failures += 1;
                    if let Some(suppressed) = self.log.permit("start") {
                        let (server, end) = (&self.settings.name, error.process_end());
                        tracing::warn!(
                            server,
                            %error,
                            end,
                            attempt = failures,
                            suppressed,
                            "tool server failed to start"
                        );
                    }
                    self.set_availability(Availability::Unavailable);
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = sleep(backoff_after(failures)) => {}
            }
        }
        self.set_availability(Availability::Unavailable);
    }

    /// Supervises a running server until it ends or is ended.
    async fn supervise_run(&mut self, running_server: RunningServer) -> End {
        let RunningServer {
            service,
            listing,
            tools_changed,
            mut process,
        } = running_server;
        let peer = service.peer().clone();
        if let Some(suppressed) = self.log.permit("ready") {
            tracing::info!(
                server = self.settings.name,
                tools = listing.tools.len(),
                suppressed,
                "tool server ready"
            );
        }
        let tools = self.accept_listing(listing);
        self.state.send_replace(State {
            tools: Some(tools),
            availability: Availability::Ready(peer.clone()),
        });
        let end = self
            .serve(&peer, service.waiting(), process.reap(), &tools_changed)
            .await;
        if end == End::Closed {
            self.set_availability(Availability::Starting {
                until: Instant::now() + START_GRACE_PERIOD,
            });
        } else {
            self.set_availability(Availability::Unavailable);
        }
        let (status, last) = process.end().await;
        let status = status.map(|status| status.to_string()).unwrap_or_default();
        let server = &self.settings.name;
        match end {
            End::Stopped => {}
            End::Closed => {
                if let Some(suppressed) = self.log.permit("gone") {
                    tracing::warn!(
                        server,
                        status,
                        stderr = last,
                        suppressed,
                        "tool server ended"
                    );
                }
            }
            End::Hung => {
                if let Some(suppressed) = self.log.permit("hung") {
                    tracing::warn!(server, suppressed, "tool server does not answer, ended");
                }
            }
        }
        end
    }

    /// Handles pings, changed tools, shutdown and the end of the server.
    async fn serve<T>(
        &mut self,
        peer: &Peer<RoleClient>,
        ended: impl Future<Output = T>,
        reap: impl Future<Output = ()>,
        tools_changed: &Notify,
    ) -> End {
        tokio::pin!(ended, reap);
        let mut is_reaped = false;
        let (stop, ping_request) = (self.stop.clone(), Arc::clone(&self.ping_request));
        let mut pending: FuturesUnordered<BoxFuture<'static, Event>> = FuturesUnordered::new();
        let (mut is_listing, mut is_pinging) = (false, false);
        let mut next_listing = Instant::now() + MIN_LISTING_INTERVAL;
        loop {
            tokio::select! {
                () = stop.cancelled() => return End::Stopped,
                _ = &mut ended => return End::Closed,
                // The connection may outlive the leader, which may be a wrapper around the actual
                // server.
                () = &mut reap, if !is_reaped => is_reaped = true,
                () = tools_changed.notified(), if !is_listing => {
                    is_listing = true;
                    pending.push(
                        Box::pin(list(peer.clone(), next_listing, self.settings.start_timeout)),
                    );
                }
                () = ping_request.notified(), if !is_pinging => {
                    is_pinging = true;
                    pending.push(Box::pin(ping(peer.clone())));
                }
                Some(event) = pending.next() => match event {
                    Event::Pinged { answered: false } => return End::Hung,
                    Event::Pinged { answered: true } => is_pinging = false,
                    Event::Listed(listed) => {
                        is_listing = false;
                        next_listing = Instant::now() + MIN_LISTING_INTERVAL;
                        match listed {
                            Ok(listing) => {
                                let tools = self.accept_listing(listing);
                                self.state.send_modify(|state| state.tools = Some(tools));
                            }
                            Err(error) => self.log.warn(
                                "changed", &format!("changed tools cannot be listed: {error}"),
                            ),
                        }
                    }
                },
            }
        }
    }

    /// Returns the tools of a listing, and logs its new warnings.
    fn accept_listing(&mut self, listing: Listing) -> Arc<Vec<Tool>> {
        let new_warnings: Vec<String> = listing
            .warnings
            .into_iter()
            .filter(|warning| !self.warnings.contains(warning))
            .collect();
        if !new_warnings.is_empty() && self.log.permit("listing").is_some() {
            if self.warnings.len() > MAX_REMEMBERED_WARNINGS {
                self.warnings.clear();
            }
            let server = &self.settings.name;
            for warning in new_warnings.iter().take(MAX_LOGGED_WARNINGS) {
                tracing::warn!(server, warning, "tool server listing has defects");
            }
            if let Some(more @ 1..) = new_warnings.len().checked_sub(MAX_LOGGED_WARNINGS) {
                tracing::warn!(server, more, "further defects in the tool server listing");
            }
            self.warnings.extend(new_warnings);
        }
        Arc::new(listing.tools)
    }

    fn set_availability(&self, availability: Availability) {
        self.state
            .send_modify(|state| state.availability = availability);
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
    // An error response shows that the server is alive.
    let answered = match timeout(
        PING_TIMEOUT,
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
fn backoff_after(failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => INITIAL_BACKOFF
            .saturating_mul(2_u32.saturating_pow(doublings))
            .min(MAX_BACKOFF),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoffs_start_at_zero_and_double_up_to_a_limit() {
        let backoffs: Vec<u64> = (0..6)
            .map(|failures| backoff_after(failures).as_millis() as u64)
            .collect();
        assert_eq!(backoffs, [0, 100, 200, 400, 800, 1_600]);
        assert_eq!(backoff_after(10), MAX_BACKOFF);
        assert_eq!(backoff_after(u32::MAX), MAX_BACKOFF);
    }
}
