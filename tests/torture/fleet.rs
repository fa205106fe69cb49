//! The server processes: replicas, and the list of their addresses.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex as Cell;
use std::time::{Duration, Instant};

use chat_tests::server::{Home, Server, signal};
use fastrand::Rng;
use tokio::sync::Mutex;
use tokio::time::sleep;

/// How long a server may take to start or to stop, despite other faults.
const TIMEOUT: Duration = Duration::from_secs(45);

/// All replicas.
pub struct Fleet {
    pub replicas: Vec<Arc<Replica>>,
}

impl Fleet {
    /// Starts a server in each home.
    pub async fn start(homes: Vec<Home>, program: PathBuf) -> Self {
        let replica = |(number, home)| {
            let (server, address, logs) = (Mutex::new(None), Cell::new(None), Cell::default());
            Arc::new(Replica {
                number,
                home,
                program: program.clone(),
                server,
                address,
                logs,
                faults: Cell::default(),
            })
        };
        let replicas: Vec<_> = homes.into_iter().enumerate().map(replica).collect();
        for replica in &replicas {
            replica.start(&mut *replica.server.lock().await).await;
        }
        Self { replicas }
    }

    /// Returns the address of a replica that is not known to be down.
    pub async fn any(&self, rng: &mut Rng) -> SocketAddr {
        let started = Instant::now();
        loop {
            let known: Vec<SocketAddr> = self
                .replicas
                .iter()
                .filter_map(|replica| *replica.address.lock().unwrap())
                .collect();
            if let Some(address) = rng.choice(known) {
                return address;
            }
            assert!(started.elapsed() < 4 * TIMEOUT, "no server is available");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Returns the faults of the servers.
    pub fn faults(&self) -> Vec<String> {
        self.replicas
            .iter()
            .flat_map(|replica| replica.faults.lock().unwrap().clone())
            .collect()
    }

    /// Returns the logs of all servers, by replica.
    pub fn logs(&self) -> Vec<String> {
        self.replicas
            .iter()
            .map(|replica| replica.logs.lock().unwrap().join("\n--- next server\n"))
            .collect()
    }
}

/// A replica, whose server is stopped and restarted.
pub struct Replica {
    number: usize,
    home: Home,
    program: PathBuf,
    server: Mutex<Option<Server>>,
    address: Cell<Option<SocketAddr>>,
    logs: Cell<Vec<String>>,
    faults: Cell<Vec<String>>,
}

impl Replica {
    /// Kills the server, and starts another after `away`.
    pub async fn kill(&self, away: Duration) {
        let mut server = self.server.lock().await;
        self.down();
        if let Some(mut server) = server.take() {
            let ended = server.has_ended();
            let log = tokio::task::spawn_blocking(|| server.kill()).await.unwrap();
            self.over(log, ended.then_some("exited by itself"));
        }
        sleep(away).await;
        self.start(&mut server).await;
    }

    /// Asks the server to stop, waits for its end, and starts another.
    pub async fn terminate(&self, away: Duration) {
        let mut server = self.server.lock().await;
        self.stop(&mut server).await;
        sleep(away).await;
        self.start(&mut server).await;
    }

    /// Freezes the server for some time.
    pub async fn pause(&self, pause: Duration) {
        let mut server = self.server.lock().await;
        let Some(running) = server.as_mut() else {
            return;
        };
        running.signal("STOP");
        sleep(pause).await;
        running.signal("CONT");
    }

    /// Kills the tool server, or freezes it for some time.
    pub async fn kill_or_freeze_tools(&self, pause: Option<Duration>) {
        let Some(tools) = self.server.lock().await.as_ref().and_then(Server::tools) else {
            return;
        };
        signal(tools, if pause.is_some() { "STOP" } else { "KILL" });
        if let Some(pause) = pause {
            sleep(pause).await;
            // The tool server may have ended with its server.
            signal(tools, "CONT");
        }
    }

    /// Stops the server at the end of the campaign.
    pub async fn end(&self) {
        self.stop(&mut *self.server.lock().await).await;
    }

    async fn stop(&self, server: &mut Option<Server>) {
        self.down();
        let Some(mut server) = server.take() else {
            return;
        };
        let ended = server.has_ended();
        server.signal("TERM");
        let started = Instant::now();
        while !server.has_ended() {
            if started.elapsed() > TIMEOUT {
                let log = tokio::task::spawn_blocking(|| server.kill()).await.unwrap();
                return self.over(log, Some("did not stop when asked to"));
            }
            sleep(Duration::from_millis(5)).await;
        }
        let (code, log) = tokio::task::spawn_blocking(|| server.ended())
            .await
            .unwrap();
        let fault = if ended {
            Some("exited by itself")
        } else {
            (code.is_none()).then_some("was killed when asked to stop")
        };
        self.over(log, fault);
    }

    async fn start(&self, server: &mut Option<Server>) {
        let started = Instant::now();
        loop {
            let (home, program) = (self.home.clone(), self.program.clone());
            match tokio::task::spawn_blocking(move || home.try_start(&program))
                .await
                .unwrap()
            {
                Ok(started) => {
                    *self.address.lock().unwrap() = Some(started.address);
                    *server = Some(started);
                    return;
                }
                Err(log_text) if started.elapsed() > TIMEOUT => {
                    self.over(log_text, Some("did not start"));
                    return;
                }
                // For example, the database is unavailable.
                Err(log_text) => self.over(log_text, None),
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn down(&self) {
        *self.address.lock().unwrap() = None;
    }

    /// Keeps the log of an ended server.
    fn over(&self, log: String, fault: Option<&str>) {
        let mut faults = self.faults.lock().unwrap();
        let end = log
            .lines()
            .rev()
            .take(12)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
            .join("\n      ");
        faults.extend(fault.map(|fault| {
            format!(
                "server {} {fault}; its last log lines:\n      {end}",
                self.number
            )
        }));
        let panics = log.lines().filter(|line| line.contains("panicked at"));
        faults.extend(panics.map(|line| format!("server {}: {line}", self.number)));
        self.logs.lock().unwrap().push(log);
    }
}
