//! A server's process and everything that it starts: one process group, which ends as a whole.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, kill_process_group, test_kill_process_group, waitpgid,
};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep};

use crate::McpServer;

/// What a process gets from our own environment: enough to find programs and files, and nothing
/// that could be a secret.
const INHERITED: [&str; 6] = ["PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ"];

/// How long the group may take to end once its standard input is closed, as MCP demands.
const AFTER_CLOSE: Duration = Duration::from_secs(2);
/// How long it may take after SIGTERM.
const AFTER_TERM: Duration = Duration::from_secs(2);
/// How long the system may take to remove it after SIGKILL.
const AFTER_KILL: Duration = Duration::from_secs(1);
/// The longest that ending a group takes.
pub(crate) const LONGEST_END: Duration = AFTER_CLOSE
    .saturating_add(AFTER_TERM)
    .saturating_add(AFTER_KILL);
/// How often a group that is ending is looked at: the system announces the end of a process, but
/// not that of a group.
const LOOK: Duration = Duration::from_millis(10);

/// Waits for the end of its input, which is the end of this program however it comes, and ends the
/// group.
const WATCHDOG: &str = r#"read -r _; kill -s TERM -- "-$1" 2>/dev/null || exit 0; sleep 2; kill -s KILL -- "-$1" 2>/dev/null"#;

/// A process group. Dropping it kills the group at once.
pub(crate) struct Process {
    leader: Child,
    group: Pid,
    /// Ends the group if this program dies without doing so. Missing where there is no shell.
    watchdog: Option<Child>,
    is_ended: bool,
}

/// The standard streams of a process.
pub(crate) struct Pipes {
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: ChildStdout,
    pub(crate) stderr: ChildStderr,
}

impl Process {
    /// Starts the server's program as the leader of a group of its own.
    ///
    /// # Errors
    /// The program cannot be started.
    pub(crate) fn start(settings: &McpServer) -> io::Result<(Self, Pipes)> {
        let mut leader = command(settings).spawn()?;
        let id = leader
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let group = id.ok_or_else(|| io::Error::other("the process has no id"))?;
        let watchdog = watchdog(group)
            .inspect_err(|error| tracing::debug!(%error, "no watchdog for a tool server"))
            .ok();
        let taken = (
            leader.stdin.take(),
            leader.stdout.take(),
            leader.stderr.take(),
        );
        let process = Self {
            leader,
            group,
            watchdog,
            is_ended: false,
        };
        match taken {
            (Some(stdin), Some(stdout), Some(stderr)) => Ok((
                process,
                Pipes {
                    stdin,
                    stdout,
                    stderr,
                },
            )),
            _ => Err(io::Error::other("the process has no standard streams")),
        }
    }

    /// Waits for the end of the leader and reaps it.
    pub(crate) async fn reap(&mut self) {
        // An error means that there is nothing to reap.
        let _ = self.leader.wait().await;
    }

    /// Ends the group, whose standard input the caller has closed: waits, then sends SIGTERM, then
    /// SIGKILL. Takes no longer than [`LONGEST_END`]. Gives the leader's status, if it is known.
    pub(crate) async fn end(mut self) -> Option<ExitStatus> {
        let mut is_gone = self.is_gone_within(AFTER_CLOSE).await;
        for (signal, limit) in [(Signal::TERM, AFTER_TERM), (Signal::KILL, AFTER_KILL)] {
            if !is_gone {
                // The group may have ended just now.
                let _ = kill_process_group(self.group, signal);
                is_gone = self.is_gone_within(limit).await;
            }
        }
        if !is_gone {
            tracing::warn!(
                group = self.group.as_raw_nonzero().get(),
                "a process of a tool server does not end"
            );
        }
        self.is_ended = true;
        if let Some(mut watchdog) = self.watchdog.take() {
            // It ends by itself if it cannot be killed: its input is closed with it.
            let _ = watchdog.kill().await;
        }
        self.leader.try_wait().ok().flatten()
    }

    async fn is_gone_within(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            if self.is_gone() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            sleep(LOOK).await;
        }
    }

    /// Whether no process of the group is left. Reaps those that are ours to reap.
    fn is_gone(&mut self) -> bool {
        if matches!(self.leader.try_wait(), Ok(None)) {
            return false;
        }
        // Orphans of the group become our children where this program is the first process of a
        // container.
        while let Ok(Some(_)) = waitpgid(self.group, WaitOptions::NOHANG) {}
        test_kill_process_group(self.group) == Err(Errno::SRCH)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.is_ended {
            // The group may have ended.
            let _ = kill_process_group(self.group, Signal::KILL);
        }
    }
}

fn command(settings: &McpServer) -> Command {
    let mut command = Command::new(&settings.command);
    command
        .args(&settings.args)
        .env_clear()
        .envs(inherited())
        .envs(&settings.env);
    if let Some(directory) = &settings.cwd {
        command.current_dir(directory);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // Ctrl-C in a terminal is meant for us alone.
    command.process_group(0).kill_on_drop(true);
    command
}

fn watchdog(group: Pid) -> io::Result<Child> {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", WATCHDOG, "sh", &group.as_raw_nonzero().to_string()])
        .env_clear()
        .envs(inherited())
        .current_dir("/");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.process_group(0).kill_on_drop(true).spawn()
}

fn inherited() -> impl Iterator<Item = (&'static str, std::ffi::OsString)> {
    INHERITED
        .into_iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?)))
}
