//! The agent that keeps turns in flight. It is a separate process, because each turn is an open
//! file here too.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chat_test_support::stub_agent::{Answer, Gate, StubAgent};

/// A message that is answered at once.
pub const WARM_UP: &str = "Are you there?";

/// Number of pieces of an answer.
const PIECES: usize = 5;

/// Returns the agent's answer to a message.
pub fn answer_to(message: &str) -> String {
    message.repeat(PIECES)
}

/// Serves until the standard input ends. The command `count` prints how many requests wait; `open`
/// answers them.
pub fn serve() {
    let (gate, waiting) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
    let (held, count) = (gate.clone(), waiting.clone());
    let agent = StubAgent::start(move |recorded| {
        let message = recorded.messages().pop().unwrap();
        let message = message["content"].as_str().unwrap();
        let answer = Answer::text([message; PIECES]);
        if message == WARM_UP {
            return answer;
        }
        count.fetch_add(1, Ordering::Relaxed);
        answer.held(&held)
    });
    println!("{}", agent.base_url());
    for line in std::io::stdin().lines() {
        match line.unwrap().as_str() {
            "open" => gate.open(),
            _ => println!("{}", waiting.load(Ordering::Relaxed)),
        }
    }
}

/// The agent's process in its parent. Dropping it ends the process.
pub struct Agent {
    child: Child,
    tell: ChildStdin,
    hear: BufReader<ChildStdout>,
    pub base_url: String,
}

impl Agent {
    pub fn start() -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut child = command
            .arg("--agent")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (tell, hear) = (
            child.stdin.take().unwrap(),
            BufReader::new(child.stdout.take().unwrap()),
        );
        let mut agent = Self {
            child,
            tell,
            hear,
            base_url: String::new(),
        };
        agent.base_url = agent.line();
        agent
    }

    /// Waits until this many requests are held.
    pub async fn holds(&mut self, turns: usize) {
        loop {
            self.tell.write_all(b"count\n").unwrap();
            if self.line().parse::<usize>().unwrap() >= turns {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Lets the agent answer.
    pub fn open(&mut self) {
        self.tell.write_all(b"open\n").unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.hear.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
