//! The server processes: replicas of one server behind a list of addresses.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex as Cell;
use std::time::{Duration, Instant};

use chat_tests::server::{Home, Server, signal};
use fastrand::Rng;
use tokio::sync::Mutex;
use tokio::time::sleep;

/// How long a server may take to start, and to stop when it was asked to, whatever else happens.
const PATIENCE: Duration = Duration::from_secs(45);

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

    /// Where a replica listens that is not known to be away.
    pub async fn any(&self, rng: &mut Rng) -> SocketAddr {
        let begun = Instant::now();
        loop {
            let known: Vec<SocketAddr> = self
                .replicas
                .iter()
                .filter_map(|replica| *replica.address.lock().unwrap())
                .collect();
            if let Some(address) = rng.choice(known) {
                return address;
            }
            assert!(begun.elapsed() < 4 * PATIENCE, "no server comes back");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// What servers did that they should not.
    pub fn faults(&self) -> Vec<String> {
        self.replicas
            .iter()
            .flat_map(|replica| replica.faults.lock().unwrap().clone())
            .collect()
    }

    /// The logs of all that ran, by replica.
    pub fn logs(&self) -> Vec<String> {
        self.replicas
            .iter()
            .map(|replica| replica.logs.lock().unwrap().join("\n--- the next\n"))
            .collect()
    }
}

/// One place where a server runs, is stopped, and is started again.
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
    /// Kills the server, as a power cut would, and starts another after `away`.
    pub async fn kill(&self, away: Duration) {
        let mut server = self.server.lock().await;
        self.down();
        if let Some(mut server) = server.take() {
            let ended = server.has_ended();
            let log = tokio::task::spawn_blocking(|| server.kill()).await.unwrap();
            self.over(log, ended.then_some("ended by itself"));
        }
        sleep(away).await;
        self.start(&mut server).await;
    }

    /// Asks the server to stop, waits until it has, and starts another.
    pub async fn terminate(&self, away: Duration) {
        let mut server = self.server.lock().await;
        self.stop(&mut server).await;
        sleep(away).await;
        self.start(&mut server).await;
    }

    /// Stops the server in its tracks for some time.
    pub async fn pause(&self, pause: Duration) {
        let mut server = self.server.lock().await;
        let Some(running) = server.as_mut() else {
            return;
        };
        running.signal("STOP");
        sleep(pause).await;
        running.signal("CONT");
    }

    /// Kills the tool server, or stops it in its tracks for some time.
    pub async fn strike_tools(&self, pause: Option<Duration>) {
        let Some(tools) = self.server.lock().await.as_ref().and_then(Server::tools) else {
            return;
        };
        signal(tools, if pause.is_some() { "STOP" } else { "KILL" });
        if let Some(pause) = pause {
            sleep(pause).await;
            // It may have ended with its server.
            signal(tools, "CONT");
        }
    }

    /// Asks the server to stop for good.
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
        let begun = Instant::now();
        while !server.has_ended() {
            if begun.elapsed() > PATIENCE {
                let log = tokio::task::spawn_blocking(|| server.kill()).await.unwrap();
                return self.over(log, Some("did not stop when it was asked to"));
            }
            sleep(Duration::from_millis(5)).await;
        }
        let (code, log) = tokio::task::spawn_blocking(|| server.ended())
            .await
            .unwrap();
        let fault = if ended {
            Some("ended by itself")
        } else {
            (code.is_none()).then_some("died when it was asked to stop")
        };
        self.over(log, fault);
    }

    async fn start(&self, server: &mut Option<Server>) {
        let begun = Instant::now();
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
                Err(said) if begun.elapsed() > PATIENCE => {
                    self.over(said, Some("does not start"));
                    return;
                }
                // A database that is away, say.
                Err(said) => self.over(said, None),
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn down(&self) {
        *self.address.lock().unwrap() = None;
    }

    /// Keeps the log of a server that is no more.
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
                "server {} {fault}; its last words:\n      {end}",
                self.number
            )
        }));
        let panics = log.lines().filter(|line| line.contains("panicked at"));
        faults.extend(panics.map(|line| format!("server {}: {line}", self.number)));
        self.logs.lock().unwrap().push(log);
    }
}
